//! The fields of an object that decide what its containers may do on a node, as policies read
//! them. They are read from the whole object as the target would store it (its dry-run result),
//! not from what the client sent.

use std::collections::{BTreeMap, BTreeSet};

use corral_model::ObjectRole;
use corral_model::statement::{Attribute, ObjectRef};
use serde_json::Value;

use super::judge::ObjectFacts;
use super::verbs;

/// Capabilities that a container may add and still be no danger to its node, by the baseline of
/// the Pod Security Standards.
const HARMLESS_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// How objects of a resource make containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Template {
    /// Their pod's spec stands at this JSON pointer.
    At(&'static str),
    /// They are volumes of the node.
    Volume,
    /// They make none, as far as Kubernetes itself goes. What a controller of somebody else makes
    /// of an object is told by its group.
    Without,
}

fn template(group: &str, resource: &str) -> Template {
    match (group, resource) {
        ("", "pods") => Template::At("/spec"),
        ("", "podtemplates") => Template::At("/template/spec"),
        ("", "replicationcontrollers")
        | ("apps" | "extensions", "deployments" | "statefulsets" | "daemonsets" | "replicasets")
        | ("batch", "jobs") => Template::At("/spec/template/spec"),
        ("batch", "cronjobs") => Template::At("/spec/jobTemplate/spec/template/spec"),
        ("", "persistentvolumes") => Template::Volume,
        _ => Template::Without,
    }
}

/// Whether what an object of this resource amounts to stands in its fields.
#[must_use]
pub(crate) fn has_facts(group: &str, resource: &str) -> bool {
    group == "rbac.authorization.k8s.io" || template(group, resource) != Template::Without
}

/// What an object of this resource amounts to beyond being written. `namespace` is the
/// request's.
///
/// A pod that the baseline of the Pod Security Standards forbids reaches its node
/// ([`verbs::HOST_ACCESS`]); a Secret that its containers get is read ([`verbs::READ_SECRET`]).
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>
#[must_use]
pub(crate) fn facts(
    group: &str,
    resource: &str,
    namespace: Option<&str>,
    object: &Value,
) -> ObjectFacts {
    let mut found = Found::default();
    match template(group, resource) {
        Template::Without => {
            let mut facts = grants(group, resource, object);
            add_kind(object, &mut facts);
            return facts;
        }
        Template::Volume => found.node_volume(object.get("spec").unwrap_or(&Value::Null)),
        Template::At(pointer) => match object.pointer(pointer) {
            Some(spec @ Value::Object(_)) => found.pod(spec),
            // What should be there is not: the target may find it where nobody here looks.
            _ => return ObjectFacts { is_unknown: true, ..ObjectFacts::default() },
        },
    }
    let mut facts = found.facts(namespace);
    add_kind(object, &mut facts);
    facts
}

fn add_kind(object: &Value, facts: &mut ObjectFacts) {
    if let Some(kind) = object.get("kind").and_then(Value::as_str) {
        facts.attributes.insert("object_kind", Attribute::Text(kind.to_owned()));
    }
}

/// What roles and bindings give. Rights to escalate, bind and impersonate are all rights.
fn grants(group: &str, resource: &str, object: &Value) -> ObjectFacts {
    let mut facts = ObjectFacts::default();
    if group != "rbac.authorization.k8s.io" {
        return facts;
    }
    match resource {
        "roles" | "clusterroles" => {
            let verbs = items(object.get("rules")).flat_map(|rule| items(rule.get("verbs")));
            let granted: BTreeSet<&str> = verbs.filter_map(Value::as_str).collect();
            for (name, verb) in [
                ("escalate", verbs::ESCALATE),
                ("bind", verbs::BIND),
                ("impersonate", verbs::IMPERSONATE),
            ] {
                if granted.contains(name) || granted.contains("*") {
                    facts.verbs.push(verb);
                }
            }
            // An aggregated role has the rules of others, as they are at any time.
            facts.is_unknown = object.get("aggregationRule").is_some_and(|rule| !rule.is_null());
            let granted = granted.into_iter().map(str::to_owned).collect();
            facts.attributes.insert("granted_verbs", Attribute::Set(granted));
        }
        "rolebindings" | "clusterrolebindings" => {
            match object.pointer("/roleRef/name").and_then(Value::as_str) {
                Some(role) => {
                    facts.attributes.insert("granted_role", Attribute::Text(role.to_owned()));
                }
                None => facts.is_unknown = true,
            }
        }
        _ => {}
    }
    facts
}

#[derive(Default)]
struct Found {
    host_paths: BTreeSet<String>,
    host_namespaces: BTreeSet<String>,
    /// A container is privileged, or a process of the host.
    is_privileged: bool,
    /// Something else that the baseline forbids: ports of the node, no confinement.
    is_beyond_baseline: bool,
    capabilities: BTreeSet<String>,
    secrets: BTreeSet<String>,
    service_account: Option<String>,
    images: BTreeSet<String>,
}

impl Found {
    fn facts(self, namespace: Option<&str>) -> ObjectFacts {
        let reaches_host = self.is_privileged
            || self.is_beyond_baseline
            || !self.host_paths.is_empty()
            || !self.host_namespaces.is_empty()
            || self.capabilities.iter().any(|name| !HARMLESS_CAPABILITIES.contains(&name.as_str()));
        let mut facts = ObjectFacts::default();
        if reaches_host {
            facts.verbs.push(verbs::HOST_ACCESS);
        }
        if !self.secrets.is_empty() {
            facts.verbs.push(verbs::READ_SECRET);
        }
        facts.objects = self
            .secrets
            .iter()
            .map(|name| ObjectRef {
                schema: namespace.unwrap_or_default().to_owned(),
                name: format!("secrets/{name}"),
                kind: "object".to_owned(),
                role: ObjectRole::Reached,
            })
            .collect();
        let set = |values: BTreeSet<String>| Attribute::Set(values.into_iter().collect());
        facts.attributes = BTreeMap::from([
            ("images", set(self.images)),
            ("host_paths", set(self.host_paths)),
            ("host_namespaces", set(self.host_namespaces)),
            ("is_privileged", Attribute::Flag(self.is_privileged)),
            ("capabilities", set(self.capabilities)),
            ("secrets_mounted", set(self.secrets)),
        ]);
        if let Some(account) = self.service_account {
            facts.attributes.insert("service_account", Attribute::Text(account));
        }
        facts
    }

    fn pod(&mut self, spec: &Value) {
        for (key, name) in [("hostNetwork", "network"), ("hostPID", "pid"), ("hostIPC", "ipc")] {
            if is_on(spec.get(key)) {
                self.host_namespaces.insert(name.to_owned());
            }
        }
        self.is_beyond_baseline |= items(spec.pointer("/securityContext/sysctls")).any(|sysctl| {
            sysctl.get("name").and_then(Value::as_str).is_none_or(|name| !is_safe_sysctl(name))
        });
        // The old name stands beside the new one in stored objects; without either, the
        // namespace's default account.
        let account = ["serviceAccountName", "serviceAccount"]
            .iter()
            .find_map(|key| spec.get(*key).and_then(Value::as_str).filter(|name| !name.is_empty()));
        self.service_account = Some(account.unwrap_or("default").to_owned());
        self.security(spec.get("securityContext"));
        items(spec.get("volumes")).for_each(|volume| self.volume(volume));
        for key in ["containers", "initContainers", "ephemeralContainers"] {
            items(spec.get(key)).for_each(|container| self.container(container));
        }
    }

    fn container(&mut self, container: &Value) {
        if let Some(image) = container.get("image").and_then(Value::as_str) {
            self.images.insert(image.to_owned());
        }
        self.security(container.get("securityContext"));
        let host_port = |port: &Value| port.get("hostPort").and_then(Value::as_i64);
        self.is_beyond_baseline |=
            items(container.get("ports")).any(|port| host_port(port).is_some_and(|port| port != 0));
        for variable in items(container.get("env")) {
            self.secret(variable.pointer("/valueFrom/secretKeyRef/name"));
        }
        for source in items(container.get("envFrom")) {
            self.secret(source.pointer("/secretRef/name"));
        }
    }

    fn security(&mut self, context: Option<&Value>) {
        let Some(context) = context else { return };
        let at = |pointer: &str| context.pointer(pointer);
        self.is_privileged |= is_on(at("/privileged")) || is_on(at("/windowsOptions/hostProcess"));
        let says = |pointer: &str, word: &str| {
            at(pointer).and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case(word))
        };
        self.is_beyond_baseline |= says("/procMount", "Unmasked")
            || says("/seccompProfile/type", "Unconfined")
            || says("/appArmorProfile/type", "Unconfined")
            || is_on(at("/seLinuxOptions/user"))
            || is_on(at("/seLinuxOptions/role"))
            || at("/seLinuxOptions/type").and_then(Value::as_str).is_some_and(|name| {
                !["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"]
                    .contains(&name)
            });
        let added = items(at("/capabilities/add")).filter_map(Value::as_str);
        // `CAP_SYS_ADMIN` and `SYS_ADMIN` are one.
        self.capabilities.extend(added.map(|name| {
            let name = name.to_ascii_uppercase();
            name.strip_prefix("CAP_").unwrap_or(&name).to_owned()
        }));
    }

    fn volume(&mut self, volume: &Value) {
        self.host_path(volume.pointer("/hostPath/path"));
        self.secret(volume.pointer("/secret/secretName"));
        for source in items(volume.pointer("/projected/sources")) {
            self.secret(source.pointer("/secret/name"));
        }
        self.driver_secrets(volume);
    }

    /// A volume of the cluster: on a node, or by a driver that reads a Secret.
    fn node_volume(&mut self, spec: &Value) {
        self.host_path(spec.pointer("/hostPath/path"));
        self.host_path(spec.pointer("/local/path"));
        self.driver_secrets(spec);
    }

    /// Drivers name the Secrets that the node gives them in many ways that end alike:
    /// `secretRef`, `nodePublishSecretRef`, `secretName`.
    fn driver_secrets(&mut self, volume: &Value) {
        let Value::Object(sources) = volume else { return };
        for (key, value) in sources.values().filter_map(Value::as_object).flatten() {
            let key = key.to_ascii_lowercase();
            if key.ends_with("secretref") {
                self.secret(value.get("name"));
            } else if key == "secretname" {
                self.secret(Some(value));
            }
        }
    }

    fn host_path(&mut self, path: Option<&Value>) {
        if let Some(path) = path.and_then(Value::as_str) {
            self.host_paths.insert(path.to_owned());
        }
    }

    fn secret(&mut self, name: Option<&Value>) {
        if let Some(name) = name.and_then(Value::as_str) {
            self.secrets.insert(name.to_owned());
        }
    }
}

/// By the baseline of the Pod Security Standards.
fn is_safe_sysctl(name: &str) -> bool {
    let name = name.replace('/', ".");
    [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    ]
    .contains(&name.as_str())
}

/// A flag that is there and not false: what is no boolean counts as on.
fn is_on(value: Option<&Value>) -> bool {
    !matches!(value, None | Some(Value::Null | Value::Bool(false)))
}

fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use corral_model::Verb;
    use corral_model::statement::AttributeKind;
    use serde_json::json;

    /// The same pod in every kind that has one.
    fn everywhere(spec: &Value) -> Vec<ObjectFacts> {
        let template = json!({"spec": {"template": {"spec": spec}}});
        [
            ("", "pods", json!({ "spec": spec })),
            ("", "podtemplates", json!({"template": {"spec": spec}})),
            ("", "replicationcontrollers", template.clone()),
            ("apps", "deployments", template.clone()),
            ("apps", "statefulsets", template.clone()),
            ("apps", "daemonsets", template.clone()),
            ("apps", "replicasets", template.clone()),
            ("batch", "jobs", template.clone()),
            ("batch", "cronjobs", json!({"spec": {"jobTemplate": template}})),
        ]
        .into_iter()
        .map(|(group, resource, object)| facts(group, resource, Some("n"), &object))
        .collect()
    }

    fn check(spec: Value, name: &str, expect: Attribute) {
        for facts in everywhere(&spec) {
            assert_eq!(facts.attributes.get(name), Some(&expect), "{name}: {spec}");
        }
    }

    fn check_verbs(spec: Value, expect: &[Verb]) {
        for facts in everywhere(&spec) {
            assert_eq!(facts.verbs, expect, "{spec}");
        }
    }

    fn set(values: &[&str]) -> Attribute {
        Attribute::Set(values.iter().map(|value| (*value).to_owned()).collect())
    }

    #[test]
    fn what_reaches_the_node_is_found_in_every_kind_with_a_template() {
        check(
            json!({"volumes": [{"hostPath": {"path": "/"}}, {"emptyDir": {}}]}),
            "host_paths",
            set(&["/"]),
        );
        check(
            json!({"hostPID": true, "hostNetwork": true}),
            "host_namespaces",
            set(&["network", "pid"]),
        );
        check(json!({"hostPID": false}), "host_namespaces", set(&[]));
        check(json!({"hostIPC": "true"}), "host_namespaces", set(&["ipc"]));
        check(
            json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            "is_privileged",
            Attribute::Flag(true),
        );
        for kind in ["containers", "initContainers", "ephemeralContainers"] {
            let context =
                json!({"privileged": true, "capabilities": {"add": ["cap_sys_admin", "NET_RAW"]}});
            let on = json!({ kind: [{"image": "a"}, {"image": "b", "securityContext": context}] });
            check(on.clone(), "is_privileged", Attribute::Flag(true));
            check(on.clone(), "images", set(&["a", "b"]));
            check(on, "capabilities", set(&["NET_RAW", "SYS_ADMIN"]));
        }
    }

    #[test]
    fn what_the_baseline_forbids_reaches_the_host() {
        let container = |context: Value| json!({"containers": [{"securityContext": context}]});
        for spec in [
            json!({"hostNetwork": true}),
            json!({"volumes": [{"hostPath": {"path": "/var/log"}}]}),
            json!({"containers": [{"ports": [{"hostPort": 80}]}]}),
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}),
            container(json!({"privileged": true})),
            container(json!({"capabilities": {"add": ["SYS_PTRACE"]}})),
            container(json!({"capabilities": {"add": ["ALL"]}})),
            container(json!({"procMount": "Unmasked"})),
            container(json!({"seccompProfile": {"type": "Unconfined"}})),
            container(json!({"appArmorProfile": {"type": "Unconfined"}})),
            container(json!({"seLinuxOptions": {"type": "spc_t"}})),
        ] {
            check_verbs(spec, &[verbs::HOST_ACCESS]);
        }
        for spec in [
            json!({}),
            json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies"}]}}),
            json!({"containers": [{"ports": [{"containerPort": 80, "hostPort": 0}]}]}),
            container(
                json!({"capabilities": {"add": ["CHOWN"], "drop": ["ALL"]}, "privileged": false}),
            ),
            container(json!({"seLinuxOptions": {"type": "container_t"}})),
        ] {
            check_verbs(spec, &[]);
        }
    }

    #[test]
    fn every_way_to_read_a_secret_is_found() {
        let spec = json!({
            "volumes": [
                {"secret": {"secretName": "a"}},
                {"projected": {"sources": [{"secret": {"name": "b"}}, {"configMap": {"name": "x"}}]}},
                {"csi": {"nodePublishSecretRef": {"name": "c"}}},
                {"azureFile": {"secretName": "d"}},
                {"flexVolume": {"secretRef": {"name": "e"}}},
            ],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "f", "key": "k"}}}], "envFrom": [{"secretRef": {"name": "g"}}]}],
        });
        check(spec.clone(), "secrets_mounted", set(&["a", "b", "c", "d", "e", "f", "g"]));
        check_verbs(spec.clone(), &[verbs::READ_SECRET]);
        let objects = facts("", "pods", Some("n"), &json!({ "spec": spec })).objects;
        assert_eq!(objects.len(), 7);
        assert_eq!((objects[0].schema.as_str(), objects[0].name.as_str()), ("n", "secrets/a"));
    }

    #[test]
    fn the_service_account_is_never_left_open() {
        let text = |text: &str| Attribute::Text(text.to_owned());
        check(json!({}), "service_account", text("default"));
        check(json!({"serviceAccount": "old"}), "service_account", text("old"));
        check(
            json!({"serviceAccountName": "new", "serviceAccount": "old"}),
            "service_account",
            text("new"),
        );
    }

    #[test]
    fn an_object_without_the_fields_of_its_kind_is_unknown() {
        let is_unknown = |group: &str, resource: &str, object: Value| {
            facts(group, resource, None, &object).is_unknown
        };
        assert!(is_unknown("", "pods", json!({"Spec": {}})));
        assert!(is_unknown("apps", "deployments", json!({"spec": {"template": {"spec": []}}})));
        assert!(!is_unknown("", "configmaps", json!({"data": {}})));
        let volume =
            facts("", "persistentvolumes", None, &json!({"spec": {"local": {"path": "/mnt"}}}));
        assert_eq!(volume.verbs, [verbs::HOST_ACCESS]);
        assert!(
            has_facts("", "pods") && !has_facts("", "secrets") && !has_facts("example.com", "pods")
        );
    }

    #[test]
    fn rights_that_are_all_rights_are_found_in_roles() {
        let role = |verbs: Value| {
            let object = json!({"kind": "Role", "rules": [{"verbs": ["get"]}, {"verbs": verbs}]});
            facts("rbac.authorization.k8s.io", "roles", None, &object)
        };
        assert_eq!(role(json!(["list"])).verbs, []);
        assert_eq!(role(json!(["bind"])).verbs, [verbs::BIND]);
        assert_eq!(role(json!(["*"])).verbs.len(), 3);
        assert_eq!(
            role(json!(["list"])).attributes.get("granted_verbs"),
            Some(&set(&["get", "list"]))
        );
        let binding = facts(
            "rbac.authorization.k8s.io",
            "rolebindings",
            None,
            &json!({"roleRef": {"name": "edit"}}),
        );
        assert_eq!(
            binding.attributes.get("granted_role"),
            Some(&Attribute::Text("edit".to_owned()))
        );
        let open = json!({"rules": [], "aggregationRule": {}});
        assert!(facts("rbac.authorization.k8s.io", "clusterroles", None, &open).is_unknown);
    }

    #[test]
    fn every_fact_is_declared_with_its_type() {
        let pod = facts("", "pods", None, &json!({"kind": "Pod", "spec": {}})).attributes;
        let role = facts("rbac.authorization.k8s.io", "roles", None, &json!({})).attributes;
        for (name, value) in pod.iter().chain(&role) {
            let declared = verbs::ATTRIBUTES.iter().find(|spec| spec.name == *name);
            let kind = match value {
                Attribute::Flag(_) => AttributeKind::Flag,
                Attribute::Number(_) => AttributeKind::Number,
                Attribute::Text(_) => AttributeKind::Text,
                Attribute::Set(_) => AttributeKind::Set,
            };
            assert_eq!(declared.map(|spec| spec.kind), Some(kind), "{name}");
        }
    }
}
