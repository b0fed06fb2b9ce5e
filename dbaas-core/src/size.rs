//! Sizes of an instance: cores, memory, disk, nodes, synchronous replicas. Each type holds only values within
//! its bounds ([`crate::limits`]); a number that is out of bounds is an [`OutOfBounds`] that says the rule.
//!
//! ```
//! use dbaas_core::size::{CpuCores, NodeCount, SyncReplicas};
//!
//! let cpu = CpuCores::new(4)?;
//! assert_eq!(cpu.get(), 4);
//! assert_eq!(CpuCores::new(0).unwrap_err().to_string(), "must be between 1 and 128 cores, was 0");
//!
//! // One node never waits for a standby that cannot exist.
//! assert_eq!(SyncReplicas::new(1)?.effective(NodeCount::new(1)?).get(), 0);
//! # Ok::<(), dbaas_core::size::OutOfBounds>(())
//! ```

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limits;

/// A number outside its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be between {min} and {max} {unit}, was {got}")]
pub struct OutOfBounds {
    /// The least that is allowed.
    pub min: u64,
    /// The most that is allowed.
    pub max: u64,
    /// What is counted: `cores`, `MB`, `GB`, `nodes`, ….
    pub unit: &'static str,
    /// What was given.
    pub got: i128,
}

macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident($repr:ty), $unit:literal, $bounds:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name($repr);

        impl $name {
            /// The least value.
            pub const MIN: $name = $name(*$bounds.start() as $repr);
            /// The greatest value.
            pub const MAX: $name = $name(*$bounds.end() as $repr);

            /// Checks the bounds.
            pub const fn new(value: u64) -> Result<Self, OutOfBounds> {
                if value < *$bounds.start() || value > *$bounds.end() {
                    return Err(Self::out_of_bounds(value as i128));
                }
                // In bounds, and the bounds fit the representation (the consts above are checked in a test).
                Ok($name(value as $repr))
            }

            /// The number.
            pub const fn get(self) -> $repr {
                self.0
            }

            const fn out_of_bounds(got: i128) -> OutOfBounds {
                OutOfBounds { min: *$bounds.start(), max: *$bounds.end(), unit: $unit, got }
            }
        }

        impl TryFrom<u64> for $name {
            type Error = OutOfBounds;

            fn try_from(value: u64) -> Result<Self, OutOfBounds> {
                Self::new(value)
            }
        }

        impl TryFrom<i64> for $name {
            type Error = OutOfBounds;

            fn try_from(value: i64) -> Result<Self, OutOfBounds> {
                u64::try_from(value).map_err(|_| Self::out_of_bounds(value.into())).and_then(Self::new)
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> u64 {
                value.0.into()
            }
        }

        /// The number, without its unit.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u64(self.0.into())
            }
        }

        /// Accepts a whole number within the bounds; never text, a fraction or null.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        let (min, max) = ($bounds.start(), $bounds.end());
                        write!(f, "a whole number between {min} and {max} ({})", $unit)
                    }

                    fn visit_u64<E: de::Error>(self, value: u64) -> Result<$name, E> {
                        $name::try_from(value).map_err(E::custom)
                    }

                    fn visit_i64<E: de::Error>(self, value: i64) -> Result<$name, E> {
                        $name::try_from(value).map_err(E::custom)
                    }
                }
                deserializer.deserialize_u64(Visitor)
            }
        }
    };
}

bounded! {
    /// Version of a user's password. A client that keeps no passwords compares it with what it knows, and
    /// sends the password when the two differ.
    PasswordVersion(u32), "as a version", limits::PASSWORD_VERSION
}

impl Default for PasswordVersion {
    fn default() -> Self {
        PasswordVersion::MIN
    }
}

impl PasswordVersion {
    /// That of the next password.
    pub const fn next(self) -> Self {
        PasswordVersion(self.0.saturating_add(1))
    }
}

bounded! {
    /// Processor cores of each node.
    CpuCores(u16), "cores", limits::CPU_CORES
}
bounded! {
    /// Memory of each node, in MB.
    RamMb(u32), "MB", limits::RAM_MB
}
bounded! {
    /// Data disk of each node, in GB. It never shrinks: that rule is the instance's, not this type's.
    DiskGb(u32), "GB", limits::DISK_GB
}
bounded! {
    /// Nodes of an instance, the primary included.
    NodeCount(u8), "nodes", limits::NODES
}
bounded! {
    /// Synchronous replicas: how many standbys must have a commit before it is acknowledged.
    SyncReplicas(u8), "synchronous replicas", limits::SYNC_REPLICAS
}

impl Default for NodeCount {
    fn default() -> Self {
        NodeCount(limits::NODES_DEFAULT)
    }
}

impl Default for SyncReplicas {
    fn default() -> Self {
        SyncReplicas(limits::SYNC_REPLICAS_DEFAULT)
    }
}

impl NodeCount {
    /// Nodes other than the primary.
    pub const fn standbys(self) -> u8 {
        self.0 - 1
    }
}

impl SyncReplicas {
    /// What can really run with so many nodes: at most one less than the nodes.
    #[must_use]
    pub fn effective(self, nodes: NodeCount) -> SyncReplicas {
        SyncReplicas(self.0.min(nodes.standbys()))
    }
}

impl RamMb {
    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0 as u64 * 1024 * 1024
    }
}

impl DiskGb {
    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0 as u64 * 1024 * 1024 * 1024
    }

    /// In MB.
    pub const fn mb(self) -> u64 {
        self.0 as u64 * 1024
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    macro_rules! bound_tests {
        ($module:ident, $type:ident, $min:literal, $max:literal, $unit:literal) => {
            mod $module {
                use super::*;

                #[test]
                fn at_below_and_above_each_bound() {
                    assert_eq!(u64::from($type::new($min).unwrap()), $min);
                    assert_eq!(u64::from($type::new($max).unwrap()), $max);
                    assert_eq!($type::MIN, $type::new($min).unwrap());
                    assert_eq!($type::MAX, $type::new($max).unwrap());
                    for got in [$min - 1, $max + 1, -1, i64::MIN, i64::MAX] {
                        let error = $type::try_from(got).unwrap_err();
                        assert_eq!(
                            error,
                            OutOfBounds {
                                min: $min,
                                max: $max,
                                unit: $unit,
                                got: got.into()
                            }
                        );
                        let message = format!("must be between {} and {} {}, was {got}", $min, $max, $unit);
                        assert_eq!(error.to_string(), message);
                        let json = serde_json::from_str::<$type>(&got.to_string())
                            .unwrap_err()
                            .to_string();
                        assert!(json.starts_with(&message), "{json}");
                    }
                }

                #[test]
                fn other_json_is_refused() {
                    let bad = ["null", "\"8\"", "1.0", "1e2", "true", "[8]", "{}", "1e400"];
                    for json in bad.into_iter().chain(["99999999999999999999999999"]) {
                        assert!(serde_json::from_str::<$type>(json).is_err(), "{json}");
                    }
                }

                proptest! {
                    #[test]
                    fn accepts_exactly_what_is_in_bounds(got in any::<i64>(), near in -3i64..($max + 3)) {
                        for got in [got, near] {
                            match $type::try_from(got) {
                                Ok(value) => {
                                    prop_assert!(($min..=$max).contains(&got));
                                    prop_assert_eq!(i64::try_from(u64::from(value)).unwrap(), got);
                                    let json = serde_json::to_string(&value).unwrap();
                                    prop_assert_eq!(&json, &got.to_string());
                                    prop_assert_eq!(serde_json::from_str::<$type>(&json).unwrap(), value);
                                }
                                Err(_) => prop_assert!(!($min..=$max).contains(&got)),
                            }
                        }
                    }
                }
            }
        };
    }

    bound_tests!(cpu, CpuCores, 1, 128, "cores");
    bound_tests!(ram, RamMb, 512, 1_048_576, "MB");
    bound_tests!(disk, DiskGb, 8, 1024, "GB");
    bound_tests!(nodes, NodeCount, 1, 16, "nodes");
    bound_tests!(sync, SyncReplicas, 0, 15, "synchronous replicas");

    #[test]
    fn defaults_are_the_specifications() {
        assert_eq!(NodeCount::default().get(), 1);
        assert_eq!(SyncReplicas::default().get(), 1);
    }

    #[test]
    fn effective_sync_replicas_table() {
        for nodes in 1..=16u8 {
            for sync in 0..=15u8 {
                let effective = SyncReplicas::new(sync.into())
                    .unwrap()
                    .effective(NodeCount::new(nodes.into()).unwrap());
                assert_eq!(effective.get(), sync.min(nodes - 1));
            }
        }
    }
}
