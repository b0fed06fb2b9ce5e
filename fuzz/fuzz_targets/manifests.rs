//! Manifests: no text makes the reader panic, and a document that is printed is the same when it is read
//! again.
#![no_main]

use dbaas_manifest::check::{self, Options};
use dbaas_manifest::model::Surroundings;
use dbaas_manifest::{print, yaml};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let options = Options { name: Some("x".to_owned()), skip_unknown: true, ..Options::default() };
    let _ = check::read(text, &options, &Surroundings::default());
    if let Ok(parsed) = yaml::parse(text) {
        let printed = print::print(&parsed.root);
        // What aliases repeat is written out, and may then be too long.
        if printed.len() <= dbaas_manifest::limits::BYTES_MAX {
            let again = yaml::parse(&printed).map(|parsed| parsed.root);
            assert_eq!(again.as_ref(), Ok(&parsed.root), "{printed}");
        }
    }
});
