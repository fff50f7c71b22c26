//! One message's way from its text to a permit: names, analysis, check or decision, and for what
//! people approved a second look.

use std::any::Any;
use std::sync::Arc;

use corral_gate::decision::Hold as Held;
use corral_gate::machine::Work;
use corral_gate::{Decision, Denial, DenialKind, Harmless, Output, Permit};
use corral_model::event::EventBody;
use corral_model::ids::StatementSeq;
use corral_model::limits;
use corral_model::resource::RecordRows;
use corral_model::statement::{Parameter, Statement};
use corral_model::{Effect, TraceParent};

use super::Live;
use super::cursors::{Opened, resolves_late, runs_bodies};
use super::extended::{no_portal, reads_alike};
use super::names::{Need, ReadNames};
use super::parsed::{Parsed, parameters_ahead, runs_when_parsed};
use super::pending::{Pending, Running, Sender};
use super::questions::failed_transaction;
use super::refuse::plain;
use super::rowlog::RowLog;
use super::scope::Scope;
use super::sql_prepared::SqlPrepared;
use super::task::{Analysed, Approved, Hold, Step, Task, What};
use crate::analysis::catalogue::CatalogueError;
use crate::analysis::{Analysis, Names, SessionChange, StatementKind};
use crate::analyst::Analyst;
use crate::codec::client::Named;
use crate::codec::server::{
    Report, Severity, put_authentication_ok, put_key_data, put_parameter_status, put_ready,
    put_report,
};
use crate::codec::target::put_describe_portal;
use crate::deny::Refusal;
use crate::digest::digest;
use crate::link::{Ending, Link};
use crate::shared::AnalysisKey;
use crate::target_login::unavailable;

/// A cancel key before version 3.2: the process id, and four bytes more.
const SHORT_KEY_BYTES: usize = 8;

/// What an analysis thread gives back.
pub(super) enum Done {
    /// Told without names, to see whether they are needed.
    Sorted(Box<Analysis>),
    /// Told with the session's names.
    Analysed(Box<Analysis>),
    Names(Result<Box<ReadNames>, CatalogueError>),
}

impl Live {
    /// Brings a task as far as it goes without waiting.
    pub(super) fn resolve(&mut self, mut task: Box<Task>, link: &mut Link) -> Result<(), Ending> {
        if let What::Open = task.what {
            return match self.keeper.need(true, link.now) {
                Need::Nothing => {
                    self.finish_open(link);
                    Ok(())
                }
                need => {
                    self.ask_names(need, task, link);
                    Ok(())
                }
            };
        }
        if task.is_unread {
            if self.transaction.is_failed() {
                self.give_up(&task, failed_transaction(), link);
                return Ok(());
            }
            if self.keeper.probed().is_some() {
                // The message is still at the front, and is looked at again.
                self.step = Step::Ready;
            } else {
                let need = self.keeper.need(self.transaction.is_idle(), link.now);
                self.ask_names(need, task, link);
            }
            return Ok(());
        }
        if let (What::Execute { portal }, false, None) = (&task.what, task.was_held, &task.opened) {
            let bound = self.store.portal(portal).map(|portal| portal.analysed.clone());
            return self.resolve_bound(task, bound, link);
        }
        if self.doubts_statement(&task.what) && !self.transaction.is_failed() {
            let need = match self.keeper.need(self.transaction.is_idle(), link.now) {
                Need::Nothing => Need::Probe,
                need => need,
            };
            self.ask_names(need, task, link);
            return Ok(());
        }
        let known = self.texts.find(&task.outline);
        let needs_names =
            task.needs_names.or_else(|| known.as_ref().map(|known| known.needs_names));
        if needs_names != Some(false) {
            if self.transaction.is_failed() {
                if needs_names == Some(true) {
                    self.give_up(&task, failed_transaction(), link);
                    return Ok(());
                }
                self.analyse(task, None, link);
                return Ok(());
            }
            let need = self.keeper.need(self.transaction.is_idle(), link.now);
            if need != Need::Nothing {
                match needs_names {
                    Some(_) => self.ask_names(need, task, link),
                    None => self.analyse(task, None, link),
                }
                return Ok(());
            }
        }
        if task.prepared.is_some() || task.opened.is_some() {
            // What EXECUTE and FETCH do is not a matter of their texts: it is not kept.
            let names = self.keeper.names().cloned();
            self.analyse_with(task, names, link);
            return Ok(());
        }
        // Only by now it is certain which names hold.
        let (names_version, scope_version) = (self.keeper.version(), self.scope.version);
        let found = known.and_then(|known| known.analysed(names_version, scope_version));
        if found.is_some() {
            task.analysed = found;
            return self.proceed(task, link);
        }
        let key = self.analysis_key(&task.outline, needs_names != Some(false), &self.scope);
        if let Some(analysis) = self.keeper.shared.analysis(&key) {
            return self.analysed(task, analysis, link);
        }
        let names = self.keeper.names().cloned();
        self.analyse(task, names, link);
        Ok(())
    }

    /// An Execute: its names are those of the moment at which it was bound, but where the target
    /// looks them up later. There it may do what it did then, and what it would do by now.
    fn resolve_bound(
        &mut self,
        mut task: Box<Task>,
        bound: Option<Arc<Analysed>>,
        link: &mut Link,
    ) -> Result<(), Ending> {
        let Some(bound) = bound else {
            self.refuse(&task, Refusal::as_postgres("34000", "portal does not exist"), link);
            return Ok(());
        };
        if resolves_late(&bound.analysis) && !self.transaction.is_failed() {
            let need = self.keeper.need(self.transaction.is_idle(), link.now);
            if need != Need::Nothing {
                self.ask_names(need, task, link);
                return Ok(());
            }
            if bound.names_version != self.keeper.version() {
                task.needs_names = Some(true);
                task.opened =
                    Some(Arc::from([Opened { text: task.text.clone(), analysed: bound }]));
                return self.resolve(task, link);
            }
        }
        if bound.scope_version == self.scope.version {
            task.analysed = Some(bound);
            return self.proceed(task, link);
        }
        let names = bound.names.clone();
        task.needs_names = Some(bound.analysis.needs_names);
        task.analysed = Some(bound);
        self.analyse_with(task, names, link);
        Ok(())
    }

    fn analysis_key(&self, text: &Arc<str>, needs_names: bool, scope: &Scope) -> AnalysisKey {
        AnalysisKey {
            text: text.clone(),
            names: if needs_names { self.keeper.digest().clone() } else { Arc::from("") },
            scope: scope.digest.clone(),
        }
    }

    /// Sends a text to an analysis thread; without names, only to see whether it needs them.
    fn analyse(&mut self, mut task: Box<Task>, names: Option<Arc<Names>>, link: &mut Link) {
        if names.is_some() {
            self.analyse_with(task, names, link);
            return;
        }
        let text = task.text.clone();
        let scope = self.scope.clone();
        task.scope = Some(scope.clone());
        let analyst = self.analyst.clone();
        let work = Work(Box::new(move || {
            let analysis = Box::new(analyst.analyse(&text, None, &scope.mask));
            let done: Box<dyn Any + Send> = Box::new(Done::Sorted(analysis));
            done
        }));
        link.ask(Output::Work(work));
        self.step = Step::ExpectWork(task);
    }

    fn analyse_with(&mut self, mut task: Box<Task>, names: Option<Arc<Names>>, link: &mut Link) {
        let text = task.text.clone();
        let scope = self.scope.clone();
        task.scope = Some(scope.clone());
        let analyst = self.analyst.clone();
        let prepared = task.prepared.clone();
        let opened = task.opened.clone();
        let work = Work(Box::new(move || {
            let analysis = match (prepared, opened) {
                (Some(prepared), _) => analyse_known(&*analyst, &text, &prepared, names, &scope),
                (None, Some(opened)) => {
                    analyse_opened(&*analyst, &text, &opened, names.as_deref(), &scope)
                }
                (None, None) => analyst.analyse(&text, names.as_deref(), &scope.mask),
            };
            let analysis = Box::new(analysis);
            let done: Box<dyn Any + Send> = Box::new(Done::Analysed(analysis));
            done
        }));
        link.ask(Output::Work(work));
        self.step = Step::ExpectWork(task);
    }

    /// An analysis thread is done.
    pub(super) fn worked(
        &mut self,
        done: Box<dyn Any + Send>,
        link: &mut Link,
    ) -> Result<(), Ending> {
        let task = match std::mem::replace(&mut self.step, Step::Ready) {
            Step::ExpectWork(task) => task,
            other => {
                self.step = other;
                return Ok(());
            }
        };
        let Ok(done) = done.downcast::<Done>() else {
            let refusal = Refusal::own("58000", "the statement could not be analysed");
            self.give_up(&task, refusal, link);
            return Ok(());
        };
        match *done {
            Done::Names(read) => self.names_read(task, read, link),
            Done::Sorted(analysis) => self.sorted(task, *analysis, link),
            Done::Analysed(analysis) => self.analysed(task, Arc::from(analysis), link),
        }
    }

    pub(super) fn names_read(
        &mut self,
        task: Box<Task>,
        read: Result<Box<ReadNames>, CatalogueError>,
        link: &mut Link,
    ) -> Result<(), Ending> {
        let learned = read.and_then(|read| self.keeper.learn(*read, link.now));
        if learned.is_err() {
            self.keeper.distrust();
            return self.names_failed(&task, None, link);
        }
        if self.skip_if_failed(&task, link) {
            return Ok(());
        }
        self.resolve(task, link)
    }

    /// Known without names.
    fn sorted(
        &mut self,
        mut task: Box<Task>,
        analysis: Analysis,
        link: &mut Link,
    ) -> Result<(), Ending> {
        task.needs_names = Some(analysis.needs_names);
        if analysis.needs_names {
            self.texts.keep(&task.outline, true, None);
            if self.skip_if_failed(&task, link) {
                return Ok(());
            }
            return self.resolve(task, link);
        }
        self.analysed(task, Arc::new(analysis), link)
    }

    fn analysed(
        &mut self,
        mut task: Box<Task>,
        analysis: Arc<Analysis>,
        link: &mut Link,
    ) -> Result<(), Ending> {
        let is_bound =
            matches!(task.what, What::Execute { .. }) && !task.was_held && task.opened.is_none();
        let scope = task.scope.take().unwrap_or_else(|| self.scope.clone());
        let analysed = match (&task.analysed, is_bound) {
            (Some(bound), true) => {
                let bound = Analysed::clone(bound);
                Arc::new(Analysed { analysis, scope_version: scope.version, ..bound })
            }
            (None | Some(_), _) if task.prepared.is_some() || task.opened.is_some() => {
                let prepared = task.prepared.as_ref().map(|prepared| &*prepared.text);
                let opened = task.opened.iter().flat_map(|opened| opened.iter());
                let parts = prepared.into_iter().chain(opened.map(|opened| &*opened.text));
                let parts = std::iter::once(&**self.keeper.digest()).chain(parts);
                Arc::new(Analysed {
                    names: self.keeper.names().cloned(),
                    state_digest: digest(parts),
                    names_version: self.keeper.version(),
                    scope_version: scope.version,
                    analysis,
                })
            }
            (None | Some(_), _) => {
                let is_shared = analysis.is_of_outline();
                let kept_as = if is_shared { &task.outline } else { &task.text };
                self.keep_analysis(kept_as, analysis, &scope)
            }
        };
        task.analysed = Some(analysed);
        if self.skip_if_failed(&task, link) {
            return Ok(());
        }
        self.proceed(task, link)
    }

    /// Keeps an analysis under the session's present names, for itself and for others.
    fn keep_analysis(
        &mut self,
        text: &Arc<str>,
        analysis: Arc<Analysis>,
        scope: &Scope,
    ) -> Arc<Analysed> {
        let needs_names = analysis.needs_names;
        let key = self.analysis_key(text, needs_names, scope);
        let analysed = Arc::new(Analysed {
            names: if needs_names { self.keeper.names().cloned() } else { None },
            state_digest: key.names.clone(),
            names_version: self.keeper.version(),
            scope_version: scope.version,
            analysis: analysis.clone(),
        });
        self.texts.keep(text, needs_names, Some(analysed.clone()));
        if text.len() <= limits::ANALYSIS_CACHE_TEXT_BYTES_MAX {
            self.keeper.shared.keep_analysis(key, analysis);
        }
        analysed
    }

    /// What the text does is known.
    fn proceed(&mut self, mut task: Box<Task>, link: &mut Link) -> Result<(), Ending> {
        let Some(analysed) = task.analysed.take() else { return Ok(()) };
        if analysed.scope_version != self.scope.version {
            // Masks changed while it was analysed.
            return self.resolve(task, link);
        }
        if let (What::Query, None, [StatementKind::Execute { name }]) =
            (&task.what, &task.prepared, analysed.analysis.kinds.as_slice())
            && let Some(prepared) = self.sql.find(name)
        {
            task.prepared = Some(prepared.clone());
            task.needs_names = Some(true);
            return self.resolve(task, link);
        }
        let is_plain = task.opened.is_none()
            && matches!(&*analysed.analysis.kinds, [StatementKind::Rows | StatementKind::NoRows]);
        let analysed = if is_plain {
            analysed
        } else {
            match self.with_cursors(&task, analysed) {
                Ok(analysed) => analysed,
                Err(opened) => {
                    task.opened = Some(opened);
                    task.needs_names = Some(true);
                    return self.resolve(task, link);
                }
            }
        };
        if !is_plain && let Some(refusal) = self.masks_moved(&task, &analysed) {
            self.give_up(&task, refusal, link);
            return Ok(());
        }
        let analysed = self.with_parameter_types(&task.what, analysed);
        let analysed = self.with_doubt(&task.what, analysed);
        let analysed = match self.with_fetched_portal(&task.what, analysed) {
            Ok(analysed) => analysed,
            Err(refusal) => {
                self.give_up(&task, refusal, link);
                return Ok(());
            }
        };
        task.analysed = Some(analysed.clone());
        if let Some(approved) = task.approved.take() {
            self.run_approved(task, *approved, &analysed, link);
            return Ok(());
        }
        match std::mem::replace(&mut task.what, What::Query) {
            What::Open => {}
            What::Parse { name, types, .. } if runs_when_parsed(&analysed.analysis, &task.text) => {
                let parameters = parameters_ahead(link, task.frame_len, &name, &types);
                task.what = What::Parse { name, types, parameters: parameters.clone() };
                let statement = self.next_statement(&mut task, &analysed, parameters);
                self.step = Step::ExpectDecision(task);
                link.ask(Output::Decide(Box::new(statement)));
            }
            What::Parse { name, types, parameters } => {
                let seq = StatementSeq(self.seq + 1);
                let statement = self.statement(seq, &task, &analysed, Arc::default());
                task.what = What::Parse { name, types, parameters };
                self.step = Step::ExpectCheck(task);
                link.ask(Output::Check(Box::new(statement)));
            }
            What::Bind(binding) if !analysed.analysis.facts.effects.contains(Effect::Unknown) => {
                self.forward_bind(binding, &task, analysed, None, link);
            }
            // The target plans it, and calls functions that say that they are IMMUTABLE.
            What::Bind(binding) => {
                if let Err(refusal) = self.to_bind(&binding.statement, &analysed) {
                    self.refuse_extended(refusal, task.frame_len, link);
                    return Ok(());
                }
                let parameters = binding.parameters.clone();
                task.what = What::Bind(binding);
                let statement = self.next_statement(&mut task, &analysed, parameters);
                self.step = Step::ExpectDecision(task);
                link.ask(Output::Decide(Box::new(statement)));
            }
            What::Query => {
                let statement = self.next_statement(&mut task, &analysed, Arc::default());
                self.step = Step::ExpectDecision(task);
                link.ask(Output::Decide(Box::new(statement)));
            }
            What::Call { parameters } => {
                task.what = What::Call { parameters: parameters.clone() };
                let statement = self.next_statement(&mut task, &analysed, parameters);
                self.step = Step::ExpectDecision(task);
                link.ask(Output::Decide(Box::new(statement)));
            }
            What::Execute { portal } => {
                if let Some(running) = self.take_suspended(&portal, &task, &analysed) {
                    self.forward_execute(portal, running, task.frame_len, link);
                    return Ok(());
                }
                let bound = self.store.portal(&portal);
                let parameters = bound.map(|bound| bound.parameters.clone()).unwrap_or_default();
                task.what = What::Execute { portal };
                let statement = self.next_statement(&mut task, &analysed, parameters);
                self.step = Step::ExpectDecision(task);
                link.ask(Output::Decide(Box::new(statement)));
            }
        }
        Ok(())
    }

    /// The target makes values of the types that a client gave to its parameters when it binds: a
    /// type of a user's brings its own code along.
    fn with_parameter_types(&self, what: &What, analysed: Arc<Analysed>) -> Arc<Analysed> {
        let types = match what {
            What::Parse { types, .. } => Some(types),
            What::Bind(binding) => self.store.statement(&binding.statement).map(|old| &old.types),
            What::Execute { portal } => self.store.portal(portal).map(|portal| &portal.types),
            What::Open | What::Query | What::Call { .. } => None,
        };
        let catalogue = self.keeper.names().map(|names| &names.catalogue);
        let is_plain =
            |oid: u32| oid == 0 || catalogue.is_some_and(|catalogue| catalogue.is_plain_type(oid));
        let foreign = types.and_then(|types| types.iter().copied().find(|oid| !is_plain(*oid)));
        let Some(oid) = foreign else { return analysed };
        let analysis = analysed.analysis.with_foreign_parameter(oid, self.scope.is_masked());
        Arc::new(Analysed { analysis: Arc::new(analysis), ..Analysed::clone(&analysed) })
    }

    /// What FETCH of cursors does, and what a cursor does whose names are looked up later. The
    /// error is what has to be analysed with it.
    fn with_cursors(
        &self,
        task: &Task,
        analysed: Arc<Analysed>,
    ) -> Result<Arc<Analysed>, Arc<[Opened]>> {
        let kinds = analysed.analysis.kinds.as_slice();
        let mut declared: Vec<&str> = Vec::new();
        let mut opened: Vec<Opened> = Vec::new();
        let mut unknown: Option<String> = None;
        for kind in kinds {
            match kind {
                StatementKind::DeclareCursor { name, is_held } => {
                    declared.push(name);
                    if *is_held && runs_bodies(&analysed.analysis) {
                        unknown = Some(format!(
                            "the cursor \"{name}\" runs functions when its transaction ends, and \
                             what they mean by then is not known"
                        ));
                    }
                }
                StatementKind::Fetch { name }
                    if matches!(task.what, What::Query | What::Execute { .. })
                        && !declared.contains(&name.as_str()) =>
                {
                    match self.opened(name) {
                        Some(found) => opened.extend(found),
                        None => {
                            unknown = Some(format!(
                                "the cursor \"{name}\" was not opened by DECLARE in this session"
                            ));
                        }
                    }
                }
                _ => {}
            }
        }
        let is_changing = analysed.analysis.session_change != SessionChange::default();
        if kinds.len() > 1 && !opened.is_empty() && is_changing && task.opened.is_none() {
            unknown = Some("it changes what names in the functions of a cursor mean".to_owned());
        }
        if let Some(text) = unknown {
            let is_masking = self.scope.is_masked();
            let analysis = analysed.analysis.with_unknown(text, is_masking, "run its query itself");
            return Ok(Arc::new(Analysed {
                analysis: Arc::new(analysis),
                ..Analysed::clone(&analysed)
            }));
        }
        if opened.is_empty() || task.opened.is_some() {
            return Ok(analysed);
        }
        Err(opened.into())
    }

    /// The cursors and portals of this name that may run bodies; None when such a name is not
    /// known.
    fn opened(&self, name: &str) -> Option<Vec<Opened>> {
        let mut opened = self.cursors.find(name).map(<[Opened]>::to_vec);
        // Of a portal that cannot be told, `with_fetched_portal` refuses the FETCH.
        if self.store.may_be_bound(name) {
            let opened = opened.get_or_insert_default();
            let portal = self.store.portal(name);
            if portal.is_some_and(|portal| self.doubts.is_doubtful(name, portal.number)) {
                return None;
            }
            if let Some(portal) = portal.filter(|portal| runs_bodies(&portal.analysed.analysis)) {
                let (text, analysed) = (portal.text.clone(), portal.analysed.clone());
                opened.push(Opened { text, analysed });
            }
        }
        opened
    }

    /// Where columns are masked, rows are masked as was foreseen when the portal was bound.
    fn masks_moved(&self, task: &Task, analysed: &Analysed) -> Option<Refusal> {
        let opened = task.opened.as_ref().filter(|_| self.scope.is_masked())?;
        let now = &analysed.analysis;
        let is_same = |then: &Analysis| then.facts == now.facts && then.mask == now.mask;
        if opened.iter().all(|opened| is_same(&opened.analysed.analysis)) {
            return None;
        }
        Some(Refusal::own(
            "0A000",
            "names in this statement mean something else than when it was bound; bind it again",
        ))
    }

    /// The permit of a portal's earlier Execute, where nothing has changed that it looks up later.
    fn take_suspended(
        &mut self,
        portal: &str,
        task: &Task,
        analysed: &Analysed,
    ) -> Option<Box<Running>> {
        if task.opened.is_some() || !resolves_late(&analysed.analysis) {
            return None;
        }
        let scope_version = self.scope.version;
        let portal = self.store.portal_mut(portal)?;
        portal.suspended.take_if(|running| running.scope.version == scope_version)
    }

    /// Whether a Bind's statement may be another one, which the target has to be asked. In a failed
    /// transaction it runs nothing that SQL can have prepared.
    fn doubts_statement(&self, what: &What) -> bool {
        self.doubts.has_statements()
            && self.store.has_named_statement()
            && matches!(what, What::Bind(binding) if !binding.statement.is_empty())
    }

    /// A portal that unknown code may have put another one in the place of.
    fn with_doubt(&self, what: &What, analysed: Arc<Analysed>) -> Arc<Analysed> {
        let What::Execute { portal: name } = what else { return analysed };
        if name.is_empty() {
            return analysed;
        }
        let number = self.store.portal(name).map_or(0, |portal| portal.number);
        let is_unknown = analysed.analysis.facts.effects.contains(Effect::Unknown);
        if is_unknown || !self.doubts.is_doubtful(name, number) {
            return analysed;
        }
        let text = format!("unknown code that ran since may have made the portal \"{name}\" anew");
        let is_masking = self.scope.is_masked();
        let analysis = analysed.analysis.with_unknown(text, is_masking, "bind it again");
        Arc::new(Analysed { analysis: Arc::new(analysis), ..Analysed::clone(&analysed) })
    }

    /// FETCH and MOVE of a portal that came by Bind run its statement: they do what it does. That
    /// is known when nothing is on its way to the target, so that it has the portal, or none, or a
    /// cursor that was decided when it was opened.
    fn with_fetched_portal(
        &self,
        what: &What,
        analysed: Arc<Analysed>,
    ) -> Result<Arc<Analysed>, Refusal> {
        let runs = matches!(what, What::Query | What::Execute { .. });
        let kinds = analysed.analysis.kinds.as_slice();
        let mut names = kinds.iter().filter_map(|kind| match kind {
            StatementKind::Fetch { name } => Some(name),
            _ => None,
        });
        let Some(name) = names.find(|name| runs && self.store.may_be_bound(name)) else {
            return Ok(analysed);
        };
        let is_known = kinds.len() == 1
            && !self.scope.is_masked()
            && self.transaction.is_certain()
            && self.queue.is_empty();
        match self.store.portal(name) {
            Some(portal) if is_known => {
                let analysis = analysed.analysis.with_portal(&portal.analysed.analysis);
                let analysed = Analysed::clone(&analysed);
                Ok(Arc::new(Analysed { analysis: Arc::new(analysis), ..analysed }))
            }
            _ => Err(Refusal::own(
                "0A000",
                format_args!(
                    "\"{name}\" is a name that Bind used in this transaction; FETCH and MOVE of it \
                     have to be the only statement of a simple query, sent when everything before \
                     it is answered, in a session without masked columns"
                ),
            )),
        }
    }

    fn next_statement(
        &mut self,
        task: &mut Task,
        analysed: &Analysed,
        parameters: Arc<[Parameter]>,
    ) -> Statement {
        self.seq += 1;
        task.seq = StatementSeq(self.seq);
        self.statement(task.seq, task, analysed, parameters)
    }

    fn statement(
        &self,
        seq: StatementSeq,
        task: &Task,
        analysed: &Analysed,
        parameters: Arc<[Parameter]>,
    ) -> Statement {
        Statement {
            seq,
            text: task.text.clone(),
            facts: analysed.analysis.facts.clone(),
            parameters,
            in_transaction: self.transaction.is_in_transaction(),
            state_digest: analysed.state_digest.clone(),
            traceparent: TraceParent::in_comment(&task.text),
        }
    }

    /// Answers a Check.
    pub(super) fn checked(&mut self, denial: Option<Denial>, link: &mut Link) {
        let mut task = match std::mem::replace(&mut self.step, Step::Ready) {
            Step::ExpectCheck(task) => task,
            other => {
                self.step = other;
                return;
            }
        };
        if denial.is_some() {
            // The denial is in the record under the number that was shown.
            self.seq += 1;
        }
        if self.skip_if_failed(&task, link) {
            return;
        }
        match (denial, std::mem::replace(&mut task.what, What::Query), task.analysed.take()) {
            (None, What::Parse { name, types, .. }, Some(analysed)) => {
                self.forward_parse(name, types, &task, analysed, None, link);
            }
            (Some(denial), _, analysed) => {
                let analysis = analysed.as_ref().map(|analysed| &*analysed.analysis);
                let refusal = Refusal::of(&denial, &task.text).with_parse_error(analysis);
                self.refuse_extended(refusal, task.frame_len, link);
            }
            (None, _, _) => {
                let refusal = Refusal::own("58000", "the statement could not be checked");
                self.refuse_extended(refusal, task.frame_len, link);
            }
        }
    }

    /// Answers a Decide: at once, or after people decided.
    pub(super) fn decided(&mut self, decision: Decision, link: &mut Link) -> Result<(), Ending> {
        let (task, was_held) = match std::mem::replace(&mut self.step, Step::Ready) {
            Step::ExpectDecision(task) => (task, false),
            Step::Held(hold) => (hold.task, true),
            other => {
                self.step = other;
                return Ok(());
            }
        };
        match decision {
            Decision::Deny(denial) => {
                if !self.skip_if_failed(&task, link) {
                    let analysis = task.analysed.as_ref().map(|analysed| &*analysed.analysis);
                    let refusal = Refusal::of(&denial, &task.text).with_parse_error(analysis);
                    self.refuse(&task, refusal, link);
                }
                Ok(())
            }
            Decision::Hold(held) => {
                self.hold(task, held, link);
                Ok(())
            }
            Decision::Allow(permit) => self.allowed(task, permit, was_held, link),
        }
    }

    fn allowed(
        &mut self,
        mut task: Box<Task>,
        permit: Permit,
        was_held: bool,
        link: &mut Link,
    ) -> Result<(), Ending> {
        let Some(analysed) = task.analysed.clone() else { return Ok(()) };
        if self.is_skipping && !matches!(task.what, What::Open) {
            unused(&permit, "25P02", link);
            self.skip(&task, link);
            return Ok(());
        }
        if !was_held && analysed.scope_version == self.scope.version {
            self.forward(*task, permit, &analysed, link);
            return Ok(());
        }
        // Time has passed, or masks have changed: look again at everything.
        let approved = Approved {
            permit,
            facts: analysed.analysis.facts.clone(),
            state_digest: analysed.state_digest.clone(),
        };
        task.approved = Some(Box::new(approved));
        task.was_held = true;
        task.analysed = None;
        self.keeper.distrust();
        self.resolve(task, link)
    }

    /// The second look: it must be what was approved.
    fn run_approved(
        &mut self,
        task: Box<Task>,
        approved: Approved,
        analysed: &Arc<Analysed>,
        link: &mut Link,
    ) {
        let is_same = analysed.analysis.facts == approved.facts
            && analysed.state_digest == approved.state_digest;
        if is_same {
            self.forward(*task, approved.permit, analysed, link);
            return;
        }
        unused(&approved.permit, "42501", link);
        let mut denial = Denial::new(
            DenialKind::ApprovalDenied,
            "the database's objects, the session's settings or its masks changed while the statement waited; send it again",
        );
        denial.decision_id = Some(approved.permit.decision_id().to_owned());
        let refusal = Refusal::of(&denial, &task.text);
        self.refuse(&task, refusal, link);
    }

    /// Refuses without a decision, or after one that cannot be kept.
    pub(super) fn give_up(&mut self, task: &Task, refusal: Refusal, link: &mut Link) {
        if let Some(approved) = &task.approved {
            unused(&approved.permit, refusal.code, link);
        }
        if self.is_skipping && task.is_message() {
            self.skip(task, link);
        } else {
            self.refuse(task, refusal, link);
        }
    }

    /// Whether the pipeline has failed meanwhile, so that the message is skipped.
    fn skip_if_failed(&mut self, task: &Task, link: &mut Link) -> bool {
        if !self.is_task_skipped() || !task.is_message() {
            return false;
        }
        if let Some(approved) = &task.approved {
            unused(&approved.permit, "25P02", link);
        }
        self.skip(task, link);
        true
    }

    /// Sends a permitted statement.
    fn forward(
        &mut self,
        mut task: Task,
        permit: Permit,
        analysed: &Arc<Analysed>,
        link: &mut Link,
    ) {
        let running = Box::new(Running {
            log: RowLog::new(self.admission.record_rows, permit.seq()),
            permit,
            analysis: analysed.analysis.clone(),
            scope: self.scope.clone(),
            started: link.now,
            rows: 0,
            masked_rows: 0,
            bytes: 0,
            tag: None,
            plan: None,
            is_call: matches!(task.what, What::Call { .. }),
            is_copying_out: false,
        });
        match std::mem::replace(&mut task.what, What::Query) {
            What::Query => {
                let seq = running.permit.seq();
                let epoch = self.transaction.epoch();
                self.forward_query(running, task.frame_len, link);
                self.cursors.open(&task.text, analysed, epoch);
                if let [StatementKind::Prepare { name }] = analysed.analysis.kinds.as_slice() {
                    self.sql.remember(name, &task.text, analysed.names.clone(), seq);
                }
            }
            What::Call { .. } => self.forward_query(running, task.frame_len, link),
            What::Execute { portal } => {
                if self.store.portal(&portal).is_some() {
                    self.forward_execute(portal, running, task.frame_len, link);
                    self.cursors.open(&task.text, analysed, self.transaction.epoch());
                } else {
                    unused(&running.permit, "34000", link);
                    self.refuse_extended(no_portal(&portal), task.frame_len, link);
                }
            }
            What::Bind(binding) => {
                self.forward_bind(binding, &task, analysed.clone(), Some(running), link);
            }
            What::Parse { name, types, parameters } => {
                let parsed = Parsed {
                    statement: name.clone(),
                    parameters,
                    analysed: analysed.clone(),
                    running,
                };
                let decided = Some(Box::new(parsed));
                self.forward_parse(name, types, &task, analysed.clone(), decided, link);
            }
            What::Open => {}
        }
    }

    fn forward_query(&mut self, running: Box<Running>, frame_len: usize, link: &mut Link) {
        link.send_permitted(&running.permit, frame_len);
        self.described = None;
        let is_in_block = self.transaction.is_in_block();
        self.sent(&running.analysis, link);
        let epoch = self.transaction.next_epoch();
        self.queue.push_back(Pending::Query { running: Some(running), stand_in: None, epoch });
        if !is_in_block {
            self.keeper.transaction_may_end();
            self.doubts.may_run_on(self.store.last_number());
        }
    }

    /// Sends an Execute, with a Describe in front where the rows' layout has to be known.
    pub(super) fn forward_execute(
        &mut self,
        portal: String,
        mut running: Box<Running>,
        frame_len: usize,
        link: &mut Link,
    ) {
        running.plan = None;
        let is_recorded = match self.admission.record_rows {
            RecordRows::None | RecordRows::Count => false,
            RecordRows::Sample | RecordRows::Full => true,
        };
        let needs_layout =
            running.scope.is_masked() || running.analysis.mask.is_some() || is_recorded;
        let is_described = self.described.take().is_some_and(|described| described == portal);
        if needs_layout && !is_described {
            link.tell_target(Harmless::Control, |out| put_describe_portal(out, &portal));
            let describe = Pending::DescribePortal { sender: Sender::Gateway };
            self.queue.push_back(describe);
        }
        link.send_permitted(&running.permit, frame_len);
        self.open_pipeline();
        self.sent(&running.analysis, link);
        let number = self.store.portal(&portal).map_or(0, |portal| portal.number);
        self.queue.push_back(Pending::Execute { portal, number, running });
    }

    /// A permitted text was sent: what it may change is not trusted any more.
    fn sent(&mut self, analysis: &Analysis, link: &mut Link) {
        self.keeper.change(analysis.session_change, self.transaction.epoch() + 1);
        self.sql.sent(analysis, self.transaction.epoch() + 1);
        self.cursors.sent(analysis);
        self.doubts.sent(analysis, self.transaction.epoch() + 1, self.store.last_number());
        for kind in &analysis.kinds {
            match kind {
                StatementKind::Begin => self.transaction.begin_sent(),
                StatementKind::Commit { .. }
                | StatementKind::Rollback { .. }
                | StatementKind::RollbackToSavepoint
                | StatementKind::ReleaseSavepoint
                | StatementKind::TwoPhase => {
                    self.transaction.control_sent();
                    self.keeper.transaction_may_end();
                    self.doubts.may_run_on(self.store.last_number());
                }
                StatementKind::CopyIn => self.copy.is_awaited = true,
                StatementKind::Prepare { name } => self.forget(Named::Statement, Some(name), link),
                StatementKind::Deallocate { name } => {
                    self.forget(Named::Statement, name.as_deref(), link);
                }
                StatementKind::DeclareCursor { name, .. } => {
                    self.forget(Named::Portal, Some(name), link);
                }
                StatementKind::CloseCursor { name } => {
                    self.forget(Named::Portal, name.as_deref(), link);
                }
                StatementKind::DiscardAll => {
                    self.forget(Named::Statement, None, link);
                    self.forget(Named::Portal, None, link);
                }
                StatementKind::Unknown => self.transaction.control_sent(),
                StatementKind::Savepoint
                | StatementKind::Rows
                | StatementKind::NoRows
                | StatementKind::CopyOut
                | StatementKind::Execute { .. }
                | StatementKind::Fetch { .. }
                | StatementKind::Set { .. } => {}
            }
        }
    }

    fn forget(&mut self, named: Named, name: Option<&str>, link: &mut Link) {
        for running in self.store.forget(named, name) {
            super::finish(&running, "00000", link);
        }
    }

    /// People have to decide: the client is told, and its next messages wait.
    fn hold(&mut self, task: Box<Task>, held: Held, link: &mut Link) {
        if self.is_skipping {
            link.ask(Output::Withdraw(held.seq));
            self.skip(&task, link);
            return;
        }
        let mut notice = held.notice;
        if !notice.starts_with("corral:") {
            notice.insert_str(0, "corral: ");
        }
        if self.transaction.is_in_transaction() {
            notice.push_str(
                "; it waits inside a transaction, whose locks are held until it is decided",
            );
        }
        if self.keeper.is_foreign() {
            notice = plain(&notice);
        }
        let hold = Hold { task, seq: held.seq, notice, next_notice: link.now };
        self.step = Step::Held(Box::new(hold));
        self.repeat_notice(link);
    }

    /// Tells a waiting client that it still waits.
    pub(super) fn repeat_notice(&mut self, link: &mut Link) {
        let Step::Held(hold) = &mut self.step else { return };
        if hold.next_notice > link.now {
            return;
        }
        hold.next_notice = link.now + limits::APPROVAL_NOTICE_INTERVAL;
        // A client that reads nothing is told nothing more.
        let is_full = link.buffers.client_out.len() >= limits::WRITE_BUFFER_BYTES_HIGH;
        if link.client_owed > 0 || is_full {
            return;
        }
        let report = Report {
            severity: Severity::Notice,
            code: "00000",
            message: &hold.notice,
            detail: None,
            position: None,
        };
        put_report(&mut link.buffers.client_out, &report);
    }

    /// Another connection asked to cancel what this one runs.
    pub(super) fn cancel_asked(&mut self, link: &mut Link) {
        match std::mem::replace(&mut self.step, Step::Ready) {
            Step::Held(hold) => {
                link.ask(Output::Withdraw(hold.seq));
                let refusal =
                    Refusal::as_postgres("57014", "canceling statement due to user request");
                self.refuse(&hold.task, refusal, link);
            }
            step => {
                self.step = step;
                if !self.queue.is_empty() {
                    self.cancel_target(link);
                }
            }
        }
    }

    /// A pipeline failed in front of the message in work.
    pub(super) fn pipeline_failed(&mut self, link: &mut Link) {
        self.is_skipping = true;
        self.copy.is_awaited = false;
        match std::mem::replace(&mut self.step, Step::Ready) {
            Step::Held(hold) => {
                link.ask(Output::Withdraw(hold.seq));
                self.skip(&hold.task, link);
            }
            Step::ExpectNames(task) => {
                self.names_not_told();
                if let Some(approved) = &task.approved {
                    unused(&approved.permit, "25P02", link);
                }
                self.skip(&task, link);
            }
            // Their answers come, and find the pipeline failed.
            step => self.step = step,
        }
    }

    /// Names are known: the client is told that its session is open.
    fn finish_open(&mut self, link: &mut Link) {
        let out = &mut link.buffers.client_out;
        put_authentication_ok(out);
        for (name, value) in std::mem::take(&mut self.facts.parameters) {
            put_parameter_status(out, &name, &value);
        }
        // The process id is the target's, for clients that compare or show it; the key is ours.
        let mut cancel_key = self.admission.cancel_secret.to_vec();
        if let Some((process, _)) = &self.facts.key {
            cancel_key.splice(..4, process.to_be_bytes());
        }
        if self.minor < 2 {
            cancel_key.truncate(SHORT_KEY_BYTES);
        }
        put_key_data(out, &cancel_key);
        put_ready(out, b'I');
        self.is_open = true;
        self.step = Step::Ready;
        // The questions made it longer than most sessions ever need.
        self.queue.shrink_to_fit();
        link.ask(Output::SessionOpened { cancel_key });
    }

    /// Whether the client was told that its session is open.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Why the session's opening failed, when the target gave up during it.
    pub(super) fn opening_failed(&self) -> Option<Ending> {
        (!self.is_open).then(|| unavailable("its catalogue cannot be read"))
    }
}

/// A permit that will not be used: the record says so.
pub(super) fn unused(permit: &Permit, code: &str, link: &mut Link) {
    link.ask(Output::Record(Box::new(EventBody::StatementCompleted {
        decision: permit.decision_id().to_owned(),
        seq_in_session: permit.seq(),
        code: code.to_owned(),
        tag: None,
        rows: 0,
        bytes: 0,
        duration_us: 0,
        digest: None,
    })));
}

/// What a FETCH, or an Execute, does together with the cursors or portals that it runs: what they
/// did when they were opened, and what they do by now.
fn analyse_opened(
    analyst: &dyn Analyst,
    text: &str,
    opened: &[Opened],
    names: Option<&Names>,
    scope: &Scope,
) -> Analysis {
    let analysis = analyst.analyse(text, names, &scope.mask);
    opened.iter().fold(analysis, |analysis, opened| {
        let now = analyst.analyse(&opened.text, names, &scope.mask);
        analysis.with_portal(&opened.analysed.analysis).with_portal(&now)
    })
}

/// What EXECUTE of a known statement does. The target may still go by what names meant at the
/// PREPARE: where that is something else, it is unknown.
fn analyse_known(
    analyst: &dyn Analyst,
    text: &str,
    prepared: &SqlPrepared,
    names: Option<Arc<Names>>,
    scope: &Scope,
) -> Analysis {
    let told =
        |names: Option<&Names>| analyst.analyse_execute(text, &prepared.text, names, &scope.mask);
    let now = told(names.as_deref());
    let Some(old) = &prepared.names else { return now };
    if names.as_ref().is_some_and(|names| Arc::ptr_eq(names, old)) {
        return now;
    }
    if !reads_alike(Some(old), names.as_deref()) {
        return analyst.analyse(text, names.as_deref(), &scope.mask);
    }
    let then = told(Some(old));
    if then.facts == now.facts && then.mask == now.mask {
        now
    } else {
        analyst.analyse(text, names.as_deref(), &scope.mask)
    }
}
