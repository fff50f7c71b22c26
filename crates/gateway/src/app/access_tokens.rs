//! The gateway's own JWTs (RFC 9068): another form of a run's token, which may be bound to a key.
//!
//! The signature comes first, and then the live run decides: a token of an ended run is nobody's,
//! whatever its claims say.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use corral_identity::dpop::{
    self, BoundToken, CheckedProof, Nonces, ProofError, ProofMemory, ProvenRequest,
};
use corral_identity::jwt::{Rules, Signer, Unverified};
use corral_model::{Secret, limits};
use corral_store::Store;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::admit::{bytes_of_hex, random_bytes};
use super::config::hex;
use super::live::runs::LiveRun;
use super::{App, AppError, new_id};

/// Of the seed in the store.
const KEY: &str = "access-tokens";
/// Of the key of nonces in the store.
const NONCE_KEY: &str = "dpop-nonces";
/// RFC 9068 section 2.1.
const TYPE: &str = "at+jwt";

/// What signs, and what was proven with.
pub(crate) struct AccessTokens {
    signer: Signer,
    proofs: ProofMemory,
    /// Where proofs must have one.
    nonces: Option<Nonces>,
    lifetime: Duration,
}

/// Whether every proof has a nonce of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DpopNonces {
    /// None is given out, and what a proof says of one is not looked at.
    Unused,
    Required,
}

/// A JWT that was just signed.
pub(super) struct SignedToken {
    pub(super) token: Secret,
    pub(super) expires_at: OffsetDateTime,
}

/// What a JWT of the gateway's own stands for, while it is good.
pub(crate) struct RunToken {
    pub(crate) run: Arc<LiveRun>,
    /// Thumbprint of the key that it is bound to.
    pub(crate) key: Option<String>,
    pub(crate) expires_at: OffsetDateTime,
}

/// A token as somebody showed it.
#[derive(Debug, Clone)]
pub struct Shown {
    pub token: Secret,
    /// Shown with `DPoP` instead of `Bearer`.
    pub proof: Option<ShownProof>,
}

/// A proof of possession, with the request that it came with.
#[derive(Debug, Clone)]
pub struct ShownProof {
    pub jwt: String,
    pub method: String,
    /// From the first slash, without a query.
    pub path: String,
}

impl Shown {
    /// Whoever has it may use it.
    #[must_use]
    pub fn bearer(token: Secret) -> Self {
        Self { token, proof: None }
    }
}

impl AccessTokens {
    /// Takes the key that every gateway of this store signs with.
    /// `lifetime` is how long each is good at most.
    pub(super) async fn load(
        store: &Store,
        lifetime: Duration,
        nonces: DpopNonces,
    ) -> anyhow::Result<Self> {
        let seed = own_key(store, KEY).await?;
        let signer = Signer::from_seed(&seed).context("the key of access tokens")?;
        let nonces = match nonces {
            DpopNonces::Unused => None,
            DpopNonces::Required => Some(Nonces::new(&own_key(store, NONCE_KEY).await?)),
        };
        Ok(Self { signer, proofs: ProofMemory::default(), nonces, lifetime })
    }
}

/// A key that every gateway of this store has.
async fn own_key(store: &Store, name: &str) -> anyhow::Result<[u8; 32]> {
    let made = random_bytes().map_err(|denial| anyhow::anyhow!(denial.client_text))?;
    let key = store.own_key(name, &Secret::new(hex(&made))).await;
    let key = key.with_context(|| format!("the gateway's key '{name}'"))?;
    bytes_of_hex(key.reveal())
        .with_context(|| format!("the gateway's key '{name}' is damaged in the store"))
}

impl App {
    /// The public key of access tokens, as a JWK set.
    #[must_use]
    pub fn access_token_keys(&self) -> Value {
        self.access_tokens.signer.published()
    }

    /// The JWT of a run. It is short, ends with the run at the latest, and is bound to a key when
    /// one was proven.
    pub(super) fn access_token(&self, run: &LiveRun, key: Option<&str>) -> SignedToken {
        let issuer = self.api_url();
        let now = OffsetDateTime::now_utc();
        let expires_at = run.shown_end().min(now + self.access_tokens.lifetime);
        let mut claims = json!({
            "iss": issuer,
            "aud": issuer,
            "sub": run.principal().name.as_str(),
            "client_id": run.principal().name.as_str(),
            "iat": now.unix_timestamp(),
            "exp": expires_at.unix_timestamp(),
            "jti": new_id("t"),
            "run_id": run.id().as_str(),
            "sponsor": run.sponsor().as_str(),
            "act": actors(run),
        });
        if let (Some(key), Some(members)) = (key, claims.as_object_mut()) {
            members.insert("cnf".to_owned(), json!({ "jkt": key }));
        }
        let token = Secret::new(self.access_tokens.signer.sign(TYPE, &claims));
        SignedToken { token, expires_at }
    }

    /// The live run of a JWT of the gateway's own. None for every token that is not good, and for
    /// every run that has ended.
    pub(super) fn run_of_jwt(&self, token: &str) -> Option<RunToken> {
        if token.len() > limits::ACCESS_TOKEN_BYTES_MAX {
            return None;
        }
        let issuer = self.api_url();
        let rules = Rules {
            types: &[TYPE],
            required: &["run_id", "jti", "sub"],
            ..Rules::new(&issuer, &issuer)
        };
        let keys = self.access_tokens.signer.keys();
        let unverified = Unverified::parse(token).ok()?;
        let now = OffsetDateTime::now_utc();
        let claims = unverified.verify(&keys, &rules, now).ok()?;
        // The leeway is for foreign clocks; this one is the gateway's own.
        let expires_at = claims.expires_at().filter(|at| *at > now)?;
        let run = self.live.runs().get(claims.text("run_id")?)?;
        let key = match claims.get("cnf") {
            None => None,
            // What binds it in a way that is not known here lets nobody in.
            Some(cnf) => Some(cnf.get("jkt")?.as_str()?.to_owned()),
        };
        run.is_live(Instant::now()).then_some(RunToken { run, key, expires_at })
    }

    /// Whether a token says of itself that it is one of this gateway's JWTs. Nothing is verified.
    pub(super) fn is_own_jwt(&self, token: &str) -> bool {
        Unverified::parse(token)
            .is_ok_and(|token| token.claimed().issuer() == Some(self.api_url().as_str()))
    }

    /// Whose JWT this is: with the proof of its key where it is bound to one, and without where it
    /// is not.
    ///
    /// # Errors
    /// [`AppError::BadProof`] when a proof was sent and is not good; [`AppError::Unavailable`].
    pub(crate) fn bearer_of_jwt(&self, shown: &Shown) -> Result<Option<RunToken>, AppError> {
        let token = shown.token.reveal();
        let Some(found) = self.run_of_jwt(token) else { return Ok(None) };
        let is_proven = match (&found.key, &shown.proof) {
            (None, None) => true,
            (Some(key), Some(proof)) => {
                // Who has a token and not its key fills no memory.
                let checked = self.check_proof(proof, Some(BoundToken { token, key }))?;
                self.use_up(&checked)?;
                true
            }
            (Some(_), None) | (None, Some(_)) => false,
        };
        Ok(is_proven.then_some(found))
    }

    /// Whose JWT this is, when it is bound to a key, which the request that it came with proved.
    pub(super) fn bearer_of_proven_jwt(&self, token: &str) -> Option<RunToken> {
        self.run_of_jwt(token).filter(|found| found.key.is_some())
    }

    /// Checks a proof of possession. `bound` is the token that was shown with it; None at the token
    /// endpoint. What it proves counts once [`App::use_up`] took it.
    ///
    /// # Errors
    /// [`AppError::BadProof`].
    pub(super) fn check_proof(
        &self,
        proof: &ShownProof,
        bound: Option<BoundToken<'_>>,
    ) -> Result<CheckedProof, AppError> {
        let urls = self.own_urls(&proof.path);
        let nonces = self.access_tokens.nonces.as_ref();
        let request = ProvenRequest { method: &proof.method, urls: &urls, bound, nonces };
        Ok(dpop::check(&proof.jwt, request, OffsetDateTime::now_utc())?)
    }

    /// Takes a proof that was checked, once. It comes after everything else that a request has to
    /// show: anybody can make keys and proofs, and would fill what is remembered for all.
    ///
    /// # Errors
    /// [`AppError::BadProof`] when it was used before, [`AppError::Unavailable`] when there are too
    /// many.
    pub(super) fn use_up(&self, proof: &CheckedProof) -> Result<(), AppError> {
        let taken = self.access_tokens.proofs.use_up(proof, OffsetDateTime::now_utc());
        taken.map_err(|error| match error {
            ProofError::TooMany => AppError::Unavailable(error.to_string()),
            other => AppError::BadProof(other),
        })
    }

    /// The nonce that the next proofs are to have, where they must have one.
    pub(crate) fn dpop_nonce(&self) -> Option<String> {
        let nonces = self.access_tokens.nonces.as_ref()?;
        Some(nonces.current(OffsetDateTime::now_utc()))
    }

    /// The addresses by which clients reach a path: the one that is told to them, and on loopback
    /// its other names.
    fn own_urls(&self, path: &str) -> Vec<String> {
        let api = self.api_url();
        let mut urls = vec![format!("{api}{path}")];
        let authority = api.strip_prefix("https://").unwrap_or_default();
        if let Some((host, port)) = authority.rsplit_once(':') {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            if bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) {
                urls.push(format!("https://localhost:{port}{path}"));
            }
        }
        urls
    }
}

/// Who acts for whom (RFC 8693 section 4.1): the run, for its parent, and so on to the root.
pub(super) fn actors(run: &LiveRun) -> Value {
    let chain: Vec<Value> = run
        .chain()
        .map(|run| json!({ "sub": format!("run:{}", run.id()), "name": run.name() }))
        .collect();
    let nested = chain.into_iter().rev().reduce(|inner, mut outer| {
        if let Some(members) = outer.as_object_mut() {
            members.insert("act".to_owned(), inner);
        }
        outer
    });
    nested.unwrap_or_default()
}
