//! Asks the API of a CI system whether a job still goes on.
//!
//! One GET for each question, with the API's token. An answer counts only when it names the job
//! that was asked about and a state that its platform documents; every other answer is an error,
//! and an error says nothing of the job.

mod ask;
mod platforms;

pub use ask::{AskError, JobApi, JobApiOptions, Told};
pub use platforms::{JobState, Question};
