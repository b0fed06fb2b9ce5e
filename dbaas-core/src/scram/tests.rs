use proptest::prelude::*;

use super::*;

fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

/// RFC 7677 section 3: user "user", password "pencil" (shorter than what [`Password`] allows, so the parts
/// are checked through the same arithmetic on the salted password's keys).
#[test]
fn rfc_7677_vector() {
    let salt: [u8; 16] = decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let mut salted = [0u8; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(b"pencil", &salt, 4096, &mut salted);
    let client_key = hmac_sha256(&salted, b"Client Key");
    let stored_key: [u8; 32] = Sha256::digest(client_key).into();
    let server_key = hmac_sha256(&salted, b"Server Key");

    let auth_message = b"n=user,r=rOprNGfwEbeRWgbNEkqO,\
        r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
        c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let client_signature = hmac_sha256(&stored_key, auth_message);
    let proof: Vec<u8> = client_key
        .iter()
        .zip(client_signature)
        .map(|(a, b)| a ^ b)
        .collect();
    assert_eq!(
        BASE64.encode(proof),
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    assert_eq!(
        BASE64.encode(hmac_sha256(&server_key, auth_message)),
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
}

/// Made by PostgreSQL 15: `CREATE ROLE r PASSWORD 'correct horse'`, read back from `pg_authid`.
#[test]
fn text_is_postgresqls() {
    let text = include_str!("postgres15_verifier.txt").trim_end();
    let verifier: ScramVerifier = text.parse().unwrap();
    assert_eq!(verifier.to_string(), text);
    assert!(verifier.verify(&password("correct horse")));
    assert!(!verifier.verify(&password("correct horsf")));
    assert_eq!(
        verifier,
        ScramVerifier::derive(
            &password("correct horse"),
            *verifier.salt(),
            verifier.iterations()
        )
    );
    assert_eq!(u32::from(verifier.iterations()), 4096);
    let keys = text.rsplit_once('$').unwrap().1;
    let of_verifier = [verifier.stored_key(), verifier.server_key()].map(|key| BASE64.encode(key));
    assert_eq!(keys, of_verifier.join(":"));
    // What `encode(sha256(convert_to(rolpassword, 'UTF8')), 'hex')` gave for the same row.
    assert_eq!(
        verifier.fingerprint(),
        include_str!("postgres15_fingerprint.txt").trim_end()
    );
}

#[test]
fn a_password_that_looks_like_a_hash_is_hashed() {
    let looks_like =
        ScramVerifier::derive(&password("open sesame"), [1; 16], Iterations::default()).to_string();
    assert!(looks_like.len() > 99, "too long to be a password at all");
    for text in [&looks_like[..99], "md5900150983cd24fb0d6963f7d28e17f72"] {
        let verifier = ScramVerifier::derive(&password(text), [2; 16], Iterations::default());
        assert_ne!(verifier.to_string(), text);
        assert!(verifier.verify(&password(text)));
    }
}

#[test]
fn iterations_bounds() {
    for bad in [0, 1, 4095, 600_001, u32::MAX] {
        assert!(Iterations::new(bad).is_err(), "{bad}");
        assert!(serde_json::from_str::<Iterations>(&bad.to_string()).is_err());
    }
    for good in [4096, 4097, 600_000] {
        assert_eq!(Iterations::new(good).unwrap().get(), good);
    }
    assert_eq!(
        Iterations::new(1).unwrap_err().to_string(),
        "must be between 4096 and 600000 iterations, was 1"
    );
}

#[test]
fn strict_about_text() {
    let good = ScramVerifier::derive(&password("open sesame"), [3; 16], Iterations::default()).to_string();
    let refused = |text: String| {
        let error = text.parse::<ScramVerifier>().unwrap_err();
        assert!(
            !error.to_string().contains(&good[40..60]),
            "the error repeats the text"
        );
    };
    refused(String::new());
    refused(format!("{good} "));
    refused(format!("{good}\n"));
    refused(format!(" {good}"));
    refused(good.to_lowercase());
    refused(good.replace("4096", "04096"));
    refused(good.replace("4096", "+4096"));
    refused(good.replace("4096", "1"));
    refused(good.replace("4096", "99999999999"));
    refused(good.replace("SCRAM-SHA-256", "SCRAM-SHA-1"));
    refused(good.replace('=', ""));
    refused(good[..good.len() - 4].to_owned());
    refused(format!("{good}:AAAA"));
    refused("md5900150983cd24fb0d6963f7d28e17f72".to_owned());
    refused("open sesame".to_owned());
}

/// Both keys count: a verifier of one password's first key and another one's second is nobody's.
#[test]
fn half_a_verifier_verifies_nothing() {
    let [one, other] = ["correct horse", "battery staple"]
        .map(|text| ScramVerifier::derive(&password(text), [3; 16], Iterations::new(5000).unwrap()));
    assert_eq!(one.iterations(), Iterations::new(5000).unwrap());
    let (begin, _) = one
        .to_string()
        .rsplit_once(':')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let (_, end) = other
        .to_string()
        .rsplit_once(':')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let mixed: ScramVerifier = format!("{begin}:{end}").parse().unwrap();
    assert!(!mixed.verify(&password("correct horse")));
    assert!(!mixed.verify(&password("battery staple")));
}

#[test]
fn nothing_shows_it() {
    let verifier = ScramVerifier::derive(&password("open sesame"), [3; 16], Iterations::default());
    assert_eq!(format!("{verifier:?}"), "ScramVerifier(***)");
    assert_eq!(verifier.fingerprint().len(), 64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn derive_verify_and_text(text in "[ -~]{8,99}", other in "[ -~]{8,99}", salt in any::<[u8; 16]>(), extra in 0u32..200) {
        let iterations = Iterations::new(4096 + extra).unwrap();
        let verifier = ScramVerifier::derive(&password(&text), salt, iterations);
        prop_assert!(verifier.verify(&password(&text)));
        prop_assert_eq!(verifier.verify(&password(&other)), text == other);
        prop_assert_eq!(&verifier.to_string().parse::<ScramVerifier>().unwrap(), &verifier);
        let json = serde_json::to_string(&verifier).unwrap();
        prop_assert_eq!(serde_json::from_str::<ScramVerifier>(&json).unwrap(), verifier);
    }

    #[test]
    fn parsing_never_panics(text in "(SCRAM-SHA-256\\$)?[0-9:$A-Za-z+/=]{0,140}") {
        if let Ok(verifier) = text.parse::<ScramVerifier>() {
            prop_assert_eq!(verifier.to_string(), text);
        }
    }
}
