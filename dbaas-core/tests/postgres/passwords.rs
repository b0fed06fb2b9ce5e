//! What we hash is what PostgreSQL hashes, and who has the password logs in: against real servers.

use std::cell::Cell;

use crate::throwaway::{Throwaway, hold, installations, literal};
use dbaas_core::password::Password;
use dbaas_core::scram::{Iterations, ScramVerifier};
use proptest::prelude::*;

/// Every character that a password may have beyond ASCII, alone among letters or among its own kind.
fn usable_characters() -> Vec<char> {
    let usable = |c: char| {
        let among_letters: String = ['a'; 7].into_iter().chain([c]).chain(['b']).collect();
        Password::new(&among_letters).is_ok() || Password::new(&String::from(c).repeat(8)).is_ok()
    };
    ('\u{80}'..=char::MAX).filter(|c| usable(*c)).collect()
}

/// Random texts that are accepted as passwords.
fn password(pool: &'static [char]) -> impl Strategy<Value = String> {
    let ascii = || prop::char::range(' ', '~').boxed();
    let any = || prop::sample::select(pool).boxed();
    // Of one script, as people write.
    let script =
        (0..pool.len() - 60).prop_map(|start| prop::sample::select(&pool[start..start + 60]).boxed());
    let mark = prop::char::range('\u{300}', '\u{36f}');
    let letter = prop::sample::select(['e', 'A', '\u{11a8}', '\u{1161}', '\u{1100}', '\u{ac00}'].as_slice());
    let kinds = prop_oneof![
        Just(ascii()),
        Just(prop_oneof![2 => ascii(), 1 => any()].boxed()),
        script,
        // Letters with marks that combine with them, in any order.
        Just(prop_oneof![2 => ascii(), 1 => mark, 6 => letter].boxed()),
        Just(any()),
    ];
    let length = prop_oneof![8 => 8..20usize, 1 => 8..100usize];
    let text = (kinds, length).prop_flat_map(|(kind, length)| prop::collection::vec(kind, length));
    text.prop_map(|characters| characters.into_iter().collect::<String>())
        .prop_filter("not a password", |text| Password::new(text).is_ok())
}

/// Has PostgreSQL hash each text as given (what a user types), and compares with what we derive from its
/// salt.
fn compare(server: &Throwaway, texts: &[String]) {
    for chunk in texts.chunks(500) {
        let mut sql = String::from("SET password_encryption = 'scram-sha-256';\nBEGIN;\n");
        for (i, text) in chunk.iter().enumerate() {
            sql.push_str(&format!("CREATE ROLE r{i} PASSWORD {};\n", literal(text)));
        }
        sql.push_str("SELECT substr(rolname, 2) || ' ' || rolpassword FROM pg_authid WHERE rolname ~ '^r[0-9]+$';\nROLLBACK;\n");
        let rows = server.sql(&sql);
        assert_eq!(rows.lines().count(), chunk.len());
        for row in rows.lines() {
            let (i, theirs) = row.split_once(' ').unwrap();
            let text = &chunk[i.parse::<usize>().unwrap()];
            let theirs: ScramVerifier = theirs.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"));
            let password = Password::new(text).unwrap();
            assert!(
                theirs.verify(&password),
                "PostgreSQL hashes {:?} differently",
                text.escape_unicode().to_string()
            );
        }
    }
}

#[test]
fn random_passwords_hash_as_postgresql_hashes_them() {
    for installation in installations("random_passwords_hash_as_postgresql_hashes_them") {
        let mut server = Throwaway::init(&installation);
        server.start(&[]);
        let pool = usable_characters();
        assert!(pool.len() > 50_000, "{}", pool.len());
        let pool: &'static [char] = pool.leak();
        let beyond_ascii = Cell::new(0);
        hold(20, prop::collection::vec(password(pool), 100), |texts| {
            beyond_ascii.set(beyond_ascii.get() + texts.iter().filter(|text| !text.is_ascii()).count());
            compare(&server, &texts);
        });
        assert!(beyond_ascii.get() > 800, "{}", beyond_ascii.get());
    }
}

/// Minutes; run it when the rule or the stringprep crate changes: `cargo test -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn every_usable_character_hashes_as_postgresql_hashes_it() {
    for installation in installations("every_usable_character_hashes_as_postgresql_hashes_it") {
        let mut server = Throwaway::init(&installation);
        server.start(&[]);
        let mut texts = Vec::new();
        let mut text = String::from("........");
        for c in usable_characters() {
            // A dot between them, lest they combine.
            let longer = format!("{text}{c}.");
            let alone = String::from(c).repeat(8);
            if Password::new(&format!("........{c}.")).is_err() {
                texts.push(alone);
            } else if Password::new(&longer).is_ok() {
                text = longer;
            } else {
                texts.push(std::mem::replace(&mut text, format!("........{c}.")));
            }
        }
        texts.push(text);
        compare(&server, &texts);
    }
}

#[test]
fn our_verifiers_are_taken_as_they_are_and_libpq_logs_in() {
    for installation in installations("our_verifiers_are_taken_as_they_are_and_libpq_logs_in") {
        let mut server = Throwaway::init(&installation);
        let hba = "local all postgres trust\nlocal all all scram-sha-256\n";
        server.write(&server.data().join("pg_hba.conf"), hba);
        server.start(&[]);

        let looks_like_a_verifier =
            "SCRAM-SHA-256$4096:1XqV/oAapo61lhyezVrc1Q==$2jaGCR9Skf5WumcJ2Slp/tWLE4I6MJQ8Ggpo9eaM2vI=";
        let texts: Vec<String> = [
            "open sesame",
            "        ",
            "it's \"so\" @:/?#[]%41",
            "back\\slash \\' \\n $1 $$",
            "md5900150983cd24fb0d6963f7d28e17f72",
            looks_like_a_verifier,
            "SCRAM-SHA-256$4096:",
            "pass\u{ad}word",
            "pass\u{a0}word",
            "passwo\u{308}rd",
            "IX-\u{2168}-abcd",
            "пароль-12",
            "密码密码密码密码",
            "שלוםשלום",
        ]
        .map(str::to_owned)
        .into_iter()
        .chain([
            (' '..='Z').collect(),
            ('['..='~').collect(),
            "x".repeat(99),
            "ä".repeat(99),
        ])
        .collect();

        for (i, text) in texts.iter().enumerate() {
            let password = Password::new(text).unwrap();
            let salt = std::array::from_fn(|j| (i * 16 + j) as u8);
            let iterations = Iterations::new(4096 + i as u32).unwrap();
            let verifier = ScramVerifier::derive(&password, salt, iterations);
            server.sql(&format!(
                "CREATE ROLE u{i} LOGIN PASSWORD {};",
                literal(&verifier.to_string())
            ));

            let stored = format!("SELECT rolpassword FROM pg_authid WHERE rolname = 'u{i}'");
            assert_eq!(server.sql(&stored), verifier.to_string(), "kept as it was sent");
            let hash = format!("SELECT encode(sha256(convert_to(({stored}), 'UTF8')), 'hex')");
            assert_eq!(server.sql(&hash), verifier.fingerprint());

            let user = format!("u{i}");
            let login = |password: &str| {
                server
                    .psql(&user, &[("PGPASSWORD", password)], "SELECT 1")
                    .status
                    .success()
            };
            assert!(login(text), "{text:?} as typed");
            assert!(login(password.expose()), "{text:?} as prepared");
            assert!(!login(&format!("{text}x")), "{text:?} with one more character");
            assert!(!login(&verifier.to_string()), "the verifier is not the password");
        }
    }
}
