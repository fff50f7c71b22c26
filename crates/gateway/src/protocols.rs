//! The one list of protocols. Nothing outside a protocol's folder names it but this file.

use std::sync::{Arc, LazyLock};

use corral_gate::Protocol;
use corral_gate::policy::ProtocolVerbs;
use corral_session::Service;

static ALL: LazyLock<Vec<Service>> = LazyLock::new(|| {
    vec![
        Service::Framed(Arc::new(corral_protocol_postgres::Postgres::new())),
        Service::Http(Arc::new(corral_protocol_http::Kubernetes::new())),
        Service::Stream(Arc::new(corral_protocol_ssh::Ssh::new())),
    ]
});

/// Every protocol that this gateway serves.
pub(crate) fn all() -> &'static [Service] {
    &ALL
}

/// The protocol with this id.
pub(crate) fn find(id: &str) -> Option<&'static dyn Protocol> {
    service(id).map(Service::protocol)
}

/// The protocol with this id, and how it is served.
pub(crate) fn service(id: &str) -> Option<&'static Service> {
    all().iter().find(|service| service.protocol().spec().id == id)
}

pub(crate) fn ids() -> impl Iterator<Item = &'static str> {
    all().iter().map(|service| service.protocol().spec().id)
}

/// Those that have a listener of their own.
pub(crate) fn listening_ids() -> impl Iterator<Item = &'static str> {
    let specs = all().iter().map(|service| service.protocol().spec());
    specs.filter(|spec| spec.mount.is_none()).map(|spec| spec.id)
}

/// Every protocol's part of the policy schema.
#[must_use]
pub fn verbs() -> Vec<ProtocolVerbs> {
    let verbs = |service: &Service| {
        let spec = service.protocol().spec();
        ProtocolVerbs { protocol: spec.id, verbs: spec.verbs, attributes: spec.attributes }
    };
    all().iter().map(verbs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_means_the_same_in_every_protocol() {
        assert!(!corral_gate::policy::schema_text(&verbs()).is_empty());
    }
}
