//! The description of the API: kept in the repository, and served.

use axum::body::Body;
use gateway::{admin_openapi, openapi_as_json, public_openapi};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::support::node;

#[test]
fn the_kept_descriptions_are_those_of_the_code() {
    for (name, openapi) in [
        ("openapi.json", public_openapi()),
        ("openapi-admin.json", admin_openapi()),
    ] {
        let path = format!("{}/../../docs/{name}", env!("CARGO_MANIFEST_DIR"));
        let made = openapi_as_json(&openapi);
        if std::env::var_os("MERIDIAN_REGENERATE").is_some() {
            std::fs::write(&path, &made).expect("write the description");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == made,
            "docs/{name} differs from the code; make it again with: \
             MERIDIAN_REGENERATE=1 cargo test -p gateway openapi"
        );
    }
}

#[test]
fn the_description_is_whole() {
    let openapi: Value = serde_json::from_str(&openapi_as_json(&public_openapi())).unwrap();
    assert_eq!(openapi["openapi"], "3.1.0");
    for path in [
        "/v1/time",
        "/v1/instruments",
        "/v1/instruments/{symbol}",
        "/v1/instruments/{symbol}/book",
        "/v1/instruments/{symbol}/trades",
        "/v1/orders",
        "/v1/orders/{order_id}",
        "/v1/orders/by-client-id/{client_order_id}",
        "/v1/orders/batch",
        "/v1/cancel-after",
        "/v1/fills",
        "/v1/balances",
        "/v1/limits",
    ] {
        assert!(openapi["paths"][path].is_object(), "{path}");
    }
    let text = openapi.to_string();
    let schemas = openapi["components"]["schemas"].as_object().unwrap();
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is named and not described");
    }
    assert!(!text.contains("\"number\""), "no floating point anywhere");
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let node = node();
    for router in [&node.public, &node.admin] {
        let request = Request::builder().uri("/docs").body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
        let page = response.into_body().collect().await.unwrap().to_bytes();
        let page = std::str::from_utf8(&page).unwrap();
        assert!(page.contains("/v1/time") && page.contains("MERIDIAN1"));
        for code in wire::errors::ErrorCode::all() {
            let problem = wire::json::Problem::new(code);
            let anchor = problem.problem_type.strip_prefix("/docs#").unwrap();
            assert!(page.contains(&format!("id=\"{anchor}\"")), "{anchor}");
        }
        for from_elsewhere in ["http:", "https:", "<script", "src=", "<link", "@import"] {
            assert!(!page.contains(from_elsewhere), "{from_elsewhere}");
        }
    }
}
