//! Parameters in paths, queries and headers.

use std::ops::RangeInclusive;

use dbaas_core::limits;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema};
use utoipa::openapi::{RefOr, Required};

use super::schemas::{text, uuid, whole};
use crate::query::{Collection, FILTER_VALUES_MAX, SEQUENCE_DIGITS_MAX};

fn parameter(
    place: ParameterIn,
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
) -> Parameter {
    let required = if place == ParameterIn::Path {
        Required::True
    } else {
        Required::False
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .description(Some(description))
        .required(required)
        .schema(Some(schema))
        .build()
}

/// The id of a resource in the path.
pub(crate) fn id(name: &'static str) -> Parameter {
    parameter(ParameterIn::Path, name, &format!("UUID of the {name}."), uuid())
}

pub(crate) fn path(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    parameter(ParameterIn::Path, name, description, schema)
}

pub(crate) fn query(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    parameter(ParameterIn::Query, name, description, schema)
}

/// A filter that may be given several times.
pub(crate) fn filter(name: &str, schema: ObjectBuilder) -> Parameter {
    let values = ArrayBuilder::new()
        .items(RefOr::from(schema))
        .min_items(Some(1))
        .max_items(Some(FILTER_VALUES_MAX));
    parameter(
        ParameterIn::Query,
        name,
        &format!("Only with this {name}, or any of these."),
        values,
    )
}

/// A filter by a number.
pub(crate) fn number_filter(name: &str) -> Parameter {
    filter(name, whole(0..=999_999_999))
}

/// `limit` and `cursor`, and what the original calls them.
pub(crate) fn paging(collection: Collection) -> Vec<Parameter> {
    let bounds: RangeInclusive<u64> = *limits::PAGE_ITEMS.start() as u64..=*limits::PAGE_ITEMS.end() as u64;
    let limit = || whole(bounds.clone()).default(Some(limits::PAGE_ITEMS_DEFAULT.into()));
    let marker = match collection {
        Collection::Events => text().pattern(Some(format!("^[0-9]{{1,{SEQUENCE_DIGITS_MAX}}}$"))),
        _ => uuid(),
    };
    vec![
        query("limit", "Most items of a page.", limit()),
        query(
            "page_limit",
            "The same as limit; of both the smaller one counts.",
            limit(),
        ),
        query(
            "page_marker",
            "Only what comes after this item: the X-Pagination-Marker of the page before. Of it and a cursor, the later one counts.",
            marker,
        ),
        query(
            "cursor",
            "The next of the page before.",
            text().pattern(Some(cursor_pattern(collection))),
        ),
    ]
}

/// What a cursor of the collection looks like: 17 bytes, the first of which is the collection, as base64.
pub(crate) fn cursor_pattern(collection: Collection) -> String {
    let any = "[A-Za-z0-9_-]";
    let last = "[AEIMQUYcgkosw048]";
    match collection {
        Collection::Instances => format!("^A[Q-Za-f]{any}{{20}}{last}$"),
        Collection::Databases => format!("^A[g-v]{any}{{20}}{last}$"),
        Collection::Users => format!("^A[w-z0-9_-]{any}{{20}}{last}$"),
        Collection::Versions => format!("^B[A-P]{any}{{20}}{last}$"),
        Collection::Elements => format!("^B[g-v]{any}{{20}}{last}$"),
        Collection::Manifests => format!("^B[w-z0-9_-]{any}{{20}}{last}$"),
        Collection::Passwords => format!("^C[A-P]{any}{{20}}{last}$"),
        Collection::Configs => format!("^C[Q-Za-f]{any}{{20}}{last}$"),
        Collection::Variables => format!("^C[g-v]{any}{{20}}{last}$"),
        Collection::Tokens => format!("^C[w-z0-9_-]{any}{{20}}{last}$"),
        // A number of 63 bits.
        Collection::Events => format!("^BQA{{10}}[A-Za-f]{any}{{9}}{last}$"),
    }
}

/// `wait` and `timeout`.
pub(crate) fn waiting(states: ObjectBuilder) -> [Parameter; 2] {
    let max = limits::WAIT_MS_MAX / 60_000;
    let timeout = text().pattern(Some(
        "^([1-5]?[0-9]{1,5}ms|600000ms|[1-5]?[0-9]{1,2}s|600s|[0-9]m|10m)$",
    ));
    [
        query("wait", "Answer when the resource is in this state.", states),
        query(
            "timeout",
            &format!("How long to wait, such as 500ms, 30s or 2m; at most {max}m, 30s if left out."),
            timeout,
        ),
    ]
}

pub(crate) fn if_match() -> Parameter {
    let text =
        "Change only if nothing else was asked for since one of these ETags was answered; * means any.";
    parameter(ParameterIn::Header, "If-Match", text, tags())
}

pub(crate) fn if_none_match() -> Parameter {
    let text = "Answer 304 without a body if the present ETag is one of these.";
    parameter(ParameterIn::Header, "If-None-Match", text, tags())
}

fn tags() -> ObjectBuilder {
    let tag = r#"(W/)?"[0-9A-Za-z]{1,20}""#;
    text()
        .pattern(Some(format!(r"^(\*|{tag}(, {tag}){{0,7}})$")))
        .examples(["\"7\""])
}

pub(crate) fn idempotency_key() -> Parameter {
    let schema = text()
        .min_length(Some(*limits::IDEMPOTENCY_KEY_BYTES.start()))
        .max_length(Some(*limits::IDEMPOTENCY_KEY_BYTES.end()))
        .pattern(Some("^[!-~]+$"));
    let text = "Makes the call safe to repeat for 24 hours: the same key and body take effect once.";
    parameter(ParameterIn::Header, "Idempotency-Key", text, schema)
}

pub(crate) fn last_event_id() -> Parameter {
    let schema = text().pattern(Some(format!("^[0-9]{{1,{SEQUENCE_DIGITS_MAX}}}$")));
    let text = "For an event stream: go on after this event. Browsers send it by themselves.";
    parameter(ParameterIn::Header, "Last-Event-ID", text, schema)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// A matcher for the few constructs that the patterns above use would be longer than this: look at the
    /// fixed part by hand.
    #[test]
    fn cursors_look_as_described() {
        let first = |collection: Collection| {
            let ids = [Uuid::nil(), Uuid::max(), Uuid::now_v7()];
            ids.map(|id| collection.cursor(id)).map(|cursor| {
                assert_eq!(cursor.len(), 23);
                assert!("AEIMQUYcgkosw048".contains(&cursor[22..]), "{cursor}");
                cursor[..2].to_owned()
            })
        };
        let is = |collection, head: char, second: fn(char) -> bool| {
            first(collection)
                .iter()
                .all(|two| two.starts_with(head) && two.ends_with(second))
        };
        assert!(is(
            Collection::Instances,
            'A',
            |c| matches!(c, 'Q'..='Z' | 'a'..='f')
        ));
        assert!(is(Collection::Databases, 'A', |c| matches!(c, 'g'..='v')));
        assert!(is(
            Collection::Users,
            'A',
            |c| matches!(c, 'w'..='z' | '0'..='9' | '_' | '-')
        ));
        assert!(is(Collection::Versions, 'B', |c| matches!(c, 'A'..='P')));
        for sequence in [0, 1, i64::MAX as u64] {
            let cursor = Collection::Events.log_cursor(sequence);
            assert!(cursor.starts_with("BQAAAAAAAAAA"), "{cursor}");
            assert!(
                cursor[12..].starts_with(|c| matches!(c, 'A'..='Z' | 'a'..='f')),
                "{cursor}"
            );
        }
    }
}
