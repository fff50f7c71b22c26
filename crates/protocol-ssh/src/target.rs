//! Connecting to a target: its pinned host key, and the credential.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use corral_gate::{Admission, Credential, Denial, DenialKind};
use corral_model::limits;
use corral_model::resource::CredentialKind;
use corral_session::Authority;
use corral_transport::{DialError, Endpoint};
use russh::client::{self, AuthResult, KeyboardInteractiveAuthResponse};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use russh::{Disconnect, MethodKind, SshId};
use tokio::time::timeout;

use crate::certificate;
use crate::options::Options;
use crate::target_side::{Belongs, TargetSide};
use crate::{algorithms, bounds, keys};

/// Prompts that a target may ask before it is refused: a password, and one more for patience.
const PROMPTS_MAX: usize = 4;

/// A target that the gateway logged in to.
pub(crate) type Target = client::Handle<TargetSide>;

/// Who logs in where.
pub(crate) struct Visit<'a> {
    pub(crate) authority: &'a dyn Authority,
    pub(crate) admission: &'a Admission,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) options: &'a Options,
    pub(crate) login: &'a str,
}

/// Dials a target and logs in.
///
/// # Errors
/// A [`Denial`] of kind `TargetUnavailable`: the target, its options or its credential are to
/// blame.
pub(crate) async fn connect(visit: &Visit<'_>, belongs: Belongs) -> Result<Target, Denial> {
    let work = async {
        let verdict = Arc::new(Mutex::new(HostKey::Unseen));
        let pins = visit.options.host_keys.clone();
        let side = TargetSide::new(pins, verdict.clone(), Some(belongs));
        let pinned = visit.options.host_key_algorithms();
        if pinned.is_empty() {
            return Err(unavailable(
                "no host key of the target is pinned; see `corral target check`, and put its \
                 keys into options.host_keys",
                None,
            ));
        }
        let mut target = handshake(visit.endpoint, side, &pinned, &verdict).await?;
        log_in(&mut target, visit).await?;
        Ok(target)
    };
    let late = |_| unavailable("the target did not answer in time", None);
    timeout(limits::TARGET_LOGIN_DEADLINE, work).await.map_err(late)?
}

/// The host keys that a target shows, as lines of `ssh-keyscan` without the host.
///
/// # Errors
/// A [`Denial`] of kind `TargetUnavailable` when it cannot be reached.
pub(crate) async fn inspect(endpoint: &Endpoint) -> Result<Vec<String>, Denial> {
    let mut lines: Vec<String> = Vec::new();
    let mut failure: Option<Denial> = None;
    for algorithm in algorithms::host_key_kinds() {
        let verdict = Arc::new(Mutex::new(HostKey::Unseen));
        let side = TargetSide::new(Vec::new(), verdict.clone(), None);
        let look = handshake(endpoint, side, std::slice::from_ref(&algorithm), &verdict);
        let ended = timeout(limits::TARGET_LOGIN_DEADLINE, look).await;
        let seen = std::mem::replace(&mut *lock(&verdict), HostKey::Unseen);
        match (seen, ended) {
            (HostKey::Other(key) | HostKey::Pinned(key), _) => {
                lines.extend(key.to_openssh().ok());
            }
            (HostKey::Unseen, Ok(Err(denial))) => failure = Some(denial),
            (HostKey::Unseen, Ok(Ok(_)) | Err(_)) => {}
        }
    }
    match failure {
        Some(denial) if lines.is_empty() => Err(denial),
        Some(_) | None => Ok(lines),
    }
}

/// What became of the target's host key.
#[derive(Debug, Clone)]
pub(crate) enum HostKey {
    Unseen,
    Pinned(PublicKey),
    /// It is none of those that are pinned.
    Other(PublicKey),
}

pub(crate) type HostKeyVerdict = Arc<Mutex<HostKey>>;

pub(crate) fn lock(verdict: &Mutex<HostKey>) -> std::sync::MutexGuard<'_, HostKey> {
    verdict.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn handshake(
    endpoint: &Endpoint,
    side: TargetSide,
    pinned: &[russh::keys::ssh_key::Algorithm],
    verdict: &HostKeyVerdict,
) -> Result<Target, Denial> {
    let stream = endpoint.dial().await.map_err(|error: DialError| {
        unavailable("the target cannot be reached", Some(format!("{error:?}")))
    })?;
    let config = client::Config {
        client_id: SshId::Standard("SSH-2.0-Corral".into()),
        window_size: bounds::WINDOW_BYTES,
        maximum_packet_size: bounds::PACKET_BYTES,
        preferred: algorithms::for_target(pinned),
        keepalive_interval: Some(bounds::KEEP_ALIVE),
        keepalive_max: bounds::KEEP_ALIVES_MAX,
        window_by_consumer: true,
        ..client::Config::default()
    };
    client::connect_stream(Arc::new(config), stream, side).await.map_err(|error| {
        let internal = Some(error.to_string());
        match &*lock(verdict) {
            HostKey::Other(key) => {
                let shown = key.fingerprint(russh::keys::HashAlg::Sha256);
                unavailable(
                    "the target shows another host key than those that are pinned: somebody \
                     changed it, or this is another machine. Compare with `corral target check`",
                    Some(format!("the target shows {shown}")),
                )
            }
            HostKey::Unseen | HostKey::Pinned(_) => match error {
                russh::Error::NoCommonAlgo { .. } => unavailable(
                    "the target shows no host key of a kind that is pinned, or offers no \
                     algorithm that is not weak",
                    internal,
                ),
                _ => unavailable("the target does not answer as an SSH server", internal),
            },
        }
    })
}

async fn log_in(target: &mut Target, visit: &Visit<'_>) -> Result<(), Denial> {
    let credential = &visit.admission.credential;
    let is_in = if credential.is_issued {
        with_certificate(target, visit).await?
    } else {
        match credential.kind {
            CredentialKind::Password => with_password(target, visit.login, credential).await?,
            CredentialKind::PrivateKey => with_key(target, visit.login, credential).await?,
            CredentialKind::Token | CredentialKind::ClientKey => false,
        }
    };
    if is_in {
        return Ok(());
    }
    // The target learns that nobody waits for it any more.
    let _ = target.disconnect(Disconnect::ByApplication, "", "").await;
    Err(unavailable("the target refused the gateway's credential", None))
}

async fn with_password(
    target: &mut Target,
    login: &str,
    credential: &Credential,
) -> Result<bool, Denial> {
    let password = credential.secret.as_ref().map_or("", |secret| secret.reveal());
    let answer = target.authenticate_password(login, password).await.map_err(broken)?;
    let methods = match answer {
        AuthResult::Success => return Ok(true),
        AuthResult::Failure { remaining_methods, .. } => remaining_methods,
    };
    if !methods.contains(&MethodKind::KeyboardInteractive) {
        return Ok(false);
    }
    // Many hosts ask for the password in this way only.
    let mut step =
        target.authenticate_keyboard_interactive_start(login, None).await.map_err(broken)?;
    for _ in 0..PROMPTS_MAX {
        let prompts = match step {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
        };
        // A prompt that is shown while typed asks for no password.
        let answers = prompts
            .iter()
            .map(|prompt| if prompt.echo { String::new() } else { password.to_owned() })
            .collect();
        step = target.authenticate_keyboard_interactive_respond(answers).await.map_err(broken)?;
    }
    Ok(false)
}

async fn with_key(
    target: &mut Target,
    login: &str,
    credential: &Credential,
) -> Result<bool, Denial> {
    let text = credential.secret.as_ref().map_or("", |secret| secret.reveal());
    let key = read_key(text)?;
    let hash = target.best_supported_rsa_hash().await.map_err(broken)?.flatten();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    let answer = target.authenticate_publickey(login, key).await.map_err(broken)?;
    Ok(answer.success())
}

/// Reads a private key in PEM or OpenSSH's form.
///
/// # Errors
/// A [`Denial`] when the target's credential is none.
fn read_key(text: &str) -> Result<PrivateKey, Denial> {
    russh::keys::decode_secret_key(text, None).map_err(|error| {
        let text = "the target's private key cannot be read; it must be in OpenSSH's form or PEM, \
                    without a passphrase";
        unavailable(text, Some(error.to_string()))
    })
}

async fn with_certificate(target: &mut Target, visit: &Visit<'_>) -> Result<bool, Denial> {
    let authority = keys::own(visit.authority, keys::TARGET_AUTHORITY).await?;
    let key = keys::passing()?;
    let actor = &visit.admission.actor;
    let run = actor.run.as_ref().map(|(id, _)| format!(" run={id}")).unwrap_or_default();
    let request = certificate::Request {
        key: key.public_key(),
        // In the host's own log: whose session this is.
        key_id: format!(
            "corral session={}{run} sponsor={}",
            visit.admission.session, actor.sponsor
        ),
        principal: visit.login,
        ttl: bounds::CERTIFICATE_TTL,
        extensions: &["permit-port-forwarding", "permit-pty", "permit-user-rc"],
    };
    let signed = certificate::sign(&authority, SystemTime::now(), &request)?;
    let answer = target
        .authenticate_openssh_cert(visit.login, Arc::new(key), signed)
        .await
        .map_err(broken)?;
    Ok(answer.success())
}

fn broken(error: russh::Error) -> Denial {
    unavailable("the target ended the connection during the login", Some(error.to_string()))
}

fn unavailable(text: &str, internal: Option<String>) -> Denial {
    let mut denial = Denial::new(DenialKind::TargetUnavailable, text);
    denial.internal = internal;
    denial
}
