//! Every bound of a manifest, once.

/// Longest manifest, in bytes.
pub const BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting of lists and maps. The store takes 64 levels; what is kept of a manifest has some of its
/// own around it.
pub const DEPTH_MAX: usize = 32;
/// Values of a manifest, those that aliases repeat counted each time.
pub const VALUES_MAX: usize = 50_000;
/// Bytes of text in a manifest, those that aliases repeat counted each time.
pub const EXPANDED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Resources of a manifest.
pub const RESOURCES_MAX: usize = 1_000;
/// Imports, exports and requirements of a manifest, each.
pub const LINKS_MAX: usize = 1_000;
/// Errors and warnings that are reported, each: a manifest can be wrong in a hundred thousand places.
pub const FINDINGS_MAX: usize = 100;
/// Longest reference, in bytes.
pub const REFERENCE_BYTES_MAX: usize = 1024;
/// Longest name of an element, a resource, an import or an export, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Length of a generated password, in characters.
pub const PASSWORD_LENGTH: std::ops::RangeInclusive<u64> = 1..=512;
/// Length of a generated password, in characters, where the manifest does not say.
pub const PASSWORD_LENGTH_DEFAULT: u64 = 32;
/// Longest text that a template gives, in bytes.
pub const RENDERED_BYTES_MAX: usize = 512 * 1024;
