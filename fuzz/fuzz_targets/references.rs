//! References: what is accepted is one of our paths or a UUID, and its rendered form means the same.
#![no_main]

use dbaas_core::uri::{DatabaseRef, InstanceRef, UserRef, VersionRef};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<VersionRef>() {
        assert_ours(text);
        assert!(text.to_lowercase().contains(&reference.0.to_string()));
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }
    if let Ok(reference) = text.parse::<InstanceRef>() {
        assert_ours(text);
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }
    if let Ok(reference) = text.parse::<UserRef>() {
        assert_ours(text);
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }
    if let Ok(reference) = text.parse::<DatabaseRef>() {
        assert_ours(text);
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }
});

fn assert_ours(text: &str) {
    let is_path = text.starts_with("/v1/types/postgres/") || text.starts_with("/v1/postgres/");
    assert!(is_path || text.len() == 36, "{text}");
    assert!(
        !text.contains(['?', '#', '%', ':', '\\', '@']) && !text.contains("..") && !text.contains("//"),
        "{text}"
    );
}
