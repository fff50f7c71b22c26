//! The one list of protocols. Nothing outside a protocol's folder names it but this file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use corral_gate::Protocol;
use corral_gate::policy::ProtocolVerbs;

static ALL: LazyLock<Vec<Arc<dyn Protocol>>> =
    LazyLock::new(|| vec![Arc::new(corral_protocol_postgres::Postgres::new())]);

/// Every protocol that this gateway serves.
pub(crate) fn all() -> &'static [Arc<dyn Protocol>] {
    &ALL
}

/// The protocol with this id.
pub(crate) fn find(id: &str) -> Option<&'static Arc<dyn Protocol>> {
    all().iter().find(|protocol| protocol.spec().id == id)
}

pub(crate) fn ids() -> impl Iterator<Item = &'static str> {
    all().iter().map(|protocol| protocol.spec().id)
}

/// Every protocol's part of the policy schema.
#[must_use]
pub fn verbs() -> Vec<ProtocolVerbs> {
    let verbs = |protocol: &Arc<dyn Protocol>| {
        let spec = protocol.spec();
        ProtocolVerbs { protocol: spec.id, verbs: spec.verbs }
    };
    all().iter().map(verbs).collect()
}

/// The socket of a target that is reached through a directory: each protocol has its own name
/// for it. A path that already ends in such a name (another port than the usual) stays as it is.
pub(crate) fn socket_path(protocol: &str, directory: &Path) -> PathBuf {
    let name = directory.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    match protocol {
        "postgres" if !name.starts_with(".s.PGSQL.") => directory.join(".s.PGSQL.5432"),
        _ => directory.to_path_buf(),
    }
}
