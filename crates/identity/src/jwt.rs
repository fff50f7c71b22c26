//! Verifies compact JWTs: ID tokens, tokens of CI systems and clusters, logout tokens, security
//! events, proofs. One verifier for all of them; what a profile asks for stands in [`Rules`].
//!
//! The order is fixed: size, shape, header, key, signature, and only then the claims. Whatever is
//! read before the signature is verified ([`Unverified`]) may choose *whose* keys are asked for,
//! and nothing else. No error repeats anything of the token's own.

mod algorithm;
mod claims;
mod error;
pub(crate) mod json;
mod key;
mod rules;
mod signer;
mod unverified;

pub use algorithm::Algorithm;
pub use claims::Claims;
pub use error::JwtError;
pub use key::{KeySet, PublicKey};
pub use rules::{Expiry, Rules, SeveralAudiences};
pub use signer::Signer;
pub use unverified::{Header, Unverified};
