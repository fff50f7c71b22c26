//! What the target is shown in the headers of a request: the gateway's own credential and names,
//! never the client's.

use corral_gate::blank::Secrets;
use corral_gate::{Actor, Admission, Denial, DenialKind};
use corral_model::PrincipalKind;
use corral_model::resource::CredentialKind;
use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderName};
use http::{HeaderMap, HeaderValue};

use super::options::Impersonate;
use super::parked::APPROVAL;
use super::shown::Shown;
use crate::http_parts::headers::strip_hop_by_hop;
use crate::http_parts::target::Identity;

/// A proof that is meant for the gateway (RFC 9449 section 4.1).
const DPOP: HeaderName = HeaderName::from_static("dpop");
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const IMPERSONATE: &str = "impersonate-";
const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");
/// Names by which front proxies tell an API server who somebody is
/// (`--requestheader-username-headers` and its kin), and by which requests are said to come from
/// elsewhere.
const CLAIMED: [&str; 3] = ["x-remote-", "x-forwarded-", "forwarded"];

/// What every request of one session carries.
pub(crate) struct Outgoing {
    shown: Shown,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Outgoing {
    /// # Errors
    /// A [`Denial`] when a name cannot stand in a header.
    pub(crate) fn new(
        shown: Shown,
        admission: &Admission,
        impersonate: &Impersonate,
    ) -> Result<Self, Denial> {
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
        match impersonate {
            Impersonate::Nobody => return Ok(Self { shown, headers }),
            Impersonate::Principal => {
                let actor = &admission.actor;
                let user = cluster_name(actor.principal.name.as_str())?;
                headers.push((IMPERSONATE_USER, user));
                for group in &actor.groups {
                    headers.push((IMPERSONATE_GROUP, cluster_name(group.as_str())?));
                }
            }
            Impersonate::User(user) => headers.push((IMPERSONATE_USER, value(user)?)),
        }
        for (name, text) in extras(admission) {
            headers.push((HeaderName::from_static(name), value(&text)?));
        }
        Ok(Self { shown, headers })
    }

    /// What the gateway shows the target: it stays out of recordings.
    pub(crate) fn secrets(&self) -> Secrets {
        self.shown.secrets()
    }

    /// Makes a client's headers those of the gateway's request. `decision` becomes the id under
    /// which the cluster's own audit knows the request.
    pub(crate) fn apply(&self, headers: &mut HeaderMap, decision: &str) {
        strip_hop_by_hop(headers);
        strip_claims(headers);
        if let Some(authorization) = self.shown.authorization() {
            headers.insert(AUTHORIZATION, authorization);
        }
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
        }
        if let Ok(id) = HeaderValue::from_str(decision) {
            headers.insert(AUDIT_ID, id);
        }
    }
}

/// Whether a client asks to act as somebody else.
pub(crate) fn asks_impersonation(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(IMPERSONATE))
}

/// Takes out everything that says who the client is.
fn strip_claims(headers: &mut HeaderMap) {
    let claimed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name.starts_with(IMPERSONATE) || CLAIMED.iter().any(|start| name.starts_with(start))
        })
        .cloned()
        .collect();
    for name in claimed {
        headers.remove(name);
    }
    for name in [AUTHORIZATION, DPOP, COOKIE, HOST, AUDIT_ID, APPROVAL] {
        headers.remove(name);
    }
}

/// Extra fields of the impersonated user; RBAC needs `userextras/NAME` for each.
fn extras(admission: &Admission) -> Vec<(&'static str, String)> {
    let Actor { principal, sponsor, run, .. } = &admission.actor;
    let kind = match principal.kind {
        PrincipalKind::User => "user",
        PrincipalKind::Workload => "workload",
    };
    let mut extras = vec![
        ("impersonate-extra-corral-principal", format!("{kind}:{}", principal.name)),
        ("impersonate-extra-corral-sponsor", sponsor.to_string()),
        ("impersonate-extra-corral-session", admission.session.to_string()),
    ];
    if let Some((id, path)) = run {
        extras.push(("impersonate-extra-corral-run", id.to_string()));
        extras.push(("impersonate-extra-corral-run-path", path.clone()));
    }
    extras
}

/// The name of a principal or group as the cluster is told it. Names that clusters give rights
/// by themselves are refused.
fn cluster_name(name: &str) -> Result<HeaderValue, Denial> {
    if name.starts_with("system:") {
        let text = "a name that begins with 'system:' is not told to a cluster";
        return Err(Denial::new(DenialKind::Forbidden, text));
    }
    value(name)
}

fn value(text: &str) -> Result<HeaderValue, Denial> {
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| {
        Denial::new(DenialKind::Forbidden, "a name of this run cannot be told to a cluster")
    })
}

/// The certificate that the gateway shows, when the target is reached by one.
pub(crate) fn identity(admission: &Admission) -> Option<Identity> {
    let credential = &admission.credential;
    match (credential.kind, &credential.secret, &credential.client_certificate) {
        (CredentialKind::ClientKey, Some(key), Some(chain)) => {
            Some(Identity { chain_pem: chain.clone(), key: key.clone() })
        }
        _ => None,
    }
}
