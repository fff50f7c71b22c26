//! Two answers that differ in masked values only must come out as the same bytes, however they
//! are shaped, encoded and cut.

use std::sync::Arc;

use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use serde_json::{Value, json};

use super::{
    MASK_BASE64, MASK_TEXT, MaskError, MaskPlan, Masker, Shape, always_classified, holds_mask,
};
use crate::kubernetes::body::{Envelope, write_envelope};
use crate::kubernetes::wire::write_bytes;
use corral_model::resource::ColumnName;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const COPY: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn secrets() -> Arc<MaskPlan> {
    Arc::new(MaskPlan::new(&always_classified(), "", "secrets", Some("db")).expect("masked"))
}

fn widgets() -> Arc<MaskPlan> {
    let column = |text: &str| ColumnName::parse(text).expect("reads");
    let masked = [
        column(r#""example.com".widgets."spec.token""#),
        column(r#""example.com".widgets."spec.users.key""#),
    ];
    Arc::new(MaskPlan::new(&masked, "example.com", "widgets", None).expect("masked"))
}

fn run(
    plan: Arc<MaskPlan>,
    shape: Shape,
    content_type: &str,
    body: &[u8],
    piece: usize,
) -> Result<Vec<u8>, MaskError> {
    let mut masker = Masker::new(plan, shape, content_type)?;
    let mut out: Vec<u8> = Vec::new();
    for piece in body.chunks(piece.max(1)) {
        masker.push(piece, &mut out)?;
    }
    masker.finish(&mut out)?;
    Ok(out)
}

fn masked(plan: Arc<MaskPlan>, shape: Shape, body: &Value) -> Value {
    let out = run(plan, shape, JSON, body.to_string().as_bytes(), 7).expect("masks");
    serde_json::from_slice(&out).expect("is JSON")
}

fn secret(value: &str) -> Value {
    let copy = json!({"data": {"password": value}, "kind": "Secret", "metadata": {"name": "db"}});
    json!({
        "kind": "Secret", "apiVersion": "v1", "type": "Opaque",
        "metadata": {"name": "db", "labels": {"app": "x"}, "annotations": { COPY: copy.to_string() + "\n" },
            "managedFields": [{"fieldsV1": {"f:data": {"f:password": {}}}}]},
        "data": {"password": value, "user": value}, "stringData": {"password": value},
    })
}

#[test]
fn values_of_a_secret_are_replaced_and_nothing_else() {
    let out = masked(secrets(), Shape::Object, &secret("c2VjcmV0"));
    let mut expect = secret(MASK_BASE64);
    expect["stringData"]["password"] = MASK_TEXT.into();
    assert_eq!(out, expect);
}

#[test]
fn a_list_a_table_and_events_are_masked() {
    let (raw, shown) = (secret("c2VjcmV0"), masked(secrets(), Shape::Object, &secret("eA==")));
    let list = |item: &Value| json!({"kind": "SecretList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": [item, item]});
    assert_eq!(masked(secrets(), Shape::List, &list(&raw)), list(&shown));
    assert_eq!(masked(secrets(), Shape::Object, &list(&raw)), list(&shown));
    let table = |item: &Value| json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": [{"name": "Name", "format": "name"}], "rows": [{"cells": ["db", "Opaque", 2, "5d"], "object": item}]});
    assert_eq!(masked(secrets(), Shape::List, &table(&raw)), table(&shown));
    assert_eq!(masked(secrets(), Shape::Object, &table(&raw)), table(&shown));
    let event = |item: &Value| json!({"type": "ADDED", "object": item});
    assert_eq!(masked(secrets(), Shape::Watch, &event(&raw)), event(&shown));
    assert_eq!(masked(secrets(), Shape::Watch, &event(&table(&raw))), event(&table(&shown)));
}

#[test]
fn a_watch_passes_event_by_event() {
    let event = |name: &str| {
        json!({"type": "ADDED", "object": {"metadata": {"name": name}, "data": {"a": "eA=="}}})
            .to_string()
    };
    let mut masker =
        Masker::new(secrets(), Shape::Watch, "application/json;stream=watch").expect("reads");
    let mut out: Vec<u8> = Vec::new();
    masker
        .push(format!("{}\n{}", event("a"), &event("b")[..20]).as_bytes(), &mut out)
        .expect("masks");
    let first = String::from_utf8(out.clone()).expect("text");
    assert!(
        first.ends_with("}\n") && first.contains("\"a\"") && !first.contains("\"b\""),
        "{first}"
    );
    assert_eq!(masker.masked(), 1);
    masker.push(&event("b").as_bytes()[20..], &mut out).expect("masks");
    masker.finish(&mut out).expect("ends");
    assert_eq!(String::from_utf8(out).expect("text").lines().count(), 2);
}

#[test]
fn classified_paths_reach_through_lists_and_dotted_keys() {
    let widget = |token: Value, key: &str| {
        json!({
            "kind": "Widget", "metadata": {"name": "w", "managedFields": [{"v:": key}], "annotations": { COPY: json!({"spec": {"token": token}}).to_string() }},
            "spec": {"token": token, "users": [{"key": key, "name": "ada"}], "Users": {"key": key}, "other": 1},
            "status": {"token": "stays"},
        })
    };
    let out = masked(widgets(), Shape::Object, &widget(json!({"deep": ["canary"]}), "canary"));
    assert!(!out.to_string().contains("canary"), "{out}");
    assert_eq!(out["spec"]["token"], MASK_TEXT);
    assert_eq!(out["spec"]["users"], json!([{"key": MASK_TEXT, "name": "ada"}]));
    assert_eq!(out["status"]["token"], "stays");
    let plan = MaskPlan::new(
        &[ColumnName::parse(r#"core.configmaps."data.tls.key""#).expect("reads")],
        "",
        "configmaps",
        None,
    );
    let out = masked(
        Arc::new(plan.expect("masked")),
        Shape::Object,
        &json!({"data": {"tls.key": "canary", "tls.crt": "open"}}),
    );
    assert_eq!(out["data"], json!({"tls.key": MASK_TEXT, "tls.crt": "open"}));
}

#[test]
fn cells_of_other_kinds_may_show_any_field() {
    let table = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": [{"name": "Name", "format": "name"}, {"name": "Age"}], "rows": [{"cells": ["w", "canary"], "object": {}}]});
    for shape in [Shape::List, Shape::Object] {
        let out = masked(widgets(), shape, &table);
        assert_eq!(out["rows"][0]["cells"], json!(["w", MASK_TEXT]));
    }
    let unnamed = json!({"kind": "Table", "rows": [{"cells": ["canary"]}], "columnDefinitions": [{"name": "Name", "format": "name"}]});
    let text = unnamed.to_string();
    // Columns that are named behind the rows come too late.
    let late = text.find("columnDefinitions") > text.find("rows");
    let out = masked(widgets(), Shape::List, &unnamed);
    assert!(!late || out["rows"][0]["cells"] == json!([MASK_TEXT]));
}

#[test]
fn an_error_keeps_its_reason_and_loses_its_words() {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422,
        "message": "Secret \"db\" is invalid: data[a]: \"canary\"",
        "details": {"name": "canary", "causes": [{"message": "canary", "field": "canary"}]}});
    for body in [status.clone(), json!({"type": "ERROR", "object": status})] {
        for shape in [Shape::Object, Shape::List, Shape::Watch] {
            let out = masked(secrets(), shape, &body);
            assert!(!out.to_string().contains("canary"), "{out}");
            assert!(
                out.to_string().contains("Invalid") && out.to_string().contains("422"),
                "{out}"
            );
        }
    }
    let reason =
        json!({"kind": "Status", "apiVersion": "v1", "reason": "canary", "message": "canary"});
    assert!(!masked(secrets(), Shape::Object, &reason).to_string().contains("canary"));
}

#[test]
fn an_error_that_is_no_status_is_replaced() {
    let out = masked(
        secrets(),
        Shape::Error(500),
        &json!({"error": "canary", "items": [{"x": "canary"}]}),
    );
    assert!(!out.to_string().contains("canary"));
    assert_eq!((&out["kind"], &out["code"]), (&json!("Status"), &json!(500)));
}

#[test]
fn what_cannot_be_masked_is_refused() {
    for content_type in ["application/yaml", "text/plain", "application/cbor", ""] {
        let refused = Masker::new(secrets(), Shape::Object, content_type).map(drop);
        assert_eq!(refused, Err(MaskError::ContentType), "{content_type}");
    }
    assert_eq!(
        Masker::new(widgets(), Shape::Object, PROTOBUF).map(drop),
        Err(MaskError::ContentType)
    );
    let cases = [
        r#"{"data":{"a":"x"},"data":{"b":"y"}}"#,
        r#"{"items":[{"data":{"a":"x"}}"#,
        r#"[{"data":{}}]"#,
        r#"{"items":[1]}"#,
        r#"{"items":[],"items":[{"data":{}}]}"#,
        r#"{"items":[{},]}"#,
        r#"{"items":[{}],}"#,
        r#"{"items":[{}]"kind":"x"}"#,
        r#"{"items":[{}]}{}"#,
        r#""text""#,
        "7",
        r#"{"items"[{}]}"#,
        r#"{"items":[{}}}"#,
        r#"{"kind":"Status","apiVersion":"v1","items":[]}"#,
        r#"{"items":[],"kind":"Status","message":"x"}"#,
    ];
    for body in cases {
        for piece in [1, 100] {
            let out = run(secrets(), Shape::List, JSON, body.as_bytes(), piece);
            assert!(out.is_err(), "{body} {out:?}");
        }
    }
    let deep = format!("{{\"items\":[{}{}]}}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    assert!(run(secrets(), Shape::List, JSON, deep.as_bytes(), 512).is_err());
}

#[test]
fn an_object_without_an_end_is_refused_at_the_limit() {
    let mut masker = Masker::new(secrets(), Shape::List, JSON).expect("reads");
    let mut out: Vec<u8> = Vec::new();
    masker.push(b"{\"items\":[{\"data\":{\"a\":\"", &mut out).expect("begins");
    let mut pushed = 0;
    let refused = loop {
        match masker.push(&[b'x'; 65_536], &mut out) {
            Ok(()) => pushed += 65_536,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, MaskError::TooLarge { .. }));
    assert!(pushed <= corral_model::limits::ANSWER_OBJECT_BYTES_MAX && !out.contains(&b'x'));
}

#[test]
fn the_target_is_asked_for_what_can_be_masked() {
    let all = "application/vnd.kubernetes.protobuf, application/yaml, application/json;as=Table;v=v1;g=meta.k8s.io, */*";
    let accept = |plan: Arc<MaskPlan>, asked| plan.accept(asked);
    assert_eq!(
        accept(secrets(), Some(all)).as_deref(),
        Ok(
            "application/vnd.kubernetes.protobuf, application/json;as=Table;v=v1;g=meta.k8s.io, application/json"
        )
    );
    assert_eq!(
        accept(widgets(), Some(all)).as_deref(),
        Ok("application/json;as=Table;v=v1;g=meta.k8s.io, application/json")
    );
    assert_eq!(accept(secrets(), None).as_deref(), Ok("application/json"));
    assert_eq!(accept(secrets(), Some("application/cbor")), Err(MaskError::NotAcceptable));
}

#[test]
fn a_selector_on_a_masked_field_is_told() {
    assert!(widgets().is_selected_by("metadata.name=a,spec.token!=b"));
    assert!(widgets().is_selected_by("spec.users=x"));
    assert!(!widgets().is_selected_by("metadata.name=a"));
    assert!(!secrets().is_selected_by("type=Opaque,metadata.namespace==x"));
    assert!(secrets().reaches(&["data".into(), "0".into()]));
    assert!(secrets().reaches(&[]));
    assert!(!secrets().reaches(&["metadata".into(), "labels".into()]));
    assert!(secrets().reaches(&["metadata".into(), "annotations".into()]));
}

#[test]
fn a_masked_object_sent_back_is_told() {
    let out = masked(secrets(), Shape::Object, &secret("eA=="));
    assert!(holds_mask(out.to_string().as_bytes()));
    assert!(!holds_mask(secret("eA==").to_string().as_bytes()));
    assert!(MaskPlan::new(&always_classified(), "", "configmaps", None).is_none());
    assert!(MaskPlan::new(&always_classified(), "example.com", "secrets", None).is_none());
}

// Protobuf.

fn entry(number: u32, key: &str, value: &[u8], out: &mut Vec<u8>) {
    let mut entry: Vec<u8> = Vec::new();
    write_bytes(&mut entry, 1, key.as_bytes());
    write_bytes(&mut entry, 2, value);
    write_bytes(out, number, &entry);
}

fn protobuf_secret(value: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(value).into_owned();
    let mut meta: Vec<u8> = Vec::new();
    write_bytes(&mut meta, 1, b"db");
    entry(12, COPY, json!({"data": {"password": text}}).to_string().as_bytes(), &mut meta);
    entry(12, "other", b"stays", &mut meta);
    let mut secret: Vec<u8> = Vec::new();
    write_bytes(&mut secret, 1, &meta);
    entry(2, "password", value, &mut secret);
    entry(4, "password", value, &mut secret);
    write_bytes(&mut secret, 3, b"Opaque");
    // A field of a later version.
    write_bytes(&mut secret, 99, value);
    secret
}

fn protobuf_bodies(value: &[u8]) -> Vec<(Shape, Vec<u8>)> {
    let secret = protobuf_secret(value);
    let mut list: Vec<u8> = Vec::new();
    write_bytes(&mut list, 1, b"");
    write_bytes(&mut list, 2, &secret);
    write_bytes(&mut list, 2, &secret);
    let mut status: Vec<u8> = Vec::new();
    write_bytes(&mut status, 2, b"Failure");
    write_bytes(&mut status, 3, value);
    write_bytes(&mut status, 4, b"Invalid");
    let mut event: Vec<u8> = Vec::new();
    write_bytes(&mut event, 1, b"ADDED");
    let mut extension: Vec<u8> = Vec::new();
    write_bytes(&mut extension, 1, &write_envelope("v1", "Secret", &secret));
    write_bytes(&mut event, 2, &extension);
    let len = u32::try_from(event.len()).expect("fits").to_be_bytes();
    let frame: Vec<u8> = len.into_iter().chain(event).collect();
    vec![
        (Shape::Object, write_envelope("v1", "Secret", &secret)),
        (Shape::List, write_envelope("v1", "SecretList", &list)),
        (Shape::Object, write_envelope("v1", "Status", &status)),
        (Shape::Object, write_envelope("meta.k8s.io/v1", "PartialObjectMetadata", &secret)),
        (Shape::Watch, [frame.clone(), frame].concat()),
    ]
}

#[test]
fn protobuf_of_another_kind_is_refused() {
    for (api_version, kind) in
        [("v1", "Pod"), ("v2", "Secret"), ("example.com/v1", "PartialObjectMetadata")]
    {
        let body = write_envelope(api_version, kind, b"");
        assert_eq!(
            run(secrets(), Shape::Object, PROTOBUF, &body, 9),
            Err(MaskError::Shape),
            "{kind}"
        );
    }
    assert_eq!(run(secrets(), Shape::Watch, PROTOBUF, &[0, 0, 0, 0], 9), Err(MaskError::Shape));
    assert_eq!(run(secrets(), Shape::Watch, PROTOBUF, &[0, 0, 0], 9), Err(MaskError::Truncated));
    let bomb = run(secrets(), Shape::Watch, PROTOBUF, &[255, 255, 255, 255, 0], 9);
    assert!(matches!(bomb, Err(MaskError::TooLarge { .. })));
}

#[test]
fn a_masked_protobuf_secret_keeps_its_type_and_keys() {
    let body = write_envelope("v1", "Secret", &protobuf_secret(b"canary"));
    let out = run(secrets(), Shape::Object, PROTOBUF, &body, 5).expect("masks");
    let raw = Envelope::read(&out).expect("reads").raw.to_vec();
    let text = String::from_utf8_lossy(&raw).into_owned();
    for kept in ["db", "password", MASK_TEXT, "Opaque", "stays"] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
    assert!(!text.contains("canary"));
}

// What differs between the two answers of a noninterference test.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9+/]{0,40}",
        any::<String>(),
        Just("\",\"items\":[{\"data\":".to_owned()),
        Just(String::new()),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        value().prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::hash_map("[a-z.]{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// An object with open parts, and masked values in every masked place.
fn object_of(open: &Value, keys: &[String], values: &[Value; 2], depth: usize) -> Value {
    let data: serde_json::Map<String, Value> =
        keys.iter().map(|key| (key.clone(), values[0].clone())).collect();
    let mut annotations = json!({"open": "x"});
    if depth > 0 {
        annotations[COPY] = object_of(open, keys, values, depth - 1).to_string().into();
    }
    json!({
        "kind": "Thing", "open": open, "metadata": {"name": "n", "annotations": annotations},
        "data": data, "stringData": data,
        "spec": {"token": values[1], "users": [{"key": values[0], "name": open}], "rest": open},
    })
}

fn shaped(shape: usize, object: Value) -> (Shape, String) {
    match shape {
        0 => (Shape::Object, object.to_string()),
        1 => (Shape::List, json!({"apiVersion": "v1", "items": [object, object], "kind": "L", "metadata": {}}).to_string()),
        2 => (Shape::Object, json!({"kind": "L", "items": [object]}).to_string()),
        3 => (Shape::List, json!({"kind": "Table", "columnDefinitions": [], "rows": [{"cells": ["a"], "object": object}]}).to_string()),
        4 => {
            let event = json!({"type": "MODIFIED", "object": object}).to_string();
            (Shape::Watch, format!("{event}\n{event}"))
        }
        _ => (Shape::List, object.to_string()),
    }
}

proptest! {
    #[test]
    fn masked_values_change_nothing_in_json(
        open in any_json(),
        keys in prop::collection::vec("[a-z.]{1,8}", 0..3),
        one in [any_json(), any_json()], other in [any_json(), any_json()],
        shape in 0_usize..6, pieces in [1_usize..200, 1_usize..200],
    ) {
        for plan in [secrets(), widgets()] {
            // Each plan masks a part; the other part must be equal for this test.
            let is_secret = plan.columns().any(|column| column == "data");
            let bodies = [&one, &other].map(|values| {
                let mut object = object_of(&open, &keys, values, 2);
                blank_other(&mut object, is_secret);
                shaped(shape, object)
            });
            let [first, second] = [(&bodies[0], pieces[0]), (&bodies[1], pieces[1])].map(|((shape, body), piece)| {
                run(plan.clone(), *shape, JSON, body.as_bytes(), piece)
            });
            prop_assert!(first.is_ok(), "{:?} {}", first, bodies[0].1);
            prop_assert_eq!(first, second);
        }
    }

    #[test]
    fn masked_values_change_nothing_in_protobuf(
        one in any::<Vec<u8>>(), other in any::<Vec<u8>>(), piece in 1_usize..100,
    ) {
        let bodies = [protobuf_bodies(&one), protobuf_bodies(&other)];
        for ((shape, first), (_, second)) in bodies[0].iter().zip(&bodies[1]) {
            let first = run(secrets(), *shape, PROTOBUF, first, piece);
            prop_assert!(first.is_ok(), "{:?}", first);
            prop_assert_eq!(first, run(secrets(), *shape, PROTOBUF, second, 11));
        }
    }

    #[test]
    fn no_bytes_make_a_masker_panic(bytes in any::<Vec<u8>>(), piece in 1_usize..50) {
        for shape in [Shape::Object, Shape::List, Shape::Watch] {
            for content_type in [JSON, PROTOBUF] {
                let _ = run(secrets(), shape, content_type, &bytes, piece);
            }
        }
    }

    /// Wherever an answer breaks off, what was sent on holds no masked value.
    #[test]
    fn a_broken_answer_leaks_nothing(cut in 0_usize..400, piece in 1_usize..60, shape in 0_usize..6) {
        let object = json!({"data": {"password": "CANARY"}, "stringData": {"x": "CANARY"}});
        let (shape, body) = shaped(shape, object);
        let body = body.as_bytes();
        let mut masker = Masker::new(secrets(), shape, JSON).expect("reads");
        let mut out: Vec<u8> = Vec::new();
        for piece in body[..cut.min(body.len())].chunks(piece) {
            prop_assert!(masker.push(piece, &mut out).is_ok());
        }
        let is_ended = masker.finish(&mut out).is_ok();
        prop_assert!(shape == Shape::Watch || is_ended == (cut == 0 || cut >= body.len()));
        prop_assert!(!String::from_utf8_lossy(&out).contains("CANARY"));
    }
}

/// Takes out what the plan does not mask, also in the copies.
fn blank_other(object: &mut Value, is_secret: bool) {
    if is_secret {
        object["spec"] = Value::Null;
    } else {
        object["data"] = Value::Null;
        object["stringData"] = Value::Null;
    }
    let copy = object["metadata"]["annotations"][COPY].as_str().map(str::to_owned);
    if let Some(copy) = copy {
        let mut inner: Value = serde_json::from_str(&copy).expect("is JSON");
        blank_other(&mut inner, is_secret);
        object["metadata"]["annotations"][COPY] = inner.to_string().into();
    }
}
