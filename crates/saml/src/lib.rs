//! SAML 2.0 as a service provider needs it to sign people in, and no more: metadata is read, a
//! request is written, and a response is either exactly what the profile wants or refused.
//!
//! The profile: Web Browser SSO (saml-profiles-2.0 section 4.1), HTTP-Redirect out, HTTP-POST in,
//! answers to own requests only. One assertion in the whole document, signed by a key of the
//! provider's metadata; the signature has one reference, which is the assertion that is read.
//! No DTD, comment or processing instruction; no encryption; SHA-256 and larger only.
//!
//! Pure: it knows no HTTP, no store and no clock. Whether a request is pending and whether an
//! assertion was used before is for the caller, who gets the ids.

pub mod bounds;
mod metadata;
mod request;
mod response;
mod signature;
mod xml;

pub use metadata::{IdentityProvider, MetadataError};
pub use request::{AuthnRequest, ServiceProvider};
pub use response::{Expected, Refused, SignedIn, request_id, verify};
