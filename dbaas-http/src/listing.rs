//! Lists: as an object with the cursor of the next page, or as a bare array, which clients of the original
//! service expect. Both carry the paging headers of the original.

use std::sync::Arc;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::app::App;
use crate::problem::Problem;
use crate::query::Collection;

/// How many items a page has at most.
const PAGINATION_LIMIT: HeaderName = HeaderName::from_static("x-pagination-limit");
/// The `page_marker` of the next page; not there at the end.
const PAGINATION_MARKER: HeaderName = HeaderName::from_static("x-pagination-marker");

/// How a list is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListStyle {
    /// `{"instances": [...], "next": ...}`
    Objects,
    /// `[...]`, as the original service does. The next page is in the header `X-Pagination-Marker`.
    Arrays,
}

/// The style of one answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    style: ListStyle,
    /// The client asked for it, and is told that it got it.
    is_asked: bool,
}

impl Wanted {
    /// A list that has no pages.
    pub(crate) fn whole<A: Serialize>(self, name: &'static str, items: &[A]) -> Response {
        self.answer(name, items, None)
    }

    fn answer<A: Serialize>(self, name: &'static str, items: &[A], next: Option<Option<String>>) -> Response {
        let (mut response, media_type) = match self.style {
            ListStyle::Objects => (
                Json(PageAnswer { name, items, next }).into_response(),
                "application/json;profile=object",
            ),
            ListStyle::Arrays => (Json(items).into_response(), "application/json;profile=array"),
        };
        let headers = response.headers_mut();
        if self.is_asked {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        response
    }
}

/// What the client asked for by `Accept: application/json;profile=array`; `None` if it left that to the
/// server.
fn asked_for(headers: &HeaderMap) -> Option<ListStyle> {
    let accepted = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("application/json") {
            return None;
        }
        let profile = parts.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim()
                .eq_ignore_ascii_case("profile")
                .then(|| value.trim().trim_matches('"'))
        })?;
        match profile {
            "array" => Some(ListStyle::Arrays),
            "object" => Some(ListStyle::Objects),
            _ => None,
        }
    })
}

impl FromRequestParts<Arc<App>> for Wanted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let asked = asked_for(&parts.headers);
        Ok(Wanted {
            style: asked.unwrap_or(app.options.list_style),
            is_asked: asked.is_some(),
        })
    }
}

/// A page of a collection under way to the client.
pub(crate) struct Listing {
    name: &'static str,
    pub(crate) collection: Collection,
    limit: usize,
    wanted: Wanted,
}

impl Listing {
    pub(crate) fn new(name: &'static str, collection: Collection, limit: usize, wanted: Wanted) -> Self {
        Listing {
            name,
            collection,
            limit,
            wanted,
        }
    }

    /// The page; `next` is the cursor and the marker of the page after it.
    pub(crate) fn page<A: Serialize>(&self, items: &[A], next: Option<(String, String)>) -> Response {
        let (cursor, marker) = next.unzip();
        let mut response = self.wanted.answer(self.name, items, Some(cursor));
        let headers = response.headers_mut();
        headers.insert(PAGINATION_LIMIT, HeaderValue::from(self.limit));
        // An id or a number.
        if let Some(Ok(marker)) = marker.map(HeaderValue::try_from) {
            headers.insert(PAGINATION_MARKER, marker);
        }
        response
    }
}

/// A page as an object: `{"<name>": [...], "next": ...}`; without `next` if it is no page but everything.
struct PageAnswer<'a, A> {
    name: &'static str,
    items: &'a [A],
    next: Option<Option<String>>,
}

impl<A: Serialize> Serialize for PageAnswer<'_, A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.name, self.items)?;
        if let Some(next) = &self.next {
            map.serialize_entry("next", next)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_asks_for() {
        for (accept, expected) in [
            ("application/json", None),
            ("*/*", None),
            ("application/json;profile=array", Some(ListStyle::Arrays)),
            (
                "text/html, Application/JSON; q=0.9; Profile=\"array\"",
                Some(ListStyle::Arrays),
            ),
            ("application/json;profile=object", Some(ListStyle::Objects)),
            ("application/json;profile=tree", None),
            ("text/json;profile=array", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(asked_for(&headers), expected, "{accept}");
        }
        assert_eq!(asked_for(&HeaderMap::new()), None);
    }
}
