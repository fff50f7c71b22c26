//! SSH between clients and targets, on russh: channels, commands, files and forwards, each decided
//! for itself. See the README for what is decided, what is only recorded, and what is refused.
//!
//! One client connection is one session, and has one connection with its target; every channel of
//! it is a statement of its own.

mod algorithms;
mod bounds;
mod certificate;
mod channel;
mod client_side;
mod exec;
mod forward;
mod inbox;
mod keys;
mod live;
mod names;
mod native;
mod options;
mod recording;
mod serve;
pub mod sftp;
mod spec;
mod target;
mod target_side;
mod unserved;

use std::time::SystemTime;

use corral_gate::{Denial, DenialKind, Protocol, ProtocolSpec};
use corral_model::native::{NativeClient, Reach};
use corral_model::resource::TargetSpec;
use corral_session::scope::BoxFuture;
use corral_session::{Authority, Connection, IssueRequest, Issued, StreamEngine};
use corral_transport::Endpoint;
use russh::keys::{PrivateKey, PublicKey};

/// SSH 2.0 with clients and with targets.
#[derive(Debug, Default)]
pub struct Ssh;

impl Ssh {
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Protocol for Ssh {
    fn spec(&self) -> &ProtocolSpec {
        &spec::SPEC
    }

    fn native_client(&self, reach: &Reach) -> Option<NativeClient> {
        native::client(reach)
    }

    fn check_target(&self, target: &TargetSpec) -> Vec<String> {
        options::check(target)
    }
}

impl StreamEngine for Ssh {
    fn serve(&self, connection: Connection) -> BoxFuture<'_, ()> {
        Box::pin(serve::serve(connection))
    }

    fn issue<'a>(
        &'a self,
        authority: &'a dyn Authority,
        asked: &'a IssueRequest,
    ) -> BoxFuture<'a, Result<Issued, Denial>> {
        Box::pin(issue(authority, asked))
    }

    fn published<'a>(
        &'a self,
        authority: &'a dyn Authority,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<String, Denial>> {
        Box::pin(published(authority, host, port))
    }

    fn trusted<'a>(
        &'a self,
        authority: &'a dyn Authority,
    ) -> BoxFuture<'a, Result<Option<String>, Denial>> {
        Box::pin(trusted(authority))
    }

    fn inspect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Result<Vec<String>, Denial>> {
        Box::pin(target::inspect(endpoint))
    }
}

/// Signs a client's public key for whoever showed a token.
async fn issue(authority: &dyn Authority, asked: &IssueRequest) -> Result<Issued, Denial> {
    let key = PublicKey::from_openssh(asked.material.trim()).map_err(|_| {
        let text = "the public key cannot be read; send a line of OpenSSH's form";
        Denial::new(DenialKind::Protocol, text)
    })?;
    let own = keys::own(authority, keys::CLIENT_AUTHORITY).await?;
    let ttl = asked.ttl_max.min(bounds::CERTIFICATE_TTL);
    let request = certificate::Request {
        key: &key,
        key_id: certificate::key_id(&asked.token),
        principal: &asked.name,
        ttl,
        extensions: &[],
    };
    let certificate = certificate::sign(&own, SystemTime::now(), &request)?;
    let credential = certificate
        .to_openssh()
        .map_err(|_| Denial::new(DenialKind::Protocol, "no certificate can be made of this key"))?;
    Ok(Issued { credential, ttl })
}

/// The gateway's line for `known_hosts`.
async fn published(authority: &dyn Authority, host: &str, port: u16) -> Result<String, Denial> {
    let own = line_of(&keys::own(authority, keys::HOST).await?)?;
    let place = if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") };
    Ok(format!("{place} {own}\n"))
}

/// The line for a file that `TrustedUserCAKeys` names.
async fn trusted(authority: &dyn Authority) -> Result<Option<String>, Denial> {
    let own = line_of(&keys::own(authority, keys::TARGET_AUTHORITY).await?)?;
    Ok(Some(format!("{own} corral\n")))
}

fn line_of(key: &PrivateKey) -> Result<String, Denial> {
    let mut public = key.public_key().clone();
    public.set_comment("");
    let unwritten = |_| Denial::new(DenialKind::TargetUnavailable, "the key cannot be written");
    public.to_openssh().map_err(unwritten).map(|line| line.trim_end().to_owned())
}
