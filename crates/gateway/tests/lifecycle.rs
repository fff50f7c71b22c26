//! Starting, stopping and starting again.

use std::path::Path;

use corral_gateway::app::Caller;
use corral_gateway::app::audit::EventFilter;
use corral_gateway::{Gateway, UpOptions};

fn options(directory: &Path) -> UpOptions {
    let config = directory.join("corral.yaml");
    UpOptions { config: config.exists().then_some(config), data_dir: Some(directory.join("data")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_json_is_there_exactly_while_connections_are_accepted() {
    let directory = tempfile::tempdir().expect("directory");
    let ready = directory.path().join("data/ready.json");
    let gateway = Gateway::start(options(directory.path())).await.expect("starts");
    let text = std::fs::read_to_string(&ready).expect("there");
    let ready_file: corral_api::ReadyFile = serde_json::from_str(&text).expect("as agreed");
    for name in ["postgres", "https"] {
        let address = ready_file.listeners.get(name).expect("listed");
        tokio::net::TcpStream::connect(address).await.expect("accepts");
    }
    assert!(Path::new(&ready_file.admin_token_file).exists());
    gateway.stop().await.expect("stops");
    assert!(!ready.exists());
    for address in ready_file.listeners.values() {
        tokio::net::TcpStream::connect(address).await.expect_err("closed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_in_the_same_directory_does_not_start() {
    let directory = tempfile::tempdir().expect("directory");
    let gateway = Gateway::start(options(directory.path())).await.expect("starts");
    let second = Gateway::start(options(directory.path())).await.map(drop);
    assert!(second.expect_err("taken").to_string().contains("another gateway"));
    assert!(directory.path().join("data/ready.json").exists(), "the first one's file stays");
    gateway.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_changes_nothing_at_reload() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("corral.yaml");
    std::fs::write(&file, "name: one\n").expect("written");
    let mut gateway = Gateway::start(options(directory.path())).await.expect("starts");
    for text in [
        "name: [",
        "nonsense: 1\n",
        "name: two\n",
        "tls: {certificate_file: a, key_file: b, ca_file: c}\n",
    ] {
        std::fs::write(&file, text).expect("written");
        let before = gateway.app().about();
        gateway.reload().await;
        assert_eq!(gateway.app().about(), before, "{text}");
    }
    gateway.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_written_to_a_file_as_lines() {
    let directory = tempfile::tempdir().expect("directory");
    let text = "name: one\nevents: {file: events.jsonl}\n";
    std::fs::write(directory.path().join("corral.yaml"), text).expect("written");
    let gateway = Gateway::start(options(directory.path())).await.expect("starts");
    gateway.stop().await.expect("stops");
    let gateway = Gateway::start(options(directory.path())).await.expect("starts again");
    let everything = EventFilter::default();
    let recorded = gateway.app().search_events(&Caller::Admin, everything).await.expect("found");
    gateway.stop().await.expect("stops");
    let lines = std::fs::read_to_string(directory.path().join("events.jsonl")).expect("there");
    let names: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON"))
        .map(|event| event["event"].as_str().expect("a name").to_owned())
        .filter(|name| name.starts_with("gateway."))
        .collect();
    let expected = ["gateway.started", "gateway.stopped", "gateway.started", "gateway.stopped"];
    assert_eq!(names, expected);
    assert!(recorded.iter().any(|event| event.body.name() == "gateway.stopped"));
}
