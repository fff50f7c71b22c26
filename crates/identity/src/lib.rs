//! Passwords, tokens and the credentials that people and workloads show.
