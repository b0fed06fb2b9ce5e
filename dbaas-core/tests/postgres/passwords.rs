//! What we hash is what PostgreSQL hashes, and who has the password logs in: against real servers.

use crate::throwaway::{Numbers, Throwaway, installations, literal};
use dbaas_core::password::Password;
use dbaas_core::scram::{Iterations, ScramVerifier};

/// Every character that a password may have beyond ASCII, alone among letters or among its own kind.
fn usable_characters() -> Vec<char> {
    let usable = |c: char| {
        let among_letters: String = ['a'; 7].into_iter().chain([c]).chain(['b']).collect();
        Password::new(&among_letters).is_ok() || Password::new(&String::from(c).repeat(8)).is_ok()
    };
    ('\u{80}'..=char::MAX).filter(|c| usable(*c)).collect()
}

/// Random texts, about half of which are accepted as passwords.
fn random_text(numbers: &mut Numbers, pool: &[char]) -> String {
    let spread = numbers.pick(&[12, 12, 12, 12, 12, 12, 12, 12, 92]);
    let length = 8 + numbers.below(spread);
    let kind = numbers.below(5);
    let start = numbers.below(pool.len());
    let mut text = String::new();
    for _ in 0..length {
        let ascii = char::from(b' ' + numbers.below(95) as u8);
        text.push(match kind {
            0 => ascii,
            1 => {
                let other = numbers.pick(pool);
                numbers.pick(&[ascii, ascii, other])
            }
            // Of one script, as people write.
            2 => pool[(start + numbers.below(60)).min(pool.len() - 1)],
            // Letters with marks that combine with them, in any order.
            3 => {
                let mark = char::from_u32(0x300 + numbers.below(0x70) as u32).unwrap_or('a');
                numbers.pick(&[
                    ascii, ascii, mark, 'e', 'A', '\u{11a8}', '\u{1161}', '\u{1100}', '\u{ac00}',
                ])
            }
            _ => numbers.pick(pool),
        });
    }
    text
}

/// Has PostgreSQL hash each text as given (what a user types), and compares with what we derive from its salt.
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
        let mut numbers = Numbers(u64::from(installation.major));
        let mut texts = Vec::new();
        for _ in 0..100_000 {
            let text = random_text(&mut numbers, &pool);
            if Password::new(&text).is_ok() {
                texts.push(text);
            }
            if texts.len() == 2000 {
                break;
            }
        }
        assert_eq!(texts.len(), 2000, "too few texts are accepted");
        let beyond_ascii = texts.iter().filter(|text| !text.is_ascii()).count();
        assert!(beyond_ascii > 800, "{beyond_ascii}");
        compare(&server, &texts);
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
