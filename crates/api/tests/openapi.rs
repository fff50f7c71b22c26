//! `docs/openapi.json` says what the types say.

use corral_api::openapi;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

#[test]
fn the_committed_document_is_what_the_types_give() {
    let committed = std::fs::read_to_string(COMMITTED).expect("docs/openapi.json is readable");
    let mut current = openapi().to_pretty_json().expect("the document serialises");
    current.push('\n');
    assert!(
        committed == current,
        "docs/openapi.json is out of date; write it again with \
         `cargo run -p corral-api --example openapi > docs/openapi.json`"
    );
}

#[test]
fn every_reference_has_a_schema() {
    let document: serde_json::Value =
        serde_json::to_value(openapi()).expect("the document serialises");
    let schemas = document["components"]["schemas"].as_object().expect("schemas are an object");
    let text = document.to_string();
    let names = text.split("\"#/components/schemas/").skip(1);
    for name in names.filter_map(|rest| rest.split('"').next()) {
        assert!(schemas.contains_key(name), "{name} is referred to and has no schema");
    }
}

#[test]
fn every_operation_has_its_own_id_and_an_error_shape() {
    let document: serde_json::Value =
        serde_json::to_value(openapi()).expect("the document serialises");
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths are an object") {
        let roots = ["/api/v1/", "/oauth2/", "/.well-known/"];
        assert!(roots.iter().any(|root| path.starts_with(root)), "{path}");
        for (method, operation) in item.as_object().expect("a path is an object") {
            let id = operation["operationId"].as_str().expect("an operation has an id");
            assert!(ids.insert(id.to_owned()), "{id} twice");
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
        }
    }
}
