//! The sessions of one client's connection: one for each token and target, opened by its first
//! request, ended with the connection.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use corral_gate::{Denial, DenialKind, Login, Proof};
use corral_model::event::CloseReason;
use corral_model::limits;
use corral_session::{Authority, ConnectionFacts, End, Opened, OwnKey, SessionHandle, open};
use tokio::sync::OnceCell;

use super::bearer::ShownToken;

/// A user agent as it is kept for people, in bytes.
const CLAIM_BYTES_MAX: usize = 256;

/// What a protocol keeps of each session.
pub(crate) trait Kept: Send + Sync + Sized {
    /// The name of the gateway's own key for this protocol.
    const KEY: &'static str;

    /// Made once, when the session was let in. `key` is [`Self::KEY`].
    ///
    /// # Errors
    /// A [`Denial`] when the target's resource cannot be used; the session ends.
    fn new(opened: Opened, key: &OwnKey) -> Result<Self, Denial>;

    fn session(&self) -> &SessionHandle;

    /// When the token that it was opened with is over, where that is before its run is.
    fn token_ends(&self) -> Option<Instant>;

    /// Whether its token opens no more requests. Those that run go on, and keep the session.
    fn is_token_over(&self) -> bool {
        self.token_ends().is_some_and(|end| end <= Instant::now())
    }
}

/// The table of one connection.
pub(crate) struct Sessions<K> {
    authority: Arc<dyn Authority>,
    facts: ConnectionFacts,
    entries: Mutex<Vec<Entry<K>>>,
}

struct Entry<K> {
    key: Key,
    cell: Arc<OnceCell<Arc<K>>>,
}

/// [`ShownToken::digest`], and the target as the client named it.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    token: [u8; 32],
    target: String,
}

impl<K: Kept> Sessions<K> {
    pub(crate) fn new(authority: Arc<dyn Authority>, facts: ConnectionFacts) -> Self {
        Self { authority, facts, entries: Mutex::default() }
    }

    /// The session of this token and target; opened when there is none.
    ///
    /// # Errors
    /// A [`Denial`]: the token or the right is missing, a limit is reached, or the session was
    /// ended by somebody and stays so.
    pub(crate) async fn of(
        &self,
        token: ShownToken,
        target: &str,
        user_agent: Option<&str>,
    ) -> Result<Arc<K>, Denial> {
        let key = Key { token: token.digest(), target: target.to_owned() };
        let cell = self.cell(&key)?;
        let opened = cell.get_or_try_init(|| self.open(token, target, user_agent)).await;
        match opened {
            Ok(kept) => Ok(kept.clone()),
            Err(denial) => {
                self.forget(&key, &cell);
                Err(denial)
            }
        }
    }

    /// Records a refusal of a connection that showed no token.
    pub(crate) fn refused(&self, reason: &str) {
        self.authority.refused(&self.facts, reason);
    }

    async fn open(
        &self,
        token: ShownToken,
        target: &str,
        user_agent: Option<&str>,
    ) -> Result<Arc<K>, Denial> {
        let claim = user_agent.map(|text| {
            let text: String = text.chars().take(CLAIM_BYTES_MAX).collect();
            ("user_agent".to_owned(), text)
        });
        let login = Login {
            proof: match token.is_proven {
                true => Proof::Proven(token.token),
                false => Proof::Token(token.token),
            },
            target: target.to_owned(),
            database: None,
            claims: claim.into_iter().collect(),
        };
        let opened = open(self.authority.as_ref(), login, self.facts.clone()).await?;
        let session = opened.session.clone();
        let made = match self.authority.own_key(K::KEY).await {
            Ok(key) => K::new(opened, &key),
            Err(denial) => Err(denial),
        };
        made.map(Arc::new).inspect_err(|denial| session.end(CloseReason::Target, denial.clone()))
    }

    fn cell(&self, key: &Key) -> Result<Arc<OnceCell<Arc<K>>>, Denial> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries.iter().position(|entry| entry.key == *key);
        if let Some(index) = found {
            let kept = entries.get(index).and_then(|entry| entry.cell.get());
            let is_token_over = kept.is_some_and(|kept| kept.is_token_over());
            match kept.and_then(|kept| kept.session().end_so_far()) {
                Some(end) if stays_ended(&end) => return Err(end.denial),
                Some(_) => {
                    entries.swap_remove(index);
                }
                // Whoever lets in refuses the token, and records that.
                None if is_token_over => {
                    entries.swap_remove(index);
                }
                None => {
                    if let Some(entry) = entries.get(index) {
                        return Ok(entry.cell.clone());
                    }
                }
            }
        }
        let is_over = |entry: &Entry<K>| {
            let Some(kept) = entry.cell.get() else { return false };
            let end = kept.session().end_so_far();
            end.map_or(kept.is_token_over(), |end| !stays_ended(&end))
        };
        entries.retain(|entry| !is_over(entry));
        if entries.len() >= limits::SESSIONS_PER_CONNECTION_MAX {
            let text = "this connection has too many sessions; open another connection";
            return Err(Denial::new(DenialKind::TooManySessions, text));
        }
        let cell = Arc::new(OnceCell::new());
        entries.push(Entry { key: key.clone(), cell: cell.clone() });
        Ok(cell)
    }

    /// A session that could not be opened leaves no entry, unless another request opened it
    /// meanwhile.
    fn forget(&self, key: &Key, cell: &Arc<OnceCell<Arc<K>>>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| {
            entry.key != *key || !Arc::ptr_eq(&entry.cell, cell) || entry.cell.get().is_some()
        });
    }
}

/// Whether later requests of the connection are refused in the same words. What ended by itself
/// or with a change of the configuration may be opened again.
fn stays_ended(end: &End) -> bool {
    match end.reason {
        CloseReason::Killed
        | CloseReason::Expired
        | CloseReason::Disabled
        | CloseReason::Budget
        | CloseReason::Protocol
        | CloseReason::Tripwire => true,
        CloseReason::Client
        | CloseReason::Target
        | CloseReason::Idle
        | CloseReason::Record
        | CloseReason::Authority
        | CloseReason::Shutdown
        | CloseReason::Lost => false,
    }
}
