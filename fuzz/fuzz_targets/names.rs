//! Names: what is accepted obeys the rules, whatever the text; nothing panics.
#![no_main]

use dbaas_core::name::{DatabaseName, Description, InstanceName, UserName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<InstanceName>() {
        assert!((1..=255).contains(&text.chars().count()));
        assert!(!text.chars().any(char::is_control));
        assert_eq!(text.trim(), text);
        assert_eq!(name.as_str(), text);
    }
    if text.parse::<Description>().is_ok() {
        assert!(text.chars().count() <= 1024 && !text.contains('\0'));
    }
    if text.parse::<DatabaseName>().is_ok() {
        assert_identifier(text, "_");
        let lower = text.to_lowercase();
        assert!(
            !["postgres", "template0", "template1"].contains(&lower.as_str()) && !lower.starts_with("dbaas_")
        );
    }
    if text.parse::<UserName>().is_ok() {
        assert_identifier(text, "_$");
        let lower = text.to_lowercase();
        assert!(
            !["pg_", "dbaas_", "postgres"]
                .iter()
                .any(|prefix| lower.starts_with(prefix))
        );
        assert!(lower != "public" && lower != "none");
    }
    let json = serde_json::to_string(text).unwrap();
    assert_eq!(
        serde_json::from_str::<UserName>(&json).is_ok(),
        text.parse::<UserName>().is_ok()
    );
    for error in [text.parse::<UserName>().err(), text.parse::<InstanceName>().err()]
        .into_iter()
        .flatten()
    {
        assert!(!error.to_string().is_empty());
    }
});

fn assert_identifier(text: &str, also: &str) {
    assert!((1..=63).contains(&text.len()));
    assert!(
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || also.contains(c))
    );
    assert!(!text.starts_with(|c: char| c.is_ascii_digit() || c == '$'));
}
