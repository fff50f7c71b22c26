//! A request that waits for people: what they are shown is bound, and compared again before it
//! runs.

use std::sync::Arc;

use corral_gate::{Denial, DenialKind};
use corral_session::{Answer, Completion, Draft, Foreseen, HttpBody, Running, Waiting};
use http::Response;
use hyper::body::Body;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Exchange, obstructed};
use crate::kubernetes::live::{self, Live, changed_fields, in_words};
use crate::kubernetes::parked::{Filed, Parked, Place, Standing, prefers_async};
use crate::kubernetes::preview::{self, Previewed};
use crate::kubernetes::status::{accepted, code_of};
use crate::kubernetes::streams::Key;

/// What people are asked about.
pub(super) struct Shown {
    pub(super) draft: Draft,
    /// The object as the target would keep it, where it was asked.
    pub(super) result: Option<Value>,
    /// The object that is changed, as it is.
    pub(super) live: Option<Live>,
}

/// Where requests of this client may wait without it.
pub(super) struct Parking<'a> {
    pub(super) parked: &'a Arc<Parked>,
    pub(super) owner: Key,
}

impl Exchange<'_> {
    fn live_path(&self) -> Option<String> {
        live::path_of(&self.call, self.parts.uri.path(), &self.cluster.options.known_groups)
    }

    /// The object that this write changes, when people would be asked about it.
    pub(super) async fn live(&self, result: Option<&Value>) -> Result<Option<Live>, Denial> {
        let Some(path) = self.live_path() else { return Ok(None) };
        let draft = self.draft(self.facts(result), result, None);
        match self.cluster.session.check(draft).await? {
            Foreseen::Allowed => Ok(None),
            Foreseen::Held => self.read_live(&path).await.map(Some),
        }
    }

    async fn read_live(&self, path: &str) -> Result<Live, Denial> {
        let draft = Draft {
            text: format!("read of {path}").into(),
            facts: Arc::new(preview::facts(&self.facts(None))),
            parameters: Vec::new(),
            state_digest: String::new(),
            traceparent: self.line.traceparent.clone(),
            is_stream: false,
        };
        let running = match self.cluster.session.decide(draft).await {
            Answer::Allow(running) => running,
            Answer::Deny(denial) => return Err(denial),
            Answer::Hold(waiting) => waiting.wait().await?,
        };
        let Some(object) = preview::read_live(self.cluster, path, running).await? else {
            return Ok(Live::Absent);
        };
        Live::of(&object, self.canonical(&object)).ok_or_else(|| {
            let text = "this write waits for approval, and an approval could not be bound to the \
                        object that it changes: the target's answer has no uid or resourceVersion";
            Denial::new(DenialKind::TargetUnavailable, text)
        })
    }

    /// Waits for the people with the client, or without it when it asks for that.
    pub(super) async fn wait(
        self,
        body: HttpBody,
        waiting: Waiting,
        shown: Shown,
        parking: Parking<'_>,
    ) -> Result<Response<HttpBody>, Denial> {
        if shown.live.is_none() && self.live_path().is_some() {
            // Dropping what waits withdraws it.
            let text = "the policies changed while this was decided; send it again";
            return Err(Denial::new(DenialKind::Forbidden, text));
        }
        if prefers_async(&self.parts.headers) && self.can_come_again(&body) {
            return self.park(waiting, shown, parking);
        }
        let running = waiting.wait().await?;
        let (result, live) = (shown.result.as_ref(), shown.live.as_ref());
        let running = self.check_unchanged(result, live, running).await?;
        self.forward(body, running).await
    }

    /// Whether all of it can be compared with a second one like it.
    fn can_come_again(&self, body: &HttpBody) -> bool {
        !self.call.is_stream() && (self.written.is_some() || body.is_end_stream())
    }

    fn body_digest(&self) -> [u8; 32] {
        let body = self.written.as_ref().map(|written| written.body.as_ref());
        Sha256::digest(body.unwrap_or_default()).into()
    }

    fn park(
        self,
        waiting: Waiting,
        shown: Shown,
        parking: Parking<'_>,
    ) -> Result<Response<HttpBody>, Denial> {
        let Shown { draft, result, live } = shown;
        let body = self.body_digest();
        let (cluster, notice) = (self.cluster.clone(), waiting.notice.clone());
        let filed = Filed { cluster, draft, body, result, live, notice };
        let place = Place { owner: parking.owner, approval: waiting.approval.clone() };
        let response = accepted(&place.approval, &filed.notice);
        parking.parked.park(place, filed, waiting)?;
        Ok(response)
    }

    /// The same request once more: what was approved runs, or its client goes on waiting.
    pub(super) async fn resume(
        self,
        body: HttpBody,
        parked: &Arc<Parked>,
        place: &Place,
        filed: &Filed,
    ) -> Result<Response<HttpBody>, Denial> {
        let (result, live) = (filed.result.as_ref(), filed.live.as_ref());
        // Each time it is sent, a request has a span of its own.
        let traceparent = filed.draft.traceparent.clone();
        let draft = Draft { traceparent, ..self.draft(self.facts(result), result, live) };
        let is_same =
            draft == filed.draft && self.body_digest() == filed.body && self.can_come_again(&body);
        if !is_same {
            let text = format!(
                "the approval {} was asked for another request than this one, or what is masked \
                 has changed since; send the request again as it was, or anew without its approval",
                place.approval
            );
            return Err(obstructed(self.cluster, self.line, text, false).await);
        }
        let running = loop {
            match parked.take(place) {
                Standing::Decided(outcome) => break outcome?,
                Standing::Waits(_) if prefers_async(&self.parts.headers) => {
                    return Ok(accepted(&place.approval, &filed.notice));
                }
                // When nobody can change it any more, the next look says that it is gone.
                Standing::Waits(mut changes) => drop(changes.changed().await),
                Standing::Gone => {
                    let text = "the approval was used meanwhile, or its time is over; send the \
                                request anew";
                    return Err(Denial::new(DenialKind::Forbidden, text));
                }
            }
        };
        // Time has passed since the policies were asked.
        if let Err(denial) = self.cluster.session.check(draft).await {
            return Err(refused(running, denial).await);
        }
        let running = self.check_unchanged(result, live, running).await?;
        self.forward(body, running).await
    }

    /// After a wait: what was approved is still what would be done.
    async fn check_unchanged(
        &self,
        result: Option<&Value>,
        live: Option<&Live>,
        running: Running,
    ) -> Result<Running, Denial> {
        let Some(what) = self.changed_since(result, live).await? else { return Ok(running) };
        let text = format!(
            "the object changed while this waited for approval, so that something else would be \
             done than was approved: {what}; ask again"
        );
        Err(refused(running, Denial::new(DenialKind::ApprovalExpired, text)).await)
    }

    async fn changed_since(
        &self,
        result: Option<&Value>,
        live: Option<&Live>,
    ) -> Result<Option<String>, Denial> {
        if let (Some(was), Some(path)) = (live, self.live_path())
            && let Some(what) = was.changed_to(&self.read_live(&path).await?)
        {
            return Ok(Some(what));
        }
        let (Some(approved), Some(written)) = (result, self.written.as_ref()) else {
            return Ok(None);
        };
        Ok(match self.ask_preview(written).await? {
            Previewed::Refused(..) => Some("the target refuses it by now".to_owned()),
            Previewed::Result(now) => {
                let (was, now) = (self.canonical(approved), self.canonical(&now));
                let fields = changed_fields(&was, &now);
                (was != now).then(|| format!("{} would be another", in_words(&fields)))
            }
        })
    }
}

/// A permitted request that does not run after all.
async fn refused(running: Running, denial: Denial) -> Denial {
    let (code, _) = code_of(denial.kind);
    let completion = Completion { code: code.as_u16().to_string(), ..Completion::default() };
    running.finish(completion).await;
    denial
}
