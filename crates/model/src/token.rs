//! What the gateway keeps of a token: its digest and its purpose, never the token.

use std::fmt;

use crate::ids::RunId;
use crate::principal::Principal;

/// The SHA-256 of a token. It finds a token's row and cannot be turned back into the token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest(pub [u8; 32]);

impl TokenDigest {
    /// As it is stored: 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

/// What a token lets its bearer be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TokenPurpose {
    /// The gateway's local administrator.
    Admin,
    /// A person or a workload that signed in.
    Login(Principal),
    /// A run.
    Run(RunId),
}
