//! The path of a request: what it is about, exactly as the API server would read it, or why it
//! cannot be told. Pure.

/// Segments of a path. The API server knows none with more than ten; proxied paths may be longer.
const SEGMENTS_MAX: usize = 128;
/// One path, in bytes. Names have at most 253, and a path has four of them.
const PATH_BYTES_MAX: usize = 8 * 1024;

/// What a path is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// `/api/VERSION/…` and `/apis/GROUP/VERSION/…`.
    Resource(ResourcePath),
    /// Everything else, without a slash at its end: `/version`, `/apis/apps/v1`.
    NonResource(String),
}

/// The parts of a resource's path, decoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ResourcePath {
    /// Empty for the core group.
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) prefix: Option<Prefix>,
    pub(crate) namespace: Option<String>,
    /// Plural, as in the path.
    pub(crate) resource: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// What follows the subresource: the path that is asked of a proxied pod, service or node.
    pub(crate) rest: Vec<String>,
}

/// A verb that stands in the path before the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefix {
    Watch,
    Proxy,
}

/// Why a path is not one that the gateway judges. The client is to blame; texts go to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("the path is longer than {PATH_BYTES_MAX} bytes or {SEGMENTS_MAX} segments")]
    TooLong,
    #[error("the path has an empty segment; write single slashes")]
    EmptySegment,
    #[error("the path has a segment of dots; write the path that is meant")]
    Dots,
    #[error("the path has an encoded slash, backslash, dot or percent sign")]
    Encoded,
    #[error("the path has a byte that no name has: a control, or one that is not ASCII")]
    Bytes,
    #[error("the path has a percent sign without two hexadecimal digits")]
    Percent,
    #[error("the path names no resource after its verb")]
    NoResource,
}

/// Subresources of a namespace; any other word after a namespace's name is a resource in it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl Place {
    /// Reads a path as it came, percent-encoding included.
    ///
    /// It follows the API server's `RequestInfoFactory.NewRequestInfo`
    /// (`k8s.io/apiserver/pkg/endpoints/request/requestinfo.go`); paths that two readers could
    /// read in two ways are errors.
    ///
    /// # Errors
    /// [`PathError`]: the client is to blame.
    pub(crate) fn parse(path: &str) -> Result<Self, PathError> {
        let segments = segments(path)?;
        let words: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (group, version, below) = match words.as_slice() {
            ["api", version, below @ ..] if !below.is_empty() => ("", *version, below),
            ["apis", group, version, below @ ..] if !below.is_empty() => (*group, *version, below),
            _ => return Ok(Self::NonResource(format!("/{}", words.join("/")))),
        };
        let (prefix, below) = match below {
            ["watch", below @ ..] => (Some(Prefix::Watch), below),
            ["proxy", below @ ..] => (Some(Prefix::Proxy), below),
            _ => (None, below),
        };
        let (namespace, parts) = match below {
            ["namespaces", namespace, word, ..] if !NAMESPACE_SUBRESOURCES.contains(word) => {
                (Some((*namespace).to_owned()), below.get(2..).unwrap_or_default())
            }
            ["namespaces", namespace, ..] => (Some((*namespace).to_owned()), below),
            _ => (None, below),
        };
        let mut parts = parts.iter().map(|part| (*part).to_owned());
        let resource = parts.next().ok_or(PathError::NoResource)?;
        let name = parts.next();
        // `/proxy/…` has no subresources: all that follows the name is asked of what is proxied.
        let subresource = if prefix == Some(Prefix::Proxy) { None } else { parts.next() };
        Ok(Self::Resource(ResourcePath {
            group: group.to_owned(),
            version: version.to_owned(),
            prefix,
            namespace,
            resource,
            name,
            subresource,
            rest: parts.collect(),
        }))
    }
}

/// The decoded segments. One slash at the end is none's business: the API server drops it.
fn segments(path: &str) -> Result<Vec<String>, PathError> {
    if path.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong);
    }
    let below = path.strip_prefix('/').unwrap_or(path);
    let below = below.strip_suffix('/').unwrap_or(below);
    if below.is_empty() {
        return if path == "/" || path.is_empty() {
            Ok(Vec::new())
        } else {
            Err(PathError::EmptySegment)
        };
    }
    let segments: Vec<String> = below.split('/').map(segment).collect::<Result<_, _>>()?;
    if segments.len() > SEGMENTS_MAX { Err(PathError::TooLong) } else { Ok(segments) }
}

fn segment(raw: &str) -> Result<String, PathError> {
    if raw.is_empty() {
        return Err(PathError::EmptySegment);
    }
    let mut decoded = String::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let (byte, is_encoded) = match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()];
                let [Some(high), Some(low)] = digits.map(|digit| digit.and_then(hex)) else {
                    return Err(PathError::Percent);
                };
                (high * 16 + low, true)
            }
            plain => (plain, false),
        };
        match byte {
            b'\\' => return Err(PathError::Encoded),
            b'/' | b'.' | b'%' if is_encoded => return Err(PathError::Encoded),
            b' '..=b'~' => decoded.push(char::from(byte)),
            _ => return Err(PathError::Bytes),
        }
    }
    // Also `...`, and anything else that somebody could take for a way up.
    if decoded.bytes().all(|byte| byte == b'.') {
        return Err(PathError::Dots);
    }
    Ok(decoded)
}

pub(super) fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> ResourcePath {
        match Place::parse(path) {
            Ok(Place::Resource(parts)) => parts,
            other => panic!("{path} is {other:?}"),
        }
    }

    #[test]
    fn resources_are_read_as_the_api_server_reads_them() {
        let check = |path: &str, group: &str, expect: [Option<&str>; 4]| {
            let found = resource(path);
            let [namespace, resource, name, subresource] =
                expect.map(|part| part.map(ToOwned::to_owned));
            assert_eq!(found.group, group, "{path}");
            assert_eq!(found.namespace, namespace, "{path}");
            assert_eq!(Some(found.resource), resource, "{path}");
            assert_eq!(found.name, name, "{path}");
            assert_eq!(found.subresource, subresource, "{path}");
        };
        let pods = Some("pods");
        check("/api/v1/pods", "", [None, pods, None, None]);
        check("/api/v1/pods/", "", [None, pods, None, None]);
        check("/api/v1/namespaces/a/pods", "", [Some("a"), pods, None, None]);
        check("/api/v1/namespaces/a/pods/b", "", [Some("a"), pods, Some("b"), None]);
        check("/api/v1/namespaces/a/pods/b/log", "", [Some("a"), pods, Some("b"), Some("log")]);
        let spaces = Some("namespaces");
        check("/api/v1/namespaces", "", [None, spaces, None, None]);
        check("/api/v1/namespaces/a", "", [Some("a"), spaces, Some("a"), None]);
        check("/api/v1/namespaces/a/status", "", [Some("a"), spaces, Some("a"), Some("status")]);
        check(
            "/api/v1/namespaces/a/finalize",
            "",
            [Some("a"), spaces, Some("a"), Some("finalize")],
        );
        check("/api/v1/nodes/n/status", "", [None, Some("nodes"), Some("n"), Some("status")]);
        let deployments = Some("deployments");
        check(
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            "apps",
            [Some("a"), deployments, Some("d"), Some("scale")],
        );
        check("/apis/apps/v1/deployments", "apps", [None, deployments, None, None]);
        check(
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            "rbac.authorization.k8s.io",
            [None, Some("clusterroles"), Some("system:node"), None],
        );
        check(
            "/api/v1/namespaces/default/namespaces/x",
            "",
            [Some("default"), spaces, Some("x"), None],
        );
    }

    #[test]
    fn verbs_in_the_path_are_found() {
        let watched = resource("/api/v1/watch/namespaces/a/pods/b");
        assert_eq!(watched.prefix, Some(Prefix::Watch));
        assert_eq!(watched.resource, "pods");
        assert_eq!(watched.name.as_deref(), Some("b"));
        let proxied = resource("/api/v1/proxy/nodes/n/run/x");
        assert_eq!(proxied.prefix, Some(Prefix::Proxy));
        assert_eq!(proxied.subresource, None);
        assert_eq!(proxied.rest, ["run", "x"]);
        let proxied = resource("/api/v1/namespaces/a/services/s:80/proxy/x/y");
        assert_eq!(proxied.subresource.as_deref(), Some("proxy"));
        assert_eq!(proxied.rest, ["x", "y"]);
        assert_eq!(Place::parse("/api/v1/watch"), Err(PathError::NoResource));
        assert_eq!(Place::parse("/api/v1/proxy/"), Err(PathError::NoResource));
    }

    #[test]
    fn what_names_no_resource_is_a_path() {
        let check = |path: &str, expect: &str| {
            assert_eq!(Place::parse(path), Ok(Place::NonResource(expect.to_owned())), "{path}");
        };
        check("/", "/");
        check("/version", "/version");
        check("/api", "/api");
        check("/api/v1", "/api/v1");
        check("/apis/apps/v1", "/apis/apps/v1");
        check("/apis/apps/v1/", "/apis/apps/v1");
        check("/openapi/v3/apis/apps/v1", "/openapi/v3/apis/apps/v1");
        check("/API/v1/pods", "/API/v1/pods");
    }

    #[test]
    fn paths_that_two_readers_read_in_two_ways_are_refused() {
        let check = |path: &str, expect: PathError| {
            assert_eq!(Place::parse(path), Err(expect), "{path}");
        };
        check("//", PathError::EmptySegment);
        check("//api/v1/pods", PathError::EmptySegment);
        check("/api//v1/pods", PathError::EmptySegment);
        check("/api/v1/pods//", PathError::EmptySegment);
        check("/api/v1/namespaces/a/../b/pods", PathError::Dots);
        check("/api/v1/./pods", PathError::Dots);
        check("/api/v1/.../pods", PathError::Dots);
        check("/api/v1/namespaces/a/%2e%2e/b/pods", PathError::Encoded);
        check("/api/v1/namespaces/a/%2E./b/pods", PathError::Encoded);
        check("/api/v1/namespaces/a%2fpods", PathError::Encoded);
        check("/api/v1/namespaces/a%5Cpods", PathError::Encoded);
        check("/api/v1/namespaces/a\\pods", PathError::Encoded);
        check("/api/v1/namespaces/a%252fpods", PathError::Encoded);
        check("/api/v1/pods/a%00", PathError::Bytes);
        check("/api/v1/pods/a%0a", PathError::Bytes);
        check("/api/v1/pods/a%7f", PathError::Bytes);
        check("/api/v1/pods/%c3%a9", PathError::Bytes);
        check("/api/v1/pods/é", PathError::Bytes);
        check("/api/v1/pods/%zz", PathError::Percent);
        check("/api/v1/pods/a%2", PathError::Percent);
        check(&format!("/api/v1/pods/{}", "a".repeat(PATH_BYTES_MAX)), PathError::TooLong);
        check(&format!("/x{}", "/a".repeat(SEGMENTS_MAX)), PathError::TooLong);
    }
}
