//! What the gateway knows of every protocol, and what it tells a protocol about a session.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use corral_model::ids::{GroupName, PrincipalName, RunId, SessionId, TargetName};
use corral_model::native::{NativeClient, Reach};
use corral_model::resource::{
    ColumnName, CommandSpec, CredentialKind, CredentialSpec, RecordRows, TargetSpec, TargetTlsMode,
};
use corral_model::statement::AttributeSpec;
use corral_model::trace::TraceNames;
use corral_model::{Principal, Secret, TokenDigest};

/// What the gateway lists of a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolSpec {
    /// As in a target's `protocol:` and in ready.json.
    pub id: &'static str,
    pub title: &'static str,
    /// ALPN protocol names that a client may offer in direct TLS.
    pub alpn: &'static [&'static str],
    /// First byte of a connection that starts with TLS directly (0x16), if the protocol has that.
    pub has_direct_tls: bool,
    /// Verbs with their effects: the protocol's part of the policy schema.
    pub verbs: &'static [corral_model::Verb],
    /// Fields that its statements may have in a policy's `context`.
    pub attributes: &'static [AttributeSpec],
    /// For protocols on HTTP: served at this path of the `https` listener, `/PATH/TARGET/…`,
    /// beside listeners of single targets. None: it has a listener of its own.
    pub mount: Option<&'static str>,
    /// What is decided soundly for its sessions, and what is only recorded: one sentence that
    /// `corral get target` shows.
    pub assurance: &'static str,
    /// How its statements are called in traces.
    pub traces: TraceNames,
}

/// A protocol that the gateway can serve.
pub trait Protocol: Send + Sync {
    fn spec(&self) -> &ProtocolSpec;

    /// How its usual client is told where to connect; None when there is none.
    fn native_client(&self, reach: &Reach) -> Option<NativeClient> {
        let _ = reach;
        None
    }

    /// What is wrong with a target of this protocol, as texts that begin with the key:
    /// `options.host_keys: …`. Its `options` and the kind of its credential are checked here and
    /// nowhere else.
    fn check_target(&self, target: &TargetSpec) -> Vec<String> {
        let mut texts: Vec<String> =
            target.options.keys().map(|key| format!("options.{key}: is not known here")).collect();
        let credentials = [&target.credential, &target.masked_credential];
        let is_other = |credential: &&CredentialSpec| credential.kind() != CredentialKind::Password;
        if credentials.into_iter().flatten().any(|credential| is_other(&credential)) {
            texts.push("credential: this protocol knows a username with a password".to_owned());
        }
        texts
    }

    /// Fields that are masked on this target although no one classified them: what the protocol
    /// itself calls a secret.
    fn classified(&self, target: &TargetSpec) -> Vec<ColumnName> {
        let _ = target;
        Vec::new()
    }

    /// The socket of a target that is reached through a directory.
    fn socket_path(&self, directory: &Path) -> PathBuf {
        directory.to_path_buf()
    }
}

/// Who a client says that it is. Only `proof` and `target` count; the rest are claims.
#[derive(Debug, Clone)]
pub struct Login {
    pub proof: Proof,
    /// As the client wrote it; None when the listener's own target is meant.
    pub target: String,
    /// Another database than the target's default.
    pub database: Option<String>,
    /// `user`, `application_name`, …: kept, shown, never deciding.
    pub claims: Vec<(String, String)>,
}

/// What a client shows.
#[derive(Debug, Clone)]
pub enum Proof {
    /// The token of a run or a login.
    Token(Secret),
    /// A token that is bound to a key, of a request that proved the key (RFC 9449). It lets nobody
    /// in when it is bound to none.
    Proven(Secret),
    /// The protocol verified a short-lived certificate that this gateway gave to whoever showed
    /// the token with this digest, or the token was shown before the connection was handed over
    /// (see [`crate::machine::Start::shown`]). The token must still be good.
    Certified(TokenDigest),
    /// The connection was refused on its way here, for this reason, by whoever showed the token
    /// with this digest. Nobody is let in; the client reads why in its protocol's own words.
    Refused { by: TokenDigest, reason: String },
}

/// What policy says of a session as a whole. Each statement is decided all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// The classified columns that this principal may not read raw.
    pub masked: Arc<[ColumnName]>,
    /// Whether it may run code at the target that nobody knows, with nobody asked.
    pub may_run_unknown: bool,
}

/// The gateway's answer to a login: everything that the protocol needs of the target.
#[derive(Debug, Clone)]
pub struct Admission {
    pub session: SessionId,
    pub target: TargetName,
    /// Grows when the target's resource changes; caches about the target are keyed by it.
    pub target_revision: u64,
    pub credential: Credential,
    /// The database to ask the target for.
    pub database: Option<String>,
    pub tls: TargetTlsMode,
    /// The target is on this machine: a password may go to it in clear.
    pub is_target_local: bool,
    /// Every classified column of the target. They are masked unless in no case `masked`.
    pub classified: Arc<[ColumnName]>,
    /// As the session opens; [`crate::Input::RightsChanged`] tells of others.
    pub rights: Rights,
    pub record_rows: RecordRows,
    /// 32 random bytes: the session's own cancel secret, of which the protocol makes its
    /// `cancel_key`.
    pub cancel_secret: [u8; 32],
    /// The target's own options, checked by [`Protocol::check_target`] when it was applied.
    pub options: Arc<serde_json::Map<String, serde_json::Value>>,
    pub actor: Actor,
    /// The commands with typed parameters that are for this target; see [`crate::runbook`].
    pub commands: Arc<[CommandSpec]>,
}

/// How the gateway logs in to the target.
#[derive(Debug, Clone)]
pub struct Credential {
    pub username: String,
    pub kind: CredentialKind,
    /// None: the target asks for none, or the gateway makes a certificate.
    pub secret: Option<Secret>,
    /// PEM.
    pub client_certificate: Option<String>,
    /// The gateway makes a short-lived certificate by its own authority.
    pub is_issued: bool,
}

impl Credential {
    /// A username with a password, or none.
    #[must_use]
    pub fn password(username: impl Into<String>, password: Option<Secret>) -> Self {
        Self {
            username: username.into(),
            kind: CredentialKind::Password,
            secret: password,
            client_certificate: None,
            is_issued: false,
        }
    }
}

/// For whom a session acts, as a target may be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub principal: Principal,
    pub sponsor: PrincipalName,
    pub groups: Vec<GroupName>,
    /// The acting run, and the names from its root run down to it.
    pub run: Option<(RunId, String)>,
}
