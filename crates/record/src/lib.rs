//! The record: an append-only, hash-chained, signed account of everything.
