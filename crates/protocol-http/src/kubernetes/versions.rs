//! The versions in which Kubernetes itself serves its groups. Pure.
//!
//! From `api/openapi-spec/v3` of kubernetes/kubernetes over its history, with those of before
//! OpenAPI v3. An `APIService` can give any other version of the same group to a server of its
//! own, so a version that stands nowhere here is as unknown as a group.

/// The versions of one of Kubernetes' own groups; None for any other group.
pub(crate) fn versions_of(group: &str) -> Option<&'static [&'static str]> {
    Some(match group {
        "" => &["v1"],
        "apps" => &["v1", "v1beta1", "v1beta2"],
        "autoscaling" => &["v1", "v2", "v2beta1", "v2beta2"],
        "batch" => &["v1", "v1beta1", "v2alpha1"],
        "extensions" | "metrics.k8s.io" => &["v1beta1"],
        "policy" | "events.k8s.io" | "authorization.k8s.io" => &["v1", "v1beta1"],
        "apiextensions.k8s.io" | "apiregistration.k8s.io" => &["v1", "v1beta1"],
        "admissionregistration.k8s.io"
        | "authentication.k8s.io"
        | "certificates.k8s.io"
        | "discovery.k8s.io"
        | "networking.k8s.io"
        | "node.k8s.io"
        | "rbac.authorization.k8s.io"
        | "storage.k8s.io"
        | "storagemigration.k8s.io" => &["v1", "v1alpha1", "v1beta1"],
        "coordination.k8s.io" => &["v1", "v1alpha1", "v1alpha2", "v1beta1"],
        "flowcontrol.apiserver.k8s.io" => &["v1", "v1alpha1", "v1beta1", "v1beta2", "v1beta3"],
        "internal.apiserver.k8s.io" | "lifecycle.k8s.io" => &["v1alpha1"],
        "resource.k8s.io" => &["v1", "v1alpha1", "v1alpha2", "v1alpha3", "v1beta1", "v1beta2"],
        "scheduling.k8s.io" => &["v1", "v1alpha1", "v1alpha2", "v1alpha3", "v1beta1"],
        _ => return None,
    })
}

/// Whether a version of this group is one that can be judged: of Kubernetes' own groups the
/// served ones, of others whatever is written as a version (`v1`, `v2beta1`).
pub(crate) fn is_judged(group: &str, version: &str) -> bool {
    versions_of(group).map_or_else(|| is_version(version), |all| all.contains(&version))
}

/// A version as Kubernetes writes them.
fn is_version(version: &str) -> bool {
    let Some(rest) = version.strip_prefix('v') else { return false };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, stage) = rest.split_at(digits);
    if number.is_empty() || number.starts_with('0') {
        return false;
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    stage.is_empty()
        || stage.strip_prefix("alpha").is_some_and(is_number)
        || stage.strip_prefix("beta").is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_from_other_words() {
        for version in ["v1", "v2beta1", "v10alpha12"] {
            assert!(is_judged("example.com", version), "{version}");
        }
        for other in ["", "v", "v0", "1", "v1gamma1", "v1beta", "v1 ", "V1", "v1beta1x"] {
            assert!(!is_judged("example.com", other), "{other}");
        }
    }

    #[test]
    fn own_groups_have_the_versions_that_kubernetes_served() {
        for (group, version) in [("", "v1"), ("apps", "v1beta2"), ("autoscaling", "v2")] {
            assert!(is_judged(group, version), "{group}/{version}");
        }
        for (group, version) in [("", "v2"), ("", "v1beta1"), ("apps", "v2"), ("policy", "v9")] {
            assert!(!is_judged(group, version), "{group}/{version}");
        }
    }
}
