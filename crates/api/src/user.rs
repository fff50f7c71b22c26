//! Offboarding by hand.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What disabling a user took with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserDisabled {
    pub name: String,
    pub runs_ended: u64,
    pub sessions_closed: u64,
}

/// A user who may sign in again. Ended runs stay ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserEnabled {
    pub name: String,
}
