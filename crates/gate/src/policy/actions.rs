//! The actions that policies can name: one for each effect, `connect`, `unmask`, and the verbs
//! of the protocols as members of their effect's action.

use std::collections::BTreeMap;

use corral_model::statement::AttributeSpec;
use corral_model::{Effect, Verb};

use crate::policy::subject::ProtocolVerbs;

/// Needed to open a session, and for what has no effect.
pub(crate) const CONNECT: &str = "connect";
/// Needed to read a masked column raw.
pub(crate) const UNMASK: &str = "unmask";

/// What an action means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Connect,
    Unmask,
    /// An effect's own action: what a statement needs for an effect that none of its verbs has.
    Group(Effect),
    /// A member of its effect's action, or of `connect`.
    Verb(Option<Effect>),
}

/// Two protocols give one verb different effects, or one field different types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{verb}' has different meanings in different protocols, or is no name")]
pub(crate) struct ActionError {
    pub(crate) verb: String,
}

/// Every action, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Actions {
    kinds: BTreeMap<&'static str, Kind>,
    attributes: BTreeMap<&'static str, AttributeSpec>,
}

impl Actions {
    /// # Errors
    /// [`ActionError`]: whoever wrote the protocols' tables is to blame.
    pub(crate) fn of(protocols: &[ProtocolVerbs]) -> Result<Self, ActionError> {
        let mut kinds: BTreeMap<&'static str, Kind> =
            Effect::ALL.into_iter().map(|effect| (effect.name(), Kind::Group(effect))).collect();
        kinds.insert(CONNECT, Kind::Connect);
        kinds.insert(UNMASK, Kind::Unmask);
        for verb in protocols.iter().flat_map(|protocol| protocol.verbs) {
            let error = || ActionError { verb: verb.name.to_owned() };
            let is_plain = verb.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            if !is_plain || verb.name.is_empty() {
                return Err(error());
            }
            let is_known = match kinds.get(verb.name) {
                None => {
                    kinds.insert(verb.name, Kind::Verb(verb.effect));
                    continue;
                }
                Some(Kind::Connect) => verb.effect.is_none(),
                Some(Kind::Unmask) => false,
                Some(Kind::Group(effect)) => verb.effect == Some(*effect),
                Some(Kind::Verb(effect)) => verb.effect == *effect,
            };
            if !is_known {
                return Err(error());
            }
        }
        Ok(Self { kinds, attributes: attributes_of(protocols)? })
    }

    /// The fields of `context` that only some protocols have.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = &AttributeSpec> {
        self.attributes.values()
    }

    pub(crate) fn kind(&self, name: &str) -> Option<Kind> {
        self.kinds.get(name).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, Kind)> {
        self.kinds.iter().map(|(name, kind)| (*name, *kind))
    }

    /// The verb of this name; an effect's own action is none.
    pub(crate) fn verb(&self, name: &str) -> Option<Verb> {
        let (name, kind) = self.kinds.get_key_value(name)?;
        match kind {
            Kind::Connect | Kind::Unmask => None,
            Kind::Group(effect) => Some(Verb { name, effect: Some(*effect) }),
            Kind::Verb(effect) => Some(Verb { name, effect: *effect }),
        }
    }

    /// The action that `name` is a member of.
    pub(crate) fn group_of(&self, name: &str) -> Option<&'static str> {
        match self.kind(name)? {
            Kind::Connect | Kind::Unmask | Kind::Group(_) => None,
            Kind::Verb(Some(effect)) => Some(effect.name()),
            Kind::Verb(None) => Some(CONNECT),
        }
    }

    pub(crate) fn has_members(&self, name: &str) -> bool {
        self.kinds.keys().any(|member| self.group_of(member) == Some(name))
    }
}

/// Names of `context` that every statement has.
const COMMON_FIELDS: [&str; 10] = [
    "effects",
    "objects",
    "functions",
    "statement_count",
    "in_transaction",
    "time",
    "run_depth",
    "attribution",
    "tls",
    "source_ip",
];

fn attributes_of(
    protocols: &[ProtocolVerbs],
) -> Result<BTreeMap<&'static str, AttributeSpec>, ActionError> {
    let mut attributes: BTreeMap<&'static str, AttributeSpec> = BTreeMap::new();
    for spec in protocols.iter().flat_map(|protocol| protocol.attributes) {
        let is_plain = !spec.name.is_empty()
            && spec.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            && !COMMON_FIELDS.contains(&spec.name);
        let known = attributes.insert(spec.name, *spec);
        if !is_plain || known.is_some_and(|known| known.kind != spec.kind) {
            return Err(ActionError { verb: spec.name.to_owned() });
        }
    }
    Ok(attributes)
}
