//! The documents of SCIM 2.0 (RFC 7643, RFC 7644): what a person or a group may be written as,
//! how one is filtered, patched, listed and shown.
//!
//! Pure: documents come in as JSON and go out as JSON. It knows no HTTP, no store and no
//! principal; who may write, and what a document means for somebody's standing, is decided by
//! whoever calls it. One table ([`schema`]) says what there is: it is published, and every
//! document, filter, path and patch is read by it, so that what is published is what holds.

pub mod bounds;
mod document;
mod error;
mod filter;
mod list;
mod members;
mod patch;
mod path;
pub mod schema;
mod shape;

pub use document::{Document, Meta};
pub use error::{ErrorType, ScimError};
pub use filter::{Filter, Key};
pub use list::{ListQuery, Page, Projection};
pub use patch::Patch;
pub use schema::ResourceKind;
