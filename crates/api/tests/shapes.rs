//! The JSON shapes that CONTRACT section 2 fixes.

use corral_api::{
    ApiError, ApprovalView, ErrorBody, ErrorCode, LoginResponse, ReadyFile, RunNode, RunStateView,
    StartRunRequest, StartRunResponse, WireSecret,
};
use corral_model::event::ApprovalState;
use serde_json::{Value, json};
use time::macros::datetime;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn node(id: &str, children: Vec<RunNode>) -> RunNode {
    let started_at = datetime!(2026-01-01 00:00 UTC);
    RunNode {
        run_id: id.parse().expect("an id"),
        name: id.to_owned(),
        principal: "nightly".parse().expect("a name"),
        sponsor: "ada@example.com".parse().expect("a name"),
        state: RunStateView::Active,
        end_reason: None,
        sessions: 2,
        process: None,
        statements: 0,
        rows: 0,
        left: corral_api::BudgetLeft::default(),
        actions: Vec::new(),
        started_at,
        expires_at: started_at + time::Duration::minutes(15),
        ended_at: None,
        children,
    }
}

#[test]
fn a_run_tree_has_the_keys_of_the_contract_and_nests_children() {
    let tree = vec![node("r", vec![node("c1", Vec::new()), node("c2", Vec::new())])];
    let tree = serde_json::to_value(tree).expect("serialises");
    let root = &tree[0];
    for key in ["run_id", "name", "principal", "sponsor", "state", "sessions", "children"] {
        assert!(keys(root).contains(&key), "{key} is missing");
    }
    assert_eq!(root["run_id"], "r");
    assert_eq!(root["state"], "active");
    assert_eq!(root["sessions"], 2);
    assert_eq!(root["children"][1]["run_id"], "c2");
}

#[test]
fn an_approval_has_the_keys_of_the_contract() {
    let at = datetime!(2026-01-01 12:00 UTC);
    let approval = ApprovalView {
        id: "a1".parse().expect("an id"),
        state: ApprovalState::Pending,
        run_id: None,
        session_id: "s1".parse().expect("an id"),
        target: "orders-db".parse().expect("a target"),
        statement: "alter table t add c int".to_owned(),
        requested_at: at,
        expires_at: at + time::Duration::minutes(15),
        run_path: None,
        principal: "ada".parse().expect("a name"),
        sponsor: "ada".parse().expect("a name"),
        decision: "d1".to_owned(),
        policy_version: corral_model::PolicyVersion(3),
        parameters: Vec::new(),
        verbs: vec!["alter_table".to_owned()],
        effects: corral_model::Effects::of(corral_model::Effect::Define),
        objects: Vec::new(),
        in_transaction: false,
        terms: Vec::new(),
        answers: Vec::new(),
        decided_at: None,
    };
    let value = serde_json::to_value(&approval).expect("serialises");
    for key in
        ["id", "state", "run_id", "session_id", "target", "statement", "requested_at", "expires_at"]
    {
        assert!(keys(&value).contains(&key), "{key} is missing");
    }
    assert_eq!(value["state"], "pending");
    assert_eq!(value["requested_at"], "2026-01-01T12:00:00Z");
    let back: ApprovalView = serde_json::from_value(value).expect("reads back");
    assert_eq!(back, approval);
}

#[test]
fn a_login_prints_its_token_and_its_end_and_debug_shows_no_token() {
    let login = LoginResponse {
        token: WireSecret::new("crl_x".to_owned()),
        expires_at: datetime!(2026-01-01 12:00 UTC),
    };
    let value = serde_json::to_value(&login).expect("serialises");
    assert_eq!(value, json!({"token": "crl_x", "expires_at": "2026-01-01T12:00:00Z"}));
    assert!(!format!("{login:?}").contains("crl_x"));
}

#[test]
fn a_started_run_prints_its_id_token_and_end() {
    let text = r#"{"run_id":"r1","token":"crl_x","expires_at":"2026-01-01T12:00:00Z","name":"n",
        "path":"n","principal":"p","sponsor":"s","targets":["orders-db"]}"#;
    let started: StartRunResponse = serde_json::from_str(text).expect("reads");
    assert_eq!(started.run_id.as_str(), "r1");
    assert!(!format!("{started:?}").contains("crl_x"));
}

#[test]
fn an_error_has_one_shape() {
    let error = ErrorBody { error: ApiError::new(ErrorCode::NotFound, "no run 'x'") };
    let value = serde_json::to_value(&error).expect("serialises");
    assert_eq!(value, json!({"error": {"code": "not_found", "message": "no run 'x'"}}));
}

#[test]
fn every_code_has_the_exit_code_of_the_contract() {
    let check = |code: ErrorCode, status: u16, exit: u8| {
        assert_eq!((code.http_status(), code.exit_code()), (status, exit), "{code:?}");
    };
    check(ErrorCode::Denied, 403, 3);
    check(ErrorCode::Unauthenticated, 401, 3);
    check(ErrorCode::NotFound, 404, 4);
    check(ErrorCode::Invalid, 422, 1);
    check(ErrorCode::Conflict, 409, 1);
    for code in ErrorCode::ALL {
        assert!(code.http_status() >= 400 && code.exit_code() > 0);
    }
}

#[test]
fn a_request_with_an_unknown_key_is_refused() {
    let request = serde_json::from_str::<StartRunRequest>(r#"{"name":"n","ttl":3}"#);
    assert!(request.expect_err("ttl is not a key").to_string().contains("ttl"));
    let request: StartRunRequest =
        serde_json::from_str(r#"{"name":"n","for":"ada","ttl_s":3}"#).expect("reads");
    assert_eq!(request.for_principal.expect("for is a key").as_str(), "ada");
}

#[test]
fn ready_json_reads_as_the_contract_writes_it() {
    let text = r#"{"version":"0.1.0","pid":4711,"api":"https://127.0.0.1:41000",
        "ca_file":"DIR/ca.pem","admin_token_file":"DIR/admin.token",
        "listeners":{"postgres":"127.0.0.1:41001","https":"127.0.0.1:41000"}}"#;
    let ready: ReadyFile = serde_json::from_str(text).expect("reads");
    assert_eq!(ready.pid, 4711);
    assert_eq!(ready.listeners.len(), 2);
}
