//! Bodies of requests: nothing panics, what is accepted is one well-formed JSON object, what is refused is
//! refused for one of two reasons, and errors repeat no password. The first byte says which request it is.
#![no_main]

use dbaas_http::{ProblemKind, decode_for_fuzzing};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// A text that no rule or message has by chance.
const MARK: &str = "hunter2#";

fuzz_target!(|input: &[u8]| {
    let Some((which, body)) = input.split_first() else {
        return;
    };
    let value = serde_json::from_slice::<Value>(body);
    match (decode_for_fuzzing(*which, body), value) {
        (Ok(()), value) => assert!(value.is_ok_and(|value| value.is_object())),
        (Err(problem), value) => {
            match problem.kind() {
                ProblemKind::InvalidFields => {}
                ProblemKind::MalformedBody => {
                    let why = problem.detail();
                    let is_stricter = why.contains("nested more deeply") || why.contains("surrogate");
                    assert!(value.is_err() || is_stricter, "{why}");
                }
                other => panic!("{other:?}"),
            }
            let shown = format!("{problem:?}");
            if let Ok(Value::Object(fields)) = value
                && let Some(Value::String(password)) = fields.get("password")
                && password.starts_with(MARK)
                && !fields.iter().any(|(key, value)| {
                    key.contains(MARK) || (key != "password" && value.to_string().contains(MARK))
                })
            {
                assert!(!shown.contains(MARK), "{shown}");
            }
            assert!(shown.len() < 100_000);
        }
    }
});
