use proptest::prelude::*;

use super::*;

fn database(text: &str) -> Result<DatabaseName, NameError> {
    text.parse()
}

fn user(text: &str) -> Result<UserName, NameError> {
    text.parse()
}

#[test]
fn instance_name_bounds_count_characters() {
    for ok in ["a", "prod db", "Aufträge №1", "数据库", "emoji 🐘", "a\u{a0}b"] {
        assert_eq!(InstanceName::new(ok).unwrap().as_str(), ok);
    }
    assert!(InstanceName::new("ä".repeat(255)).is_ok());
    assert_eq!(
        InstanceName::new("ä".repeat(256)),
        Err(NameError::TooLong {
            max: 255,
            unit: "characters",
            got: 256
        })
    );
    assert_eq!(InstanceName::new(""), Err(NameError::Empty));
    assert_eq!(InstanceName::new("  \u{3000}"), Err(NameError::Blank));
    assert_eq!(
        InstanceName::new(" a"),
        Err(NameError::EdgeWhitespace {
            position: 1,
            character: ' '
        })
    );
    assert_eq!(
        InstanceName::new("ab\u{a0}"),
        Err(NameError::EdgeWhitespace {
            position: 3,
            character: '\u{a0}'
        })
    );
    for bad in [
        '\0', '\n', '\r', '\t', '\u{1b}', '\u{7f}', '\u{85}', '\u{2028}', '\u{202e}',
    ] {
        assert_eq!(
            InstanceName::new(format!("a{bad}b")),
            Err(NameError::ControlCharacter {
                position: 2,
                character: bad
            })
        );
    }
}

#[test]
fn description_bounds() {
    assert!(Description::new("").unwrap().is_empty());
    assert!(Description::new("line\nline\ttab\r\n").is_ok());
    assert!(Description::new("é".repeat(1024)).is_ok());
    assert_eq!(
        Description::new("é".repeat(1025)),
        Err(NameError::TooLong {
            max: 1024,
            unit: "characters",
            got: 1025
        })
    );
    assert!(!Description::new("x").unwrap().is_empty());
    assert_eq!(
        Description::new("ab\0"),
        Err(NameError::ControlCharacter {
            position: 3,
            character: '\0'
        })
    );
}

#[test]
fn identifiers_that_are_fine() {
    for ok in [
        "a",
        "_",
        "Z9",
        "_9",
        "select",
        "user",
        "Orders_2",
        "dbaas",
        "pg",
        "postgre",
        "templates",
    ] {
        assert_eq!(database(ok).unwrap().as_str(), ok);
    }
    for ok in [
        "a",
        "_",
        "a$",
        "a$b_9",
        "table",
        "current_user",
        "pg",
        "dbaas",
        "postgre",
        "nobody",
        "public_",
    ] {
        assert_eq!(user(ok).unwrap().as_str(), ok);
    }
    // pg_ is reserved for roles only, postgres only as a whole for databases.
    assert!(database("pg_data").is_ok());
    assert!(database("postgres2").is_ok());
}

#[test]
fn identifier_length_counts_bytes() {
    assert!(database(&"a".repeat(63)).is_ok());
    assert!(user(&"a".repeat(63)).is_ok());
    let too_long = NameError::TooLong {
        max: 63,
        unit: "bytes",
        got: 64,
    };
    assert_eq!(database(&"a".repeat(64)), Err(too_long.clone()));
    assert_eq!(user(&"a".repeat(64)), Err(too_long));
    assert_eq!(database(""), Err(NameError::Empty));
    assert_eq!(user(""), Err(NameError::Empty));
}

#[test]
fn no_trailing_newline_slips_through() {
    for text in ["abc\n", "abc\r\n", "abc\u{2028}", "abc\0", "abc ", "\nabc"] {
        assert!(
            matches!(database(text), Err(NameError::BadCharacter { .. })),
            "{text:?}"
        );
        assert!(
            matches!(user(text), Err(NameError::BadCharacter { .. })),
            "{text:?}"
        );
    }
    assert_eq!(
        database("abc\n").unwrap_err().to_string(),
        "character 4 is U+000A: only the letters a-z and A-Z, digits and underscores are allowed"
    );
}

#[test]
fn look_alikes_are_named() {
    // Cyrillic о, fullwidth a, Kelvin sign, dotless i, an Arabic digit.
    for (text, position) in [
        ("\u{43e}rders", 1),
        ("x\u{ff41}", 2),
        ("xx\u{212a}", 3),
        ("\u{131}d", 1),
        ("a\u{661}", 2),
    ] {
        for error in [database(text).unwrap_err(), user(text).unwrap_err()] {
            match error {
                NameError::BadCharacter {
                    position: at,
                    character,
                    ..
                } => {
                    assert_eq!(at, position, "{text}");
                    assert!(
                        error
                            .to_string()
                            .contains(&format!("U+{:04X}", u32::from(character))),
                        "{error}"
                    );
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}

#[test]
fn first_character() {
    assert_eq!(
        database("9a"),
        Err(NameError::BadFirstCharacter { character: '9' })
    );
    assert_eq!(user("$a"), Err(NameError::BadFirstCharacter { character: '$' }));
    assert!(matches!(
        database("a$"),
        Err(NameError::BadCharacter {
            position: 2,
            character: '$',
            ..
        })
    ));
    for bad in [
        "a-b", "a.b", "a\"b", "a'b", "a;b", "a b", "a/b", "a\\b", "a%b", "a@b",
    ] {
        assert!(database(bad).is_err(), "{bad}");
        assert!(user(bad).is_err(), "{bad}");
    }
}

/// What tells it from a tenant's database is its name, too.
#[test]
fn nobody_can_ask_for_the_spare_database() {
    assert!(database(crate::command::SPARE_DATABASE).is_err());
    assert!(RESERVED_DATABASES.contains(&crate::command::SPARE_DATABASE));
    let staging = crate::command::staging_database_name(uuid::Uuid::max());
    assert!(database(&staging).is_err());
}

#[test]
fn reserved_names_in_any_case() {
    for name in ["postgres", "Postgres", "TEMPLATE0", "template1"] {
        assert_eq!(database(name), Err(NameError::Reserved { name: name.into() }));
    }
    assert_eq!(
        database("DbaaS_x"),
        Err(NameError::ReservedPrefix { prefix: "dbaas_" })
    );
    for (name, prefix) in [
        ("pg_x", "pg_"),
        ("PG_X", "pg_"),
        ("dbaas_admin", "dbaas_"),
        ("DBaaS_", "dbaas_"),
        ("postgres", "postgres"),
        ("PostgreSQL", "postgres"),
        ("postgres1", "postgres"),
    ] {
        assert_eq!(user(name), Err(NameError::ReservedPrefix { prefix }), "{name}");
    }
    for name in ["public", "PUBLIC", "none", "None"] {
        assert_eq!(user(name), Err(NameError::Reserved { name: name.into() }));
    }
}

#[test]
fn json_validates() {
    assert_eq!(
        serde_json::from_str::<UserName>("\"bob\"").unwrap(),
        user("bob").unwrap()
    );
    assert_eq!(serde_json::to_string(&user("bob").unwrap()).unwrap(), "\"bob\"");
    for json in ["\"pg_x\"", "\"\"", "1", "null", "[]", "\"a\\u0000\""] {
        assert!(serde_json::from_str::<UserName>(json).is_err(), "{json}");
    }
}

/// The rule as the specification writes it, as a second opinion.
fn matches_rule(text: &str, pattern: &str) -> bool {
    regex::Regex::new(pattern).unwrap().is_match(text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn identifiers_agree_with_the_regular_expression(
        text in prop_oneof![".*", "[a-zA-Z_$0-9]{0,70}", "(?i)(pg_|dbaas_|postgres|public|none|template[012])[a-z$]{0,3}"]
    ) {
        let lower = text.to_ascii_lowercase();
        let reserved_db = ["postgres", "template0", "template1"].contains(&lower.as_str()) || lower.starts_with("dbaas_");
        prop_assert_eq!(database(&text).is_ok(), matches_rule(&text, r"\A[A-Za-z_][A-Za-z0-9_]{0,62}\z") && !reserved_db);
        let reserved_user = ["public", "none"].contains(&lower.as_str())
            || ["pg_", "dbaas_", "postgres"].iter().any(|p| lower.starts_with(p));
        prop_assert_eq!(user(&text).is_ok(), matches_rule(&text, r"\A[A-Za-z_][A-Za-z0-9_$]{0,62}\z") && !reserved_user);
    }

    #[test]
    fn what_is_accepted_survives_json(text in "\\PC{0,260}") {
        if let Ok(name) = InstanceName::new(text.clone()) {
            prop_assert!((1..=255).contains(&text.chars().count()));
            let json = serde_json::to_string(&name).unwrap();
            prop_assert_eq!(serde_json::from_str::<InstanceName>(&json).unwrap(), name);
        }
    }
}
