//! [`Configuration`]: the files that a running server takes up by a reload.

use sha2::{Digest, Sha256};

use super::{HbaRules, PG_HBA_CONF, POSTGRESQL_CONF, Settings};

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// What configures a node apart from its part in the failover protocol: `postgresql.conf` and `pg_hba.conf`.
/// The same for every node of an instance. Both are written at each start, and while the server runs by
/// [`reconfigure`](crate::command::reconfigure).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// `postgresql.conf`.
    pub settings: Settings,
    /// `pg_hba.conf`.
    pub hba: HbaRules,
}

impl Configuration {
    /// What [`CONFIG_HASH_SETTING`](super::CONFIG_HASH_SETTING) says: 32 hexadecimal digits of the SHA-256 of
    /// both files. A server that shows the same has read this configuration; what of it waits for a restart
    /// is told by PostgreSQL itself
    /// ([`NodeFacts::pending_restart`](crate::observation::NodeFacts::pending_restart)).
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.settings.body());
        // No file holds a NUL: where one ends and the next one begins makes a difference.
        hasher.update([0]);
        hasher.update(self.hba.render());
        let digest = hasher.finalize();
        let digit = |half: u8| char::from(HEX_DIGITS[usize::from(half)]);
        let halves = digest.iter().take(16).flat_map(|byte| [byte >> 4, byte & 0xf]);
        halves.map(digit).collect()
    }

    /// Each file's name and text.
    pub fn files(&self) -> [(&'static str, String); 2] {
        [
            (POSTGRESQL_CONF, self.settings.render(&self.hash())),
            (PG_HBA_CONF, self.hba.render()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Cidr;
    use crate::version::PostgresMajor;

    #[test]
    fn the_hash_is_of_both_files() {
        let configuration = Configuration {
            settings: Settings::derive(
                PostgresMajor::new(15).unwrap(),
                1u64.try_into().unwrap(),
                512u64.try_into().unwrap(),
                8u64.try_into().unwrap(),
            ),
            hba: HbaRules::loopback(),
        };
        let mut others = [configuration.clone(), configuration.clone()];
        others[0].settings.set("work_mem", "1MB").unwrap();
        others[1].hba.clients = Cidr::everywhere().to_vec();
        for other in &others {
            assert_ne!(other.hash(), configuration.hash());
        }
        let [(_, conf), (_, hba)] = configuration.files();
        assert!(conf.contains(&format!("dbaas.config_hash = '{}'\n", configuration.hash())));
        assert_eq!(hba, configuration.hba.render());
    }
}
