//! Versions and image references: the parts make the whole.
#![no_main]

use dbaas_core::version::{ImageRef, PostgresVersion};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(version) = text.parse::<PostgresVersion>() {
        assert_eq!(version.to_string(), text);
    }
    let _ = PostgresVersion::from_version_output(text);
    if let Ok(image) = text.parse::<ImageRef>() {
        let tag = image.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = image
            .digest()
            .map(|digest| format!("@{digest}"))
            .unwrap_or_default();
        assert_eq!(format!("{}{tag}{digest}", image.repository()), text);
        assert!(text.bytes().all(|b| b.is_ascii_graphic()) && !text.starts_with('-'));
        if let Some(version) = image.version() {
            assert_eq!(image.major(), Some(version.major));
        }
        let _ = image.registry();
    }
});
