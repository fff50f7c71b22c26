//! One thing that can be decided, and what is known of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::StatementSeq;
use crate::trace::TraceParent;

/// What a statement can do to its target. The actions of policies are grouped by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Returns data.
    Read,
    /// Changes data.
    Write,
    /// Changes a schema, or an object that others depend on.
    Define,
    /// Changes rights, settings or the server itself.
    Administer,
    /// Runs commands on a host.
    Shell,
    /// Cannot be told: it may do anything.
    Unknown,
}

impl Effect {
    /// Every effect, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Write, Self::Define, Self::Administer, Self::Shell, Self::Unknown];

    /// Its name in policies, events and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Define => "define",
            Self::Administer => "administer",
            Self::Shell => "shell",
            Self::Unknown => "unknown",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Write => 2,
            Self::Define => 4,
            Self::Administer => 8,
            Self::Shell => 16,
            Self::Unknown => 32,
        }
    }
}

/// A set of effects. The empty set needs the right to connect only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Effects(u8);

impl Effects {
    pub const NONE: Self = Self(0);

    #[must_use]
    pub const fn of(effect: Effect) -> Self {
        Self(effect.bit())
    }

    pub fn insert(&mut self, effect: Effect) {
        self.0 |= effect.bit();
    }

    pub fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }

    #[must_use]
    pub fn contains(self, effect: Effect) -> bool {
        self.0 & effect.bit() != 0
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Effect> {
        Effect::ALL.into_iter().filter(move |effect| self.contains(*effect))
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<Effect> for Effects {
    fn from_iter<I: IntoIterator<Item = Effect>>(effects: I) -> Self {
        let mut set = Self::NONE;
        for effect in effects {
            set.insert(effect);
        }
        set
    }
}

impl Serialize for Effects {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Effects {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let effects = Vec::<Effect>::deserialize(deserializer)?;
        Ok(effects.into_iter().collect())
    }
}

/// A protocol's own name for what a statement does, from the closed table in the protocol's
/// folder: `select`, `alter_table`. It is a member of its effect's group in policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Verb {
    #[serde(rename = "verb")]
    pub name: &'static str,
    /// None: the right to connect is enough.
    pub effect: Option<Effect>,
}

/// What a statement does with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectRole {
    /// Named by the statement and read.
    Read,
    /// Named by the statement and changed.
    Write,
    /// Named by the statement; its definition is changed.
    Define,
    /// Reached through another object: a view's table, a partition, a trigger's function.
    Reached,
}

impl ObjectRole {
    /// As it is written in the record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Define => "define",
            Self::Reached => "reached",
        }
    }
}

/// An object that a statement touches, as far as the target's catalogue told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Empty when it could not be resolved; such a statement is [`Effect::Unknown`].
    pub schema: String,
    pub name: String,
    /// `table`, `view`, `function`, … as the protocol calls it.
    pub kind: String,
    pub role: ObjectRole,
}

/// Why a statement cannot be permitted whatever the policy says: a masked column used in another
/// way than being projected, a text that is too long.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Obstacle {
    /// The rule's name, as the client reads it: `masking`, `limits`.
    pub rule: &'static str,
    /// What the client reads: what is wrong, and what would be right.
    pub text: String,
    /// Byte offset in the statement's text, where one is known.
    pub position: Option<usize>,
    /// Whether the refusal is about size (54000) rather than right (42501).
    pub is_size: bool,
}

/// A field of a request that policies read as `context.NAME`, where the protocol has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Attribute {
    Flag(bool),
    Number(i64),
    Text(String),
    /// Sorted, without duplicates.
    Set(Vec<String>),
}

/// The type of an [`Attribute`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeKind {
    Flag,
    Number,
    Text,
    Set,
}

/// A field that a protocol's statements may have: its part of the policy schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributeSpec {
    pub name: &'static str,
    pub kind: AttributeKind,
    /// One sentence for the schema and the documentation.
    pub meaning: &'static str,
}

/// All that decides, apart from who asks: equal facts get equal decisions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Facts {
    /// What it does, without duplicates, sorted.
    pub verbs: Vec<Verb>,
    /// The union of the verbs' effects and of the effects of what it calls.
    pub effects: Effects,
    /// Sorted, without duplicates.
    pub objects: Vec<ObjectRef>,
    /// Functions called, `schema.name`, sorted, without duplicates.
    pub functions: Vec<String>,
    /// Statements in the message; more than one only where the protocol allows it.
    pub statement_count: u32,
    /// Set when it can never be permitted.
    pub obstacle: Option<Obstacle>,
    /// Whether rows may hold masked columns, which are replaced before the client sees them.
    pub is_masked: bool,
    /// The request's fields, by the names that the protocol declared.
    pub attributes: BTreeMap<&'static str, Attribute>,
}

/// A bound parameter, as the approver sees it and as the approval binds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Parameter {
    /// Text of the value; binary values in hexadecimal with `\x` before. None is NULL.
    pub value: Option<String>,
    /// `text` or `binary`.
    pub format: Cow<'static, str>,
    /// The protocol's name or number of the type, where the client gave one.
    pub type_name: Option<String>,
}

/// One thing that can be decided.
#[derive(Debug, Clone)]
pub struct Statement {
    pub seq: StatementSeq,
    /// The exact text that the target will run.
    pub text: Arc<str>,
    pub facts: Arc<Facts>,
    /// The bound values; empty when the protocol carries them in the text.
    pub parameters: Arc<[Parameter]>,
    pub in_transaction: bool,
    /// Digest of everything else that changes its meaning and that an approval must bind:
    /// search path, role, catalogue, settings. Empty where the protocol has no such state.
    pub state_digest: Arc<str>,
    /// What the client says of its trace: a claim, which no decision and no approval depends on.
    pub traceparent: Option<TraceParent>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_keep_what_was_inserted() {
        let effects: Effects = [Effect::Write, Effect::Read].into_iter().collect();
        assert!(effects.contains(Effect::Read));
        assert!(!effects.contains(Effect::Define));
        assert_eq!(serde_json::to_string(&effects).expect("serialises"), r#"["read","write"]"#);
    }
}
