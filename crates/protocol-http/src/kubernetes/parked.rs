//! Held requests whose clients did not stay to wait (`Prefer: respond-async`, RFC 7240
//! section 4.1). Each keeps its session open. Nothing runs until the client comes back and sends
//! the same request again with the approval's id: it runs then, once, or is refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use corral_gate::{Denial, DenialKind};
use corral_model::ids::ApprovalId;
use corral_model::limits;
use corral_session::{Draft, Running, SessionHandle, Waiting};
use http::{HeaderMap, HeaderName};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;

use super::cluster::Cluster;
use super::live::Live;
use super::streams::Key;

/// Names the approval of a request that is sent again.
pub(crate) const APPROVAL: HeaderName = HeaderName::from_static("corral-approval");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Whether a client asks not to wait (RFC 7240 section 2).
pub(crate) fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let preferences = values.flat_map(|value| value.split(','));
    let mut names = preferences.map(|one| one.split([';', '=']).next().unwrap_or_default().trim());
    names.any(|name| name.eq_ignore_ascii_case("respond-async"))
}

/// The approval that a request names; an error for one that names several, or none that can be.
pub(crate) fn approval_of(headers: &HeaderMap) -> Result<Option<ApprovalId>, String> {
    let mut named = headers.get_all(APPROVAL).iter();
    match (named.next(), named.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => {
            let id = one.to_str().ok().and_then(|text| ApprovalId::new(text).ok());
            id.map(Some).ok_or_else(|| format!("the header {APPROVAL} names no approval"))
        }
        (Some(_), Some(_)) => Err(format!("the header {APPROVAL} stands twice")),
    }
}

/// Whose request waits for which approval.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// Of the token and the target.
    pub(crate) owner: Key,
    pub(crate) approval: ApprovalId,
}

/// What was filed, to be compared with what is sent again.
pub(crate) struct Filed {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) draft: Draft,
    /// SHA-256 of the body's bytes.
    pub(crate) body: [u8; 32],
    pub(crate) result: Option<Value>,
    pub(crate) live: Option<Live>,
    /// What the client was told.
    pub(crate) notice: String,
}

/// Where a parked request stands.
pub(crate) enum Standing {
    /// People were not heard yet; the receiver hears of a change.
    Waits(watch::Receiver<()>),
    Decided(Result<Running, Denial>),
    /// Somebody else took it, its time is over, or its session ended.
    Gone,
}

/// The parked requests of one gateway.
#[derive(Default)]
pub(crate) struct Parked {
    entries: Mutex<HashMap<Place, Entry>>,
}

impl std::fmt::Debug for Parked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Parked").field("len", &entries.len()).finish()
    }
}

struct Entry {
    filed: Arc<Filed>,
    outcome: Option<Result<Running, Denial>>,
    changes: watch::Sender<()>,
}

/// Takes an entry out, however its task ends: what it holds keeps its session open.
struct Removal {
    parked: Arc<Parked>,
    place: Place,
}

impl Drop for Removal {
    fn drop(&mut self) {
        drop(self.parked.remove(&self.place));
    }
}

impl Parked {
    /// Keeps a held request for its client.
    ///
    /// # Errors
    /// A [`Denial`] when there are too many; the request is withdrawn.
    pub(crate) fn park(
        self: &Arc<Self>,
        place: Place,
        filed: Filed,
        waiting: Waiting,
    ) -> Result<(), Denial> {
        let session = filed.cluster.session.clone();
        let changes = watch::Sender::new(());
        let taken = changes.subscribe();
        {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            if entries.len() >= limits::PARKED_REQUESTS_MAX {
                let text = "too many requests wait for approval without their clients; wait for \
                            the answer, or try again later";
                return Err(Denial::new(DenialKind::Forbidden, text));
            }
            let entry = Entry { filed: Arc::new(filed), outcome: None, changes };
            entries.insert(place.clone(), entry);
        }
        let removal = Removal { parked: self.clone(), place };
        session.clone().spawn(follow(session, removal, waiting, taken))
    }

    pub(crate) fn find(&self, place: &Place) -> Option<Arc<Filed>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(place).map(|entry| entry.filed.clone())
    }

    /// Takes a request that was decided: what comes of it is given out once.
    pub(crate) fn take(&self, place: &Place) -> Standing {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.get_mut(place) {
            None => Standing::Gone,
            Some(Entry { outcome: None, changes, .. }) => Standing::Waits(changes.subscribe()),
            Some(Entry { outcome, .. }) => {
                let outcome = outcome.take();
                // Its task hears that the sender is gone.
                entries.remove(place);
                outcome.map_or(Standing::Gone, Standing::Decided)
            }
        }
    }

    fn decide(&self, place: &Place, outcome: Result<Running, Denial>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(place) {
            entry.outcome = Some(outcome);
            entry.changes.send_replace(());
        }
    }

    fn remove(&self, place: &Place) -> Option<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(place)
    }
}

/// Waits for the people, and then for the client.
async fn follow(
    session: SessionHandle,
    removal: Removal,
    waiting: Waiting,
    mut taken: watch::Receiver<()>,
) {
    let outcome = tokio::select! {
        biased;
        end = session.ended() => Err(end.denial),
        outcome = waiting.wait() => outcome,
    };
    removal.parked.decide(&removal.place, outcome);
    tokio::select! {
        () = async { while taken.changed().await.is_ok() {} } => {}
        _ = session.ended() => {}
        () = sleep(limits::PARKED_OUTCOME_WAIT) => {}
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn preferences_are_read_as_the_rfc_writes_them() {
        for values in [
            &["respond-async"][..],
            &["Respond-Async"],
            &["return=minimal, respond-async; x=1"],
            &["wait=10", "respond-async"],
            &[" respond-async , wait=5"],
        ] {
            assert!(prefers_async(&headers(PREFER, values)), "{values:?}");
        }
        for values in [&[][..], &["wait=10"], &["respond-asynchronously"], &["x=respond-async"]] {
            assert!(!prefers_async(&headers(PREFER, values)), "{values:?}");
        }
    }

    #[test]
    fn one_approval_is_named_or_none() {
        assert_eq!(approval_of(&headers(APPROVAL, &[])), Ok(None));
        let named = approval_of(&headers(APPROVAL, &["a-1"]));
        assert_eq!(named, Ok(Some(ApprovalId::new("a-1").expect("an id"))));
        for values in [&["a-1", "a-1"][..], &["a 1"], &[""]] {
            assert!(approval_of(&headers(APPROVAL, values)).is_err(), "{values:?}");
        }
    }
}
