//! One request's line, read: what it asks of the API. Pure.

use http::Method;

use super::path::{PathError, Place, Prefix, ResourcePath};
use super::query::{Query, QueryError};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) verb: ApiVerb,
    pub(crate) place: Place,
    pub(crate) query: Query,
}

/// The API's own verbs, as in RBAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ApiVerb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    /// `/api/v1/proxy/…`, which servers had before 1.10.
    Proxy,
}

impl ApiVerb {
    /// As in RBAC.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Proxy => "proxy",
        }
    }
}

/// Why a request cannot be judged. The client is to blame; texts go to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("the API has no method {0}")]
    Method(String),
}

impl Call {
    /// Reads a request's line.
    ///
    /// # Errors
    /// [`CallError`]: the client is to blame.
    pub(crate) fn read(method: &Method, path: &str, query: &str) -> Result<Self, CallError> {
        let place = Place::parse(path)?;
        let query = Query::parse(query)?;
        let is_proxied = matches!(&place, Place::Resource(path) if path.is_proxied());
        if !is_proxied {
            query.check_single()?;
        }
        let verb = verb_of(method, &place, &query)?;
        Ok(Self { verb, place, query })
    }

    /// The resource, when it is about one.
    pub(crate) fn resource(&self) -> Option<&ResourcePath> {
        match &self.place {
            Place::Resource(path) => Some(path),
            Place::NonResource(_) => None,
        }
    }

    /// Whether a body of this request is an object of the API, which must be read to decide.
    pub(crate) fn has_object(&self) -> bool {
        let writes = match self.verb {
            ApiVerb::Create
            | ApiVerb::Update
            | ApiVerb::Patch
            | ApiVerb::Delete
            | ApiVerb::DeleteCollection => true,
            ApiVerb::Get | ApiVerb::List | ApiVerb::Watch | ApiVerb::Proxy => false,
        };
        writes && self.resource().is_some_and(|path| !path.is_connection())
    }

    /// Whether it runs until somebody ends it.
    pub(crate) fn is_stream(&self) -> bool {
        let Some(path) = self.resource() else { return false };
        let follows = path.subresource.as_deref() == Some("log") && self.query.flag("follow");
        self.verb == ApiVerb::Watch || follows || path.is_connection()
    }

    /// The name of one object: in the path, or asked for by a field selector.
    pub(crate) fn name(&self) -> Option<&str> {
        let path = self.resource()?;
        let selected = || match self.verb {
            ApiVerb::List | ApiVerb::Watch => self.query.selected_name(),
            ApiVerb::Get
            | ApiVerb::Create
            | ApiVerb::Update
            | ApiVerb::Patch
            | ApiVerb::Delete
            | ApiVerb::DeleteCollection
            | ApiVerb::Proxy => None,
        };
        path.name.as_deref().or_else(selected)
    }
}

impl ResourcePath {
    /// Whether another server answers: its path and query are not the API's.
    pub(crate) fn is_proxied(&self) -> bool {
        self.prefix == Some(Prefix::Proxy) || self.subresource.as_deref() == Some("proxy")
    }

    /// Whether the request becomes a connection with a container, a pod, a service or a node.
    pub(crate) fn is_connection(&self) -> bool {
        let connects = ["attach", "exec", "portforward"];
        self.is_proxied()
            || (self.group.is_empty()
                && self.resource == "pods"
                && self.rest.is_empty()
                && self.subresource.as_deref().is_some_and(|name| connects.contains(&name)))
    }

    /// `deployments.apps`, as kubectl writes it; `pods` in the core group.
    pub(crate) fn qualified(&self) -> String {
        match self.group.as_str() {
            "" => self.resource.clone(),
            group => format!("{}.{group}", self.resource),
        }
    }
}

fn verb_of(method: &Method, place: &Place, query: &Query) -> Result<ApiVerb, CallError> {
    let unknown = || CallError::Method(method.as_str().chars().take(32).collect());
    let path = match place {
        Place::Resource(path) => path,
        Place::NonResource(_) => {
            return match *method {
                Method::GET | Method::HEAD => Ok(ApiVerb::Get),
                Method::POST => Ok(ApiVerb::Create),
                Method::PUT => Ok(ApiVerb::Update),
                Method::PATCH => Ok(ApiVerb::Patch),
                Method::DELETE => Ok(ApiVerb::Delete),
                _ => Err(unknown()),
            };
        }
    };
    match (path.prefix, method) {
        (Some(Prefix::Watch), &Method::GET) => return Ok(ApiVerb::Watch),
        (Some(Prefix::Watch), _) => return Err(unknown()),
        (Some(Prefix::Proxy), _) => return Ok(ApiVerb::Proxy),
        (None, _) => {}
    }
    let is_one = path.name.is_some();
    match *method {
        Method::GET | Method::HEAD if is_one => Ok(ApiVerb::Get),
        Method::GET | Method::HEAD if query.flag("watch") => Ok(ApiVerb::Watch),
        Method::GET | Method::HEAD => Ok(ApiVerb::List),
        Method::POST => Ok(ApiVerb::Create),
        Method::PUT => Ok(ApiVerb::Update),
        Method::PATCH => Ok(ApiVerb::Patch),
        Method::DELETE if is_one => Ok(ApiVerb::Delete),
        Method::DELETE => Ok(ApiVerb::DeleteCollection),
        _ if path.is_proxied() => Ok(ApiVerb::Get),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Result<Call, CallError> {
        let (method, uri) = line.split_once(' ').expect("a method and a path");
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        Call::read(&method.parse().expect("a method"), path, query)
    }

    #[test]
    fn verbs_are_those_of_rbac() {
        let check = |line: &str, expect: ApiVerb| {
            assert_eq!(call(line).map(|call| call.verb), Ok(expect), "{line}");
        };
        check("GET /api/v1/pods", ApiVerb::List);
        check("HEAD /api/v1/pods", ApiVerb::List);
        check("GET /api/v1/pods?watch=true", ApiVerb::Watch);
        check("GET /api/v1/pods?watch=", ApiVerb::Watch);
        check("GET /api/v1/pods?watch=false", ApiVerb::List);
        check("GET /api/v1/watch/pods", ApiVerb::Watch);
        check("GET /api/v1/watch/namespaces/a/pods/b", ApiVerb::Watch);
        check("GET /api/v1/namespaces/a/pods/b", ApiVerb::Get);
        check("GET /api/v1/namespaces/a/pods/b?watch=true", ApiVerb::Get);
        check("GET /api/v1/namespaces/a", ApiVerb::Get);
        check("POST /api/v1/namespaces/a/pods", ApiVerb::Create);
        check("PUT /api/v1/namespaces/a/pods/b", ApiVerb::Update);
        check("PATCH /api/v1/namespaces/a/pods/b", ApiVerb::Patch);
        check("DELETE /api/v1/namespaces/a/pods/b", ApiVerb::Delete);
        check("DELETE /api/v1/namespaces/a/pods", ApiVerb::DeleteCollection);
        check("DELETE /api/v1/namespaces/a", ApiVerb::Delete);
        check("GET /api/v1/proxy/nodes/n/x", ApiVerb::Proxy);
        check("GET /version", ApiVerb::Get);
        check("POST /version", ApiVerb::Create);
    }

    #[test]
    fn methods_that_the_api_does_not_have_are_refused() {
        for line in ["TRACE /api/v1/pods", "CONNECT /version", "PURGE /api/v1/pods"] {
            assert!(matches!(call(line), Err(CallError::Method(_))), "{line}");
        }
        assert!(call("POST /api/v1/watch/pods").is_err());
        assert!(call("GET /api/v1/pods?watch=1&watch=0").is_err());
        // What is proxied has a query of its own.
        assert!(call("GET /api/v1/namespaces/a/pods/p/proxy/?a=1&a=2").is_ok());
    }

    #[test]
    fn names_come_from_the_path_or_a_selector() {
        let check = |line: &str, expect: Option<&str>| {
            assert_eq!(call(line).expect(line).name(), expect, "{line}");
        };
        check("GET /api/v1/namespaces/a/pods/b", Some("b"));
        check("GET /api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Db", Some("b"));
        check("GET /api/v1/pods?watch=1&fieldSelector=metadata.name=b", Some("b"));
        check("DELETE /api/v1/namespaces/a/pods?fieldSelector=metadata.name=b", None);
        check("GET /version", None);
    }

    #[test]
    fn what_streams_and_what_has_an_object_is_told() {
        let check = |line: &str, is_stream: bool, has_object: bool| {
            let call = call(line).expect(line);
            assert_eq!((call.is_stream(), call.has_object()), (is_stream, has_object), "{line}");
        };
        check("GET /api/v1/pods", false, false);
        check("GET /api/v1/pods?watch=1", true, false);
        check("GET /api/v1/namespaces/a/pods/b/log?follow=true", true, false);
        check("GET /api/v1/namespaces/a/pods/b/log", false, false);
        check("POST /api/v1/namespaces/a/pods", false, true);
        check("POST /api/v1/namespaces/a/pods/b/exec?command=ls", true, false);
        check("POST /api/v1/namespaces/a/pods/b/exec/more?command=ls", false, true);
        check("POST /api/v1/namespaces/a/secrets/b/exec?command=ls", false, true);
        check("POST /api/v1/namespaces/a/pods/b/proxy/x", true, false);
        check("POST /api/v1/namespaces/a/pods/b/eviction", false, true);
        check("DELETE /api/v1/namespaces/a/pods/b", false, true);
        check("POST /version", false, false);
    }
}
