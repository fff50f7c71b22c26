//! Kubernetes' own API groups and resources, by what reading or writing them amounts to. Pure.
//!
//! From `api/openapi-spec/swagger.json` of 1.37, with those that older servers still have.

/// What a resource is, for a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Objects whose effects stay in their namespace, as far as their fields say no more.
    Ordinary,
    Secret,
    /// Others depend on it.
    Definition,
    /// Roles and bindings.
    Grant,
    /// Steers the cluster.
    Steering,
    /// Certificate requests.
    Certificate,
    /// Created to ask about oneself; nothing is kept.
    SelfReview,
    /// Created to ask about others; nothing is kept.
    Review,
    /// Places pods on nodes.
    Binding,
}

/// The groups that may be trusted to be what they say. A name that ends so belongs to the
/// Kubernetes project (`api-approved.kubernetes.io`), but only those below are judged.
pub(crate) fn class_of(group: &str, resource: &str) -> Option<Class> {
    let class = match group {
        "" => core(resource)?,
        "apps" => match resource {
            "controllerrevisions"
            | "daemonsets"
            | "deployments"
            | "replicasets"
            | "statefulsets" => Class::Ordinary,
            _ => return None,
        },
        "batch" => match resource {
            "cronjobs" | "jobs" => Class::Ordinary,
            _ => return None,
        },
        "autoscaling" => match resource {
            "horizontalpodautoscalers" => Class::Ordinary,
            _ => return None,
        },
        // Before 1.22.
        "extensions" => match resource {
            "daemonsets" | "deployments" | "ingresses" | "replicasets" => Class::Ordinary,
            "networkpolicies" => Class::Definition,
            "podsecuritypolicies" => Class::Steering,
            _ => return None,
        },
        "policy" => match resource {
            "poddisruptionbudgets" => Class::Ordinary,
            "podsecuritypolicies" => Class::Steering,
            _ => return None,
        },
        "networking.k8s.io" => match resource {
            "ingresses" => Class::Ordinary,
            "ingressclasses" | "networkpolicies" => Class::Definition,
            "ipaddresses" | "servicecidrs" => Class::Steering,
            _ => return None,
        },
        "coordination.k8s.io" => match resource {
            "leases" | "leasecandidates" => Class::Ordinary,
            _ => return None,
        },
        "discovery.k8s.io" => match resource {
            "endpointslices" => Class::Ordinary,
            _ => return None,
        },
        "events.k8s.io" => match resource {
            "events" => Class::Ordinary,
            _ => return None,
        },
        "lifecycle.k8s.io" => match resource {
            "evictionrequests" | "evictions" => Class::Ordinary,
            _ => return None,
        },
        "rbac.authorization.k8s.io" => match resource {
            "clusterrolebindings" | "clusterroles" | "rolebindings" | "roles" => Class::Grant,
            _ => return None,
        },
        "authentication.k8s.io" => match resource {
            "selfsubjectreviews" => Class::SelfReview,
            "tokenreviews" => Class::Review,
            _ => return None,
        },
        "authorization.k8s.io" => match resource {
            "selfsubjectaccessreviews" | "selfsubjectrulesreviews" => Class::SelfReview,
            "localsubjectaccessreviews" | "subjectaccessreviews" => Class::Review,
            _ => return None,
        },
        "certificates.k8s.io" => match resource {
            "certificatesigningrequests" | "podcertificaterequests" => Class::Certificate,
            "clustertrustbundles" => Class::Steering,
            _ => return None,
        },
        "apiextensions.k8s.io" => match resource {
            "customresourcedefinitions" => Class::Definition,
            _ => return None,
        },
        "scheduling.k8s.io" => match resource {
            "priorityclasses" => Class::Definition,
            "compositepodgroups" | "podgroups" | "workloads" => Class::Ordinary,
            _ => return None,
        },
        "storage.k8s.io" => match resource {
            "storageclasses" | "volumeattributesclasses" => Class::Definition,
            "csidrivers" | "csinodes" | "csistoragecapacities" | "volumeattachments" => {
                Class::Steering
            }
            _ => return None,
        },
        "resource.k8s.io" => match resource {
            "resourceclaims" | "resourceclaimtemplates" => Class::Ordinary,
            "deviceclasses"
            | "devicetaintrules"
            | "resourcepoolstatusrequests"
            | "resourceslices" => Class::Steering,
            _ => return None,
        },
        "admissionregistration.k8s.io" => match resource {
            "mutatingadmissionpolicies"
            | "mutatingadmissionpolicybindings"
            | "mutatingwebhookconfigurations"
            | "validatingadmissionpolicies"
            | "validatingadmissionpolicybindings"
            | "validatingwebhookconfigurations" => Class::Steering,
            _ => return None,
        },
        "apiregistration.k8s.io" => match resource {
            "apiservices" => Class::Steering,
            _ => return None,
        },
        "flowcontrol.apiserver.k8s.io" => match resource {
            "flowschemas" | "prioritylevelconfigurations" => Class::Steering,
            _ => return None,
        },
        "internal.apiserver.k8s.io" => match resource {
            "storageversions" => Class::Steering,
            _ => return None,
        },
        "storagemigration.k8s.io" => match resource {
            "storageversionmigrations" => Class::Steering,
            _ => return None,
        },
        "node.k8s.io" => match resource {
            "runtimeclasses" => Class::Steering,
            _ => return None,
        },
        // Aggregated, by the metrics server; it has reads only.
        "metrics.k8s.io" => match resource {
            "nodes" | "pods" => Class::Ordinary,
            _ => return None,
        },
        _ => return None,
    };
    Some(class)
}

fn core(resource: &str) -> Option<Class> {
    Some(match resource {
        "configmaps"
        | "endpoints"
        | "events"
        | "persistentvolumeclaims"
        | "pods"
        | "podtemplates"
        | "replicationcontrollers"
        | "serviceaccounts"
        | "services" => Class::Ordinary,
        "secrets" => Class::Secret,
        "limitranges" | "namespaces" | "resourcequotas" => Class::Definition,
        "nodes" | "persistentvolumes" | "componentstatuses" => Class::Steering,
        "bindings" => Class::Binding,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_not_known() {
        assert_eq!(class_of("", "secrets"), Some(Class::Secret));
        assert_eq!(class_of("apps", "deployments"), Some(Class::Ordinary));
        assert_eq!(class_of("", "Secrets"), None);
        assert_eq!(class_of("", "deployments"), None);
        assert_eq!(class_of("apps", "secrets"), None);
        assert_eq!(class_of("example.com", "widgets"), None);
    }
}
