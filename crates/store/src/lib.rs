//! The only crate with SQL of ours: resources, runs, tokens, approvals, in SQLite.
