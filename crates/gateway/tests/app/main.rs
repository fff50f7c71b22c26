//! The app through its public functions, each test with a gateway of its own.

mod approvals;
mod clients;
mod offboard;
mod resources;
mod runs;
mod sessions;
mod support;
