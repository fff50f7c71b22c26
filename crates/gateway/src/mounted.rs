//! Requests of one client's connection to the `https` listener: those of protocols on HTTP go to
//! their engines, the others to the API.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use axum::Router;
use corral_session::http::boxed;
use corral_session::scope::BoxFuture;
use corral_session::{
    HttpBody, HttpClient, HttpConnection, HttpEngine, HttpTarget, Possession, Service,
};
use http::header::WWW_AUTHENTICATE;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tower_service::Service as _;

use crate::app::App;
use crate::{possession, protocols};

/// One client's connection.
pub(crate) struct Mounted {
    app: Arc<App>,
    client: HttpClient,
    router: Router,
    mounts: Vec<Mount>,
}

/// One protocol, for one client's connection.
struct Mount {
    engine: &'static Arc<dyn HttpEngine>,
    path: &'static str,
    /// The protocol's own state, made with its first request.
    connection: OnceLock<Arc<dyn HttpConnection>>,
}

impl Mounted {
    /// `client` is told to engines, with the protocol's own id.
    pub(crate) fn new(app: Arc<App>, client: HttpClient, router: Router) -> Self {
        let mounts = protocols::all().iter().filter_map(|service| match service {
            Service::Framed(_) | Service::Stream(_) => None,
            Service::Http(engine) => {
                let path = engine.spec().mount?;
                Some(Mount { engine, path, connection: OnceLock::new() })
            }
        });
        Self { app, client, router, mounts: mounts.collect() }
    }

    pub(crate) fn call(
        &self,
        request: http::Request<Incoming>,
    ) -> BoxFuture<'static, Result<http::Response<HttpBody>, Infallible>> {
        let is_proving = possession::is_proving(request.headers());
        let answer = self.answer(request);
        if !is_proving {
            return answer;
        }
        let app = self.app.clone();
        Box::pin(async move {
            let mut response = answer.await?;
            if let Some(nonce) = app.dpop_nonce() {
                possession::offer_nonce(&nonce, response.headers_mut());
            }
            Ok(response)
        })
    }

    fn answer(
        &self,
        request: http::Request<Incoming>,
    ) -> BoxFuture<'static, Result<http::Response<HttpBody>, Infallible>> {
        match self.engine(request.uri().path()) {
            Some((connection, target, rest)) => {
                let (mut parts, body) = request.into_parts();
                // A proof is for the whole path, which the engine does not see.
                let mut challenge = None;
                match possession::check(&self.app, &parts) {
                    None => {}
                    Some(Ok(())) => drop(parts.extensions.insert(Possession::Proven)),
                    Some(Err(refused)) => {
                        challenge = refused.challenge();
                        parts.extensions.insert(Possession::Refused(refused.text));
                    }
                }
                let request = http::Request::from_parts(parts, boxed(body));
                let request = with_path(request, &rest);
                Box::pin(async move {
                    let mut response = connection.call(target, request).await;
                    if let Some(challenge) = challenge {
                        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                    }
                    Ok(response)
                })
            }
            None => {
                let mut request = request;
                // For a request whose connection becomes a session.
                request.extensions_mut().insert(self.client.facts.clone());
                let answer = self.router.clone().call(request);
                Box::pin(async move {
                    let response = match answer.await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    };
                    Ok(response.map(|body| {
                        let body =
                            body.map_err(|e| -> corral_session::HttpBodyError { Box::new(e) });
                        body.boxed_unsync()
                    }))
                })
            }
        }
    }

    /// The engine for `/MOUNT/TARGET/REST`, the target, and `/REST`.
    fn engine(&self, path: &str) -> Option<(Arc<dyn HttpConnection>, HttpTarget, String)> {
        let is_below = |mount: &&Mount| {
            path.strip_prefix(mount.path).is_some_and(|rest| rest.starts_with('/'))
        };
        let mount = self.mounts.iter().find(is_below)?;
        let below = path.strip_prefix(mount.path)?.strip_prefix('/')?;
        let (target, rest) = match below.split_once('/') {
            Some((target, rest)) => (target, format!("/{rest}")),
            None => (below, "/".to_owned()),
        };
        let connection = mount.connection.get_or_init(|| {
            let mut client = self.client.clone();
            client.facts.protocol = mount.engine.spec().id;
            mount.engine.connect(client)
        });
        Some((connection.clone(), HttpTarget::Named(target.to_owned()), rest))
    }
}

/// The same request for another path, byte for byte as the client wrote the rest of it.
fn with_path(request: http::Request<HttpBody>, path: &str) -> http::Request<HttpBody> {
    let (mut parts, body) = request.into_parts();
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    // The rest of a valid path after a '/' is a valid path.
    if let Ok(uri) = format!("{path}{query}").parse() {
        parts.uri = uri;
    }
    http::Request::from_parts(parts, body)
}
