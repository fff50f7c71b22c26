//! What names mean in this session: which catalogue it uses, and when it has to ask again.

use std::sync::Arc;
use std::time::Instant;

use corral_model::limits;

use crate::analysis::catalogue::{CatalogueError, Row, has_temporary_schema, keeps_snapshot};
use crate::analysis::{Catalogue, Names, SessionChange, SessionNames};
use crate::analyst::Analyst;
use crate::deny::Refusal;
use crate::digest::digest;
use crate::shared::{Claim, SharedTarget, Stamp};

use super::pending::Question;

/// What has to be asked of the target before names can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Nothing,
    Probe,
    /// The catalogue, too.
    Catalogue,
    /// Nothing that can be asked: the transaction's snapshot is too old to read names in.
    Newer,
    /// Nothing: another session reads the catalogue.
    Others {
        look_at: Instant,
    },
}

/// Rows of the gateway's questions.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// None: the catalogue was not asked for.
    pub(crate) catalogue: Option<Vec<Row>>,
    pub(crate) session: Vec<Row>,
    /// Names of the statements that are SQL's; None: they were not asked for.
    pub(crate) prepared: Option<Vec<Row>>,
    bytes: usize,
    /// Whether and as which generation the catalogue may be shared.
    pub(crate) share_as: Option<u64>,
    pub(crate) has_failed: bool,
    /// What the target said where it gave a question up: for a cancel of the client's, a limit of
    /// time that the client set, or a failed transaction. Fixed texts, without a value in them.
    pub(crate) given_up: Option<Refusal>,
}

impl Rows {
    /// What the rows mean. Takes long for a large catalogue.
    pub(crate) fn read(self, analyst: &dyn Analyst) -> Result<ReadNames, CatalogueError> {
        if self.has_failed {
            return Err(CatalogueError::Incomplete("its rows"));
        }
        let catalogue = match &self.catalogue {
            Some(rows) => Some(analyst.catalogue(rows)?),
            None => None,
        };
        let session = analyst.session_names(&self.session)?;
        let keeps_snapshot = keeps_snapshot(&self.session);
        Ok(ReadNames { catalogue, session, keeps_snapshot, share_as: self.share_as })
    }
}

/// What was read.
pub(crate) struct ReadNames {
    catalogue: Option<Catalogue>,
    session: SessionNames,
    keeps_snapshot: bool,
    share_as: Option<u64>,
}

/// How old a session's own catalogue is.
#[derive(Debug, Clone, Copy)]
struct Private {
    asked: Stamp,
    read_at: Instant,
}

/// When the client's transaction began, at the latest: what it reads of the catalogue may be as old,
/// where it keeps its snapshot. The target resolves names in the newest one.
#[derive(Debug, Clone, Copy)]
struct Began {
    changes: Stamp,
    at: Instant,
}

/// The names of one session.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) shared: Arc<SharedTarget>,
    names: Option<Arc<Names>>,
    /// The catalogue that was current when the session's own part was asked for: it may be past
    /// its age when the answer arrives, and the next question finds that out.
    adopted: Option<Arc<Catalogue>>,
    /// Grows when they mean something else.
    version: u64,
    digest: Arc<str>,
    generation: u64,
    /// The catalogue was read within a transaction of the client's: it may hold what that changed,
    /// and is no other session's.
    private: Option<Private>,
    /// Whether its transactions keep their snapshots: REPEATABLE READ and SERIALIZABLE.
    keeps_snapshot: bool,
    /// None: it does not matter.
    began: Option<Began>,
    /// Since when another session reads the catalogue in this one's stead.
    waits_since: Option<Instant>,
    /// When the catalogue was asked for last.
    asked: Stamp,
    is_probe_dirty: bool,
    is_catalogue_dirty: bool,
    /// No other session's catalogue will do, however new: people looked at this session's.
    reads_itself: bool,
    /// The session has a schema for temporary objects: once told so, they are asked for at once.
    has_temporary: bool,
    /// Since the transaction began, up to the Sync of this number.
    changed: SessionChange,
    change_epoch: u64,
    /// The session may have read texts in another way than its gateway's questions are read in:
    /// never false again.
    is_foreign: bool,
    /// Of the questions that are on their way.
    pub(crate) rows: Rows,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<SharedTarget>) -> Self {
        Self {
            shared,
            names: None,
            adopted: None,
            version: 0,
            digest: Arc::from(""),
            generation: 0,
            private: None,
            keeps_snapshot: false,
            began: None,
            waits_since: None,
            asked: Stamp::default(),
            is_probe_dirty: true,
            is_catalogue_dirty: false,
            reads_itself: false,
            has_temporary: false,
            changed: SessionChange::default(),
            change_epoch: 0,
            is_foreign: false,
            rows: Rows::default(),
        }
    }

    pub(crate) fn names(&self) -> Option<&Arc<Names>> {
        self.names.as_ref()
    }

    /// The names, if what the session adds to them is as new as the last thing that was sent.
    pub(crate) fn probed(&self) -> Option<&Arc<Names>> {
        self.names.as_ref().filter(|_| !self.is_probe_dirty)
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    /// What to ask now. `is_idle`: outside any transaction, so that what is read may be shared.
    pub(crate) fn need(&mut self, is_idle: bool, now: Instant) -> Need {
        self.not_asked();
        let is_past = !is_idle && self.keeps_snapshot && self.is_past(now);
        if is_past && self.is_probe_dirty && self.names.is_some() {
            // It may be another transaction by now.
            return Need::Probe;
        }
        let read = if is_past { Need::Newer } else { Need::Catalogue };
        let has_own_changes = self.changed.catalogue;
        if self.is_catalogue_dirty && has_own_changes {
            return read;
        }
        if self.reads_itself {
            self.rows.share_as = is_idle.then(|| self.shared.generation());
            return read;
        }
        if let (Some(private), false) = (self.private, self.is_catalogue_dirty) {
            let age = now.saturating_duration_since(private.read_at);
            let is_new = age <= limits::CATALOGUE_AGE_MAX && !is_past;
            if is_new && private.asked == self.shared.stamp() {
                return if self.is_probe_dirty { Need::Probe } else { Need::Nothing };
            }
            if has_own_changes {
                return read;
            }
            self.is_catalogue_dirty = true;
        }
        if self.is_catalogue_dirty || !self.shared.is_current(self.generation, now) {
            let claim = self.shared.claim(now, is_idle);
            if matches!(claim, Claim::Elsewhere(_))
                && let Some(look_at) = self.look_at(now)
            {
                return Need::Others { look_at };
            }
            match claim {
                Claim::Have(catalogue, generation) => self.adopt(&catalogue, generation),
                Claim::Read(generation) | Claim::Elsewhere(generation) => {
                    self.rows.share_as = is_idle.then_some(generation);
                    return read;
                }
            }
        }
        if self.names.is_none() || self.is_probe_dirty { Need::Probe } else { Need::Nothing }
    }

    /// When to look again for what another session reads, each time after twice as long. None: it
    /// takes too long.
    fn look_at(&mut self, now: Instant) -> Option<Instant> {
        let waited = |since: Instant| now.saturating_duration_since(since);
        // An older one was given up.
        let since =
            self.waits_since.filter(|since| waited(*since) < 2 * limits::CATALOGUE_WAIT_MAX);
        let waited = waited(*self.waits_since.insert(since.unwrap_or(now)));
        (waited < limits::CATALOGUE_WAIT_MAX)
            .then(|| now + waited.max(limits::CATALOGUE_LOOK_INTERVAL_MIN))
    }

    /// Outside any transaction, and about to send what may begin one. Sessions whose transactions
    /// matter tell it each time.
    pub(crate) fn begins(&mut self, now: Instant) {
        self.began = Some(Began { changes: self.shared.stamp(), at: now });
    }

    /// Whether objects may have changed since the transaction began.
    fn is_past(&self, now: Instant) -> bool {
        self.began.is_some_and(|began| {
            now.saturating_duration_since(began.at) > limits::CATALOGUE_AGE_MAX
                || self.shared.stamp().is_changed_since(began.changes)
        })
    }

    fn adopt(&mut self, catalogue: &Arc<Catalogue>, generation: u64) {
        self.generation = generation;
        self.private = None;
        self.waits_since = None;
        self.is_catalogue_dirty = false;
        // The path may lead to a schema that was not there, or that the account may use by now.
        self.is_probe_dirty = true;
        match &self.names {
            Some(names) if Arc::ptr_eq(&names.catalogue, catalogue) => {}
            Some(names) => {
                let names = Names { catalogue: catalogue.clone(), session: names.session.clone() };
                self.set(names);
            }
            None => self.adopted = Some(catalogue.clone()),
        }
    }

    fn set(&mut self, names: Names) {
        let digest = digest([names.catalogue.version(), names.session.version()]);
        if digest != self.digest || self.names.is_none() {
            self.version += 1;
            self.digest = digest;
        }
        self.names = Some(if self.private.is_some() {
            Arc::new(names)
        } else {
            self.shared.same_names(names)
        });
    }

    /// The questions are being sent.
    pub(crate) fn asking(&mut self, need: Need) {
        let share_as = self.rows.share_as;
        self.rows = Rows::default();
        self.waits_since = None;
        if need == Need::Catalogue {
            self.rows.catalogue = Some(Vec::new());
            self.rows.share_as = share_as;
            self.asked = self.shared.stamp();
            self.is_catalogue_dirty = false;
            self.reads_itself = false;
            // It is being replaced: the end of its transaction means nothing to the new one.
            self.private = None;
        }
        self.is_probe_dirty = false;
    }

    /// One row of an answer.
    pub(crate) fn add_row(&mut self, question: Question, row: Row, frame_len: usize) {
        self.rows.bytes += frame_len;
        if self.rows.bytes > limits::CATALOGUE_BYTES_MAX {
            self.rows.has_failed = true;
            return;
        }
        match (question, &mut self.rows.catalogue) {
            (Question::Catalogue, Some(rows)) => rows.push(row),
            (Question::Set(_), _) | (Question::Catalogue, None) => {}
            (Question::Prepared, _) => self.rows.prepared.get_or_insert_default().push(row),
            (Question::Session | Question::Temporary, _) => self.rows.session.push(row),
        }
    }

    /// Whether temporary objects are asked for with the rest.
    pub(crate) fn has_temporary(&self) -> bool {
        self.has_temporary
    }

    /// Whether the session turned out to have temporary objects that were not asked for. From then
    /// on they are.
    pub(crate) fn lacks_temporary(&mut self) -> bool {
        let was_asked = self.has_temporary;
        self.has_temporary = has_temporary_schema(&self.rows.session);
        self.has_temporary && !was_asked
    }

    /// The target did not answer, or not with what names can be told from.
    pub(crate) fn failed(&mut self) {
        self.is_probe_dirty = true;
        if self.rows.catalogue.is_some() {
            self.is_catalogue_dirty = true;
        }
        self.give_back();
        self.rows = Rows::default();
    }

    /// What was needed is not asked for now: others may read what this session was to read.
    pub(crate) fn not_asked(&mut self) {
        self.give_back();
        self.rows.share_as = None;
    }

    /// Another session may read the catalogue in this one's stead.
    fn give_back(&self) {
        if self.rows.share_as.is_some() {
            self.shared.give_back();
        }
    }

    /// Takes over what was read.
    pub(crate) fn learn(&mut self, read: ReadNames, now: Instant) -> Result<(), CatalogueError> {
        self.keeps_snapshot = read.keeps_snapshot;
        let catalogue = match (read.catalogue, read.share_as) {
            (Some(catalogue), Some(generation)) => {
                let (catalogue, generation) = self.shared.publish(catalogue, generation, now);
                self.generation = generation;
                self.private = None;
                catalogue
            }
            (Some(catalogue), None) => {
                self.private = Some(Private { asked: self.asked, read_at: now });
                Arc::new(catalogue)
            }
            (None, _) => match (&self.names, self.adopted.take()) {
                (Some(names), _) => names.catalogue.clone(),
                (None, Some(catalogue)) => catalogue,
                (None, None) => {
                    self.is_probe_dirty = true;
                    return Err(CatalogueError::Incomplete("the catalogue"));
                }
            },
        };
        self.set(Names { catalogue, session: read.session });
        Ok(())
    }

    /// Everything is to be asked again before the next statement.
    pub(crate) fn distrust(&mut self) {
        self.is_probe_dirty = true;
        self.is_catalogue_dirty = true;
    }

    /// The same, and the catalogue that others have will not do: it may be some seconds old.
    pub(crate) fn read_anew(&mut self) {
        self.distrust();
        self.reads_itself = true;
    }

    /// The target may read the session's texts in another encoding than UTF-8, or may have begun to.
    pub(crate) fn becomes_foreign(&mut self) {
        self.is_foreign = true;
    }

    pub(crate) fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// A reported setting changed.
    pub(crate) fn distrust_session(&mut self) {
        self.is_probe_dirty = true;
    }

    /// A statement was sent that changes names, before the Sync of this number.
    pub(crate) fn change(&mut self, change: SessionChange, epoch: u64) {
        if change == SessionChange::default() {
            return;
        }
        self.is_probe_dirty = true;
        self.is_catalogue_dirty |= change.catalogue;
        self.is_foreign |= change.reading;
        self.changed.names |= change.names;
        self.changed.catalogue |= change.catalogue;
        self.change_epoch = epoch;
    }

    /// Something was sent that may take back what the transaction changed.
    pub(crate) fn transaction_may_end(&mut self) {
        self.is_probe_dirty |= self.changed.names || self.changed.catalogue;
        self.is_catalogue_dirty |= self.changed.catalogue;
    }

    /// Whether a name has to be looked up again: since it was, something changed. Right after
    /// [`Self::need`] said that nothing has to be asked, it is settled.
    pub(crate) fn is_settled(&self) -> bool {
        match self.private {
            Some(private) => private.asked == self.shared.stamp(),
            None => self.shared.is_unchanged(self.generation),
        }
    }

    /// Whether the transaction changed objects, as far as the target has told of its end.
    pub(crate) fn changes_objects(&self) -> bool {
        self.changed.catalogue
    }

    /// The target did a statement that may have ended a transaction: others are to see what it
    /// changed, though it may be long until the target says that it is outside of it.
    pub(crate) fn committed(&self) {
        if self.changed.catalogue {
            self.shared.invalidate();
        }
    }

    /// The target said that it is outside any transaction, after the Sync of this number.
    pub(crate) fn transaction_ended(&mut self, epoch: u64) {
        if self.private.is_some() {
            self.is_catalogue_dirty = true;
        }
        if self.change_epoch > epoch || self.changed == SessionChange::default() {
            return;
        }
        self.transaction_may_end();
        if self.changed.catalogue {
            self.shared.invalidate();
        }
        self.changed = SessionChange::default();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: SessionChange =
        SessionChange { names: false, catalogue: false, reading: false, is_wide: false };
    const DDL: SessionChange = SessionChange { catalogue: true, ..NONE };
    const PATH: SessionChange = SessionChange { names: true, ..NONE };

    fn keeper(now: Instant) -> Keeper {
        let admission = corral_gate::Admission {
            session: corral_model::ids::SessionId::new("s").expect("an id"),
            target: corral_model::ids::TargetName::new("t").expect("a name"),
            target_revision: 1,
            credential: corral_gate::Credential::password("u", None),
            database: None,
            tls: corral_model::resource::TargetTlsMode::Disable,
            is_target_local: true,
            classified: Arc::from([]),
            rights: corral_gate::Rights::default(),
            record_rows: corral_model::resource::RecordRows::None,
            cancel_secret: [0; 32],
            options: Arc::default(),
            commands: Arc::default(),
            actor: corral_gate::Actor {
                principal: corral_model::Principal::user(
                    corral_model::ids::PrincipalName::new("ada@example.com").expect("a name"),
                ),
                sponsor: corral_model::ids::PrincipalName::new("ada@example.com").expect("a name"),
                groups: Vec::new(),
                run: None,
            },
        };
        let shared = crate::shared::Shared::new(Arc::new(crate::analyst::Grammar));
        Keeper::new(shared.target(&admission, now))
    }

    fn learn(keeper: &mut Keeper, is_idle: bool, now: Instant) -> Need {
        let need = keeper.need(is_idle, now);
        keeper.asking(need);
        let read = ReadNames {
            catalogue: (need == Need::Catalogue).then(Catalogue::default),
            session: SessionNames::default(),
            keeps_snapshot: false,
            share_as: keeper.rows.share_as,
        };
        keeper.learn(read, now).expect("names");
        need
    }

    #[test]
    fn names_are_asked_for_again_after_what_changes_them() {
        let now = Instant::now();
        let mut keeper = keeper(now);
        assert_eq!(learn(&mut keeper, true, now), Need::Catalogue);
        assert_eq!(keeper.need(true, now), Need::Nothing);

        keeper.change(PATH, 2);
        assert_eq!(learn(&mut keeper, false, now), Need::Probe);
        assert_eq!(keeper.need(false, now), Need::Nothing);
        keeper.transaction_ended(2);
        assert_eq!(learn(&mut keeper, true, now), Need::Probe);

        keeper.change(DDL, 3);
        assert_eq!(learn(&mut keeper, false, now), Need::Catalogue);
        assert_eq!(keeper.need(false, now), Need::Nothing);
        keeper.transaction_ended(3);
        assert_eq!(learn(&mut keeper, true, now), Need::Catalogue);
        assert_eq!(keeper.need(true, now), Need::Nothing);
    }

    #[test]
    fn a_catalogue_that_is_invalidated_during_the_first_probe_is_asked_for_after_it() {
        let now = Instant::now();
        let mut first = keeper(now);
        learn(&mut first, true, now);
        let mut second = Keeper::new(first.shared.clone());
        assert_eq!(second.need(true, now), Need::Probe);
        second.asking(Need::Probe);
        first.shared.invalidate();
        let session = SessionNames::default();
        let read = ReadNames { catalogue: None, session, keeps_snapshot: false, share_as: None };
        assert_eq!(second.learn(read, now), Ok(()));
        assert_eq!(second.need(true, now), Need::Catalogue);
    }

    #[test]
    fn a_catalogue_of_a_transaction_ages_too() {
        for (name, change) in [("own objects", DDL), ("own names", PATH)] {
            let now = Instant::now();
            let mut keeper = keeper(now);
            learn(&mut keeper, true, now);
            keeper.change(change, 2);
            keeper.shared.invalidate();
            assert_eq!(learn(&mut keeper, false, now), Need::Catalogue, "{name}");
            assert_eq!(keeper.need(false, now), Need::Nothing, "{name}");
            // Another session's transaction ended.
            keeper.shared.invalidate();
            assert_eq!(learn(&mut keeper, false, now), Need::Catalogue, "{name}");
            assert_eq!(keeper.need(false, now), Need::Nothing, "{name}");
            let later = now + limits::CATALOGUE_AGE_MAX * 2;
            assert_eq!(learn(&mut keeper, false, later), Need::Catalogue, "{name}");
            assert_eq!(keeper.need(false, later), Need::Nothing, "{name}");
        }
    }

    #[test]
    fn what_another_session_reads_is_waited_for_but_not_for_long() {
        let now = Instant::now();
        let mut first = keeper(now);
        learn(&mut first, true, now);
        let mut second = Keeper::new(first.shared.clone());
        learn(&mut second, true, now);
        first.shared.invalidate();
        let need = first.need(true, now);
        assert_eq!(need, Need::Catalogue);
        first.asking(need);

        let (mut at, mut looks) = (now, 0);
        while let Need::Others { look_at } = second.need(true, at) {
            assert!(look_at > at);
            (at, looks) = (look_at, looks + 1);
        }
        assert!(
            at - now >= limits::CATALOGUE_WAIT_MAX && at - now < 2 * limits::CATALOGUE_WAIT_MAX
        );
        assert!(looks < 10, "{looks}");
        assert_eq!(second.need(true, at), Need::Catalogue);
        second.asking(Need::Catalogue);

        // Whoever is done first is done for all.
        let read = ReadNames {
            catalogue: Some(Catalogue::default()),
            session: SessionNames::default(),
            keeps_snapshot: false,
            share_as: first.rows.share_as,
        };
        first.learn(read, at).expect("names");
        let mut third = Keeper::new(first.shared.clone());
        assert_eq!(third.need(true, at), Need::Probe);
    }

    #[test]
    fn a_snapshot_that_is_kept_tells_names_while_it_is_new() {
        let now = Instant::now();
        let later = now + limits::CATALOGUE_AGE_MAX + std::time::Duration::from_millis(1);
        let cases: [(&str, SessionChange, bool, Instant, Need); 6] = [
            ("nothing changed", PATH, false, now, Need::Nothing),
            ("objects changed", PATH, true, now, Need::Newer),
            ("it is old", PATH, false, later, Need::Newer),
            ("it reads its own objects", DDL, false, now, Need::Nothing),
            ("its own objects, and others changed", DDL, true, now, Need::Newer),
            ("its own objects, and old", DDL, false, later, Need::Newer),
        ];
        for (name, change, is_changed, at, expected) in cases {
            let mut keeper = keeper(now);
            learn(&mut keeper, true, now);
            keeper.begins(now);
            keeper.change(change, 2);
            learn(&mut keeper, false, now);
            keeper.keeps_snapshot = true;
            if is_changed {
                keeper.shared.invalidate();
            }
            assert_eq!(keeper.need(false, at), expected, "{name}");
            // The next statement may be in another transaction, which may be READ COMMITTED.
            keeper.is_probe_dirty = true;
            assert_eq!(keeper.need(false, at), Need::Probe, "{name}, then asked");
            keeper.keeps_snapshot = false;
            assert_ne!(keeper.need(false, at), Need::Newer, "{name}, READ COMMITTED");
            keeper.keeps_snapshot = true;
            assert_ne!(keeper.need(true, at), Need::Newer, "{name}, outside of it");
        }
    }

    #[test]
    fn a_kept_snapshot_goes_by_what_another_session_read() {
        let now = Instant::now();
        let mut first = keeper(now);
        learn(&mut first, true, now);
        let mut second = Keeper::new(first.shared.clone());
        learn(&mut second, true, now);
        second.keeps_snapshot = true;
        second.begins(now);
        first.shared.invalidate();
        assert_eq!(second.need(false, now), Need::Newer);
        learn(&mut first, true, now);
        assert_ne!(second.need(false, now), Need::Newer);
    }

    #[test]
    fn the_path_is_asked_for_again_when_another_session_read_the_same_objects() {
        // A right to use a schema changes nothing but the path.
        let now = Instant::now();
        let mut first = keeper(now);
        learn(&mut first, true, now);
        let mut second = Keeper::new(first.shared.clone());
        learn(&mut second, true, now);
        first.shared.invalidate();
        learn(&mut first, true, now);
        assert_eq!(learn(&mut second, true, now), Need::Probe);
        assert_eq!(second.need(true, now), Need::Nothing);
    }

    #[test]
    fn the_path_is_asked_for_again_when_another_session_read_other_objects() {
        let now = Instant::now();
        let mut first = keeper(now);
        learn(&mut first, true, now);
        let mut second = Keeper::new(first.shared.clone());
        learn(&mut second, true, now);
        assert_eq!(second.need(true, now), Need::Nothing);
        first.shared.invalidate();
        let Claim::Read(generation) = first.shared.claim(now, true) else {
            panic!("it is not valid");
        };
        let row = ["builtin", "1", "pg_catalog", "now"].map(|cell| Some(cell.to_owned()));
        let other = Catalogue::from_rows(&[row.to_vec()]).expect("a catalogue");
        first.shared.publish(other, generation, now);
        assert_eq!(second.need(true, now), Need::Probe);
    }

    #[test]
    fn a_session_that_ends_while_it_reads_keeps_nobody_waiting() {
        let now = Instant::now();
        let mut first = keeper(now);
        learn(&mut first, true, now);
        let shared = first.shared.clone();
        let later = now + limits::CATALOGUE_AGE_MAX + std::time::Duration::from_millis(1);
        let need = first.need(true, later);
        first.asking(need);
        assert!(matches!(shared.claim(later, true), Claim::Have(..)));
        drop(first);
        assert!(matches!(shared.claim(later, true), Claim::Read(_)));
    }

    #[test]
    fn an_old_catalogue_is_read_again() {
        let now = Instant::now();
        let mut keeper = keeper(now);
        learn(&mut keeper, true, now);
        let later = now + limits::CATALOGUE_AGE_MAX * 2;
        assert_eq!(keeper.need(true, later), Need::Catalogue);
    }
}
