//! Protocols on HTTP, on hyper: the Kubernetes API.
//!
//! `http` is what they share: the bearer, the sessions of one connection, the way to the target,
//! bodies that are counted and cut. Reading a request, judging it and reading its object is pure.

mod http_parts;
mod kubernetes;

pub use kubernetes::Kubernetes;
