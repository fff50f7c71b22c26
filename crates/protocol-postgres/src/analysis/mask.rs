//! Which columns of a relation are masked, and which relations may not be touched because of
//! what they are computed from, related to, or filtered by.

use std::collections::HashSet;

use corral_model::resource::ColumnName;

use super::catalogue::{FIRST_USER_OID, Relation, TreeContext};
use super::walker::Walker;
use super::{builtins, system};

/// Which columns of a relation are masked, when it is read by its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RelationMask {
    Clear,
    /// Name of the column in the relation, and the classified column.
    Columns(Vec<(String, ColumnName)>),
    /// It may not be touched at all, for this reason.
    Closed(String),
}

impl<'a> Walker<'a> {
    /// Which columns of a relation are masked, when it is read by its own name.
    pub(super) fn mask_of(&self, relation: &Relation) -> RelationMask {
        let own = self.masked_columns(relation);
        let own_names = || own.iter().map(|(name, _)| name.as_str());
        let closed = |why: &str| {
            RelationMask::Closed(format!("\"{}\" {why}; it may not be used", relation.name))
        };
        for (name, _) in &own {
            if !relation.columns.iter().any(|column| column.name == *name) {
                return closed(&format!(
                    "is classified by a column \"{name}\" that it does not have"
                ));
            }
        }
        let number_is_masked = |number: &i16| {
            relation.columns.iter().any(|column| {
                column.number == *number && own_names().any(|name| name == column.name)
            })
        };
        for tree in &relation.trees {
            let tells = tree.reads.iter().any(number_is_masked);
            match tree.context {
                TreeContext::Default if tells && !number_is_masked(&tree.attribute) => {
                    return closed("has a column that is generated from a masked one");
                }
                TreeContext::Policy if tells => {
                    return closed("has a row security policy that reads a masked column");
                }
                _ => {}
            }
        }
        for relative in self.family(relation) {
            let is_covered = self
                .masked_columns(relative)
                .iter()
                .all(|(name, _)| own_names().any(|own| own == name));
            if !is_covered {
                return closed("is of one family with a relation that has masked columns");
            }
        }
        if matches!(relation.kind, 'v' | 'm') && self.view_reaches_masked(relation) {
            return closed("is a view that reaches masked columns or what cannot be told");
        }
        if own.is_empty() { RelationMask::Clear } else { RelationMask::Columns(own) }
    }

    fn masked_columns(&self, relation: &Relation) -> Vec<(String, ColumnName)> {
        self.masked
            .iter()
            .filter(|name| name.schema == relation.schema && name.table == relation.name)
            .map(|name| (name.column.clone(), name.clone()))
            .collect()
    }

    /// Ancestors and descendants by inheritance and partitioning.
    fn family(&self, relation: &Relation) -> Vec<&'a Relation> {
        let mut family: Vec<&'a Relation> = Vec::new();
        let mut seen: HashSet<u32> = HashSet::from([relation.oid]);
        for direction in [|r: &Relation| r.parents.clone(), |r: &Relation| r.children.clone()] {
            let mut open = direction(relation);
            while let Some(oid) = open.pop() {
                if !seen.insert(oid) {
                    continue;
                }
                if let Some(relative) = self.relation_by_oid(oid) {
                    open.extend(direction(relative));
                    family.push(relative);
                }
            }
        }
        family
    }

    /// Whether a view's definition reaches a masked relation, a telling system relation, a user
    /// function or a foreign table.
    fn view_reaches_masked(&self, view: &Relation) -> bool {
        let mut seen: HashSet<u32> = HashSet::from([view.oid]);
        let mut open: Vec<u32> = Vec::new();
        let mut functions: Vec<u32> = Vec::new();
        let mut add = |relation: &Relation, open: &mut Vec<u32>| {
            for tree in relation
                .trees
                .iter()
                .filter(|tree| matches!(tree.context, TreeContext::View | TreeContext::Policy))
            {
                open.extend(&tree.relations);
                functions.extend(&tree.functions);
            }
        };
        add(view, &mut open);
        while let Some(oid) = open.pop() {
            if !seen.insert(oid) {
                continue;
            }
            let Some(relation) = self.relation_by_oid(oid) else {
                return true;
            };
            let is_telling = relation.is_system && !system::is_open_when_masked(&relation.name);
            let is_masked = !self.masked_columns(relation).is_empty()
                || self.family(relation).iter().any(|one| !self.masked_columns(one).is_empty());
            if is_telling || is_masked || relation.kind == 'f' {
                return true;
            }
            add(relation, &mut open);
        }
        functions.into_iter().any(|oid| !self.is_open_function(oid))
    }

    fn is_open_function(&self, oid: u32) -> bool {
        let Some(names) = self.names else { return false };
        if let Some(name) = names.catalogue.builtins.get(&oid) {
            return builtins::is_open_when_masked(name);
        }
        if oid < FIRST_USER_OID {
            return true;
        }
        names.catalogue.functions.get(&oid).is_some_and(|function| {
            function.is_privileged
                && function.extension.as_deref().is_some_and(builtins::is_reviewed_extension)
        })
    }

    /// Whether a schema holds a relation with masked columns.
    pub(super) fn schema_is_classified(&self, schema: &str) -> bool {
        self.masked.iter().any(|name| name.schema == schema)
    }
}
