//! The OpenAPI document as one HTML page, without scripts and without anything from elsewhere.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::problem::ProblemKind;

/// The pages need their own style and nothing else.
pub(crate) const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}\
code,pre{font-family:ui-monospace,monospace;font-size:.9em}pre{background:#f4f4f4;padding:.8rem;overflow-x:auto}\
details{border:1px solid #ccc;border-radius:.3rem;margin:.4rem 0;padding:.4rem .8rem}summary{cursor:pointer}\
table{border-collapse:collapse;width:100%;margin:.5rem 0}td,th{border-bottom:1px solid #ddd;padding:.25rem .5rem;text-align:left;vertical-align:top}\
b.m{display:inline-block;width:4.5rem}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre{background:#242424}details,td,th{border-color:#444}a{color:#8ab4f8}}";

/// The page at `/docs`.
pub(crate) fn page(document: &Value) -> String {
    let mut html = String::new();
    let title = text(&document["info"]["title"]);
    let _ = write!(html, "<h1>{title}</h1>");
    for paragraph in document["info"]["description"]
        .as_str()
        .unwrap_or_default()
        .split("\n\n")
    {
        let _ = write!(html, "<p>{}</p>", marked(paragraph));
    }
    html.push_str("<p>The same for programs: <a href=\"/openapi.json\"><code>/openapi.json</code></a></p>");
    for tag in document["tags"].as_array().into_iter().flatten() {
        let _ = write!(
            html,
            "<h2>{}</h2><p>{}</p>",
            text(&tag["name"]),
            text(&tag["description"])
        );
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for method in ["get", "post", "put", "patch", "delete"] {
                if let Some(call) = item.get(method)
                    && call["tags"]
                        .as_array()
                        .is_some_and(|tags| tags.contains(&tag["name"]))
                {
                    operation(&mut html, document, method, path, call);
                }
            }
        }
    }
    html.push_str("<h2>schemas</h2>");
    for (name, schema) in document["components"]["schemas"]
        .as_object()
        .into_iter()
        .flatten()
    {
        let _ = write!(
            html,
            "<details id=\"{0}\"><summary><code>{0}</code> {1}</summary>",
            escape(name),
            text(&schema["description"])
        );
        properties(&mut html, schema);
        html.push_str("</details>");
    }
    html.push_str("<h2>errors</h2><table>");
    for kind in ProblemKind::ALL {
        let (uri, status) = (kind.type_uri(), kind.status().as_u16());
        let _ = write!(
            html,
            "<tr><td>{status}<td><a href=\"{uri}\"><code>{uri}</code></a><td>{}",
            escape(kind.title())
        );
    }
    html.push_str("</table>");
    whole_page(&title, &html)
}

/// The page at a problem's `type`.
pub(crate) fn problem_page(kind: ProblemKind) -> String {
    let body = format!(
        "<h1>{}</h1><p><code>{}</code>, status {}</p><p>{}</p><p><a href=\"/docs\">all calls</a></p>",
        escape(kind.title()),
        kind.type_uri(),
        kind.status(),
        marked(kind.explanation().trim()),
    );
    whole_page(kind.title(), &body)
}

fn whole_page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style>{body}</html>"
    )
}

fn operation(html: &mut String, document: &Value, method: &str, path: &str, call: &Value) {
    let _ = write!(
        html,
        "<details><summary><b class=\"m\">{}</b><code>{}</code> {}</summary>",
        method.to_uppercase(),
        escape(path),
        text(&call["summary"])
    );
    if let Some(description) = call["description"].as_str() {
        let _ = write!(html, "<p>{}</p>", marked(description));
    }
    if let Some(parameters) = call["parameters"].as_array() {
        html.push_str("<table><tr><th>parameter<th>in<th>what<th>rule");
        for parameter in parameters {
            let _ = write!(
                html,
                "<tr><td><code>{}</code><td>{}<td>{}<td>{}",
                text(&parameter["name"]),
                text(&parameter["in"]),
                marked(parameter["description"].as_str().unwrap_or_default()),
                rule(&parameter["schema"])
            );
        }
        html.push_str("</table>");
    }
    let body = &call["requestBody"]["content"]["application/json"]["schema"];
    if !body.is_null() {
        let _ = write!(html, "<p>Body: {}</p>", rule(body));
    }
    html.push_str("<table><tr><th>status<th>what<th>body");
    for (status, response) in call["responses"].as_object().unwrap_or(&Map::new()) {
        let response = resolve(document, response);
        let _ = write!(
            html,
            "<tr><td>{}<td>{}<td>",
            escape(status),
            text(&response["description"])
        );
        for (content_type, content) in response["content"].as_object().into_iter().flatten() {
            let _ = write!(
                html,
                "{} <code>{}</code> ",
                rule(&content["schema"]),
                escape(content_type)
            );
        }
    }
    html.push_str("</table></details>");
}

fn properties(html: &mut String, schema: &Value) {
    let required = schema["required"].as_array();
    html.push_str("<table><tr><th>field<th>what<th>rule");
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let is_required = required.is_some_and(|required| required.iter().any(|r| r == name.as_str()));
        let _ = write!(
            html,
            "<tr><td><code>{}</code>{}<td>{}<td>{}{}",
            escape(name),
            if is_required { " *" } else { "" },
            text(&property["description"]),
            rule(property),
            if property["readOnly"] == Value::Bool(true) {
                ", read-only"
            } else {
                ""
            },
        );
    }
    html.push_str("</table>");
}

/// A schema in a few words.
fn rule(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("<a href=\"#{0}\"><code>{0}</code></a>", escape(name));
    }
    if schema["oneOf"].is_array() {
        return rule(&schema["oneOf"][0]);
    }
    if schema["items"].is_object() {
        return format!("list of {}", rule(&schema["items"]));
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words
            .iter()
            .map(|word| format!("<code>{}</code>", text(word)))
            .collect();
        return words.join(" ");
    }
    let mut said = match &schema["type"] {
        Value::Array(types) => types.iter().map(text).collect::<Vec<_>>().join(" or "),
        one => text(one),
    };
    if let Some(format) = schema["format"].as_str() {
        let _ = write!(said, " ({})", escape(format));
    }
    for (key, word) in [
        ("minimum", "from"),
        ("maximum", "to"),
        ("minLength", "length from"),
        ("maxLength", "length to"),
    ] {
        if !schema[key].is_null() {
            let _ = write!(said, " {word} {}", schema[key]);
        }
    }
    if !schema["default"].is_null() {
        let _ = write!(said, ", default <code>{}</code>", text(&schema["default"]));
    }
    said
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
        Some(pointer) => document.pointer(pointer).unwrap_or(value),
        None => value,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => escape(text),
        Value::Null => String::new(),
        other => escape(&other.to_string()),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The little Markdown that the descriptions use: `code` and **strong**.
fn marked(text: &str) -> String {
    let mut html = String::new();
    for (i, part) in escape(text).split('`').enumerate() {
        if i % 2 == 1 {
            let _ = write!(html, "<code>{part}</code>");
        } else {
            for (j, part) in part.split("**").enumerate() {
                let _ = if j % 2 == 1 {
                    write!(html, "<strong>{part}</strong>")
                } else {
                    write!(html, "{part}")
                };
            }
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_on_the_page_and_nothing_comes_from_elsewhere() {
        let page = page(&crate::openapi::served(crate::ListStyle::Objects));
        for route in crate::routes::routes() {
            assert!(
                page.contains(&format!("<code>{}</code>", route.path)),
                "{}",
                route.path
            );
        }
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
    }

    #[test]
    fn markup_in_text_is_text() {
        assert_eq!(
            marked("a `<b>` **c** & d"),
            "a <code>&lt;b&gt;</code> <strong>c</strong> &amp; d"
        );
    }
}
