//! Refused sessions and runs in the record: each by itself, until one source of them does not
//! stop; then they are counted, and the count is recorded. Nothing is left out without being told.
//!
//! A source is where a client connected from and in whose name, so that a client that repeats
//! itself hides nobody else's refusals.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use corral_model::event::{EventBody, Origin};
use corral_model::limits;
use tokio::time::Instant;

use super::App;
use super::bad_deliveries::network;

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refused {
    Session,
    RootRun,
    ChildRun,
}

impl Refused {
    /// The event by which one is recorded.
    fn event(self) -> &'static str {
        match self {
            Self::Session => "session.refused",
            Self::RootRun | Self::ChildRun => "run.refused",
        }
    }
}

/// Who is refused. Its other half is None for those for whom there was no room.
type Key = (Refused, Option<Source>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    network: Option<IpAddr>,
    principal: Option<String>,
}

/// One refusal, as far as a count of them tells it.
#[derive(Debug, Clone)]
pub(super) struct Refusal<'r> {
    pub(super) refused: Refused,
    pub(super) origin: &'r Origin,
    pub(super) ip: Option<IpAddr>,
    /// Of the client, for people.
    pub(super) address: Option<&'r str>,
    /// Of the run that was asked for.
    pub(super) name: Option<&'r str>,
    pub(super) reason: &'r str,
}

#[derive(Debug)]
struct Burst {
    /// Recorded one by one since it was last quiet.
    single: u32,
    last: Instant,
    counted: Option<Counted>,
}

/// What is not recorded yet.
#[derive(Debug)]
struct Counted {
    since: Instant,
    count: u64,
    /// Different ones, in the order in which they came.
    reasons: Vec<String>,
    /// Of the last one.
    origin: Origin,
    address: Option<String>,
    name: Option<String>,
}

/// The sources that were refused lately.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<Key, Burst>>);

impl Refusals {
    /// Whether this one is recorded by itself; if not, it is counted.
    ///
    /// # Limits
    /// [`limits::REFUSED_SOURCES_MAX`] sources; more share one count for each kind.
    fn is_single(&self, refusal: &Refusal<'_>, now: Instant) -> bool {
        let mut bursts = self.lock();
        let source = Source {
            network: refusal.ip.map(network),
            principal: refusal.origin.principal.clone(),
        };
        let mut key = (refusal.refused, Some(source));
        if !bursts.contains_key(&key) && bursts.len() >= limits::REFUSED_SOURCES_MAX {
            key = (refusal.refused, None);
        }
        let burst = bursts.entry(key).or_insert(Burst { single: 0, last: now, counted: None });
        burst.last = now;
        if burst.single < limits::REFUSALS_SINGLE_MAX {
            burst.single += 1;
            return true;
        }
        burst.counted.get_or_insert_with(|| Counted::new(now)).add(refusal);
        false
    }

    /// The counts that are due, and forgets the sources that were quiet.
    fn due(&self, now: Instant) -> Vec<(Origin, EventBody)> {
        let mut bursts = self.lock();
        let mut due: Vec<(Origin, EventBody)> = Vec::new();
        bursts.retain(|(refused, _), burst| {
            let is_quiet = now.duration_since(burst.last) >= limits::REFUSALS_QUIET;
            let is_due = |counted: &Counted| {
                is_quiet || now.duration_since(counted.since) >= limits::REFUSALS_COUNT_INTERVAL
            };
            if burst.counted.as_ref().is_some_and(is_due) {
                let counted = burst.counted.take();
                due.extend(counted.map(|counted| counted.told(*refused, burst.last)));
            }
            !is_quiet
        });
        due
    }

    /// Every count that there is: the gateway stops.
    fn rest(&self) -> Vec<(Origin, EventBody)> {
        let mut bursts = self.lock();
        let told = bursts.iter_mut().filter_map(|((refused, _), burst)| {
            burst.counted.take().map(|counted| counted.told(*refused, burst.last))
        });
        told.collect()
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Burst>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn new(since: Instant) -> Self {
        Self {
            since,
            count: 0,
            reasons: Vec::new(),
            origin: Origin::default(),
            address: None,
            name: None,
        }
    }

    fn add(&mut self, refusal: &Refusal<'_>) {
        self.count = self.count.saturating_add(1);
        // Each decision has an id of its own, which makes no other reason of it.
        let reason = refusal.reason.split(" (decision ").next().unwrap_or_default();
        let is_known = self.reasons.iter().any(|known| known == reason);
        if !is_known && self.reasons.len() < limits::REFUSAL_REASONS_MAX {
            self.reasons.push(reason.to_owned());
        }
        self.origin = Origin { session: None, target: None, ..refusal.origin.clone() };
        self.address = refusal.address.map(ToOwned::to_owned);
        self.name = refusal.name.map(ToOwned::to_owned);
    }

    fn told(self, refused: Refused, last: Instant) -> (Origin, EventBody) {
        let lasted = last.duration_since(self.since).as_millis();
        let body = EventBody::RefusalsCounted {
            refused: refused.event().to_owned(),
            count: self.count,
            lasted_ms: u64::try_from(lasted).unwrap_or(u64::MAX),
            reasons: self.reasons,
            client_address: self.address,
            name: self.name,
        };
        (self.origin, body)
    }
}

impl App {
    /// Records a refusal, or counts it.
    pub(super) fn note_refusal(&self, refusal: &Refusal<'_>, body: EventBody) {
        if self.refusals.is_single(refusal, Instant::now()) {
            self.note(refusal.origin.clone(), body);
        }
    }

    /// Records the counts that are due.
    pub(super) fn note_refusals(&self, now: Instant) {
        for (origin, body) in self.refusals.due(now) {
            self.note(origin, body);
        }
    }

    /// Records every count: the gateway stops.
    pub(crate) fn note_all_refusals(&self) {
        for (origin, body) in self.refusals.rest() {
            self.note(origin, body);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SINGLE: u32 = limits::REFUSALS_SINGLE_MAX;

    fn origin(principal: Option<&str>) -> Origin {
        Origin { principal: principal.map(ToOwned::to_owned), ..Origin::default() }
    }

    fn refusal<'r>(origin: &'r Origin, ip: &str, reason: &'r str) -> Refusal<'r> {
        let ip = ip.parse().ok();
        Refusal { refused: Refused::Session, origin, ip, address: None, name: None, reason }
    }

    /// Counts of events, and the reasons of each.
    fn told(events: Vec<(Origin, EventBody)>) -> Vec<(u64, Vec<String>)> {
        let counted = |(_, body)| match body {
            EventBody::RefusalsCounted { count, reasons, .. } => (count, reasons),
            other => panic!("not a count: {other:?}"),
        };
        events.into_iter().map(counted).collect()
    }

    #[test]
    fn none_of_a_flood_is_lost_and_little_of_it_is_recorded() {
        let (refusals, begin) = (Refusals::default(), Instant::now());
        let nobody = origin(None);
        let (mut single, mut counted, mut events) = (0, 0, 0);
        for second in 0..600 {
            let now = begin + Duration::from_secs(second);
            for _ in 0..100 {
                let one = refusal(&nobody, "192.0.2.1", "bad token");
                single += u64::from(refusals.is_single(&one, now));
            }
            for (count, reasons) in told(refusals.due(now)) {
                assert_eq!(reasons, ["bad token"]);
                counted += count;
                events += 1;
            }
        }
        let quiet = begin + Duration::from_secs(599) + limits::REFUSALS_QUIET;
        counted += told(refusals.due(quiet)).iter().map(|(count, _)| count).sum::<u64>();
        assert_eq!((single, single + counted), (u64::from(SINGLE), 600 * 100));
        assert!(events <= 10, "{events}");
        // After it was quiet, each is recorded again.
        assert!(refusals.is_single(&refusal(&nobody, "192.0.2.1", "bad token"), quiet));
    }

    #[test]
    fn other_addresses_people_and_kinds_are_recorded_one_by_one() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let (nobody, ada) = (origin(None), origin(Some("ada")));
        for _ in 0..=SINGLE {
            refusals.is_single(&refusal(&nobody, "192.0.2.1", "bad token"), now);
        }
        let check = |origin: &Origin, ip: &str, expect: bool| {
            assert_eq!(refusals.is_single(&refusal(origin, ip, "no"), now), expect, "{ip}");
        };
        check(&nobody, "192.0.2.1", false);
        check(&nobody, "192.0.2.2", true);
        check(&ada, "192.0.2.1", true);
        let run = Refusal { refused: Refused::RootRun, ..refusal(&nobody, "192.0.2.1", "no") };
        assert!(refusals.is_single(&run, now));
        // What is counted tells each reason once, whatever decision it names.
        let decided = refusal(&nobody, "192.0.2.1", "corral: not permitted (decision d-1)");
        refusals.is_single(&decided, now);
        refusals
            .is_single(&Refusal { reason: "corral: not permitted (decision d-2)", ..decided }, now);
        let reasons = ["bad token", "no", "corral: not permitted"].map(ToOwned::to_owned).to_vec();
        assert_eq!(told(refusals.rest()), [(4, reasons)]);
        assert!(refusals.rest().is_empty());
    }

    #[test]
    fn memory_is_bounded_and_no_way_to_be_recorded_more() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let mut single = 0;
        let sources = 2 * limits::REFUSED_SOURCES_MAX;
        for number in 0..sources {
            let who = origin(Some(&number.to_string()));
            let reason = format!("reason {number}");
            single += usize::from(refusals.is_single(&refusal(&who, "192.0.2.1", &reason), now));
        }
        let shared = usize::try_from(SINGLE).expect("fits");
        assert_eq!(single, limits::REFUSED_SOURCES_MAX + shared);
        let told = told(refusals.rest());
        let counted: u64 = told.iter().map(|(count, _)| count).sum();
        assert_eq!(usize::try_from(counted).expect("fits"), sources - single);
        assert_eq!(
            told.first().map(|(_, reasons)| reasons.len()),
            Some(limits::REFUSAL_REASONS_MAX)
        );
        refusals.due(now + limits::REFUSALS_QUIET);
        assert!(refusals.lock().is_empty());
    }
}
