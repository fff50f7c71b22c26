//! The keys of one issuer, as it publishes them: read from its configuration document or from a
//! given address, kept for a while, and asked for again when a token names an unknown one.
//!
//! An issuer that hangs, fails, answers without end or changes its keys with every answer costs
//! one bounded fetch in [`limits::JWKS_INTERVAL`], shared by everybody who waits; who needs no
//! answer does not wait.

mod fetch;
mod source;

pub use fetch::{Discovery, JwksError};
pub use source::{KeySource, KeySourceOptions, VerifyError};

#[cfg(doc)]
use corral_model::limits;
