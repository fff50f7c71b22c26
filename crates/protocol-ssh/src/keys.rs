//! The gateway's own keys: its host key, and the two authorities that sign certificates.

use aws_lc_rs::rand;
use corral_gate::{Denial, DenialKind};
use corral_session::Authority;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};

/// By which clients recognise the gateway.
pub(crate) const HOST: &str = "ssh-host-ed25519";
/// Signs the certificates by which clients log in to the gateway.
pub(crate) const CLIENT_AUTHORITY: &str = "ssh-client-ca";
/// Signs the certificates by which the gateway logs in to targets.
pub(crate) const TARGET_AUTHORITY: &str = "ssh-target-ca";

/// The gateway's key of this name.
///
/// # Errors
/// A [`Denial`] when the store is away.
pub(crate) async fn own(
    authority: &dyn Authority,
    name: &'static str,
) -> Result<PrivateKey, Denial> {
    let seed = authority.own_key(name).await?;
    of_seed(seed.reveal(), name)
}

/// A key that lives as long as one connection.
pub(crate) fn passing() -> Result<PrivateKey, Denial> {
    let mut seed = [0_u8; 32];
    rand::fill(&mut seed).map_err(|_| no_key("no random numbers"))?;
    of_seed(&seed, "")
}

fn of_seed(seed: &[u8; 32], comment: &str) -> Result<PrivateKey, Denial> {
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(seed));
    PrivateKey::new(pair, comment).map_err(|_| no_key("the key cannot be made"))
}

fn no_key(internal: &str) -> Denial {
    let mut denial = Denial::new(DenialKind::TargetUnavailable, "the gateway cannot make a key");
    denial.internal = Some(internal.to_owned());
    denial
}
