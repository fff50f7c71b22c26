//! What a walk over a text has found so far. Everything is added, nothing is taken back.

use std::collections::{BTreeMap, BTreeSet};

use corral_model::statement::{Facts, Obstacle};
use corral_model::{Effect, Effects, ObjectRef, ObjectRole, Verb};

use super::{SessionChange, UnknownReason, verbs};

/// The rule's name in refusals because of masked columns.
pub(super) const MASKING_RULE: &str = "masking";

#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) verbs: BTreeSet<Verb>,
    pub(super) effects: Effects,
    /// What the bodies of called functions do, whatever verbs have the same effects: a function
    /// may be folded while the target plans.
    pub(super) called: Effects,
    pub(super) objects: BTreeSet<ObjectRef>,
    pub(super) functions: BTreeSet<String>,
    pub(super) obstacle: Option<Obstacle>,
    pub(super) unknown: Option<UnknownReason>,
    pub(super) needs_names: bool,
    /// Something is defined: names have to be known, because event triggers run with it. Unlike
    /// what `needs_names` tells of, an earlier statement of the same text rarely changes that.
    pub(super) is_definition: bool,
    /// There is a literal that takes its type from what stands around it.
    pub(super) has_literal: bool,
    pub(super) change: SessionChange,
}

impl Findings {
    pub(super) fn verb(&mut self, verb: Verb) {
        self.verbs.insert(verb);
        if let Some(effect) = verb.effect {
            self.effects.insert(effect);
        }
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.insert(effect);
    }

    /// It may do anything. The first reason is kept.
    pub(super) fn unknown(&mut self, text: impl Into<String>, position: Option<usize>) {
        self.verb(verbs::UNKNOWN);
        self.change = SessionChange::ANY;
        if self.unknown.is_none() {
            self.unknown = Some(UnknownReason { text: text.into(), position });
        }
    }

    /// Whether all that it does is to read.
    pub(super) fn is_quiet(&self) -> bool {
        self.unknown.is_none()
            && self.change == SessionChange::default()
            && self.effects.iter().all(|effect| effect == Effect::Read)
    }

    /// Masked columns forbid it. The first obstacle is kept.
    pub(super) fn obstacle(&mut self, text: impl Into<String>, position: Option<usize>) {
        if self.obstacle.is_none() {
            self.obstacle =
                Some(Obstacle { rule: MASKING_RULE, text: text.into(), position, is_size: false });
        }
    }

    pub(super) fn into_facts(mut self, statement_count: usize, is_masked: bool) -> Facts {
        let named: BTreeSet<(String, String)> = self
            .objects
            .iter()
            .filter(|object| object.role != ObjectRole::Reached)
            .map(|object| (object.schema.clone(), object.name.clone()))
            .collect();
        // What is named says more than that it is also reached.
        self.objects.retain(|object| {
            object.role != ObjectRole::Reached
                || !named.contains(&(object.schema.clone(), object.name.clone()))
        });
        Facts {
            verbs: self.verbs.into_iter().collect(),
            effects: self.effects,
            objects: self.objects.into_iter().collect(),
            functions: self.functions.into_iter().collect(),
            statement_count: u32::try_from(statement_count).unwrap_or(u32::MAX),
            obstacle: self.obstacle,
            is_masked,
            attributes: BTreeMap::new(),
        }
    }
}
