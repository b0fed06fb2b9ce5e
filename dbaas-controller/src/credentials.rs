//! [`Credentials`]: the passwords of the control plane's own roles on one instance. Nothing is shared between
//! instances.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dbaas_core::id::InstanceId;
use dbaas_core::secret::{Secret, SecretSealer, UnsealError};
use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Random bytes of a password: as many as its SCRAM keys have.
const PASSWORD_BYTES: usize = 32;

/// The passwords of an instance's superuser and replication role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Of [`dbaas_core::boot::ADMIN_ROLE`].
    pub(crate) admin: Secret,
    /// Of [`dbaas_core::boot::REPLICATION_ROLE`].
    pub(crate) replication: Secret,
}

/// The form that is sealed.
#[derive(Serialize)]
struct Plain<'a> {
    admin: &'a str,
    replication: &'a str,
}

#[derive(Deserialize)]
struct Opened {
    admin: String,
    replication: String,
}

impl Credentials {
    /// New random ones.
    pub(crate) fn generate() -> Self {
        Credentials {
            admin: random_password(),
            replication: random_password(),
        }
    }

    /// Sealed for an instance; what is sealed for one cannot be opened for another.
    pub(crate) fn seal(
        &self,
        sealer: &dyn SecretSealer,
        instance: InstanceId,
    ) -> Result<String, UnsealError> {
        let plain = Plain {
            admin: self.admin.expose(),
            replication: self.replication.expose(),
        };
        // Room enough that the buffer never moves and leaves a copy behind: JSON escapes a byte as six at
        // most.
        let room = 6 * (plain.admin.len() + plain.replication.len()) + 64;
        let mut text = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *text, &plain).map_err(|_| UnsealError)?;
        Ok(sealer.seal(instance.uuid().as_bytes(), &text))
    }

    /// Opens what [`Credentials::seal`] made.
    pub(crate) fn open(
        sealer: &dyn SecretSealer,
        instance: InstanceId,
        sealed: &str,
    ) -> Result<Self, UnsealError> {
        let text = sealer.open(instance.uuid().as_bytes(), sealed)?;
        let opened: Opened = serde_json::from_slice(&text).map_err(|_| UnsealError)?;
        Ok(Credentials {
            admin: Secret::new(opened.admin),
            replication: Secret::new(opened.replication),
        })
    }
}

/// 32 random bytes in base64url, which needs no quoting in a connection string, a password file or a URI.
fn random_password() -> Secret {
    let mut bytes = Zeroizing::new([0u8; PASSWORD_BYTES]);
    rand::rng().fill_bytes(bytes.as_mut());
    Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::tests::TestSealer;

    fn instance() -> InstanceId {
        InstanceId::from_uuid(uuid::Uuid::now_v7())
    }

    #[test]
    fn each_is_random_and_long() {
        let (a, b) = (Credentials::generate(), Credentials::generate());
        let all = [&a.admin, &a.replication, &b.admin, &b.replication];
        for (index, secret) in all.iter().enumerate() {
            assert_eq!(secret.expose().len(), 43);
            assert!(
                all[index + 1..]
                    .iter()
                    .all(|other| other.expose() != secret.expose())
            );
        }
        assert!(!format!("{a:?}").contains(a.admin.expose()));
    }

    #[test]
    fn they_open_for_their_instance_only() {
        let (mine, other) = (instance(), instance());
        let credentials = Credentials {
            admin: Secret::new("a\"\\\n"),
            replication: Secret::new("ü"),
        };
        let sealed = credentials.seal(&TestSealer, mine).unwrap();
        assert_eq!(Credentials::open(&TestSealer, mine, &sealed), Ok(credentials));
        assert_eq!(Credentials::open(&TestSealer, other, &sealed), Err(UnsealError));
        assert_eq!(Credentials::open(&TestSealer, mine, "nonsense"), Err(UnsealError));
    }
}
