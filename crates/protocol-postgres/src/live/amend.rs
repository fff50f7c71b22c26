//! What a statement does in this session beyond its text: by the types of its parameters, the
//! cursors and portals that it runs, and the code that may have put something else in their place.

use std::sync::Arc;

use corral_model::Effect;

use super::Live;
use super::cursors::{Opened, runs_bodies};
use super::task::{Analysed, Task, What};
use crate::analysis::{Analysis, SessionChange, StatementKind};
use crate::deny::Refusal;

impl Live {
    /// The target makes values of the types that a client gave to its parameters when it binds: a
    /// type of a user's brings its own code along.
    pub(super) fn with_parameter_types(
        &self,
        what: &What,
        analysed: Arc<Analysed>,
    ) -> Arc<Analysed> {
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
    pub(super) fn with_cursors(
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
    pub(super) fn masks_moved(&self, task: &Task, analysed: &Analysed) -> Option<Refusal> {
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

    /// Whether a Bind's statement may be another one, which the target has to be asked. In a failed
    /// transaction it runs nothing that SQL can have prepared.
    pub(super) fn doubts_statement(&self, what: &What) -> bool {
        self.doubts.has_statements()
            && self.store.has_named_statement()
            && matches!(what, What::Bind(binding) if !binding.statement.is_empty())
    }

    /// A portal that unknown code may have put another one in the place of.
    pub(super) fn with_doubt(&self, what: &What, analysed: Arc<Analysed>) -> Arc<Analysed> {
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
    pub(super) fn with_fetched_portal(
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
}
