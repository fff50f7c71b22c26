//! Owns the sockets: listening, TLS on both sides, dialling targets. It decides nothing.

pub mod endpoint;

pub use endpoint::Endpoint;
