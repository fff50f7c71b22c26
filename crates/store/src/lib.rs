//! The only crate with SQL of ours: resources, sealed credentials, runs, tokens, approvals and
//! sessions, in one SQLite file.
//!
//! Decides nothing: it keeps what it is given, all or nothing, and says what was kept. It knows
//! no protocol, no policy, and no token or password, only digests, hashes and sealed bytes.

mod approvals;
mod beat;
mod credentials;
mod error;
mod history;
mod kept_credentials;
mod meta;
mod offboardings;
mod own_keys;
mod people;
mod providers;
mod relays;
mod resources;
mod rows;
mod runs;
mod scim;
mod seal;
mod sessions;
mod store;
mod tokens;
mod workload_secrets;

pub use approvals::{Approval, ApprovalRequest, ApprovalTerm, Vote, VoteError, VoteVerdict};
pub use credentials::CredentialPurpose;
pub use error::StoreError;
pub use history::Forgotten;
pub use meta::Gateway;
pub use people::GrantRow;
pub use relays::{JoinToken, JoinVerdict, RelayCertificateRow};
pub use resources::{
    Applied, Apply, Change, ChangeEffect, Changed, ConfigChange, Put, SecretChange,
};
pub use runs::{JobToken, KeptRun, RunFilter};
pub use scim::{ScimChange, ScimRow};
pub use seal::{SealError, SealKey, SealSource};
pub use sessions::{SessionFilter, SessionRow, SessionTotals};
pub use store::Store;
pub use tokens::TokenRow;
