//! A store of its own for each test.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::path::PathBuf;

use corral_model::resource::Resource;
use corral_model::resource::manifest;
use corral_store::{Apply, Change, Put, SealSource, Store};
use tempfile::TempDir;
use time::OffsetDateTime;

pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: TempDir::new().expect("a directory") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn seal(&self) -> SealSource {
        SealSource::File(self.path("seal.key"))
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.path("corral.db"), &self.seal()).await.expect("opens")
    }
}

/// Seconds after a fixed moment.
pub(crate) fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).expect("a time")
}

pub(crate) fn resource(yaml: &str) -> Resource {
    let mut resources = manifest::parse(yaml, "test.yaml").expect("a manifest");
    assert_eq!(resources.len(), 1);
    resources.remove(0)
}

pub(crate) fn target(name: &str) -> Resource {
    resource(&format!(
        "kind: Target\nname: {name}\nprotocol: postgres\naddress: db:5432\n\
         credential: {{username: agents}}\nmasked_credential: {{username: floor}}\n"
    ))
}

pub(crate) fn user(name: &str) -> Resource {
    resource(&format!("kind: User\nname: {name}\n"))
}

pub(crate) fn put(resource: Resource) -> Change {
    Change::Put(Box::new(Put::new(resource)))
}

pub(crate) fn apply(changes: Vec<Change>) -> Apply {
    Apply {
        changes,
        expected: None,
        by: "admin".into(),
        at: at(0),
        offboardings: Vec::new(),
        documents: Vec::new(),
    }
}
