//! What every protocol on HTTP needs.

pub(crate) mod bearer;
pub(crate) mod bodies;
pub(crate) mod headers;
pub(crate) mod masked;
pub(crate) mod sessions;
pub(crate) mod target;
