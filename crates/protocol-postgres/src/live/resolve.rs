//! What a message does: the names that hold for it, and the analysis of its text.

use std::any::Any;
use std::sync::Arc;

use corral_gate::Output;
use corral_gate::machine::Work;
use corral_model::limits;

use super::Live;
use super::cursors::{Opened, resolves_late};
use super::extended::reads_alike;
use super::names::{Need, ReadNames};
use super::questions::failed_transaction;
use super::scope::Scope;
use super::sql_prepared::SqlPrepared;
use super::task::{Analysed, Step, Task, What};
use crate::analysis::catalogue::CatalogueError;
use crate::analysis::{Analysis, Names};
use crate::analyst::Analyst;
use crate::deny::Refusal;
use crate::digest::digest;
use crate::link::{Ending, Link};
use crate::shared::AnalysisKey;

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
                    None => {
                        self.keeper.not_asked();
                        self.analyse(task, None, link);
                    }
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

    pub(super) fn analysed(
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
