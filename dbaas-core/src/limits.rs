//! Every bound of the specification, once. Types that are valid by construction ([`crate::size`],
//! [`crate::name`], [`crate::password`]) and the HTTP layer read them from here; nothing else repeats a
//! number.

use std::ops::RangeInclusive;

/// Processor cores of each node of an instance.
pub const CPU_CORES: RangeInclusive<u64> = 1..=128;
/// Memory of each node of an instance, in MB (512 MB to 1 TB).
pub const RAM_MB: RangeInclusive<u64> = 512..=1_048_576;
/// Data disk of each node of an instance, in GB (8 GB to 1 TB).
pub const DISK_GB: RangeInclusive<u64> = 8..=1024;
/// Nodes of an instance, the primary included.
pub const NODES: RangeInclusive<u64> = 1..=16;
/// Nodes of an instance when the request does not say.
pub const NODES_DEFAULT: u8 = 1;
/// Synchronous replicas that were asked for; what runs is at most the number of nodes less one.
pub const SYNC_REPLICAS: RangeInclusive<u64> = 0..=15;
/// Synchronous replicas when the request does not say.
pub const SYNC_REPLICAS_DEFAULT: u8 = 1;

/// Length of an instance's, version's or project's name, in characters.
pub const NAME_CHARS: RangeInclusive<usize> = 1..=255;
/// Length of a description, in characters.
pub const DESCRIPTION_CHARS: RangeInclusive<usize> = 0..=1024;
/// Length of a password, in characters (Unicode scalar values).
pub const PASSWORD_CHARS: RangeInclusive<usize> = 8..=99;
/// Version of a user's password: how often it was changed, or what a client calls it.
pub const PASSWORD_VERSION: RangeInclusive<u64> = 1..=u32::MAX as u64;
/// Length of a database's or user's name, in bytes: PostgreSQL cuts longer identifiers off (`NAMEDATALEN` -
/// 1).
pub const IDENTIFIER_BYTES: RangeInclusive<usize> = 1..=63;
/// Length of an image reference, in bytes (255 of repository, 128 of tag, a digest).
pub const IMAGE_REF_BYTES: RangeInclusive<usize> = 1..=512;
/// Length of a reference to another resource, in bytes.
pub const REFERENCE_BYTES: RangeInclusive<usize> = 1..=512;

/// Rounds of PBKDF2 in a SCRAM verifier. The lower bound is RFC 7677's and PostgreSQL's default; the upper
/// one keeps a login, which costs this many rounds on the client, below a second.
pub const SCRAM_ITERATIONS: RangeInclusive<u32> = 4096..=600_000;
/// Rounds of PBKDF2 unless configured.
pub const SCRAM_ITERATIONS_DEFAULT: u32 = 4096;

/// Items on a page of a listing.
pub const PAGE_ITEMS: RangeInclusive<usize> = 1..=1000;
/// Items on a page of a listing when the request does not say.
pub const PAGE_ITEMS_DEFAULT: usize = 100;
/// Lines of a node's log that may be asked for.
pub const LOG_LINES: RangeInclusive<usize> = 1..=1000;
/// Lines of a node's log when the request does not say.
pub const LOG_LINES_DEFAULT: usize = 100;
/// Largest request body that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting of a JSON body.
pub const JSON_DEPTH_MAX: usize = 32;
/// Longest `Idempotency-Key`, in bytes.
pub const IDEMPOTENCY_KEY_BYTES: RangeInclusive<usize> = 1..=255;
/// How long an `Idempotency-Key` is remembered, in milliseconds (24 hours).
pub const IDEMPOTENCY_TTL_MS: u64 = 24 * 60 * 60 * 1000;
/// Longest long poll (`?wait=…&timeout=…`), in milliseconds.
pub const WAIT_MS_MAX: u64 = 10 * 60 * 1000;
/// Databases of one instance.
pub const DATABASES_PER_INSTANCE_MAX: usize = 1000;
/// Users of one instance.
pub const USERS_PER_INSTANCE_MAX: usize = 1000;
/// Users in a database's access list at most.
pub const ACCESS_ENTRIES_MAX: usize = 100;
/// Extensions that a database may be asked to have, and that a version may allow.
pub const EXTENSIONS_MAX: usize = 64;
/// Events that are kept for one instance.
pub const EVENTS_PER_INSTANCE_MAX: usize = 1000;
