//! Configuration files: whatever is read is written so that it is read as the same; the epoch is the last
//! one.
#![no_main]

use dbaas_core::config::{AutoConf, parse_conf, parse_sync_names, render_setting, sync_names};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(conf) = AutoConf::parse(text) {
        // A file that PostgreSQL would take: both readers agree.
        if let Some(epoch) = AutoConf::parse_epoch(text) {
            assert_eq!(conf.epoch, epoch);
        }
        assert_eq!(AutoConf::parse(&conf.render()), Ok(conf));
    }
    if let Ok(settings) = parse_conf(text) {
        let rendered: String = settings
            .iter()
            .map(|s| render_setting(s.name(), s.value()))
            .collect();
        assert_eq!(parse_conf(&rendered), Ok(settings));
    }
    let _ = AutoConf::parse_epoch(text);
    if let Some((k, names)) = parse_sync_names(text) {
        assert_eq!(sync_names(k, names), text);
    }
    // Any text is a value.
    let value = text.replace('\0', "");
    let settings = parse_conf(&render_setting("a.b", &value)).unwrap();
    assert_eq!((settings.len(), settings[0].value()), (1, value.as_str()));
});
