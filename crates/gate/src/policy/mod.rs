//! What policy says of a statement: Cedar, with three outcomes (CONTRACT section 4).
//!
//! An [`Engine`] is compiled once for a configuration and never changes; the gateway keeps it in
//! an `Arc` and replaces it whole. It is asked with a [`Subject`] (who), [`TargetFacts`] (where),
//! [`corral_model::statement::Facts`] (what) and a [`Context`] (how), and answers with a
//! [`crate::Ruling`]. Everything that it needs is an argument: this module has no clock, no files
//! and no store, and may not know any protocol beyond the table of its verbs.

mod cache;
mod cases;
mod engine;
mod problem;
mod subject;

pub use cache::{DecisionCache, SessionDecisions};
pub use cases::{CaseResult, PolicyTests, run_tests};
pub use engine::{Engine, ExplainedRule, ExplainedStep, Explanation, check_sources};
pub use problem::{PolicyProblem, Severity};
pub use subject::{Context, PolicySource, ProtocolVerbs, RunNode, Subject, TargetFacts};
