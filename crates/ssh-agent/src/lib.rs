//! An SSH key agent (draft-ietf-sshm-ssh-agent) on a Unix socket. It holds one key that was made
//! for it and exists nowhere else, and the certificate that the gateway gives for it.
//!
//! It answers two requests, the list of identities and a signature, and refuses all others: no
//! key can be added, removed or taken out. It knows no API: who renews the certificate is told by
//! whoever starts it.

mod agent;
mod identity;
mod message;

pub use agent::{Agent, BoxFuture, Renewal, Renewed, answer_client};
pub use identity::{Certificate, Identity, IdentityError};
