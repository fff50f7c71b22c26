//! Hashes passwords and workload secrets with argon2id and checks them, a bounded number at
//! once: each computation takes 19 MiB and tens of milliseconds by design.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use corral_model::limits;
use corral_model::secret::Secret;
use tokio::sync::Semaphore;

/// OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Why a password was neither accepted nor plainly refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Whoever chose or typed it is to blame.
    #[error("a password has between 1 and {max} bytes", max = limits::PASSWORD_BYTES_MAX)]
    BadLength,
    /// Too many people sign in at once.
    #[error("too many sign-ins at once; try again in a few seconds")]
    Busy,
    /// The gateway's store is to blame.
    #[error("the stored password hash cannot be read")]
    BadHash,
    /// The gateway is to blame.
    #[error("the password could not be hashed")]
    Failed,
}

/// A password's argon2id hash as a PHC string. It is secret too: it can be guessed against.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Reads a stored hash.
    ///
    /// # Errors
    /// [`PasswordError::BadHash`] when it is not an argon2id PHC string, or asks for more memory
    /// or passes than this gateway ever used.
    pub fn parse(phc: &str) -> Result<Self, PasswordError> {
        let hash = phc::PasswordHash::new(phc).map_err(|_| PasswordError::BadHash)?;
        let params = Params::try_from(&hash).map_err(|_| PasswordError::BadHash)?;
        let is_ours = hash.algorithm == argon2::ARGON2ID_IDENT
            && hash.salt.is_some()
            && hash.hash.is_some()
            && params.m_cost() <= MEMORY_KIB
            && params.t_cost() <= PASSES
            && params.p_cost() <= LANES;
        if is_ours { Ok(Self(phc.to_owned())) } else { Err(PasswordError::BadHash) }
    }

    /// As it is stored.
    #[must_use]
    pub fn as_phc(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// Whether what was shown is the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verified {
    Right,
    Wrong,
}

/// The gate that all password work goes through. Cheap to clone; clones share the limits.
#[derive(Clone)]
pub struct PasswordChecks {
    running: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// Of a random password that nobody knows: checked for names that do not exist, so that the
    /// time of a refusal does not tell which names do.
    dummy: PasswordHash,
}

impl PasswordChecks {
    /// Makes the gate; computes one hash.
    ///
    /// # Errors
    /// [`PasswordError::Failed`] when the system gives no random bytes.
    pub async fn start() -> Result<Self, PasswordError> {
        let nobody = crate::token::Token::generate().map_err(|_| PasswordError::Failed)?;
        let dummy = tokio::task::spawn_blocking(move || hash_now(nobody.reveal()))
            .await
            .map_err(|_| PasswordError::Failed)??;
        Ok(Self {
            running: Arc::new(Semaphore::new(limits::PASSWORD_CHECKS_MAX)),
            waiting: Arc::new(AtomicUsize::new(0)),
            dummy,
        })
    }

    /// Hashes a password that was just chosen.
    ///
    /// # Errors
    /// [`PasswordError::BadLength`], [`PasswordError::Busy`], [`PasswordError::Failed`].
    ///
    /// # Limits
    /// [`limits::PASSWORD_CHECKS_MAX`] run at once; [`limits::PASSWORD_CHECKS_WAITING_MAX`] wait.
    ///
    /// # Cancel safety
    /// A computation that has begun runs to its end on its own thread and keeps its place.
    pub async fn hash(&self, password: Secret) -> Result<PasswordHash, PasswordError> {
        check_length(&password)?;
        self.run(move || hash_now(password.reveal())).await?
    }

    /// Checks a password. With `hash` None (no such name, no password, disabled) it costs the
    /// same and the answer is [`Verified::Wrong`].
    ///
    /// # Errors
    /// [`PasswordError::BadHash`], [`PasswordError::Busy`], [`PasswordError::Failed`]. All of
    /// them refuse.
    ///
    /// # Limits
    /// As [`PasswordChecks::hash`]. A password of a wrong length is wrong, at the same cost.
    ///
    /// # Cancel safety
    /// As [`PasswordChecks::hash`].
    pub async fn verify(
        &self,
        password: Secret,
        hash: Option<PasswordHash>,
    ) -> Result<Verified, PasswordError> {
        let is_possible = hash.is_some() && check_length(&password).is_ok();
        let hash = match hash {
            Some(hash) if is_possible => hash,
            Some(_) | None => self.dummy.clone(),
        };
        let password = if is_possible { password } else { Secret::new("-".to_owned()) };
        let verified = self.run(move || verify_now(password.reveal(), &hash)).await??;
        Ok(if is_possible { verified } else { Verified::Wrong })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = match Arc::clone(&self.running).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                let _waiting = Waiting::enter(&self.waiting)?;
                let running = Arc::clone(&self.running);
                running.acquire_owned().await.map_err(|_| PasswordError::Failed)?
            }
        };
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        })
        .await
        .map_err(|_| PasswordError::Failed)
    }
}

/// One caller that waits; leaves the count when it is dropped.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn enter(count: &Arc<AtomicUsize>) -> Result<Self, PasswordError> {
        let earlier = count.fetch_add(1, Ordering::SeqCst);
        let waiting = Self(Arc::clone(count));
        if earlier >= limits::PASSWORD_CHECKS_WAITING_MAX {
            return Err(PasswordError::Busy);
        }
        Ok(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn check_length(password: &Secret) -> Result<(), PasswordError> {
    let len = password.reveal().len();
    if (1..=limits::PASSWORD_BYTES_MAX).contains(&len) {
        Ok(())
    } else {
        Err(PasswordError::BadLength)
    }
}

fn argon2() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| PasswordError::Failed)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_now(password: &str) -> Result<PasswordHash, PasswordError> {
    let mut salt = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| PasswordError::Failed)?;
    let hash: phc::PasswordHash = argon2()?
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|_| PasswordError::Failed)?;
    Ok(PasswordHash(hash.to_string()))
}

fn verify_now(password: &str, hash: &PasswordHash) -> Result<Verified, PasswordError> {
    let hash = phc::PasswordHash::new(hash.as_phc()).map_err(|_| PasswordError::BadHash)?;
    match argon2()?.verify_password(password.as_bytes(), &hash) {
        Ok(()) => Ok(Verified::Right),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(Verified::Wrong),
        Err(_) => Err(PasswordError::BadHash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let checks = PasswordChecks::start().await.expect("starts");
        let hash = checks.hash(secret("correct horse")).await.expect("hashes");
        assert!(hash.as_phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let cases = [
            ("correct horse", Verified::Right),
            ("correct horse ", Verified::Wrong),
            ("Correct horse", Verified::Wrong),
            ("-", Verified::Wrong),
            ("", Verified::Wrong),
        ];
        for (password, expect) in cases {
            let found = checks.verify(secret(password), Some(hash.clone())).await;
            assert_eq!(found, Ok(expect), "{password}");
        }
        let stored = PasswordHash::parse(hash.as_phc()).expect("reads back");
        assert_eq!(checks.verify(secret("correct horse"), Some(stored)).await, Ok(Verified::Right));
    }

    #[tokio::test]
    async fn a_name_without_a_password_is_refused_even_with_the_dummys() {
        let checks = PasswordChecks::start().await.expect("starts");
        for password in ["-", "", "anything"] {
            assert_eq!(checks.verify(secret(password), None).await, Ok(Verified::Wrong));
        }
    }

    #[tokio::test]
    async fn the_same_password_never_hashes_the_same() {
        let checks = PasswordChecks::start().await.expect("starts");
        let one = checks.hash(secret("same")).await.expect("hashes");
        let other = checks.hash(secret("same")).await.expect("hashes");
        assert_ne!(one, other);
        assert_eq!(format!("{one:?}"), "PasswordHash(…)");
    }

    #[tokio::test]
    async fn lengths_have_a_limit() {
        let checks = PasswordChecks::start().await.expect("starts");
        let longest = "x".repeat(limits::PASSWORD_BYTES_MAX);
        assert!(checks.hash(secret(&longest)).await.is_ok());
        for text in [String::new(), format!("{longest}x")] {
            assert_eq!(checks.hash(secret(&text)).await, Err(PasswordError::BadLength));
        }
    }

    #[tokio::test]
    async fn more_waiting_checks_than_the_limit_are_refused() {
        let checks = PasswordChecks::start().await.expect("starts");
        let places = u32::try_from(limits::PASSWORD_CHECKS_MAX).expect("small");
        let held =
            Arc::clone(&checks.running).acquire_many_owned(places).await.expect("all places");
        let mut waiting: Vec<_> = (0..limits::PASSWORD_CHECKS_WAITING_MAX)
            .map(|_| Box::pin(checks.verify(secret("x"), None)))
            .collect();
        for check in &mut waiting {
            assert!(futures_poll(check.as_mut()).is_pending());
        }
        assert_eq!(checks.verify(secret("x"), None).await, Err(PasswordError::Busy));
        drop(waiting);
        drop(held);
        assert_eq!(checks.verify(secret("x"), None).await, Ok(Verified::Wrong));
    }

    fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn hashes_that_are_not_ours_are_refused() {
        let expensive = "$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHRzYWx0$\
            BztdyfEefG5V18ZNlztPrfZaU5duVFKZiI6dJeWht0o";
        let other = "$argon2i$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$\
            BztdyfEefG5V18ZNlztPrfZaU5duVFKZiI6dJeWht0o";
        for text in ["", "plain", "$argon2id$v=19$m=19456,t=2,p=1", expensive, other] {
            assert_eq!(PasswordHash::parse(text), Err(PasswordError::BadHash), "{text}");
        }
    }
}
