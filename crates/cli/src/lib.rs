//! Every command that is a client of the gateway, and the offline ones.
