//! Why a token was not taken.

use corral_model::limits;

/// Which check failed. Unless a variant says otherwise, whoever made or showed the token is to
/// blame. None repeats anything of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    #[error("the token is larger than {max} bytes", max = limits::JWT_BYTES_MAX)]
    TooLarge,
    #[error("this is not a signed JWT: it has not three parts of base64url")]
    NotCompact,
    /// `header`, `claims`: not one JSON object, nested too deep, or with a key twice.
    #[error("the token's {0} cannot be read: not one JSON object in which every key stands once")]
    NotJson(&'static str),
    #[error("the token's {0} is not what the standard says it is")]
    BadMember(&'static str),
    #[error("the token has critical extensions (crit), of which none is known")]
    Critical,
    #[error("the token is not signed with an algorithm that is taken here")]
    Algorithm,
    #[error("the token is of another type than is taken here (typ)")]
    Type,
    /// Its issuer may have changed its keys a moment ago.
    #[error("the token is signed with a key that its issuer does not publish")]
    UnknownKey,
    #[error("the token names no key, and its issuer publishes several that fit")]
    AmbiguousKey,
    #[error("the token's algorithm does not fit the key that it names")]
    KeyMismatch,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token was issued by somebody else (iss)")]
    Issuer,
    #[error("the token is for another audience (aud)")]
    Audience,
    #[error("the token is for several audiences, each of which could show it here (aud)")]
    SeveralAudiences,
    #[error("the token was issued to another party (azp)")]
    Party,
    #[error("the token has expired (exp)")]
    Expired,
    /// The clocks of its issuer and of this gateway may differ.
    #[error("the token is not valid yet (nbf); are the clocks right?")]
    NotYet,
    /// The clocks of its issuer and of this gateway may differ.
    #[error("the token was issued in the future (iat); are the clocks right?")]
    IssuedLater,
    #[error("the token was issued too long ago (iat)")]
    TooOld,
    #[error("the token answers another question (nonce)")]
    Nonce,
    #[error("the token has no {0}")]
    Missing(&'static str),
}

/// Why a key was not taken. Whoever publishes it is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("the key cannot be read")]
    Unreadable,
    #[error("the key is of a kind, size or use that verifies no signature here")]
    Useless,
}
