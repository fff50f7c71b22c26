//! What a relay keeps on disk: who it is, its own key, and how it knows its gateway. One file, of
//! mode 0600, replaced whole, so that key and certificate always belong together.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail};
use corral_transport::tunnel::{RelayCertificate, RelayTls};
use rcgen::{CertificateParams, KeyPair};
use serde::{Deserialize, Serialize};

const FILE: &str = "relay.json";

/// The file. It holds the relay's key: it has no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    pub(crate) relay: String,
    /// The gateway's API, as the relay joined it.
    pub(crate) joined: String,
    /// The gateway's listener for relays, `host:port`.
    pub(crate) address: String,
    /// The authority for relays: the gateway's certificate there is by it.
    pub(crate) authority_pem: String,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

/// Keeps the identity, and the key of a certificate that was asked for.
pub(crate) struct Keeper {
    directory: PathBuf,
    state: Mutex<State>,
    relay: String,
    address: String,
}

struct State {
    identity: Identity,
    /// The key of the last request; it becomes the key with its certificate.
    next_key_pem: Option<String>,
}

/// A new key, and the request for its certificate. The gateway writes the names into it, whatever
/// the request says.
pub(crate) fn request() -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate().context("cannot make a key")?;
    let request = CertificateParams::default()
        .serialize_request(&key)
        .and_then(|request| request.pem())
        .context("cannot make a certificate request")?;
    Ok((key.serialize_pem(), request))
}

impl Keeper {
    /// What was kept; None before the relay has joined.
    pub(crate) fn load(directory: &Path) -> anyhow::Result<Option<Self>> {
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let mode = fs::metadata(&path).map(|found| found.permissions().mode()).unwrap_or(0);
        if mode & 0o077 != 0 {
            bail!("{} holds a key and may be read by others; chmod 600 it", path.display());
        }
        // The parser's own message could show a part of the key.
        let identity: Identity = serde_json::from_slice(&text).map_err(|_| {
            anyhow::anyhow!("{} is damaged; remove it and join again", path.display())
        })?;
        Ok(Some(Self::of(directory, identity)))
    }

    /// Keeps a new identity.
    pub(crate) fn create(directory: &Path, identity: Identity) -> anyhow::Result<Self> {
        save(directory, &identity)?;
        Ok(Self::of(directory, identity))
    }

    fn of(directory: &Path, identity: Identity) -> Self {
        let (relay, address) = (identity.relay.clone(), identity.address.clone());
        let state = Mutex::new(State { identity, next_key_pem: None });
        Self { directory: directory.to_path_buf(), state, relay, address }
    }

    pub(crate) fn relay(&self) -> &str {
        &self.relay
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A data directory is for one gateway.
    pub(crate) fn must_be_of(&self, join: Option<&str>) -> anyhow::Result<()> {
        let joined = self.lock().identity.joined.clone();
        match join {
            Some(join) if join.trim_end_matches('/') != joined => bail!(
                "{} belongs to a relay of {joined}, not of {join}; use another --data directory",
                self.directory.display()
            ),
            Some(_) | None => Ok(()),
        }
    }

    /// TLS with the certificate in use.
    pub(crate) fn tls(&self) -> anyhow::Result<RelayTls> {
        let identity = self.lock().identity.clone();
        RelayTls::new(&identity.certificate_pem, &identity.key_pem, &identity.authority_pem)
            .context(
                "the kept certificate cannot be used; remove the data directory and join again",
            )
    }

    /// A request for the next certificate, for a new key.
    pub(crate) fn next_request(&self) -> anyhow::Result<String> {
        let (key_pem, request_pem) = request()?;
        self.lock().next_key_pem = Some(key_pem);
        Ok(request_pem)
    }

    /// Takes the next certificate, which must be for the last request's key and for this relay.
    pub(crate) fn install(&self, certificate_pem: &str) -> anyhow::Result<()> {
        let mut state = self.lock();
        let key_pem = state.next_key_pem.take().context("no certificate was asked for")?;
        let next = Identity {
            certificate_pem: certificate_pem.to_owned(),
            key_pem,
            ..state.identity.clone()
        };
        check(&next)?;
        save(&self.directory, &next)?;
        state.identity = next;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether certificate and key belong together, and the certificate to this relay.
pub(crate) fn check(identity: &Identity) -> anyhow::Result<()> {
    RelayTls::new(&identity.certificate_pem, &identity.key_pem, &identity.authority_pem)
        .context("the certificate does not fit")?;
    let named = RelayCertificate::read_pem(&identity.certificate_pem)?.relay;
    if named != identity.relay {
        bail!("the certificate is for relay '{named}', not for '{}'", identity.relay);
    }
    Ok(())
}

fn save(directory: &Path, identity: &Identity) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(identity).context("cannot write the identity")?;
    let draft = directory.join(format!(".{FILE}.draft"));
    let write = || -> std::io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&draft, directory.join(FILE))?;
        File::open(directory)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", directory.join(FILE).display()))
}
