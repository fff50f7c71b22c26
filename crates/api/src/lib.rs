//! The types of the HTTP API, and its OpenAPI document. No logic.
