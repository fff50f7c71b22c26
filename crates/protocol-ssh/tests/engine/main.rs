//! The engine between a client and a target of the SSH library, with a gateway that decides as a
//! test says.

mod channels;
#[path = "../sftp/gateway.rs"]
#[allow(dead_code, reason = "shared with the tests of SFTP")]
mod gateway;
mod logins;
mod target;
mod world;
