//! The tables that the analysis decides by, for the documentation that is generated from them.

use super::settings::{Allowed, HARMLESS};
use super::{builtins, system};

/// Effects of PostgreSQL's own functions: the effect's name, and the functions that have it.
#[must_use]
pub fn functions() -> Vec<(&'static str, Vec<&'static str>)> {
    builtins::table()
}

/// Extensions whose functions count as `read`.
#[must_use]
pub fn reviewed_extensions() -> &'static [&'static str] {
    builtins::reviewed_extensions()
}

/// Functions with the effect `read` or `write` that sessions with masked columns may not call.
#[must_use]
pub fn functions_closed_when_masked() -> &'static [&'static str] {
    builtins::closed_when_masked()
}

/// Settings that the right to connect is enough for, with the values if only some are.
#[must_use]
pub fn harmless_settings() -> Vec<(&'static str, Option<&'static [&'static str]>)> {
    let row = |(name, allowed): &(&'static str, Allowed)| match allowed {
        Allowed::Any => (*name, None),
        Allowed::Only(values) => (*name, Some(*values)),
    };
    HARMLESS.iter().map(row).collect()
}

/// System relations that need `administer`.
#[must_use]
pub fn secret_relations() -> &'static [&'static str] {
    system::lists().0
}

/// System relations that sessions with masked columns may not read, besides the secret ones.
#[must_use]
pub fn telling_relations() -> &'static [&'static str] {
    system::lists().1
}
