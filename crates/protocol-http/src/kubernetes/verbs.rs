//! The closed table of this protocol's verbs, with their effects, and of the fields that
//! policies read.

use corral_model::statement::{AttributeKind, AttributeSpec};
use corral_model::{Effect, Verb};

const fn verb(name: &'static str, effect: Effect) -> Verb {
    Verb { name, effect: Some(effect) }
}

/// What tells what the API has, but nothing of what is in it.
pub(crate) const DISCOVER: Verb = Verb { name: "kube_discover", effect: None };
/// The gateway's own dry run of a write, before it is decided.
pub(crate) const PREVIEW: Verb = Verb { name: "kube_preview", effect: None };

pub(crate) const GET: Verb = verb("kube_get", Effect::Read);
pub(crate) const LIST: Verb = verb("kube_list", Effect::Read);
pub(crate) const WATCH: Verb = verb("kube_watch", Effect::Read);
pub(crate) const LOGS: Verb = verb("kube_logs", Effect::Read);
/// `SubjectAccessReview`, `TokenReview`: asks about the rights of others.
pub(crate) const REVIEW: Verb = verb("kube_review", Effect::Read);
/// Reads a Secret, or makes something that does.
pub(crate) const READ_SECRET: Verb = verb("read_secret", Effect::Read);

pub(crate) const CREATE: Verb = verb("kube_create", Effect::Write);
pub(crate) const UPDATE: Verb = verb("kube_update", Effect::Write);
pub(crate) const PATCH: Verb = verb("kube_patch", Effect::Write);
pub(crate) const DELETE: Verb = verb("kube_delete", Effect::Write);
/// `deletecollection`: how much it deletes is known afterwards only.
pub(crate) const DELETE_ALL: Verb = verb("kube_delete_all", Effect::Write);

/// Writes an object that others depend on: a namespace, a custom resource definition, a quota.
pub(crate) const DEFINE: Verb = verb("kube_define", Effect::Define);

/// Writes roles and bindings.
pub(crate) const GRANT: Verb = verb("kube_grant", Effect::Administer);
/// Writes what steers the cluster: nodes, volumes, webhooks, API services, admission policies.
pub(crate) const ADMINISTER: Verb = verb("kube_administer", Effect::Administer);
/// `serviceaccounts/token`.
pub(crate) const ISSUE_TOKEN: Verb = verb("kube_issue_token", Effect::Administer);
/// `certificatesigningrequests/approval`, and signing.
pub(crate) const APPROVE_CERTIFICATE: Verb = verb("kube_approve_certificate", Effect::Administer);
/// Gives a role's verb `escalate`, which is every right there is.
pub(crate) const ESCALATE: Verb = verb("kube_escalate", Effect::Administer);
/// Gives a role's verb `bind`.
pub(crate) const BIND: Verb = verb("kube_bind", Effect::Administer);
/// Gives a role's verb `impersonate`.
pub(crate) const IMPERSONATE: Verb = verb("kube_impersonate", Effect::Administer);

pub(crate) const EXEC: Verb = verb("exec", Effect::Shell);
pub(crate) const ATTACH: Verb = verb("kube_attach", Effect::Shell);
/// `pods/ephemeralcontainers`: a container of one's own in somebody's pod.
pub(crate) const DEBUG: Verb = verb("kube_debug", Effect::Shell);
/// `nodes/proxy`: runs commands in every container of the node.
pub(crate) const NODE_PROXY: Verb = verb("kube_node_proxy", Effect::Shell);
/// A pod that reaches the host: privileged, host paths, host namespaces.
pub(crate) const HOST_ACCESS: Verb = verb("kube_host_access", Effect::Shell);
/// A tunnel to a pod's port.
pub(crate) const FORWARD: Verb = verb("forward", Effect::Unknown);
/// `pods/proxy` and `services/proxy`: requests to whatever answers there.
pub(crate) const PROXY: Verb = verb("kube_proxy", Effect::Unknown);

/// Every verb: the protocol's part of the policy schema.
pub(crate) const VERBS: [Verb; 28] = [
    DISCOVER,
    PREVIEW,
    GET,
    LIST,
    WATCH,
    LOGS,
    REVIEW,
    READ_SECRET,
    CREATE,
    UPDATE,
    PATCH,
    DELETE,
    DELETE_ALL,
    DEFINE,
    GRANT,
    ADMINISTER,
    ISSUE_TOKEN,
    APPROVE_CERTIFICATE,
    ESCALATE,
    BIND,
    IMPERSONATE,
    EXEC,
    ATTACH,
    DEBUG,
    NODE_PROXY,
    HOST_ACCESS,
    FORWARD,
    PROXY,
];

const fn field(name: &'static str, kind: AttributeKind, meaning: &'static str) -> AttributeSpec {
    AttributeSpec { name, kind, meaning }
}

/// Fields of a request, and of the object that it writes.
pub(crate) const ATTRIBUTES: [AttributeSpec; 28] = [
    field("api_verb", AttributeKind::Text, "Kubernetes: the API's own verb, as in RBAC."),
    field("api_group", AttributeKind::Text, "Kubernetes: empty for the core group."),
    field("api_version", AttributeKind::Text, "Kubernetes: the version in the path."),
    field("api_resource", AttributeKind::Text, "Kubernetes: the plural name in the path."),
    field("subresource", AttributeKind::Text, "Kubernetes: absent when there is none."),
    field("namespace", AttributeKind::Text, "Kubernetes: absent for the whole cluster."),
    field("name", AttributeKind::Text, "Kubernetes: the object's name, where one is asked for."),
    field("label_selector", AttributeKind::Text, "Kubernetes: as the client wrote it."),
    field("field_selector", AttributeKind::Text, "Kubernetes: as the client wrote it."),
    field("is_dry_run", AttributeKind::Flag, "Kubernetes: the client asked to persist nothing."),
    field(
        "asks_impersonation",
        AttributeKind::Flag,
        "Kubernetes: the client sent impersonation headers, which are not forwarded.",
    ),
    field("proxied_path", AttributeKind::Text, "Kubernetes: the path asked of what is proxied."),
    field("container", AttributeKind::Text, "Kubernetes: the container of exec, attach and logs."),
    field("exec_command", AttributeKind::Text, "Kubernetes: the arguments, as JSON."),
    field("program", AttributeKind::Text, "Kubernetes: the program of exec, without its folder."),
    field("is_interactive", AttributeKind::Flag, "Kubernetes: a shell or terminal takes input."),
    field("patch_type", AttributeKind::Text, "Kubernetes: json, merge, strategic or apply."),
    field("is_decided_on_result", AttributeKind::Flag, "Kubernetes: fields are of a dry run."),
    field("images", AttributeKind::Set, "Kubernetes: images of the object's containers."),
    field("service_account", AttributeKind::Text, "Kubernetes: whom the object's pods act as."),
    field("host_paths", AttributeKind::Set, "Kubernetes: paths of nodes that are mounted."),
    field("is_privileged", AttributeKind::Flag, "Kubernetes: a container can do all root can."),
    field("capabilities", AttributeKind::Set, "Kubernetes: those that containers add."),
    field("host_namespaces", AttributeKind::Set, "Kubernetes: of network, pid, ipc, users."),
    field("secrets_mounted", AttributeKind::Set, "Kubernetes: names of Secrets that pods read."),
    field("granted_verbs", AttributeKind::Set, "Kubernetes: verbs that a role's rules give."),
    field("granted_role", AttributeKind::Text, "Kubernetes: the role that a binding gives."),
    field("object_kind", AttributeKind::Text, "Kubernetes: the kind that the body names."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_once() {
        for (index, verb) in VERBS.iter().enumerate() {
            assert!(VERBS.iter().skip(index + 1).all(|other| other.name != verb.name));
        }
        for (index, field) in ATTRIBUTES.iter().enumerate() {
            assert!(ATTRIBUTES.iter().skip(index + 1).all(|other| other.name != field.name));
        }
    }
}
