//! The process that enforces everything: wiring, handlers and the state that sessions share.
