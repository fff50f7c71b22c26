//! The SFTP proxy between packets written by hand and OpenSSH's own server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

mod bad_client;
mod bad_target;
mod gateway;
mod holds;
mod operations;
mod packets;
mod transfers;
mod world;
