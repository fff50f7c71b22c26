//! Tokens, passwords and the credentials that people and workloads show.
//!
//! Knows no protocol, no store and no policy: it makes and checks what others keep.

pub mod dpop;
mod fetch;
pub mod job_api;
pub mod jwks;
pub mod jwt;
pub mod oidc;
pub mod password;
pub mod signals;
pub mod token;
pub mod webhook;

pub use corral_model::token::{TokenDigest, TokenPurpose};
pub use fetch::FetchError;
pub use password::{PasswordChecks, PasswordError, PasswordHash, Verified};
pub use token::{Token, TokenError};
