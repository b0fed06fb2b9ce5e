//! Query parameters, read strictly: an unknown one is an error, because a misspelt filter would otherwise
//! match everything.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dbaas_core::limits;
use percent_encoding::percent_decode_str;
use uuid::Uuid;

use crate::problem::{Problem, ProblemKind, Wrong};

/// Most parameters that are read.
const PARAMETERS_MAX: usize = 256;
/// Most values of a filter.
pub(crate) const FILTER_VALUES_MAX: usize = 64;
/// How long a wait lasts when the request does not say.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);

/// The parameters of a request, in order, and what is wrong with those that were looked at.
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    errors: Vec<Wrong>,
}

impl Query {
    pub(crate) fn parse(query: &str) -> Result<Self, Problem> {
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == PARAMETERS_MAX {
                let detail = format!("more than {PARAMETERS_MAX} parameters");
                return Err(Problem::new(ProblemKind::InvalidQuery, detail));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Query {
            pairs,
            known: Vec::new(),
            errors: Vec::new(),
        })
    }

    fn take(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        self.pairs
            .extract_if(.., |(key, _)| key == name)
            .map(|(_, value)| value)
            .collect()
    }

    fn note<T>(&mut self, name: &'static str, result: Result<T, String>) -> Option<T> {
        result
            .map_err(|detail| self.errors.push(Wrong::parameter(name, detail)))
            .ok()
    }

    /// A parameter that may be given once.
    pub(crate) fn one<T, E: fmt::Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let values = self.take(name);
        match values.as_slice() {
            [] => None,
            [value] => {
                let result = parse(value).map_err(|error| error.to_string());
                self.note(name, result)
            }
            _ => self.note(name, Err("may be given once only".to_owned())),
        }
    }

    /// A filter: each value that was given for it; none means that it does not filter.
    pub(crate) fn many<T, E: fmt::Display>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let values = self.take(name);
        if values.len() > FILTER_VALUES_MAX {
            let detail = format!("may be given at most {FILTER_VALUES_MAX} times");
            self.errors.push(Wrong::parameter(name, detail));
            return Vec::new();
        }
        values
            .iter()
            .filter_map(|value| {
                let result = parse(value).map_err(|error| error.to_string());
                self.note(name, result)
            })
            .collect()
    }

    /// `limit` and `cursor`, `page_limit` and `page_marker`. Of two positions the later one counts.
    pub(crate) fn paging(&mut self, collection: Collection) -> Paging {
        let limit = self.limit();
        let cursor = self.one("cursor", |text| collection.read_cursor(text));
        let marker = self.one("page_marker", |text| {
            Uuid::parse_str(text).map_err(|_| "must be the uuid of the last item of the page before")
        });
        Paging {
            after: cursor.max(marker),
            limit,
        }
    }

    /// `limit` or `page_limit`; of both the smaller one counts.
    pub(crate) fn limit(&mut self) -> usize {
        let bounded = |text: &str| whole_in(text, limits::PAGE_ITEMS);
        let given = [self.one("limit", bounded), self.one("page_limit", bounded)];
        given
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(limits::PAGE_ITEMS_DEFAULT)
    }

    /// `wait` and `timeout`.
    pub(crate) fn wait<S: Copy>(&mut self, states: &[(&'static str, S)]) -> Option<Wait<S>> {
        let state = self.one("wait", |text| one_of(text, states));
        let timeout = self.one("timeout", parse_duration);
        state.map(|state| Wait {
            state,
            timeout: timeout.unwrap_or(WAIT_DEFAULT),
        })
    }

    /// Refuses parameters that nobody looked at, and all that was found wrong.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        let known = match self.known.as_slice() {
            [] => "there are none here".to_owned(),
            known => format!("there are {}", known.join(", ")),
        };
        for (name, _) in &self.pairs {
            let name: String = name.chars().take(64).collect();
            if !self
                .errors
                .iter()
                .any(|wrong| wrong.parameter.as_ref() == Some(&name))
            {
                self.errors
                    .push(Wrong::parameter(name, format!("is not a parameter; {known}")));
            }
        }
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::wrong(ProblemKind::InvalidQuery, self.errors))
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::parse(parts.uri.query().unwrap_or_default())
    }
}

/// For calls without query parameters: refuses any.
pub(crate) struct NoQuery;

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::parse(parts.uri.query().unwrap_or_default())?
            .finish()
            .map(|()| NoQuery)
    }
}

fn decode(text: &str) -> Result<String, Problem> {
    percent_decode_str(&text.replace('+', " "))
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| {
            Problem::new(
                ProblemKind::InvalidQuery,
                "a parameter is not UTF-8 after percent-decoding",
            )
        })
}

/// Which part of a collection a listing wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paging {
    pub(crate) after: Option<Uuid>,
    pub(crate) limit: usize,
}

/// What a cursor leads through: a cursor of one collection is no good for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collection {
    Instances = 1,
    Databases = 2,
    Users = 3,
    Versions = 4,
    Events = 5,
    Elements = 6,
    Manifests = 7,
    Passwords = 8,
    Configs = 9,
    Variables = 10,
    Tokens = 11,
}

const BAD_CURSOR: &str = "is not a cursor of this collection; use the \"next\" of an answer";

impl Collection {
    /// The opaque text of a position: which collection, then the id after which to go on.
    pub(crate) fn cursor(self, after: Uuid) -> String {
        let mut bytes = [0; 17];
        bytes[0] = self as u8;
        bytes[1..].copy_from_slice(after.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(crate) fn read_cursor(self, text: &str) -> Result<Uuid, &'static str> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BAD_CURSOR)?;
        match <[u8; 17]>::try_from(bytes) {
            Ok([kind, id @ ..]) if kind == self as u8 => Ok(Uuid::from_bytes(id)),
            _ => Err(BAD_CURSOR),
        }
    }

    /// The same for a log, whose positions are numbers.
    pub(crate) fn log_cursor(self, after: u64) -> String {
        self.cursor(Uuid::from_u128(after.into()))
    }

    pub(crate) fn read_log_cursor(self, text: &str) -> Result<u64, &'static str> {
        match i64::try_from(self.read_cursor(text)?.as_u128()) {
            Ok(after) => Ok(after.unsigned_abs()),
            Err(_) => Err(BAD_CURSOR),
        }
    }
}

/// A long poll: until this state, at most so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait<S> {
    pub(crate) state: S,
    pub(crate) timeout: Duration,
}

/// Reads a query string as a listing's and a log's, for fuzzing: the cursors that it holds, written again.
pub fn query_for_fuzzing(query: &str) -> Result<Vec<String>, Problem> {
    let mut query = Query::parse(query)?;
    let paging = query.paging(Collection::Instances);
    let log = query.one("log_cursor", |text| Collection::Events.read_log_cursor(text));
    query.one("after", sequence);
    query.wait(&[("ACTIVE", ()), ("ERROR", ())]);
    query.many("name", |text| match text {
        "" => Err("is empty"),
        _ => Ok(()),
    });
    query.finish()?;
    let listing = paging.after.map(|after| Collection::Instances.cursor(after));
    Ok(listing
        .into_iter()
        .chain(log.map(|after| Collection::Events.log_cursor(after)))
        .collect())
}

/// A whole number within bounds.
pub(crate) fn whole_in(text: &str, bounds: std::ops::RangeInclusive<usize>) -> Result<usize, String> {
    let rule = || {
        format!(
            "must be a whole number between {} and {}",
            bounds.start(),
            bounds.end()
        )
    };
    // No sign, no leading zeros without end: digits only.
    if text.is_empty() || text.len() > 9 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(rule());
    }
    text.parse().ok().filter(|n| bounds.contains(n)).ok_or_else(rule)
}

/// Most digits of an event's sequence number: what a signed 64-bit number holds for certain.
pub(crate) const SEQUENCE_DIGITS_MAX: usize = 18;

/// A sequence number.
pub(crate) fn sequence(text: &str) -> Result<u64, &'static str> {
    let rule = "must be the sequence number of an event, a whole number of at most 18 digits";
    if text.len() > SEQUENCE_DIGITS_MAX || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(rule);
    }
    text.parse().map_err(|_| rule)
}

/// One of some words.
pub(crate) fn one_of<S: Copy>(text: &str, words: &[(&'static str, S)]) -> Result<S, String> {
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            Err(format!("must be one of {}", words.join(", ")))
        }
    }
}

/// A number that the type's own rules accept, for filters.
pub(crate) fn parsed<T: FromStr>(text: &str) -> Result<T, T::Err> {
    text.parse()
}

/// `500ms`, `30s`, `2m`; at most [`limits::WAIT_MS_MAX`].
fn parse_duration(text: &str) -> Result<Duration, String> {
    let rule = || {
        let max = limits::WAIT_MS_MAX / 60_000;
        format!("must be a time such as 500ms, 30s or 2m, and at most {max}m")
    };
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if !(1..=9).contains(&digits) {
        return Err(rule());
    }
    let number: u64 = number.parse().map_err(|_| rule())?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err(rule()),
    };
    match number * factor {
        ms if ms <= limits::WAIT_MS_MAX => Ok(Duration::from_millis(ms)),
        _ => Err(rule()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = |text: &str| parse_duration(text).ok().map(|d| d.as_millis());
        for (text, expected) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("2m", 120_000),
            ("10m", 600_000),
            ("0s", 0),
        ] {
            assert_eq!(ms(text), Some(expected), "{text}");
        }
        for bad in [
            "",
            "s",
            "5",
            "1h",
            "-1s",
            "1.5s",
            "11m",
            "600001ms",
            "9999999999s",
            "１s",
            " 1s",
            "1s ",
        ] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn cursors_lead_back_and_only_through_their_collection() {
        let id = Uuid::now_v7();
        let cursor = Collection::Instances.cursor(id);
        assert_eq!(Collection::Instances.read_cursor(&cursor), Ok(id));
        assert_eq!(Collection::Users.read_cursor(&cursor), Err(BAD_CURSOR));
        for bad in ["", "x", "AAAA", "!!", &cursor[1..], &format!("{cursor}=")] {
            assert!(Collection::Instances.read_cursor(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Collection::Events.read_log_cursor(&Collection::Events.log_cursor(7)),
            Ok(7)
        );
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        let mut query = Query::parse("limit=0&cursor=x&nmae=a&status=UP&status=NEW&timeout=5").unwrap();
        query.paging(Collection::Users);
        let states = query.many("status", |text| one_of(text, &[("NEW", 1)]));
        assert_eq!(states, [1]);
        assert!(query.wait(&[("NEW", 1)]).is_none());
        let problem = query.finish().unwrap_err();
        let named: Vec<_> = problem
            .errors()
            .iter()
            .filter_map(|w| w.parameter.as_deref())
            .collect();
        assert_eq!(named, ["limit", "cursor", "status", "timeout", "nmae"]);
    }

    #[test]
    fn single_parameters_are_single_and_text_is_decoded() {
        let mut query = Query::parse("limit=5&limit=5").unwrap();
        query.paging(Collection::Users);
        assert!(query.finish().is_err());
        let mut query = Query::parse("name=a%20b&name=c+d&&").unwrap();
        let names: Vec<String> = query.many("name", parsed);
        assert_eq!(names, ["a b", "c d"]);
        assert!(query.finish().is_ok());
        assert!(Query::parse("name=%ff").is_err());
        assert!(Query::parse(&"a=1&".repeat(1000)).is_err());
    }

    #[test]
    fn waits() {
        let mut query = Query::parse("wait=ACTIVE&timeout=1s").unwrap();
        let wait = query.wait(&[("ACTIVE", true)]);
        assert_eq!(
            wait,
            Some(Wait {
                state: true,
                timeout: Duration::from_secs(1)
            })
        );
        let mut query = Query::parse("wait=ACTIVE").unwrap();
        assert_eq!(query.wait(&[("ACTIVE", true)]).unwrap().timeout, WAIT_DEFAULT);
    }
}
