//! Fake clients and targets, a real PostgreSQL, and the floor proxy: for tests only.
