//! PostgreSQL's versions, images and the catalogue's records.
//!
//! ```
//! use dbaas_core::version::{ImageRef, PostgresMajor, PostgresVersion};
//!
//! let version: PostgresVersion = "15.18".parse().unwrap();
//! assert_eq!(version.to_string(), "15.18");
//! let image: ImageRef = "registry.example:5000/library/postgres:15.18".parse().unwrap();
//! assert_eq!(image.major(), Some(PostgresMajor::new(15).unwrap()));
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::extension::ExtensionName;
use crate::id::VersionId;
use crate::limits;
use crate::name::{Description, InstanceName};
use crate::time::Timestamp;

/// A major version of PostgreSQL, 14 or newer. 14 to 18 are known to this release; newer ones are not
/// refused, they are treated as the newest known one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct PostgresMajor(u8);

/// The text or number is not a version of PostgreSQL that can be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{got:?} is not a version of PostgreSQL from {} on (such as 15.18)",
    PostgresMajor::OLDEST
)]
pub struct InvalidVersion {
    /// What was given, shortened.
    pub got: String,
}

impl InvalidVersion {
    fn new(got: impl fmt::Display) -> Self {
        InvalidVersion {
            got: got.to_string().chars().take(64).collect(),
        }
    }
}

impl PostgresMajor {
    /// The oldest that is supported.
    pub const OLDEST: PostgresMajor = PostgresMajor(14);
    /// The newest that this release knows.
    pub const NEWEST_KNOWN: PostgresMajor = PostgresMajor(18);

    /// Checks that it is 14 or newer (and below 100).
    pub fn new(major: u32) -> Result<Self, InvalidVersion> {
        match u8::try_from(major) {
            Ok(number @ 14..=99) => Ok(PostgresMajor(number)),
            _ => Err(InvalidVersion::new(major)),
        }
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0.into()
    }

    /// Whether this release was tested with it.
    pub fn is_known(self) -> bool {
        (Self::OLDEST..=Self::NEWEST_KNOWN).contains(&self)
    }

    /// The short name of the catalogue, such as `pg15`.
    pub fn symbolic_name(self) -> String {
        format!("pg{}", self.0)
    }
}

impl fmt::Display for PostgresMajor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for PostgresMajor {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        number(text)
            .and_then(|n| PostgresMajor::new(n).ok())
            .ok_or_else(|| InvalidVersion::new(text))
    }
}

impl TryFrom<u32> for PostgresMajor {
    type Error = InvalidVersion;

    fn try_from(major: u32) -> Result<Self, InvalidVersion> {
        PostgresMajor::new(major)
    }
}

impl From<PostgresMajor> for u32 {
    fn from(major: PostgresMajor) -> u32 {
        major.get()
    }
}

/// A released version of PostgreSQL, such as 15.18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PostgresVersion {
    /// The major version.
    pub major: PostgresMajor,
    /// The minor version.
    pub minor: u16,
}

impl PostgresVersion {
    /// From the output of `postgres --version` (`postgres (PostgreSQL) 15.18 (Debian 15.18-1.pgdg12+1)`). A
    /// development version (`18beta1`) counts as minor version 0.
    pub fn from_version_output(output: &str) -> Result<Self, InvalidVersion> {
        let invalid = || InvalidVersion::new(output);
        let (_, rest) = output.split_once("(PostgreSQL)").ok_or_else(invalid)?;
        let word = rest.split_whitespace().next().ok_or_else(invalid)?;
        if let Ok(version) = word.parse() {
            return Ok(version);
        }
        let digits = word.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let (major, suffix) = word.split_at(digits);
        if !["devel", "alpha", "beta", "rc"]
            .iter()
            .any(|s| suffix.starts_with(s))
        {
            return Err(invalid());
        }
        Ok(PostgresVersion {
            major: major.parse().map_err(|_| invalid())?,
            minor: 0,
        })
    }

    /// From `server_version_num` (150018 is 15.18).
    pub fn from_server_version_num(number: u32) -> Result<Self, InvalidVersion> {
        let minor = u16::try_from(number % 10_000).map_err(|_| InvalidVersion::new(number))?;
        Ok(PostgresVersion {
            major: PostgresMajor::new(number / 10_000)?,
            minor,
        })
    }
}

impl fmt::Display for PostgresVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for PostgresVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let invalid = || InvalidVersion::new(text);
        let (major, minor) = text.split_once('.').ok_or_else(invalid)?;
        let minor = number(minor).filter(|&n| n < 10_000).ok_or_else(invalid)?;
        let minor = u16::try_from(minor).map_err(|_| invalid())?;
        Ok(PostgresVersion {
            major: major.parse().map_err(|_| invalid())?,
            minor,
        })
    }
}

impl TryFrom<String> for PostgresVersion {
    type Error = InvalidVersion;

    fn try_from(text: String) -> Result<Self, InvalidVersion> {
        text.parse()
    }
}

impl From<PostgresVersion> for String {
    fn from(version: PostgresVersion) -> String {
        version.to_string()
    }
}

/// A plain decimal number: digits only, no leading zero, at most nine digits.
fn number(text: &str) -> Option<u32> {
    let plain = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !plain || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.parse().ok()
}

/// Reference to an image: `[host[:port]/]path[:tag][@algorithm:digest]`, as container engines read it. The
/// local backend reads only the version out of the tag.
///
/// Source: the grammar of the `distribution/reference` module.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    text: String,
    /// Byte lengths of the repository, and of the repository with the tag.
    repository_end: usize,
    tag_end: usize,
}

/// Why an image reference was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an image reference such as postgres:15.18 or registry.example:5000/postgres:15.18: {reason}")]
pub struct InvalidImageRef {
    /// What is wrong.
    pub reason: &'static str,
}

impl ImageRef {
    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The repository, registry host included: `registry.example:5000/postgres`.
    pub fn repository(&self) -> &str {
        &self.text[..self.repository_end]
    }

    /// The registry's `host[:port]`, if the reference names one.
    pub fn registry(&self) -> Option<&str> {
        split_registry(self.repository()).0
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.text[self.repository_end..self.tag_end].strip_prefix(':')
    }

    /// The digest, algorithm included.
    pub fn digest(&self) -> Option<&str> {
        self.text[self.tag_end..].strip_prefix('@')
    }

    /// The major version that the tag names: `15`, `15.18`, `15.18-bookworm`, `18beta1`. `None` for `latest`,
    /// for no tag, and for versions that are not supported.
    pub fn major(&self) -> Option<PostgresMajor> {
        let tag = self.tag()?;
        let digits = tag.find(|c: char| !c.is_ascii_digit()).unwrap_or(tag.len());
        let (major, rest) = tag.split_at(digits);
        let ends = ["", ".", "-", "_", "devel", "alpha", "beta", "rc"];
        let ends_well = ends.iter().any(|end| {
            if end.is_empty() {
                rest.is_empty()
            } else {
                rest.starts_with(end)
            }
        });
        if ends_well { major.parse().ok() } else { None }
    }

    /// The exact version that the tag names: `15.18`, `15.18-bookworm`.
    pub fn version(&self) -> Option<PostgresVersion> {
        let tag = self.tag()?;
        tag.split(['-', '_']).next()?.parse().ok()
    }
}

/// The registry's host if the first part of the repository is one (it has a dot or a port, or is
/// `localhost`).
fn split_registry(repository: &str) -> (Option<&str>, &str) {
    match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, repository),
    }
}

impl FromStr for ImageRef {
    type Err = InvalidImageRef;

    fn from_str(text: &str) -> Result<Self, InvalidImageRef> {
        let invalid = |reason| Err(InvalidImageRef { reason });
        if !limits::IMAGE_REF_BYTES.contains(&text.len()) {
            return invalid("must be between 1 and 512 bytes long");
        }
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (text, None),
        };
        // A colon before a slash belongs to the registry's port.
        let slash = named.rfind('/').unwrap_or(0);
        let repository_end = named[slash..].find(':').map_or(named.len(), |i| slash + i);
        let (repository, tag) = named.split_at(repository_end);

        let (registry, path) = split_registry(repository);
        if registry.is_some_and(|host| !is_host(host)) {
            return invalid("the registry is not a host name, with a port at most");
        }
        if repository.len() > 255 || path.is_empty() || !path.split('/').all(is_path_component) {
            return invalid(
                "the repository must be lower-case letters, digits and single separators . _ - /",
            );
        }
        if tag.strip_prefix(':').is_some_and(|tag| !is_tag(tag)) {
            return invalid(
                "the tag must be up to 128 letters, digits and . _ -, beginning with a letter, a digit or _",
            );
        }
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return invalid(
                "the digest must be sha256 and 64, or sha512 and 128, lower-case hexadecimal digits",
            );
        }
        Ok(ImageRef {
            tag_end: named.len(),
            repository_end,
            text: text.to_owned(),
        })
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let label_ok = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.split('.').all(label_ok) && port.is_none_or(|p| number(p).is_some_and(|p| (1..=65_535).contains(&p)))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(part: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator_ok =
        |separator: &str| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-');
    part.starts_with(is_alphanumeric)
        && part.ends_with(is_alphanumeric)
        && part.split(is_alphanumeric).all(separator_ok)
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && !tag.starts_with(['.', '-'])
}

fn is_digest(digest: &str) -> bool {
    let is_hex = |hex: &str| hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match digest.split_once(':') {
        Some(("sha256", hex)) => hex.len() == 64 && is_hex(hex),
        Some(("sha512", hex)) => hex.len() == 128 && is_hex(hex),
        _ => false,
    }
}

impl TryFrom<String> for ImageRef {
    type Error = InvalidImageRef;

    fn try_from(text: String) -> Result<Self, InvalidImageRef> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> String {
        image.text
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A version of the catalogue: what instances can be made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Which one.
    pub id: VersionId,
    /// For people: `PostgreSQL 15.18`.
    pub name: InstanceName,
    /// For people.
    pub description: Description,
    /// What nodes are made of; the tag names the version of PostgreSQL.
    pub image: ImageRef,
    /// Short name: `pg15`.
    pub symbolic_name: String,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// New instances cannot have it; those that have it keep it.
    pub deprecated: bool,
    /// The extensions that databases may be asked to have; `None`: every one that the server says to be
    /// trusted.
    #[serde(default)]
    pub extensions: Option<Vec<ExtensionName>>,
}

impl VersionRecord {
    /// The record of a released version as the catalogue is filled with: `PostgreSQL 15.18`,
    /// `postgres:15.18`, `pg15`.
    pub fn of_release(id: VersionId, version: PostgresVersion, now: Timestamp) -> Self {
        VersionRecord {
            id,
            name: InstanceName::new(format!("PostgreSQL {version}")).expect("two words of ASCII are a name"),
            description: Description::default(),
            image: format!("postgres:{version}")
                .parse()
                .expect("two numbers are a tag"),
            symbolic_name: version.major.symbolic_name(),
            created_at: now,
            updated_at: now,
            deprecated: false,
            extensions: None,
        }
    }

    /// The major version of PostgreSQL, from the image's tag, else from the symbolic name.
    pub fn major(&self) -> Option<PostgresMajor> {
        self.image
            .major()
            .or_else(|| self.symbolic_name.strip_prefix("pg")?.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(text: &str) -> Result<ImageRef, InvalidImageRef> {
        text.parse()
    }

    #[test]
    fn majors_from_14_on() {
        for bad in [0, 9, 13, 100, 256 + 15, u32::MAX] {
            assert!(PostgresMajor::new(bad).is_err(), "{bad}");
        }
        for good in 14..=99 {
            let major = PostgresMajor::new(good).unwrap();
            assert_eq!((major.get(), u32::from(major)), (good, good));
            assert_eq!(major.is_known(), good <= 18);
            assert_eq!(major.to_string().parse(), Ok(major));
        }
        assert_eq!(PostgresMajor::new(15).unwrap().symbolic_name(), "pg15");
        assert_eq!(
            PostgresMajor::new(13).unwrap_err().to_string(),
            "\"13\" is not a version of PostgreSQL from 14 on (such as 15.18)"
        );
    }

    #[test]
    fn versions_parse_strictly() {
        let v = |text: &str| text.parse::<PostgresVersion>();
        assert_eq!(v("15.18").unwrap().minor, 18);
        assert_eq!(v("18.0").unwrap().major.get(), 18);
        assert_eq!(serde_json::to_string(&v("15.18").unwrap()).unwrap(), "\"15.18\"");
        for bad in [
            "", "15", "15.", ".1", "15.1.2", "15.-1", "015.1", "15.01", "15.1 ", "15.10000", "13.4", "15,1",
            "١٥.1", "+15.1", "15.+1",
        ] {
            assert!(v(bad).is_err(), "{bad}");
        }
        assert_eq!(PostgresVersion::from_server_version_num(150_018), v("15.18"));
        assert!(PostgresVersion::from_server_version_num(90_624).is_err());
        for (output, version) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", "15.18"),
            ("postgres (PostgreSQL) 18.1\n", "18.1"),
            ("postgres (PostgreSQL) 19beta2", "19.0"),
            ("postgres (PostgreSQL) 19devel", "19.0"),
        ] {
            assert_eq!(
                PostgresVersion::from_version_output(output),
                v(version),
                "{output}"
            );
        }
        for bad in [
            "",
            "postgres",
            "postgres (PostgreSQL)",
            "postgres (PostgreSQL) x",
            "postgres (PostgreSQL) 9.6.24",
            "postgres (PostgreSQL) 15x",
        ] {
            assert!(PostgresVersion::from_version_output(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn image_references_take_apart() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let full = image(&format!("localhost:5000/team/postgres:15.18-bookworm@{digest}")).unwrap();
        assert_eq!(full.registry(), Some("localhost:5000"));
        assert_eq!(full.repository(), "localhost:5000/team/postgres");
        assert_eq!(full.tag(), Some("15.18-bookworm"));
        assert_eq!(full.digest(), Some(digest.as_str()));
        assert_eq!(full.version(), "15.18".parse().ok());

        let plain = image("postgres").unwrap();
        assert_eq!(
            (plain.registry(), plain.tag(), plain.digest(), plain.major()),
            (None, None, None, None)
        );
        let port = image("registry.example:5000/postgres").unwrap();
        assert_eq!(
            (port.registry(), port.tag()),
            (Some("registry.example:5000"), None)
        );
        assert_eq!(image("localhost/postgres").unwrap().registry(), Some("localhost"));
        assert_eq!(image("team/postgres").unwrap().registry(), None);
        let digest_only = image(&format!("postgres@{digest}")).unwrap();
        assert_eq!((digest_only.repository(), digest_only.tag()), ("postgres", None));
    }

    #[test]
    fn majors_of_tags() {
        for (tag, major) in [
            ("15", Some(15)),
            ("15.18", Some(15)),
            ("15-alpine", Some(15)),
            ("15.18-bookworm", Some(15)),
            ("18beta1", Some(18)),
            ("18rc1-alpine", Some(18)),
            ("latest", None),
            ("alpine15", None),
            ("15x", None),
            ("13.4", None),
            ("9.6", None),
        ] {
            let image = image(&format!("postgres:{tag}")).unwrap();
            assert_eq!(image.major().map(PostgresMajor::get), major, "{tag}");
        }
    }

    #[test]
    fn bad_image_references() {
        let long_tag = format!("postgres:{}", "1".repeat(129));
        let long = format!("{}:15", "a/".repeat(300));
        let [longest, too_long] = ["b", "bc"].map(|end| format!("{}{end}", "a/".repeat(127)));
        let sha512 = |hex: &str, digits: usize| format!("postgres@sha512:{}", hex.repeat(digits));
        for bad in [
            "",
            ":15",
            "postgres:",
            "Postgres:15",
            "postgres:15 ",
            "postgres:15\n",
            "postgres:.15",
            "a//b:15",
            "/a:15",
            "a/:15",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "postgres:15@",
            "postgres:15@sha256:abc",
            "postgres:15@md5:00",
            "https://x/postgres:15",
            "reg.example:0/postgres",
            "reg.example:99999/p",
            "reg..example/p",
            "postgres:1:2",
            "a;b:15",
            "$(id)",
            "--help",
            "postgrés:15",
            "my_reg.example/postgres",
            &long_tag,
            &long,
            &too_long,
            &sha512("a", 127),
            &sha512("g", 128),
            &sha512("a", 64),
        ] {
            assert!(image(bad).is_err(), "{bad}");
        }
        for good in [
            "a--b",
            "x/a__b.c-d/e",
            "localhost/postgres:15",
            "docker.io/library/postgres:15.18",
            "postgres:_x",
            "my-reg.example:5000/postgres",
            &longest,
            &sha512("a", 128),
        ] {
            assert!(image(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn record_round_trips() {
        let id = "0197f3c2-6d3b-7c9e-9f5a-0242ac120002".parse().unwrap();
        let record = VersionRecord::of_release(id, "15.18".parse().unwrap(), Timestamp::from_unix_ms(0));
        assert_eq!(
            (record.name.as_str(), record.image.as_str()),
            ("PostgreSQL 15.18", "postgres:15.18")
        );
        assert_eq!(record.symbolic_name, "pg15");
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<VersionRecord>(&json).unwrap(), record);
        assert_eq!(record.major(), PostgresMajor::new(15).ok());
    }

    proptest! {
        #[test]
        fn versions_round_trip(major in 14u32..=99, minor in 0u16..10_000) {
            let version = PostgresVersion { major: PostgresMajor::new(major).unwrap(), minor };
            let record = VersionRecord::of_release(VersionId::from_uuid(uuid::Uuid::nil()), version, Timestamp::default());
            prop_assert_eq!(record.image.version(), Some(version));
            prop_assert_eq!(version.to_string().parse(), Ok(version));
            let number = major * 10_000 + u32::from(minor);
            prop_assert_eq!(PostgresVersion::from_server_version_num(number), Ok(version));
        }

        #[test]
        fn image_reference_parts_make_the_whole(text in "([a-z.]{1,8}(:[0-9]{1,5})?/)?[a-z0-9._-]{1,10}(:[a-z0-9._-]{1,9})?(@sha256:[0-9a-f]{64})?") {
            if let Ok(image) = image(&text) {
                let mut whole = image.repository().to_owned();
                if let Some(tag) = image.tag() {
                    whole += &format!(":{tag}");
                }
                if let Some(digest) = image.digest() {
                    whole += &format!("@{digest}");
                }
                prop_assert_eq!(whole, text);
            }
        }

        #[test]
        fn nothing_panics(text in ".*") {
            let _ = image(&text).map(|i| (i.major(), i.version(), i.registry().map(str::len)));
            let _ = text.parse::<PostgresVersion>();
            let _ = PostgresVersion::from_version_output(&text);
        }
    }
}
