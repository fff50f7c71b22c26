//! For tests only: a machine without a driver, what every protocol must do, and a real PostgreSQL.

pub mod conformance;
pub mod real_postgres;
pub mod rig;

pub use conformance::Dialect;
pub use real_postgres::RealPostgres;
pub use rig::{Rig, Say};
