//! Passwords and verifiers: what is accepted is prepared for good, errors repeat nothing, a verifier has one
//! text.
#![no_main]

use dbaas_core::password::Password;
use dbaas_core::scram::{Iterations, ScramVerifier};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(password) = Password::new(text) {
        assert!((8..=99).contains(&text.chars().count()));
        assert!(!text.chars().any(char::is_control));
        assert_eq!(stringprep::saslprep(text).unwrap(), password.expose());
        assert_eq!(
            stringprep::saslprep(password.expose()).unwrap(),
            password.expose()
        );
        assert_eq!(format!("{password:?} {password}"), "Password(***) ***");
        // Hashing is slow on purpose: only now and then.
        if text.len() % 64 == 9 {
            let verifier = ScramVerifier::derive(&password, [text.as_bytes()[0]; 16], Iterations::default());
            assert_ne!(verifier.to_string(), text);
            assert!(verifier.verify(&password));
        }
    }
    // As it comes in a body: text, or JSON of any kind in its place. Syntax errors are serde_json's and quote
    // nothing.
    for json in [serde_json::to_string(text).unwrap(), text.to_owned()] {
        if let Err(error) = serde_json::from_str::<Password>(&json)
            && let Ok(value) = serde_json::from_str::<serde_json::Value>(&json)
        {
            let message = error.to_string();
            let reason = value.as_str().and_then(|text| Password::new(text).err());
            let known = match reason {
                Some(reason) => vec![reason.to_string()],
                None => [
                    "a password must be text",
                    "invalid type: null",
                    "invalid type: sequence",
                    "invalid type: map",
                ]
                .map(str::to_owned)
                .to_vec(),
            };
            assert!(
                known.iter().any(|known| message.starts_with(known.as_str())),
                "{message}"
            );
        }
    }
    if let Ok(verifier) = text.parse::<ScramVerifier>() {
        assert_eq!(verifier.to_string(), text);
        assert_eq!(verifier.fingerprint().len(), 64);
    }
});
