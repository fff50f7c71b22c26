//! Which settings a session may change with the right to connect alone. What is not on the list
//! changes meaning or rights, or is not known, and needs `administer`.

use crate::encoding;

/// What a change of a setting needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SettingClass {
    /// The right to connect.
    Harmless,
    /// The right to connect; names mean something else afterwards.
    SearchPath,
    /// The right to connect; texts mean something else afterwards.
    Reading,
    Administer,
}

/// What switches a setting on.
const ON: &[&str] = &["1", "on", "true", "yes"];
/// What switches a setting on or off. PostgreSQL knows shorter forms of these, too.
const SWITCH: &[&str] = &["0", "1", "false", "no", "off", "on", "true", "yes"];

/// Which values of a harmless setting are harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    Any,
    /// Only these, in lower case.
    Only(&'static [&'static str]),
}

/// Sorted. The values are those that change neither what a text means nor whose rights it has.
pub(super) const HARMLESS: &[(&str, Allowed)] = &[
    ("application_name", Allowed::Any),
    ("bytea_output", Allowed::Any),
    ("check_function_bodies", Allowed::Any),
    ("client_min_messages", Allowed::Any),
    ("constraint_exclusion", Allowed::Any),
    ("cursor_tuple_fraction", Allowed::Any),
    ("datestyle", Allowed::Any),
    ("default_statistics_target", Allowed::Any),
    ("default_table_access_method", Allowed::Only(&["heap"])),
    ("default_tablespace", Allowed::Only(&["", "pg_default"])),
    ("default_text_search_config", Allowed::Any),
    ("default_toast_compression", Allowed::Any),
    ("default_transaction_deferrable", Allowed::Any),
    ("default_transaction_isolation", Allowed::Any),
    ("default_transaction_read_only", Allowed::Any),
    ("effective_cache_size", Allowed::Any),
    ("effective_io_concurrency", Allowed::Any),
    ("enable_bitmapscan", Allowed::Any),
    ("enable_gathermerge", Allowed::Any),
    ("enable_hashagg", Allowed::Any),
    ("enable_hashjoin", Allowed::Any),
    ("enable_incremental_sort", Allowed::Any),
    ("enable_indexonlyscan", Allowed::Any),
    ("enable_indexscan", Allowed::Any),
    ("enable_material", Allowed::Any),
    ("enable_memoize", Allowed::Any),
    ("enable_mergejoin", Allowed::Any),
    ("enable_nestloop", Allowed::Any),
    ("enable_parallel_append", Allowed::Any),
    ("enable_parallel_hash", Allowed::Any),
    ("enable_partition_pruning", Allowed::Any),
    ("enable_partitionwise_aggregate", Allowed::Any),
    ("enable_partitionwise_join", Allowed::Any),
    ("enable_seqscan", Allowed::Any),
    ("enable_sort", Allowed::Any),
    ("enable_tidscan", Allowed::Any),
    ("escape_string_warning", Allowed::Any),
    ("extra_float_digits", Allowed::Any),
    ("from_collapse_limit", Allowed::Any),
    ("geqo", Allowed::Any),
    ("geqo_threshold", Allowed::Any),
    ("gin_fuzzy_search_limit", Allowed::Any),
    ("hash_mem_multiplier", Allowed::Any),
    ("idle_in_transaction_session_timeout", Allowed::Any),
    ("idle_session_timeout", Allowed::Any),
    ("intervalstyle", Allowed::Any),
    ("jit", Allowed::Any),
    ("join_collapse_limit", Allowed::Any),
    ("lc_monetary", Allowed::Any),
    ("lc_numeric", Allowed::Any),
    ("lc_time", Allowed::Any),
    ("lock_timeout", Allowed::Any),
    ("maintenance_work_mem", Allowed::Any),
    ("max_parallel_maintenance_workers", Allowed::Any),
    ("max_parallel_workers", Allowed::Any),
    ("max_parallel_workers_per_gather", Allowed::Any),
    ("parallel_setup_cost", Allowed::Any),
    ("parallel_tuple_cost", Allowed::Any),
    ("plan_cache_mode", Allowed::Any),
    ("quote_all_identifiers", Allowed::Any),
    ("random_page_cost", Allowed::Any),
    // It closes views and foreign tables to the session, and opens nothing.
    ("restrict_nonsystem_relation_kind", Allowed::Any),
    // Off makes a query fail where a policy would have filtered it; it never shows more rows.
    ("row_security", Allowed::Any),
    ("seq_page_cost", Allowed::Any),
    ("statement_timeout", Allowed::Any),
    ("synchronize_seqscans", Allowed::Any),
    ("synchronous_commit", Allowed::Any),
    ("tcp_keepalives_count", Allowed::Any),
    ("tcp_keepalives_idle", Allowed::Any),
    ("tcp_keepalives_interval", Allowed::Any),
    ("tcp_user_timeout", Allowed::Any),
    ("temp_buffers", Allowed::Any),
    ("timezone", Allowed::Any),
    ("transaction_deferrable", Allowed::Any),
    ("transaction_isolation", Allowed::Any),
    ("transaction_read_only", Allowed::Any),
    ("transaction_timeout", Allowed::Any),
    ("work_mem", Allowed::Any),
    ("xmlbinary", Allowed::Any),
    ("xmloption", Allowed::Any),
];

/// Settings on the list that a session with masked columns may not change: they make the server
/// talk more, or choose plans whose row order tells values of an index.
const CLOSED_WHEN_MASKED: &[&str] = &[
    "client_min_messages",
    "constraint_exclusion",
    "cursor_tuple_fraction",
    "default_statistics_target",
    "effective_cache_size",
    "effective_io_concurrency",
    "from_collapse_limit",
    "geqo",
    "geqo_threshold",
    "hash_mem_multiplier",
    "join_collapse_limit",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "plan_cache_mode",
    "random_page_cost",
    "seq_page_cost",
    "work_mem",
];

/// What setting `name` to `value` needs; a value of None is the default or not known.
pub(super) fn class_of(name: &str, value: Option<&str>) -> SettingClass {
    let name = name.to_lowercase();
    match (name.as_str(), value) {
        ("search_path", _) => return SettingClass::SearchPath,
        ("client_encoding", Some(value)) if encoding::is_known(value) => {
            return SettingClass::Reading;
        }
        ("standard_conforming_strings", Some(value))
            if SWITCH.contains(&value.to_lowercase().as_str()) =>
        {
            return SettingClass::Reading;
        }
        _ => {}
    }
    let Ok(found) = HARMLESS.binary_search_by(|(known, _)| (*known).cmp(name.as_str())) else {
        return SettingClass::Administer;
    };
    match HARMLESS.get(found).map(|(_, allowed)| allowed) {
        Some(Allowed::Any) => SettingClass::Harmless,
        Some(Allowed::Only(values)) => {
            let is_listed =
                value.is_some_and(|value| values.contains(&value.to_lowercase().as_str()));
            if is_listed { SettingClass::Harmless } else { SettingClass::Administer }
        }
        None => SettingClass::Administer,
    }
}

/// What resetting `name` to the value of the session's start needs: that value was admitted then.
pub(super) fn reset_class_of(name: &str) -> SettingClass {
    let name = name.to_lowercase();
    let is_listed = HARMLESS.iter().any(|(known, _)| *known == name);
    match name.as_str() {
        "search_path" => SettingClass::SearchPath,
        "client_encoding" | "standard_conforming_strings" => SettingClass::Reading,
        _ if is_listed => SettingClass::Harmless,
        _ => SettingClass::Administer,
    }
}

/// Whether it tells how long a transaction keeps its snapshot.
pub(super) fn is_isolation(name: &str) -> bool {
    matches!(
        name.to_lowercase().as_str(),
        "transaction_isolation" | "default_transaction_isolation"
    )
}

/// Whether texts are read afterwards as they are in every new session: in UTF-8, and with a
/// backslash that is a letter like others.
pub(super) fn reads_plainly(name: &str, value: Option<&str>) -> bool {
    match (name.to_lowercase().as_str(), value) {
        ("client_encoding", Some(value)) => encoding::is_utf8(value),
        ("standard_conforming_strings", Some(value)) => ON.contains(&value.to_lowercase().as_str()),
        _ => false,
    }
}

/// Whether a session with masked columns may give it this value; None is the value of its start.
pub(super) fn is_open_when_masked(name: &str, value: Option<&str>) -> bool {
    let name = name.to_lowercase();
    let is_reading = matches!(name.as_str(), "client_encoding" | "standard_conforming_strings");
    if is_reading && value.is_some() {
        // What a value cannot be converted to makes an error, which tells of the value.
        return reads_plainly(&name, value);
    }
    !name.starts_with("enable_") && CLOSED_WHEN_MASKED.binary_search(&name.as_str()).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        assert!(HARMLESS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(CLOSED_WHEN_MASKED.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_masked_session_reads_plainly() {
        let check = |name: &str, value: Option<&str>, expect: bool| {
            assert_eq!(is_open_when_masked(name, value), expect, "{name} = {value:?}");
        };
        check("client_encoding", Some("UTF-8"), true);
        check("client_encoding", Some("LATIN1"), false);
        check("client_encoding", None, true);
        check("standard_conforming_strings", Some("on"), true);
        check("standard_conforming_strings", Some("off"), false);
        check("timezone", Some("UTC"), true);
        check("work_mem", Some("1GB"), false);
    }

    #[test]
    fn what_changes_meaning_or_rights_is_not_harmless() {
        let check = |name: &str, value: &str, class: SettingClass| {
            assert_eq!(class_of(name, Some(value)), class, "{name} = {value}");
        };
        check("TimeZone", "UTC", SettingClass::Harmless);
        check("search_path", "a, b", SettingClass::SearchPath);
        check("client_encoding", "UTF8", SettingClass::Reading);
        check("client_encoding", "SJIS", SettingClass::Reading);
        check("client_encoding", "no encoding", SettingClass::Administer);
        check("standard_conforming_strings", "on", SettingClass::Reading);
        check("Standard_Conforming_Strings", "OFF", SettingClass::Reading);
        check("standard_conforming_strings", "perhaps", SettingClass::Administer);
        check("role", "postgres", SettingClass::Administer);
        check("session_authorization", "postgres", SettingClass::Administer);
        check("session_replication_role", "replica", SettingClass::Administer);
        check("my.variable", "x", SettingClass::Administer);
    }
}
