use proptest::prelude::*;

use super::*;
use crate::print::print;

fn json(text: &str) -> serde_json::Value {
    parse(text)
        .unwrap_or_else(|error| panic!("{error}: {text}"))
        .root
        .to_json()
}

fn message(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn values_of_the_core_schema() {
    let text = "{a: 1, b: -0x1, c: 0x1f, d: 1.50, e: '1', f: yes, g: true, h: ~, i: , j: 0644, k: 99999999999999999999, l: .inf, m: +7}";
    let expected = serde_json::json!({
        "a": 1, "b": "-0x1", "c": 31, "d": 1.5, "e": "1", "f": "yes", "g": true, "h": null, "i": null, "j": "0644",
        "k": "99999999999999999999", "l": ".inf", "m": 7,
    });
    assert_eq!(json(text), expected);
    assert_eq!(
        json("{\"a\": [1, {\"b\": null}]}"),
        serde_json::json!({"a": [1, {"b": null}]})
    );
}

#[test]
fn the_last_of_equal_keys_counts_and_both_lines_are_named() {
    let parsed = parse("a: 1\nb: 2\na: 3\n").unwrap();
    assert_eq!(parsed.root.to_json(), serde_json::json!({"a": 3, "b": 2}));
    assert_eq!(
        parsed.warnings[0].to_string(),
        "line 3, column 1: \"a\" stands in line 1 and again in line 3; the last one counts"
    );
}

#[test]
fn every_place_is_known() {
    let parsed = parse("a:\n  - 1\n  - b: x\n").unwrap();
    let list = parsed.root.entry("a").unwrap();
    let Value::List(items) = &list.node.value else {
        panic!()
    };
    let entry = items[1].entry("b").unwrap();
    assert_eq!(
        (items[0].position, entry.position, entry.node.position),
        (at(2, 5), at(3, 5), at(3, 8))
    );
}

fn at(line: usize, column: usize) -> Position {
    Position { line, column }
}

#[test]
fn what_is_not_taken() {
    for (text, expected) in [
        ("", "the document is empty"),
        ("a: 1\n---\nb: 2", "a second one begins here"),
        ("a: !!binary x", "tags"),
        ("<<: {a: 1}", "merge keys"),
        ("[a]: 1", "--set"),
        ("a: {{ version }}", "--set"),
        ("~: 1", "a key is text"),
        ("a: &x [*x]", "alias"),
        ("a: *x", "not YAML"),
        ("a: [1", "not YAML"),
        ("a: b: c", "not YAML"),
    ] {
        assert!(message(text).contains(expected), "{text:?}: {}", message(text));
    }
}

#[test]
fn a_billion_laughs_are_not_laughed() {
    let mut text = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]\n".to_owned();
    for n in 1..10 {
        let before = n - 1;
        text += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{before}"); 10].join(", "));
    }
    let began = std::time::Instant::now();
    assert!(message(&text).contains("aliases"), "{}", message(&text));
    assert!(began.elapsed().as_secs() < 10);
    // The same with few values and much text.
    let long = "x".repeat(100_000);
    let text = format!("a: &a {long}\nb: [{}]\n", vec!["*a"; 50].join(", "));
    assert!(message(&text).contains("bytes"));
}

#[test]
fn depth_and_length_have_bounds() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(parse(&nested(limits::DEPTH_MAX)).is_ok());
    assert!(message(&nested(limits::DEPTH_MAX + 1)).contains("deeper than 32"));
    // The library has a bound of its own, which comes first.
    assert!(
        message(&nested(100_000)).contains("recursion limit"),
        "{}",
        message(&nested(100_000))
    );
    let block: String = (0..200)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    assert!(message(&block).contains("deeper than 32"));
    assert!(message(&"x".repeat(limits::BYTES_MAX + 1)).contains("at most"));
    assert!(parse(&"x".repeat(limits::BYTES_MAX)).is_ok());
}

#[test]
fn a_template_keeps_its_lines_however_deep_it_stands() {
    let expected = "f\"\nA=1\n  B=2\n\n\"";
    for indent in ["  ", "    ", "        "] {
        let text = format!("x:\n  content: f\"\n{indent}A=1\n{indent}  B=2\n\n{indent}\"\n  after: 1\n");
        let root = parse(&text)
            .unwrap_or_else(|error| panic!("{error}: {text}"))
            .root;
        let x = root.entry("x").unwrap();
        assert_eq!(
            x.node.entry("content").unwrap().node.text(),
            Some(expected),
            "{text}"
        );
        assert_eq!(x.node.entry("after").unwrap().position.line, 7, "{text}");
    }
    // Block scalars have lines anyway.
    assert_eq!(
        json("a: |-\n  f\"x\n  y\"\n"),
        serde_json::json!({"a": "f\"x\ny\""})
    );
    // Errors after a template name the lines of the text.
    let text = "a: f\"\nx\n\"\nb: 1\n  c: 2\n";
    assert!(message(text).starts_with("line 5"), "{}", message(text));
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,6}",
        "\\PC{0,12}",
        prop::collection::vec(any::<char>(), 0..8).prop_map(String::from_iter),
        "[ :#\\-?\\[\\]{}&*!|>'\"%@`,\n\t\r~0-9.]{0,8}",
    ]
    // What no YAML holds, not even escaped in a JSON text.
    .prop_filter("NUL", |text| !text.contains('\0'))
}

fn any_node() -> impl Strategy<Value = Node> {
    let node = |value| Node {
        position: Position::default(),
        value,
    };
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Integer),
        (0i32..999, 0u32..99).prop_map(|(a, b)| Value::Real(format!("{a}.{b}"))),
        any_text().prop_map(Value::Text),
    ];
    scalar.prop_map(node).prop_recursive(4, 40, 5, move |inner| {
        let map = prop::collection::btree_map(any_text(), inner.clone(), 0..5).prop_map(|fields| {
            let entry = |(key, node): (String, Node)| Entry {
                position: Position::default(),
                key,
                node,
            };
            Value::Map(
                fields
                    .into_iter()
                    .filter(|(key, _)| key != "<<")
                    .map(entry)
                    .collect(),
            )
        });
        prop_oneof![prop::collection::vec(inner, 0..5).prop_map(Value::List), map].prop_map(node)
    })
}

proptest! {
    #[test]
    fn printing_and_parsing_are_inverse(node in any_node()) {
        let text = print(&node);
        let parsed = parse(&text).map_err(|error| TestCaseError::fail(format!("{error}:\n{text}")))?;
        prop_assert_eq!(&parsed.root, &node, "{}", text);
        prop_assert!(parsed.warnings.is_empty());
    }

    #[test]
    fn no_text_is_too_strange(text in "[ a:#\\-?\\[\\]{}&*!|>'\"%@`,\n\t$.f0~]{0,60}") {
        if let Ok(parsed) = parse(&text) {
            let again = parse(&print(&parsed.root)).map(|parsed| parsed.root);
            prop_assert_eq!(again, Ok(parsed.root), "{}", text);
        }
    }
}
