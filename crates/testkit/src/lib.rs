//! A real PostgreSQL for tests, and the floor proxy for the benchmark. Only tests use this crate.

pub mod real_postgres;

pub use real_postgres::RealPostgres;
