//! What policy says of a statement: Cedar, with three outcomes (CONTRACT section 4).
//!
//! An [`Engine`] is compiled once for a configuration and never changes; the gateway keeps it in
//! an `Arc` and replaces it whole. It is asked with a [`Subject`] (who), [`TargetFacts`] (where),
//! [`corral_model::statement::Facts`] (what) and a [`Context`] (how), and answers with a
//! [`crate::Ruling`]. Everything that it needs is an argument: this module has no clock, no files
//! and no store, and may not know any protocol beyond the table of its verbs.

mod actions;
mod cache;
mod cases;
mod depth;
mod engine;
mod explain;
mod fields;
mod grant;
mod index;
mod nearest;
mod problem;
mod question;
#[cfg(test)]
mod reference;
mod requirement;
mod rules;
mod schema;
mod subject;
mod verdict;
mod wording;

pub use cache::{DecisionCache, SessionDecisions};
pub use cases::{
    Case, CaseContext, CaseObject, CasePrincipal, CaseResult, CaseStatement, CaseTarget,
    PolicyTests, run_tests,
};
pub use engine::{Engine, check_sources};
pub use explain::{ExplainedRule, ExplainedStep, Explanation};
pub use grant::GrantError;
pub use problem::{PolicyProblem, Severity};
pub use schema::schema_text;
pub use subject::{
    Attribution, Context, PolicySource, ProtocolVerbs, RunNode, Subject, TargetFacts,
};
