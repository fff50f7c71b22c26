//! PostgreSQL's own tables and views: most are read by every client; a few hold secrets, other
//! people's statements, or values of user columns.

use corral_model::Effect;

/// Secrets, or files of the server.
const SECRET: &[&str] = &[
    "pg_authid",
    "pg_file_settings",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_shadow",
    "pg_subscription",
    "pg_user_mapping",
    "pg_user_mappings",
    "user_mapping_options",
];

/// Values of user columns, or the text of other statements.
const TELLING: &[&str] = &[
    "_pg_user_mappings",
    "pg_backend_memory_contexts",
    "pg_cursors",
    "pg_largeobject",
    "pg_prepared_statements",
    "pg_prepared_xacts",
    "pg_replication_slots",
    "pg_stat_activity",
    "pg_stat_replication",
    "pg_statistic",
    "pg_statistic_ext_data",
    "pg_stats",
    "pg_stats_ext",
    "pg_stats_ext_exprs",
];

/// A column with values of user columns, in a relation that is else open: every client that shows
/// tables reads these. `attmissingval` is what rows from before a column was added have in it.
pub(super) fn telling_column(name: &str) -> Option<&'static str> {
    (name == "pg_attribute").then_some("attmissingval")
}

/// What reading a system relation of this name needs.
pub(super) fn read_effect(name: &str) -> Effect {
    if SECRET.binary_search(&name).is_ok() { Effect::Administer } else { Effect::Read }
}

/// Whether a session with masked columns may read it.
pub(super) fn is_open_when_masked(name: &str) -> bool {
    SECRET.binary_search(&name).is_err() && TELLING.binary_search(&name).is_err()
}

/// The lists, for the documentation: secret, telling.
pub(super) fn lists() -> (&'static [&'static str], &'static [&'static str]) {
    (SECRET, TELLING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        assert!(SECRET.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(TELLING.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
