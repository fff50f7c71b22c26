//! The reviewed effects of PostgreSQL's own functions, and which of them masked sessions may call.

use std::collections::HashMap;
use std::sync::OnceLock;

use corral_model::Effect;

const TABLE: &str = include_str!("builtins.txt");

/// Extensions whose C functions were reviewed: they compute from their arguments and nothing else.
const REVIEWED_EXTENSIONS: &[&str] = &[
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "earthdistance",
    "fuzzystrmatch",
    "hstore",
    "intarray",
    "isn",
    "ltree",
    "pg_trgm",
    "pgcrypto",
    "seg",
    "unaccent",
    "uuid-ossp",
];

/// Functions that show other statements' literals, statistics of values, or large objects.
const CLOSED_WHEN_MASKED: &[&str] = &[
    "cursor_to_xml",
    "lo_close",
    "lo_creat",
    "lo_create",
    "lo_from_bytea",
    "lo_get",
    "lo_lseek",
    "lo_lseek64",
    "lo_open",
    "lo_put",
    "lo_tell",
    "lo_tell64",
    "lo_truncate",
    "lo_truncate64",
    "lo_unlink",
    "loread",
    "lowrite",
    "pg_cursor",
    "pg_export_snapshot",
    "pg_get_backend_memory_contexts",
    "pg_logical_emit_message",
    "pg_mcv_list_items",
    "pg_prepared_statement",
    "pg_prepared_xact",
    "pg_stat_get_activity",
    "pg_stat_get_backend_activity",
];

/// What a built-in function of this name does; None when no release that was looked at has it.
pub(super) fn effect_of(name: &str) -> Option<Effect> {
    effects().get(name).copied()
}

/// Whether a session with masked columns may call this built-in function.
pub(super) fn is_open_when_masked(name: &str) -> bool {
    CLOSED_WHEN_MASKED.binary_search(&name).is_err()
        && matches!(effect_of(name), Some(Effect::Read | Effect::Write))
}

pub(super) fn is_reviewed_extension(name: &str) -> bool {
    REVIEWED_EXTENSIONS.binary_search(&name).is_ok()
}

/// The table as rows for the documentation: effect, and the names with it.
pub(super) fn table() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut sections: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(effect) => sections.push((effect, Vec::new())),
            None => {
                if let Some((_, names)) = sections.last_mut() {
                    names.extend(line.split_whitespace());
                }
            }
        }
    }
    sections
}

pub(super) fn reviewed_extensions() -> &'static [&'static str] {
    REVIEWED_EXTENSIONS
}

pub(super) fn closed_when_masked() -> &'static [&'static str] {
    CLOSED_WHEN_MASKED
}

fn effects() -> &'static HashMap<&'static str, Effect> {
    static EFFECTS: OnceLock<HashMap<&'static str, Effect>> = OnceLock::new();
    EFFECTS.get_or_init(|| {
        let mut effects = HashMap::new();
        for (section, names) in table() {
            let effect = Effect::ALL.into_iter().find(|effect| effect.name() == section);
            for name in names {
                effects.insert(name, effect.unwrap_or(Effect::Unknown));
            }
        }
        effects
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_without_duplicates_and_names_real_effects() {
        let mut total = 0;
        for (section, names) in table() {
            assert!(Effect::ALL.iter().any(|effect| effect.name() == section), "{section}");
            assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{section} is not sorted");
            total += names.len();
        }
        assert_eq!(effects().len(), total, "a name is in two sections");
        assert!(CLOSED_WHEN_MASKED.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(REVIEWED_EXTENSIONS.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn functions_that_the_contract_names_have_its_effects() {
        let check =
            |name: &str, effect: Effect| assert_eq!(effect_of(name), Some(effect), "{name}");
        check("now", Effect::Read);
        check("pg_sleep", Effect::Read);
        check("setval", Effect::Write);
        check("lo_unlink", Effect::Write);
        check("pg_terminate_backend", Effect::Administer);
        check("pg_read_file", Effect::Administer);
        check("query_to_xml", Effect::Unknown);
        assert_eq!(effect_of("purge"), None);
    }
}
