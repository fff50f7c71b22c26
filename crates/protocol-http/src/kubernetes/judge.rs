//! What a request amounts to: the verbs, effects, objects and fields that policies see. Pure.

use std::collections::BTreeMap;

use corral_model::statement::{Attribute, Facts, ObjectRef, Obstacle};
use corral_model::{Effect, ObjectRole, Verb};

use super::call::{ApiVerb, Call};
use super::path::{Place, Prefix, ResourcePath};
use super::resources::{self, Class};
use super::{verbs, versions};

/// What is said to whoever asks for what the gateway does not know.
const OBSTACLE_RULE: &str = "request";

/// What the object of a request adds to what its line says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ObjectFacts {
    /// Fields of the object, by names of [`verbs::ATTRIBUTES`].
    pub(crate) attributes: BTreeMap<&'static str, Attribute>,
    /// What it does beyond being written: reads a Secret, reaches the host, gives rights.
    pub(crate) verbs: Vec<Verb>,
    /// What those verbs are about.
    pub(crate) objects: Vec<ObjectRef>,
    /// It could not be read, or has a kind whose fields nobody here knows.
    pub(crate) is_unknown: bool,
}

/// What one request amounts to.
pub(crate) struct Judged {
    /// None: it cannot be told.
    verb: Option<Verb>,
    role: ObjectRole,
}

impl Judged {
    fn new(verb: Verb) -> Self {
        let role = match verb.effect {
            Some(Effect::Write) => ObjectRole::Write,
            Some(Effect::Define | Effect::Administer) => ObjectRole::Define,
            None | Some(Effect::Read | Effect::Shell | Effect::Unknown) => ObjectRole::Read,
        };
        Self { verb: Some(verb), role }
    }

    const UNKNOWN: Self = Self { verb: None, role: ObjectRole::Write };

    /// Whether writes of such an object heed `dryRun`. Subresources, reviews and servers of other
    /// groups do as they like with it.
    pub(crate) fn heeds_dry_run(path: &ResourcePath) -> bool {
        let class = resources::class_of(&path.group, &path.resource);
        path.subresource.is_none()
            && path.prefix.is_none()
            && class.is_some_and(|class| match class {
                Class::Ordinary
                | Class::Secret
                | Class::Definition
                | Class::Grant
                | Class::Steering
                | Class::Certificate => path.group != "metrics.k8s.io",
                Class::SelfReview | Class::Review | Class::Binding => false,
            })
    }
}

/// The facts of a request, with those of the object that it writes. `known_groups` are groups of
/// custom resources that the target's owner knows to be plain objects.
pub(crate) fn facts(call: &Call, known_groups: &[String], object: &ObjectFacts) -> Facts {
    let judged = judge(call, known_groups);
    let mut facts = Facts { statement_count: 1, ..Facts::default() };
    facts.verbs.extend(judged.verb);
    facts.verbs.extend(object.verbs.iter().copied());
    facts.verbs.sort_unstable();
    facts.verbs.dedup();
    facts.effects = facts.verbs.iter().filter_map(|verb| verb.effect).collect();
    if judged.verb.is_none() || object.is_unknown {
        facts.effects.insert(Effect::Unknown);
    }
    if let Some(path) = call.resource() {
        facts.objects.push(object_of(path, call.name(), judged.role));
    }
    facts.objects.extend(object.objects.iter().cloned());
    facts.objects.sort();
    facts.objects.dedup();
    facts.attributes = object.attributes.clone();
    add_fields(call, &mut facts);
    facts
}

/// The facts of what can never be permitted: the client is told what is wrong.
pub(crate) fn obstructed(text: String, is_size: bool) -> Facts {
    let obstacle = Obstacle { rule: OBSTACLE_RULE, text, position: None, is_size };
    let mut facts = Facts { statement_count: 1, obstacle: Some(obstacle), ..Facts::default() };
    facts.effects.insert(Effect::Unknown);
    facts
}

/// An object as policies and the record name it: `deployments.apps/web` in its namespace.
pub(crate) fn object_of(path: &ResourcePath, name: Option<&str>, role: ObjectRole) -> ObjectRef {
    let qualified = path.qualified();
    ObjectRef {
        schema: path.namespace.clone().unwrap_or_default(),
        name: match name {
            Some(name) => format!("{qualified}/{name}"),
            None => qualified,
        },
        kind: "object".to_owned(),
        role,
    }
}

fn judge(call: &Call, known_groups: &[String]) -> Judged {
    match &call.place {
        Place::NonResource(path) => judge_path(call.verb, path),
        Place::Resource(path) => judge_resource(call, path, known_groups),
    }
}

/// Paths that tell what there is, and how it is.
fn judge_path(verb: ApiVerb, path: &str) -> Judged {
    let below =
        |root: &str| path.strip_prefix(root).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    let discovers = [
        "/api",
        "/apis",
        "/version",
        "/healthz",
        "/livez",
        "/readyz",
        "/openapi",
        "/.well-known/openid-configuration",
        "/openid/v1/jwks",
    ];
    match verb {
        ApiVerb::Get if path == "/" || discovers.into_iter().any(below) => {
            Judged::new(verbs::DISCOVER)
        }
        ApiVerb::Get if path == "/metrics" => Judged::new(verbs::GET),
        // Profiles, log files of the node, whatever else a server has.
        ApiVerb::Get
        | ApiVerb::List
        | ApiVerb::Watch
        | ApiVerb::Create
        | ApiVerb::Update
        | ApiVerb::Patch
        | ApiVerb::Delete
        | ApiVerb::DeleteCollection
        | ApiVerb::Proxy => Judged::UNKNOWN,
    }
}

fn judge_resource(call: &Call, path: &ResourcePath, known_groups: &[String]) -> Judged {
    if !versions::is_judged(&path.group, &path.version) {
        return Judged::UNKNOWN;
    }
    if path.is_proxied() {
        return judge_proxied(path);
    }
    // The API server knows no path that goes on behind a subresource, nor a watch of one.
    if !path.rest.is_empty() || (path.prefix.is_some() && path.subresource.is_some()) {
        return Judged::UNKNOWN;
    }
    let class = resources::class_of(&path.group, &path.resource);
    let class = class.or_else(|| {
        let is_known = known_groups.contains(&path.group);
        is_known.then_some(Class::Ordinary)
    });
    let Some(class) = class else { return Judged::UNKNOWN };
    match path.subresource.as_deref() {
        None => judge_object(call.verb, class),
        Some(subresource) => judge_subresource(call.verb, class, path, subresource),
    }
}

fn judge_proxied(path: &ResourcePath) -> Judged {
    match (path.group.as_str(), path.resource.as_str()) {
        ("", "nodes") => Judged::new(verbs::NODE_PROXY),
        ("", "pods" | "services") => Judged::new(verbs::PROXY),
        _ => Judged::UNKNOWN,
    }
}

fn judge_object(verb: ApiVerb, class: Class) -> Judged {
    let read = |verb: Verb| match class {
        Class::Secret => Judged::new(verbs::READ_SECRET),
        Class::Ordinary
        | Class::Definition
        | Class::Grant
        | Class::Steering
        | Class::Certificate
        | Class::SelfReview
        | Class::Review
        | Class::Binding => Judged::new(verb),
    };
    let write = |verb: Verb| match class {
        Class::Ordinary | Class::Secret => Judged::new(verb),
        Class::Definition => Judged::new(verbs::DEFINE),
        Class::Grant => Judged::new(verbs::GRANT),
        Class::Steering | Class::Binding => Judged::new(verbs::ADMINISTER),
        Class::Certificate => Judged::new(verbs::APPROVE_CERTIFICATE),
        Class::SelfReview => Judged::new(verbs::DISCOVER),
        Class::Review => Judged::new(verbs::REVIEW),
    };
    match verb {
        ApiVerb::Get => read(verbs::GET),
        ApiVerb::List => read(verbs::LIST),
        ApiVerb::Watch => read(verbs::WATCH),
        // To ask for a certificate is not to approve it.
        ApiVerb::Create if class == Class::Certificate => Judged::new(verbs::CREATE),
        ApiVerb::Create => write(verbs::CREATE),
        ApiVerb::Update => write(verbs::UPDATE),
        ApiVerb::Patch => write(verbs::PATCH),
        ApiVerb::Delete => write(verbs::DELETE),
        ApiVerb::DeleteCollection => write(verbs::DELETE_ALL),
        ApiVerb::Proxy => Judged::UNKNOWN,
    }
}

fn judge_subresource(
    verb: ApiVerb,
    class: Class,
    path: &ResourcePath,
    subresource: &str,
) -> Judged {
    let is_asked = matches!(verb, ApiVerb::Get | ApiVerb::Create);
    let is_changed = matches!(verb, ApiVerb::Update | ApiVerb::Patch);
    match (path.group.as_str(), path.resource.as_str(), subresource) {
        ("", "pods", "exec") if is_asked => Judged::new(verbs::EXEC),
        ("", "pods", "attach") if is_asked => Judged::new(verbs::ATTACH),
        ("", "pods", "portforward") if is_asked => Judged::new(verbs::FORWARD),
        ("", "pods", "log") if verb == ApiVerb::Get => Judged::new(verbs::LOGS),
        ("", "pods", "ephemeralcontainers") if is_changed => Judged::new(verbs::DEBUG),
        ("", "pods", "ephemeralcontainers") if verb == ApiVerb::Get => Judged::new(verbs::GET),
        ("", "pods", "eviction") if verb == ApiVerb::Create => Judged::new(verbs::DELETE),
        ("", "pods", "binding") if verb == ApiVerb::Create => Judged::new(verbs::ADMINISTER),
        ("", "pods", "resize") => judge_object(verb, class),
        ("", "serviceaccounts", "token") if verb == ApiVerb::Create => {
            Judged::new(verbs::ISSUE_TOKEN)
        }
        ("", "namespaces", "finalize") if is_changed => Judged::new(verbs::ADMINISTER),
        ("certificates.k8s.io", "certificatesigningrequests", "approval") => {
            judge_object(verb, class)
        }
        // Of a custom resource too: the API server itself gives it these two, and no others.
        (_, _, "status") if matches!(verb, ApiVerb::Get) || is_changed => judge_object(verb, class),
        (_, _, "scale") if matches!(verb, ApiVerb::Get) || is_changed => judge_object(verb, class),
        _ => Judged::UNKNOWN,
    }
}

/// The fields of the request's line. Those of its object are there already; none has the same
/// name.
fn add_fields(call: &Call, facts: &mut Facts) {
    let mut add = |name: &'static str, value: Option<&str>| {
        if let Some(value) = value {
            facts.attributes.insert(name, Attribute::Text(value.to_owned()));
        }
    };
    add("api_verb", Some(call.verb.name()));
    add("label_selector", call.query.get("labelSelector"));
    add("field_selector", call.query.get("fieldSelector"));
    add("name", call.name());
    if let Some(path) = call.resource() {
        add("api_group", Some(&path.group));
        add("api_version", Some(&path.version));
        add("api_resource", Some(&path.resource));
        add("subresource", path.subresource.as_deref());
        if path.prefix == Some(Prefix::Proxy) {
            add("subresource", Some("proxy"));
        }
        add("namespace", path.namespace.as_deref());
        if path.is_proxied() {
            add("proxied_path", Some(&format!("/{}", path.rest.join("/"))));
        } else if path.is_connection() || path.subresource.as_deref() == Some("log") {
            add("container", call.query.get("container"));
        }
        if path.subresource.as_deref() == Some("exec") {
            let arguments: Vec<&str> = call.query.all("command").collect();
            // A list of texts always is JSON.
            add("exec_command", serde_json::to_string(&arguments).ok().as_deref());
        }
    }
    facts.attributes.insert("is_dry_run", Attribute::Flag(is_dry_run(call)));
}

/// Whether the API server surely persists nothing. A DELETE may say otherwise in its body.
fn is_dry_run(call: &Call) -> bool {
    let writes = matches!(call.verb, ApiVerb::Create | ApiVerb::Update | ApiVerb::Patch);
    writes
        && call.query.get("dryRun") == Some("All")
        && call.resource().is_some_and(Judged::heeds_dry_run)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn facts_of(line: &str) -> Facts {
        let (method, uri) = line.split_once(' ').expect("a method and a path");
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let method: Method = method.parse().expect("a method");
        let call = Call::read(&method, path, query).expect(line);
        facts(&call, &["known.example".to_owned()], &ObjectFacts::default())
    }

    fn check(line: &str, verb: Verb) {
        let facts = facts_of(line);
        assert_eq!(facts.verbs, [verb], "{line}");
        assert_eq!(facts.effects, verb.effect.into_iter().collect(), "{line}");
    }

    fn check_unknown(line: &str) {
        let facts = facts_of(line);
        assert!(facts.verbs.is_empty(), "{line}: {:?}", facts.verbs);
        assert!(facts.effects.contains(Effect::Unknown), "{line}");
    }

    #[test]
    fn objects_are_judged_by_what_they_are() {
        check("GET /api/v1/namespaces/a/pods", verbs::LIST);
        check("GET /api/v1/namespaces/a/pods/b", verbs::GET);
        check("GET /api/v1/pods?watch=1", verbs::WATCH);
        check("POST /api/v1/namespaces/a/configmaps", verbs::CREATE);
        check("PUT /api/v1/namespaces/a/configmaps/b", verbs::UPDATE);
        check("PATCH /apis/apps/v1/namespaces/a/deployments/d", verbs::PATCH);
        check("DELETE /apis/apps/v1/namespaces/a/deployments/d", verbs::DELETE);
        check("DELETE /apis/apps/v1/namespaces/a/deployments", verbs::DELETE_ALL);
        check("GET /api/v1/namespaces/a/secrets", verbs::READ_SECRET);
        check("GET /api/v1/namespaces/a/secrets/s", verbs::READ_SECRET);
        check("GET /api/v1/watch/secrets", verbs::READ_SECRET);
        check("POST /api/v1/namespaces/a/secrets", verbs::CREATE);
        check("POST /api/v1/namespaces", verbs::DEFINE);
        check("DELETE /api/v1/namespaces/a", verbs::DEFINE);
        check("POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions", verbs::DEFINE);
        check("POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings", verbs::GRANT);
        check("PATCH /apis/rbac.authorization.k8s.io/v1/namespaces/a/roles/r", verbs::GRANT);
        check("PATCH /api/v1/nodes/n", verbs::ADMINISTER);
        check("POST /apis/apiregistration.k8s.io/v1/apiservices", verbs::ADMINISTER);
        check(
            "PUT /apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/w",
            verbs::ADMINISTER,
        );
        check("POST /apis/certificates.k8s.io/v1/certificatesigningrequests", verbs::CREATE);
        check(
            "PUT /apis/certificates.k8s.io/v1/certificatesigningrequests/c/approval",
            verbs::APPROVE_CERTIFICATE,
        );
        check("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", verbs::DISCOVER);
        check("POST /apis/authorization.k8s.io/v1/subjectaccessreviews", verbs::REVIEW);
        check("GET /apis/metrics.k8s.io/v1beta1/nodes", verbs::LIST);
    }

    #[test]
    fn doors_are_judged_by_what_they_open() {
        check("POST /api/v1/namespaces/a/pods/p/exec?command=ls", verbs::EXEC);
        check("GET /api/v1/namespaces/a/pods/p/exec?command=ls", verbs::EXEC);
        check("GET /api/v1/namespaces/a/pods/p/attach", verbs::ATTACH);
        check("POST /api/v1/namespaces/a/pods/p/portforward", verbs::FORWARD);
        check("GET /api/v1/namespaces/a/pods/p/log", verbs::LOGS);
        check("PATCH /api/v1/namespaces/a/pods/p/ephemeralcontainers", verbs::DEBUG);
        check("POST /api/v1/namespaces/a/pods/p/eviction", verbs::DELETE);
        check("POST /api/v1/namespaces/a/pods/p/binding", verbs::ADMINISTER);
        check("POST /api/v1/namespaces/a/bindings", verbs::ADMINISTER);
        check("GET /api/v1/nodes/n/proxy/runningpods", verbs::NODE_PROXY);
        check("GET /api/v1/proxy/nodes/n/exec", verbs::NODE_PROXY);
        check("GET /api/v1/namespaces/a/services/s/proxy/", verbs::PROXY);
        check("POST /api/v1/namespaces/a/pods/p:80/proxy/x", verbs::PROXY);
        check("POST /api/v1/namespaces/a/serviceaccounts/s/token", verbs::ISSUE_TOKEN);
        check("PUT /api/v1/namespaces/a/finalize", verbs::ADMINISTER);
        check("PATCH /apis/apps/v1/namespaces/a/deployments/d/scale", verbs::PATCH);
        check("PATCH /api/v1/nodes/n/status", verbs::ADMINISTER);
    }

    #[test]
    fn paths_that_tell_what_there_is_need_no_right() {
        for path in ["/", "/api", "/apis/apps/v1", "/version", "/openapi/v3/api/v1", "/livez/ping"]
        {
            check(&format!("GET {path}"), verbs::DISCOVER);
        }
        check("GET /metrics", verbs::GET);
    }

    #[test]
    fn what_is_not_known_is_unknown() {
        check_unknown("GET /apis/example.com/v1/widgets");
        check_unknown("GET /apis/subresources.kubevirt.io/v1/namespaces/a/vms/v/console");
        check_unknown("GET /api/v1/widgets");
        check_unknown("GET /api/internal/pods");
        check_unknown("GET /api/v2/pods");
        check_unknown("GET /api/v2/secrets");
        check_unknown("POST /apis/apps/v2/namespaces/a/deployments");
        check_unknown("GET /apis/metrics.k8s.io/v1/nodes");
        check_unknown("GET /apis/known.example/latest/widgets");
        for more in ["exec/more", "attach/more", "portforward/80", "log/x", "eviction/x"] {
            check_unknown(&format!("POST /api/v1/namespaces/a/pods/p/{more}"));
            check_unknown(&format!("GET /api/v1/namespaces/a/pods/p/{more}"));
        }
        check_unknown("GET /api/v1/namespaces/a/secrets/s/status/x");
        check_unknown("PATCH /apis/apps/v1/namespaces/a/deployments/d/scale/x");
        check_unknown("PATCH /apis/known.example/v1/namespaces/a/widgets/w/status/x");
        check_unknown("GET /api/v1/watch/namespaces/a/pods/p/resize");
        check_unknown("GET /api/v1/namespaces/a/pods/p/shell");
        check_unknown("PUT /api/v1/namespaces/a/pods/p/exec");
        check_unknown("DELETE /api/v1/namespaces/a/pods/p/log");
        check_unknown("GET /apis/apps/v1/namespaces/a/deployments/d/proxy");
        check_unknown("GET /debug/pprof/heap");
        check_unknown("GET /logs/");
        check_unknown("GET /apiserver");
        check_unknown("POST /version");
        check_unknown("GET /healthzz");
        check_unknown("GET /apis/known.example/v1/namespaces/a/widgets/w/console");
        check("GET /apis/known.example/v1/widgets", verbs::LIST);
        check("PATCH /apis/known.example/v1/namespaces/a/widgets/w/status", verbs::PATCH);
    }

    #[test]
    fn an_object_is_named_in_its_namespace() {
        let object = |line: &str| facts_of(line).objects.into_iter().next().expect(line);
        let found = object("PATCH /apis/apps/v1/namespaces/a/deployments/d");
        assert_eq!((found.schema.as_str(), found.name.as_str()), ("a", "deployments.apps/d"));
        assert_eq!((found.kind.as_str(), found.role), ("object", ObjectRole::Write));
        let found = object("GET /api/v1/pods");
        assert_eq!((found.schema.as_str(), found.name.as_str()), ("", "pods"));
        assert_eq!(found.role, ObjectRole::Read);
    }

    #[test]
    fn the_requests_fields_are_there_for_policies() {
        let facts =
            facts_of("POST /api/v1/namespaces/a/pods/p/exec?command=sh&command=-c&container=c");
        let text = |name: &str| match facts.attributes.get(name) {
            Some(Attribute::Text(text)) => text.clone(),
            other => panic!("{name} is {other:?}"),
        };
        assert_eq!(text("exec_command"), r#"["sh","-c"]"#);
        assert_eq!(text("container"), "c");
        assert_eq!(text("namespace"), "a");
        assert_eq!(text("name"), "p");
        assert_eq!(text("subresource"), "exec");
        assert_eq!(text("api_verb"), "create");
        let declared = |name: &str| verbs::ATTRIBUTES.iter().any(|field| field.name == name);
        assert!(facts.attributes.keys().all(|name| declared(name)));
        let flag = |line: &str| facts_of(line).attributes.get("is_dry_run").cloned();
        let pod = "POST /api/v1/namespaces/a/pods";
        assert_eq!(flag(pod), Some(Attribute::Flag(false)));
        assert_eq!(flag(&format!("{pod}?dryRun=All")), Some(Attribute::Flag(true)));
        for line in [
            "GET /api/v1/pods?dryRun=All",
            "DELETE /api/v1/namespaces/a/pods/p?dryRun=All",
            "POST /api/v1/namespaces/a/serviceaccounts/s/token?dryRun=All",
            "POST /apis/known.example/v1/widgets?dryRun=All",
        ] {
            assert_eq!(flag(line), Some(Attribute::Flag(false)), "{line}");
        }
    }
}
