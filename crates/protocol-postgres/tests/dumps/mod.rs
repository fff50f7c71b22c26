//! The dumps of real catalogues and sessions that texts are analysed with, and what an analysis
//! found in short.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::Arc;

use corral_model::resource::ColumnName;
use corral_model::{Effect, ObjectRef, ObjectRole};
use corral_protocol_postgres::analysis::catalogue::rows_of_text;
use corral_protocol_postgres::analysis::{Analysis, Catalogue, MaskScope, Names, SessionNames};

/// That of `data/catalogue.sql` on PostgreSQL 15.
pub(crate) const CATALOGUE: &str = include_str!("../data/catalogue.tsv");
pub(crate) const SESSION: &str = include_str!("../data/plain_session.tsv");

pub(crate) fn names_of(catalogue: &str, session: &str) -> Names {
    let catalogue = Catalogue::from_rows(&rows_of_text(catalogue));
    Names {
        catalogue: Arc::new(catalogue.expect("the catalogue's dump is whole")),
        session: SessionNames::from_rows(&rows_of_text(session))
            .expect("the probe's dump is whole"),
    }
}

/// Those of `data/catalogue.sql`, without temporary objects.
pub(crate) fn names() -> Names {
    names_of(CATALOGUE, SESSION)
}

pub(crate) fn scope(columns: &[&str]) -> MaskScope {
    let columns: Arc<[ColumnName]> =
        columns.iter().map(|name| ColumnName::parse(name).expect("a column")).collect();
    MaskScope { classified: columns.clone(), masked: columns }
}

pub(crate) fn open() -> MaskScope {
    scope(&[])
}

pub(crate) fn effects(analysis: &Analysis) -> Vec<&'static str> {
    analysis.facts.effects.iter().map(Effect::name).collect()
}

/// Each with its role, sorted by that.
pub(crate) fn objects(analysis: &Analysis) -> Vec<String> {
    let shown = |role: ObjectRole| match role {
        ObjectRole::Read => "r",
        ObjectRole::Write => "w",
        ObjectRole::Define => "d",
        ObjectRole::Reached => "-",
    };
    let one =
        |object: &ObjectRef| format!("{} {}.{}", shown(object.role), object.schema, object.name);
    let mut listed: Vec<String> = analysis.facts.objects.iter().map(one).collect();
    listed.sort();
    listed
}
