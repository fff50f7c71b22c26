//! Sessions that are open: what others may see of them, and how they are told to end.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use corral_gate::Denial;
use corral_model::Principal;
use corral_model::event::CloseReason;
use corral_model::ids::{ApprovalId, PrincipalName, SessionId, TargetName};
use corral_model::token::TokenDigest;
use corral_session::{Control, Usage};
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::runs::LiveRun;
use crate::app::sessions::{SessionState, SessionView};

/// Bytes of a cancel key that find a session; the others are compared. No key is shorter.
const CANCEL_KEY_BYTES: usize = 8;

/// One session. Its counters are written by its own task and read by others.
#[derive(Debug)]
pub(crate) struct LiveSession {
    pub(crate) id: SessionId,
    pub(crate) principal: Principal,
    pub(crate) sponsor: PrincipalName,
    pub(crate) run: Option<Arc<LiveRun>>,
    /// The login token that opened it, when no run did.
    pub(crate) login: Option<TokenDigest>,
    pub(crate) target: TargetName,
    pub(crate) protocol: &'static str,
    pub(crate) client_ip: Option<IpAddr>,
    pub(crate) client_address: String,
    pub(crate) is_tls: bool,
    pub(crate) claims: Vec<(String, String)>,
    pub(crate) started_at: OffsetDateTime,
    pub(crate) cancel_secret: [u8; 32],
    /// Whether it is logged in with the credential that sees raw values.
    pub(crate) sees_raw: bool,
    pub(crate) control: mpsc::Sender<Box<Control>>,
    pub(crate) activity: Activity,
}

/// What changes while a session runs.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    state: AtomicU8,
    is_ending: AtomicBool,
    statements: AtomicU64,
    rows: AtomicU64,
    bytes_to_client: AtomicU64,
    bytes_to_target: AtomicU64,
    waiting_for: Mutex<Option<ApprovalId>>,
}

const OPENING: u8 = 0;
const OPEN: u8 = 1;

impl Activity {
    pub(crate) fn opened(&self) {
        self.state.store(OPEN, Ordering::Relaxed);
    }

    pub(crate) fn count_statement(&self) {
        self.statements.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, usage: Usage) {
        self.rows.fetch_add(usage.rows, Ordering::Relaxed);
        self.bytes_to_client.fetch_add(usage.bytes_to_client, Ordering::Relaxed);
        self.bytes_to_target.fetch_add(usage.bytes_to_target, Ordering::Relaxed);
    }

    pub(crate) fn wait_for(&self, approval: Option<ApprovalId>) {
        *self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner) = approval;
    }

    /// Told to end: whatever it asks from here on is refused.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    fn waiting_for(&self) -> Option<ApprovalId> {
        self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl LiveSession {
    pub(crate) fn view(&self) -> SessionView {
        let waiting_for = self.activity.waiting_for();
        let state = if self.activity.is_ending() {
            SessionState::Ending
        } else if waiting_for.is_some() {
            SessionState::Held
        } else if self.activity.state.load(Ordering::Relaxed) == OPENING {
            SessionState::Opening
        } else {
            SessionState::Open
        };
        SessionView {
            id: self.id.clone(),
            state,
            principal: self.principal.clone(),
            sponsor: self.sponsor.clone(),
            run: self.run.as_ref().map(|run| run.id().clone()),
            run_path: self.run.as_ref().map(|run| run.path().to_owned()),
            target: self.target.clone(),
            protocol: self.protocol.to_owned(),
            client_address: self.client_address.clone(),
            is_tls: self.is_tls,
            claims: self.claims.clone(),
            started_at: self.started_at,
            statements: self.activity.statements.load(Ordering::Relaxed),
            rows: self.activity.rows.load(Ordering::Relaxed),
            bytes_to_client: self.activity.bytes_to_client.load(Ordering::Relaxed),
            bytes_to_target: self.activity.bytes_to_target.load(Ordering::Relaxed),
            waiting_for,
        }
    }

    /// Tells the session to end. It is refused everything from here on, and its task is told even
    /// when its queue is full at the moment. False when it was told before.
    pub(crate) fn end(&self, reason: CloseReason, denial: Denial) -> bool {
        if self.activity.is_ending.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.tell(Control::End { reason, denial });
        true
    }

    /// Sends a word to the session's task; waits beside the caller when its queue is full.
    pub(crate) fn tell(&self, word: Control) {
        match self.control.try_send(Box::new(word)) {
            // Closed: the session ended by itself.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(word)) => {
                let control = self.control.clone();
                tokio::spawn(async move { control.send(word).await });
            }
        }
    }
}

/// All sessions of this gateway.
#[derive(Debug, Default)]
pub(crate) struct SessionRegistry {
    sessions: HashMap<SessionId, Arc<LiveSession>>,
    by_cancel_key: HashMap<[u8; CANCEL_KEY_BYTES], (Vec<u8>, SessionId)>,
    key_starts: HashMap<SessionId, [u8; CANCEL_KEY_BYTES]>,
}

impl SessionRegistry {
    pub(crate) fn insert(&mut self, session: Arc<LiveSession>) {
        self.sessions.insert(session.id.clone(), session);
    }

    /// From here on `key` cancels the session. Where another session's key starts alike, which is
    /// as likely as a broken source of randomness, nothing cancels this one.
    pub(crate) fn opened(&mut self, id: &SessionId, key: Vec<u8>) {
        let first = key.first_chunk::<CANCEL_KEY_BYTES>().copied();
        if let (Some(first), true) = (first, self.sessions.contains_key(id)) {
            if self.by_cancel_key.contains_key(&first) {
                return;
            }
            self.by_cancel_key.insert(first, (key, id.clone()));
            self.key_starts.insert(id.clone(), first);
        }
    }

    pub(crate) fn remove(&mut self, id: &SessionId) {
        self.sessions.remove(id);
        if let Some(start) = self.key_starts.remove(id) {
            self.by_cancel_key.remove(&start);
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<LiveSession>> {
        let id = SessionId::new(id).ok()?;
        self.sessions.get(&id).cloned()
    }

    /// The session that was opened with exactly this key.
    pub(crate) fn by_cancel_key(&self, key: &[u8]) -> Option<Arc<LiveSession>> {
        let first = key.first_chunk::<CANCEL_KEY_BYTES>()?;
        let (own, id) = self.by_cancel_key.get(first)?;
        // Every byte is looked at, so that the time tells nothing of where they differ.
        let difference = own.iter().zip(key).fold(0_u8, |all, (own, given)| all | (own ^ given));
        let is_own = difference == 0 && own.len() == key.len();
        is_own.then(|| self.sessions.get(id).cloned()).flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// The sessions for which `is_meant` holds, oldest first.
    pub(crate) fn select(&self, is_meant: impl Fn(&LiveSession) -> bool) -> Vec<Arc<LiveSession>> {
        let chosen = self.sessions.values().filter(|session| is_meant(session));
        let mut chosen: Vec<Arc<LiveSession>> = chosen.cloned().collect();
        chosen.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        chosen
    }
}
