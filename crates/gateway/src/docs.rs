//! The API's description: OpenAPI 3.1 as JSON, and a page that shows it without any request to elsewhere.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use serde_json::Value;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};

use wire::errors::ErrorCode;

use crate::gateway::Shared;

const DESCRIPTION: &str = "\
Numbers, ids, sequences and times (nanoseconds since 1970, UTC) are strings. Every answer to a request that changes \
something says its `outcome`; no answer, or one without `outcome`, means that it is unknown: send the same request again \
with the same id, it executes once. Errors are `application/problem+json` with a `code`.\n\n\
The answer to a query says up to where it knows (`Meridian-Position`) and whether that has everything that was answered \
before the query was sent (`Meridian-Freshness`: `linearizable`) or is what the node knows (`stale`). A request that \
changes something is passed on to the node that leads, unless it says `Meridian-Forward: never`: then 421 `not_leader` \
names that node in `leader`.\n\n\
A request is signed over these lines, joined by line feeds: `MERIDIAN1`, the cluster id (see `/v1/time`), \
`Meridian-Key`, `Meridian-Timestamp` (milliseconds), `Meridian-Window` (milliseconds, 5000 if left out), the request id \
(a new order's `client_order_id`; empty if there is none), the method, the request target as sent, and the SHA-256 of the \
body in lower-case hex. The signature, Ed25519 or HMAC-SHA256, goes into `Meridian-Signature` in lower-case hex.";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Meridian", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    components(schemas(wire::json::ValidationAnswer))
)]
struct Public;

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Meridian, operators",
    license(name = "Apache-2.0", identifier = "Apache-2.0")
))]
struct Admin;

/// The description of the public API, without its paths.
pub(crate) fn public_description() -> OpenApi {
    described(Public::openapi())
}

/// The description of the operators' API, without its paths.
pub(crate) fn admin_description() -> OpenApi {
    described(Admin::openapi())
}

fn described(mut openapi: OpenApi) -> OpenApi {
    openapi.info.description = Some(DESCRIPTION.to_owned());
    let header = ApiKeyValue::with_description(
        "Meridian-Signature",
        "Together with Meridian-Key, Meridian-Timestamp and, if it is not 5000, Meridian-Window.",
    );
    let components = openapi.components.get_or_insert_default();
    components.add_security_scheme("signature", SecurityScheme::ApiKey(ApiKey::Header(header)));
    openapi
}

/// `/openapi.json` and `/docs`.
pub(crate) fn routes(openapi: &OpenApi) -> Router<Arc<Shared>> {
    let json = as_json(openapi);
    let page = page(&serde_json::from_str(&json).expect("it was written a moment ago"));
    let serve = |content_type: &'static str, text: String| {
        let text: Arc<str> = text.into();
        get(move || async move { ([(CONTENT_TYPE, content_type)], text.to_string()) })
    };
    Router::new()
        .route("/openapi.json", serve("application/json", json))
        .route("/docs", serve("text/html; charset=utf-8", page))
}

/// The description as JSON.
pub fn as_json(openapi: &OpenApi) -> String {
    let mut json = openapi.to_pretty_json().expect("a description is plain data");
    json.push('\n');
    json
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430}\
code,pre{font-family:ui-monospace,monospace;font-size:.9em}h2{margin-top:2.5rem;border-bottom:1px solid #ccd3dc}\
details{border:1px solid #ccd3dc;border-radius:6px;margin:.5rem 0;padding:.4rem .8rem}summary{cursor:pointer}\
table{border-collapse:collapse;width:100%;margin:.5rem 0}td,th{text-align:left;vertical-align:top;padding:.25rem .6rem;\
border-bottom:1px solid #e4e8ee}.method{display:inline-block;min-width:4.5rem;font-weight:700}\
@media(prefers-color-scheme:dark){body{background:#12161c;color:#dfe5ec}h2,details,td,th{border-color:#39424e}a{color:#8ab8ff}}";

/// The page: every path by tag, then every schema, then every error.
fn page(openapi: &Value) -> String {
    let title = escaped(text(&openapi["info"]["title"]));
    let description = paragraphs(text(&openapi["info"]["description"]));
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head><body>\
         <h1>{title}</h1>{description}<p><a href=\"/openapi.json\">openapi.json</a></p>"
    );
    let mut tags: Vec<(String, String)> = Vec::new();
    for (path, methods) in object(&openapi["paths"]) {
        for (method, operation) in object(methods) {
            let tag = text(&operation["tags"][0]).to_owned();
            let shown = operation_html(path, method, operation);
            match tags.iter_mut().find(|(name, _)| *name == tag) {
                Some((_, section)) => section.push_str(&shown),
                None => tags.push((tag, shown)),
            }
        }
    }
    for (tag, section) in tags {
        write_html(&mut page, format_args!("<h2>{}</h2>{section}", escaped(&tag)));
    }
    page.push_str("<h2>schemas</h2>");
    for (name, schema) in object(&openapi["components"]["schemas"]) {
        page.push_str(&schema_html(name, schema));
    }
    page.push_str(&errors_html());
    page.push_str("</body></html>\n");
    page
}

/// The table of errors; a problem's `type` leads to its row.
fn errors_html() -> String {
    let heading =
        "<h2>errors</h2><table><tr><th>code</th><th>status</th><th>what it means</th><th>what to do</th></tr>";
    let mut html = heading.to_owned();
    for code in ErrorCode::all() {
        let entry = code.entry();
        let [code, meaning, client] = [entry.code, entry.meaning, entry.client].map(escaped);
        let status = entry.http_status;
        write_html(
            &mut html,
            format_args!(
                "<tr id=\"{code}\"><td><code>{code}</code></td><td>{status}</td><td>{meaning}</td><td>{client}</td></tr>"
            ),
        );
    }
    html.push_str("</table>");
    html
}

fn operation_html(path: &str, method: &str, operation: &Value) -> String {
    let (path, method) = (escaped(path), escaped(&method.to_uppercase()));
    let summary = escaped(text(&operation["summary"]));
    let mut html = format!(
        "<details><summary><span class=\"method\">{method}</span><code>{path}</code> {summary}</summary>{}",
        paragraphs(text(&operation["description"]))
    );
    if !operation["security"].is_null() {
        html.push_str("<p>Signed.</p>");
    }
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    if !parameters.is_empty() {
        html.push_str("<table><tr><th>parameter</th><th>in</th><th>what it is</th></tr>");
        for parameter in parameters {
            let needed = if parameter["required"] == true {
                ""
            } else {
                " (optional)"
            };
            row(
                &mut html,
                &[
                    format!("<code>{}</code>{needed}", escaped(text(&parameter["name"]))),
                    escaped(text(&parameter["in"])),
                    escaped(text(&parameter["description"])),
                ],
            );
        }
        html.push_str("</table>");
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    if !body.is_null() {
        write_html(&mut html, format_args!("<p>Body: {}</p>", kind(body)));
    }
    html.push_str("<table><tr><th>status</th><th>body</th><th>what it means</th></tr>");
    for (status, response) in object(&operation["responses"]) {
        let content = object(&response["content"]).next();
        let schema = content.map_or(&Value::Null, |(_, content)| &content["schema"]);
        row(
            &mut html,
            &[escaped(status), kind(schema), escaped(text(&response["description"]))],
        );
    }
    html.push_str("</table></details>");
    html
}

fn schema_html(name: &str, schema: &Value) -> String {
    let name = escaped(name);
    let mut html = format!(
        "<details id=\"{name}\"><summary><code>{name}</code></summary>{}",
        paragraphs(text(&schema["description"]))
    );
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    if !schema["properties"].is_null() {
        html.push_str("<table><tr><th>key</th><th>kind</th><th>what it is</th></tr>");
        for (key, property) in object(&schema["properties"]) {
            let needed = if required.iter().any(|name| name == key) {
                ""
            } else {
                " (optional)"
            };
            row(
                &mut html,
                &[
                    format!("<code>{}</code>{needed}", escaped(key)),
                    kind(property),
                    escaped(description(property)),
                ],
            );
        }
        html.push_str("</table>");
    } else {
        write_html(&mut html, format_args!("<p>{}</p>", kind(schema)));
    }
    html.push_str("</details>");
    html
}

/// What a key says of itself; of one that may be null the description stands in the first choice.
fn description(property: &Value) -> &str {
    let own = property["description"].as_str();
    own.unwrap_or_else(|| text(&property["oneOf"][0]["description"]))
}

/// What kind of value a schema takes, in a few words.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escaped(reference.rsplit('/').next().unwrap_or(reference));
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let kinds: Vec<String> = choices.iter().map(kind).collect();
            return kinds.join(" or ");
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values
            .iter()
            .map(|value| format!("<code>{}</code>", escaped(text(value))))
            .collect();
        return values.join(" or ");
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(name) => escaped(name),
        Value::Array(names) => names
            .iter()
            .map(|name| escaped(text(name)))
            .collect::<Vec<_>>()
            .join(" or "),
        _ => String::new(),
    }
}

fn row(html: &mut String, cells: &[String]) {
    html.push_str("<tr>");
    for cell in cells {
        write_html(html, format_args!("<td>{cell}</td>"));
    }
    html.push_str("</tr>");
}

fn write_html(html: &mut String, text: std::fmt::Arguments<'_>) {
    html.write_fmt(text).expect("writing to a string does not fail");
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn paragraphs(text: &str) -> String {
    let paragraph = |part: &str| format!("<p>{}</p>", escaped(part));
    text.split("\n\n")
        .filter(|part| !part.is_empty())
        .map(paragraph)
        .collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
