use dbaas_core::name::InstanceName;
use dbaas_core::password::Password;
use dbaas_core::size::{CpuCores, SyncReplicas};
use proptest::prelude::*;

use super::*;

fn refusal(body: &str) -> (ProblemKind, String) {
    match Object::parse(body.as_bytes()) {
        Ok(_) => panic!("accepted: {body}"),
        Err(problem) => (problem.kind(), problem.detail().to_owned()),
    }
}

#[test]
fn what_is_not_one_json_object() {
    use ProblemKind::{InvalidFields, MalformedBody};
    let table = [
        ("", MalformedBody, "the body is empty; a JSON object is expected"),
        (
            " \n",
            MalformedBody,
            "the body is empty; a JSON object is expected",
        ),
        (
            "{",
            MalformedBody,
            "EOF while parsing an object at line 1 column 1",
        ),
        ("{} {}", MalformedBody, "trailing characters at line 1 column 4"),
        (
            "{\"a\":1,}",
            MalformedBody,
            "key must be a string at line 1 column 8",
        ),
        (
            "{'a':1}",
            MalformedBody,
            "key must be a string at line 1 column 2",
        ),
        ("{\"a\":NaN}", MalformedBody, "expected value at line 1 column 6"),
        ("{\"a\":01}", MalformedBody, "invalid number at line 1 column 7"),
        (
            "{\"a\":\"\u{1}\"}",
            MalformedBody,
            "control character (\\u0000-\\u001F) found while parsing a string at line 1 column 6",
        ),
        ("\u{feff}{}", MalformedBody, "expected value at line 1 column 1"),
        ("[]", InvalidFields, "the body: must be an object, was an array"),
        ("null", InvalidFields, "the body: must be an object, was null"),
        ("\"x\"", InvalidFields, "the body: must be an object, was text"),
        (
            "1e400",
            InvalidFields,
            "the body: must be an object, was a number",
        ),
        (
            r#"{"\ud800":1}"#,
            MalformedBody,
            "a key is not valid text (half of a surrogate pair)",
        ),
    ];
    for (body, kind, detail) in table {
        assert_eq!(refusal(body), (kind, detail.to_owned()), "{body}");
    }
    let not_utf8 = Object::parse(b"{\"a\":\"\xff\"}").err().unwrap();
    assert_eq!(not_utf8.detail(), "not UTF-8: the byte at offset 6 is not");
}

#[test]
fn nesting_is_bounded_before_anything_recurses() {
    let nested = |n: usize| format!("{}{}", "{\"a\":".repeat(n), "[".repeat(200_000));
    assert_eq!(refusal(&nested(3)).1, "nested more deeply than 32 levels");
    let deepest = format!("{{\"a\":{}{}}}", "[".repeat(31), "]".repeat(31));
    assert!(Object::parse(deepest.as_bytes()).is_ok());
    let deeper = format!("{{\"a\":{}{}}}", "[".repeat(32), "]".repeat(32));
    assert_eq!(refusal(&deeper).1, "nested more deeply than 32 levels");
    // Brackets in text are not nesting.
    let text = format!("{{\"a\":\"\\\"{}\"}}", "[".repeat(100));
    assert!(Object::parse(text.as_bytes()).is_ok());
}

fn errors(body: &str) -> Vec<(String, String)> {
    let object = Object::parse(body.as_bytes()).unwrap();
    let mut decoder = Decoder::new("a thing", object);
    let name = decoder.required("name", parsed::<InstanceName>);
    let cpu = decoder.required("cpu", whole::<CpuCores>);
    let sync = decoder.optional("sync_replica_number", whole::<SyncReplicas>);
    decoder.refused("status", None, "is read-only; leave it out");
    let problem = decoder.finish(|| Some((name?, cpu?, sync))).err();
    let wrong = problem.map(|p| p.errors().to_vec()).unwrap_or_default();
    wrong
        .into_iter()
        .map(|w| (w.pointer.unwrap(), w.detail))
        .collect()
}

#[test]
fn every_error_is_collected() {
    let body = r#"{"name":"","cpu":129,"sync_replica_number":-1,"status":"ACTIVE","sync_replica_nmber":1,"x/~":1,"cpu":1}"#;
    let expected = [
        ("/cpu", "is given more than once"),
        ("/name", "must not be empty"),
        ("/cpu", "must be between 1 and 128 cores, was 129"),
        (
            "/sync_replica_number",
            "must be between 0 and 15 synchronous replicas, was -1",
        ),
        ("/status", "is read-only; leave it out"),
        (
            "/sync_replica_nmber",
            "is not a field of a thing; did you mean \"sync_replica_number\"?",
        ),
        (
            "/x~1~0",
            "is not a field of a thing; the fields are name, cpu, sync_replica_number, status",
        ),
    ];
    let expected: Vec<_> = expected.map(|(p, d)| (p.to_owned(), d.to_owned())).into();
    assert_eq!(errors(body), expected);
    assert!(errors(r#"{"name":"a","cpu":1}"#).is_empty());
    assert!(
        errors(r#"{"n\u0061me":"a","cpu":-0}"#)
            .iter()
            .all(|(p, _)| p == "/cpu")
    );
}

#[test]
fn wrong_values_of_a_number() {
    let table = [
        ("\"8\"", "must be a whole number, was text"),
        ("null", "must be a whole number, was null"),
        ("true", "must be a whole number, was true or false"),
        ("[8]", "must be a whole number, was an array"),
        ("{}", "must be a whole number, was an object"),
        (
            "1.0",
            "must be a whole number, written without a fraction or an exponent",
        ),
        (
            "1.5",
            "must be a whole number, written without a fraction or an exponent",
        ),
        (
            "1e2",
            "must be a whole number, written without a fraction or an exponent",
        ),
        (
            "1e400",
            "must be a whole number, written without a fraction or an exponent",
        ),
        ("-1", "must be between 1 and 128 cores, was -1"),
        ("0", "must be between 1 and 128 cores, was 0"),
        (
            "18446744073709551616",
            "must be between 1 and 128 cores, was 18446744073709551616",
        ),
        (
            "-9223372036854775809",
            "must be between 1 and 128 cores, was -9223372036854775809",
        ),
    ];
    for (value, detail) in table {
        let got = errors(&format!(r#"{{"name":"a","cpu":{value}}}"#));
        assert_eq!(got, [("/cpu".to_owned(), detail.to_owned())], "{value}");
    }
    let huge = errors(&format!(r#"{{"name":"a","cpu":{}}}"#, "9".repeat(400)));
    assert_eq!(
        huge[0].1,
        "must be between 1 and 128 cores, was a number of 400 digits"
    );
    let null = errors(r#"{"name":"a","cpu":1,"sync_replica_number":null}"#);
    assert_eq!(null[0].1, "must not be null; leave the field out instead");
    let half = errors(r#"{"name":"\ud800","cpu":1}"#);
    assert_eq!(half[0].1, "is not valid text (half of a surrogate pair)");
}

#[test]
fn a_password_is_never_repeated() {
    for value in [
        r#""hunter2""#,
        "31337",
        r#"["hunter2"]"#,
        r#"{"hunter2":1}"#,
        r#""hunter2\ud800""#,
        r#""hunter2\u0007""#,
    ] {
        let body = format!(r#"{{"password":{value}}}"#);
        let mut decoder = Decoder::new("a user", Object::parse(body.as_bytes()).unwrap());
        let password = decoder.required("password", parsed::<Password>);
        let problem = decoder.finish(|| password).err().unwrap();
        let shown = format!("{problem:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("31337"), "{shown}");
    }
}

#[test]
fn masses_of_keys_are_bounded() {
    let body = format!(
        "{{{}}}",
        (0..900)
            .map(|i| format!("\"k{i}\":1"))
            .collect::<Vec<_>>()
            .join(",")
    );
    assert_eq!(errors(&body).len(), ERRORS_MAX);
    let body = format!(
        "{{{}}}",
        (0..90_000)
            .map(|i| format!("\"k{i}\":1"))
            .collect::<Vec<_>>()
            .join(",")
    );
    assert_eq!(
        refusal(&body).1,
        "the body: has 90000 keys, more than any resource has"
    );
    let long = format!("{{\"name\":\"a\",\"cpu\":1,\"{}\":1}}", "é".repeat(5000));
    assert_eq!(errors(&long)[0].0, format!("/{}…", "é".repeat(64)));
}

proptest! {
    #[test]
    fn agrees_with_serde_json_on_what_is_well_formed(text in "[\\[\\]{}\",:\\\\u0-9a-fE.+ tnls-]{0,24}") {
        let ours = Object::parse(text.as_bytes());
        let theirs = serde_json::from_str::<Value>(&text);
        // Numbers beyond a double are well-formed; serde_json's value cannot hold them.
        if theirs.is_ok() {
            prop_assert!(!matches!(&ours, Err(p) if p.kind() == ProblemKind::MalformedBody));
        } else if ours.is_ok() {
            prop_assert!(theirs.unwrap_err().to_string().contains("out of range") || text.contains("\\u"));
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Object::parse(&bytes);
    }
}
