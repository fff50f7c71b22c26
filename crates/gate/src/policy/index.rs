//! Rules by action, target and group, so that a question evaluates only rules that can apply.
//! Cedar's evaluation is linear in the rules that it is given.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cedar_policy::{PolicyId, PolicySet};
use corral_model::ids::GroupName;

use crate::policy::actions::Actions;
use crate::policy::fields::Fields;
use crate::policy::rules::Rule;

/// Rules of one effect.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    /// Rules whose head names no group.
    open: PolicySet,
    by_group: BTreeMap<String, PolicySet>,
}

impl Sets {
    /// The rules that may apply to a member of `groups`.
    pub(crate) fn for_groups<'a>(
        &'a self,
        groups: &'a [GroupName],
    ) -> impl Iterator<Item = &'a PolicySet> {
        let of_groups = groups.iter().filter_map(|group| self.by_group.get(group.as_str()));
        std::iter::once(&self.open).chain(of_groups).filter(|set| !set.is_empty())
    }

    /// # Errors
    /// Cedar's own words; ids are unique, so there are none.
    fn add(&mut self, rule: &Rule) -> Result<(), String> {
        let set = match &rule.group {
            Some(group) => self.by_group.entry(group.clone()).or_default(),
            None => &mut self.open,
        };
        set.add(rule.policy.clone()).map_err(|error| error.to_string())
    }
}

/// The rules for one action on one target, or on any target that no rule names.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) permits: Sets,
    pub(crate) forbids: Sets,
    pub(crate) fields: Fields,
    /// Some rule may tell a table from its target.
    pub(crate) at_objects: bool,
    /// Some rule may tell a run from its principal.
    pub(crate) at_principal: bool,
}

impl Bucket {
    fn add(&mut self, rule: &Rule) -> Result<(), String> {
        self.fields.add(rule.fields);
        self.at_objects |= rule.at_objects;
        self.at_principal |= rule.at_principal;
        if rule.is_permit() { self.permits.add(rule) } else { self.forbids.add(rule) }
    }
}

#[derive(Debug, Default)]
struct ByTarget {
    other: Bucket,
    named: HashMap<String, Bucket>,
}

/// All rules. An action without rules has no entry.
#[derive(Debug, Default)]
pub(crate) struct Index {
    actions: HashMap<&'static str, ByTarget>,
}

impl Index {
    /// # Errors
    /// Cedar's own words; the caller has checked what could cause them.
    pub(crate) fn of(rules: &BTreeMap<PolicyId, Rule>, actions: &Actions) -> Result<Self, String> {
        let mut index = Self::default();
        for (action, _) in actions.iter() {
            let covers = |rule: &&Rule| {
                let named = rule.actions.as_ref();
                named.is_none_or(|named| named.iter().any(|name| name == action))
            };
            let covering: Vec<&Rule> = rules.values().filter(covers).collect();
            if !covering.is_empty() {
                index.actions.insert(action, by_target(&covering)?);
            }
        }
        Ok(index)
    }

    pub(crate) fn bucket(&self, action: &str, target: &str) -> Option<&Bucket> {
        let by_target = self.actions.get(action)?;
        Some(by_target.named.get(target).unwrap_or(&by_target.other))
    }
}

fn by_target(rules: &[&Rule]) -> Result<ByTarget, String> {
    let mut result = ByTarget::default();
    let names: BTreeSet<&String> = rules.iter().filter_map(|rule| rule.target.as_ref()).collect();
    for rule in rules.iter().filter(|rule| rule.target.is_none()) {
        result.other.add(rule)?;
    }
    for name in names {
        let mut bucket = Bucket::default();
        let applies = |rule: &&&Rule| rule.target.as_ref().is_none_or(|target| target == name);
        for rule in rules.iter().filter(applies) {
            bucket.add(rule)?;
        }
        result.named.insert(name.clone(), bucket);
    }
    Ok(result)
}
