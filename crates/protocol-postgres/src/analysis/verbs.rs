//! The closed table of verbs: what a PostgreSQL statement is called in policies, and its effect.

use corral_model::{Effect, Verb};

const fn verb(name: &'static str, effect: Effect) -> Verb {
    Verb { name, effect: Some(effect) }
}

macro_rules! verbs {
    ($($(#[$doc:meta])* $constant:ident = $name:literal, $effect:ident;)*) => {
        $($(#[$doc])* pub const $constant: Verb = verb($name, Effect::$effect);)*

        /// Every verb, in the order of the documentation.
        pub const VERBS: &[Verb] = &[$($constant),*];
    };
}

verbs! {
    /// SELECT, VALUES, TABLE; RETURNING; what EXPLAIN, DECLARE and PREPARE hold inside.
    SELECT = "select", Read;
    EXPLAIN = "explain", Read;
    COPY_OUT = "copy_out", Read;
    LOCK_TABLE = "lock_table", Read;
    LISTEN = "listen", Read;
    INSERT = "insert", Write;
    UPDATE = "update", Write;
    DELETE = "delete", Write;
    MERGE = "merge", Write;
    COPY_IN = "copy_in", Write;
    /// SELECT … FOR UPDATE, FOR SHARE: PostgreSQL asks for the right to update, too.
    SELECT_FOR_UPDATE = "select_for_update", Write;
    NOTIFY = "notify", Write;
    CREATE_TABLE = "create_table", Define;
    ALTER_TABLE = "alter_table", Define;
    DROP_TABLE = "drop_table", Define;
    TRUNCATE = "truncate", Define;
    CREATE_INDEX = "create_index", Define;
    ALTER_INDEX = "alter_index", Define;
    DROP_INDEX = "drop_index", Define;
    CREATE_VIEW = "create_view", Define;
    ALTER_VIEW = "alter_view", Define;
    DROP_VIEW = "drop_view", Define;
    REFRESH_VIEW = "refresh_view", Define;
    CREATE_SEQUENCE = "create_sequence", Define;
    ALTER_SEQUENCE = "alter_sequence", Define;
    DROP_SEQUENCE = "drop_sequence", Define;
    CREATE_SCHEMA = "create_schema", Define;
    ALTER_SCHEMA = "alter_schema", Define;
    DROP_SCHEMA = "drop_schema", Define;
    CREATE_TYPE = "create_type", Define;
    ALTER_TYPE = "alter_type", Define;
    DROP_TYPE = "drop_type", Define;
    CREATE_FUNCTION = "create_function", Define;
    ALTER_FUNCTION = "alter_function", Define;
    DROP_FUNCTION = "drop_function", Define;
    CREATE_TRIGGER = "create_trigger", Define;
    ALTER_TRIGGER = "alter_trigger", Define;
    DROP_TRIGGER = "drop_trigger", Define;
    CREATE_RULE = "create_rule", Define;
    DROP_RULE = "drop_rule", Define;
    /// Statistics, collations, operators, text search and other objects without a verb of their own.
    CREATE_OBJECT = "create_object", Define;
    ALTER_OBJECT = "alter_object", Define;
    DROP_OBJECT = "drop_object", Define;
    COMMENT = "comment", Define;
    VACUUM = "vacuum", Define;
    ANALYZE = "analyze", Define;
    REINDEX = "reindex", Define;
    CLUSTER = "cluster", Define;
    GRANT = "grant", Administer;
    REVOKE = "revoke", Administer;
    CREATE_POLICY = "create_policy", Administer;
    ALTER_POLICY = "alter_policy", Administer;
    DROP_POLICY = "drop_policy", Administer;
    CREATE_ROLE = "create_role", Administer;
    ALTER_ROLE = "alter_role", Administer;
    DROP_ROLE = "drop_role", Administer;
    ALTER_OWNER = "alter_owner", Administer;
    SET_ROLE = "set_role", Administer;
    /// SET, RESET or set_config() of a setting that changes meaning or rights.
    SET_SETTING = "set_setting", Administer;
    ALTER_SYSTEM = "alter_system", Administer;
    CREATE_DATABASE = "create_database", Administer;
    ALTER_DATABASE = "alter_database", Administer;
    DROP_DATABASE = "drop_database", Administer;
    CREATE_TABLESPACE = "create_tablespace", Administer;
    ALTER_TABLESPACE = "alter_tablespace", Administer;
    DROP_TABLESPACE = "drop_tablespace", Administer;
    CREATE_EXTENSION = "create_extension", Administer;
    ALTER_EXTENSION = "alter_extension", Administer;
    DROP_EXTENSION = "drop_extension", Administer;
    /// Foreign data wrappers, servers, foreign tables, user mappings.
    FOREIGN_DATA = "foreign_data", Administer;
    /// Publications and subscriptions.
    REPLICATION = "replication", Administer;
    EVENT_TRIGGER = "event_trigger", Administer;
    LANGUAGE = "language", Administer;
    SECURITY_LABEL = "security_label", Administer;
    LOAD = "load", Administer;
    CHECKPOINT = "checkpoint", Administer;
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.
    TWO_PHASE = "two_phase", Administer;
    /// COPY from or to a file of the server.
    COPY_FILE = "copy_file", Administer;
    /// COPY from or to a program on the server.
    COPY_PROGRAM = "copy_program", Administer;
    DO = "do", Unknown;
    CALL = "call", Unknown;
    /// SQL EXECUTE.
    EXECUTE = "execute", Unknown;
    /// What does not parse, is not on the list, or reaches what cannot be told.
    UNKNOWN = "unknown_statement", Unknown;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_verb_is_listed_twice_or_named_as_an_effect() {
        let mut seen = BTreeSet::new();
        for verb in VERBS {
            assert!(seen.insert(verb.name), "{} is listed twice", verb.name);
            assert!(Effect::ALL.iter().all(|effect| effect.name() != verb.name), "{}", verb.name);
        }
    }
}
