//! References of manifests and templates: what is found in a text prints to what parses to the same.
#![no_main]

use dbaas_manifest::reference::Reference;
use dbaas_manifest::template;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some((found, length)) = Reference::prefix(text) {
        assert!(text.is_char_boundary(length));
        assert_eq!(found.to_string().parse(), Ok(found));
    }
    assert!(template::parts_for_fuzzing(text));
});
