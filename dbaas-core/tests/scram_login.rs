//! A client that is not ours logs in against our verifiers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use dbaas_core::password::Password;
use dbaas_core::scram::{Iterations, ScramVerifier};
use hmac::{Hmac, Mac};
use proptest::prelude::*;
use scram::ScramClient;
use sha2::{Digest, Sha256};

/// The server's side of RFC 5802, knowing nothing but the verifier.
struct Server {
    verifier: ScramVerifier,
    client_first_bare: String,
    server_first: String,
}

impl Server {
    fn new(verifier: ScramVerifier) -> Self {
        Server {
            verifier,
            client_first_bare: String::new(),
            server_first: String::new(),
        }
    }

    fn first(&mut self, client_first: &str) -> String {
        self.client_first_bare = client_first.strip_prefix("n,,").unwrap().to_owned();
        let (_, nonce) = self.client_first_bare.split_once(",r=").unwrap();
        let salt = BASE64.encode(self.verifier.salt());
        self.server_first = format!("r={nonce}server,s={salt},i={}", self.verifier.iterations().get());
        self.server_first.clone()
    }

    fn last(&self, client_final: &str) -> String {
        let (without_proof, proof) = client_final.rsplit_once(",p=").unwrap();
        let proof = BASE64.decode(proof).unwrap();
        let auth_message = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let signature = hmac(self.verifier.stored_key(), auth_message.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        if Sha256::digest(client_key)[..] != self.verifier.stored_key()[..] {
            return "e=invalid-proof".to_owned();
        }
        format!(
            "v={}",
            BASE64.encode(hmac(self.verifier.server_key(), auth_message.as_bytes()))
        )
    }
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

fn login(verifier: ScramVerifier, password: &str) -> Result<(), scram::Error> {
    let mut server = Server::new(verifier);
    let (client, client_first) = ScramClient::new("bob", password, None).client_first();
    let client = client.handle_server_first(&server.first(&client_first))?;
    let (client, client_final) = client.client_final();
    client.handle_server_final(&server.last(&client_final))
}

fn verifier(text: &str, salt: [u8; 16], iterations: u32) -> ScramVerifier {
    ScramVerifier::derive(
        &Password::new(text).unwrap(),
        salt,
        Iterations::new(iterations).unwrap(),
    )
}

#[test]
fn the_right_password_logs_in_and_a_wrong_one_does_not() {
    for text in [
        "open sesame",
        "it's \"so\" @:/?#",
        "md5900150983cd24fb0d6963f7d28e17f72",
        "passwörd",
    ] {
        let verifier = verifier(text, [9; 16], 4096);
        assert!(login(verifier.clone(), text).is_ok(), "{text}");
        assert!(login(verifier.clone(), &format!("{text} ")).is_err());
        assert!(
            login(verifier.clone(), &verifier.to_string()).is_err(),
            "the verifier is not the password"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_ascii_password_salt_and_rounds(text in "[ -~]{8,99}", salt in any::<[u8; 16]>(), rounds in 4096u32..4300) {
        prop_assert!(login(verifier(&text, salt, rounds), &text).is_ok());
    }
}
