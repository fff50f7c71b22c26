//! The token of a request: one `Authorization` header with a bearer (RFC 6750 section 2.1), or
//! with a token whose key the listener saw proven (RFC 9449 section 7.1).

use corral_model::{Secret, limits};
use corral_session::Possession;
use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap};
use sha2::{Digest, Sha256};

/// Why a request shows no token. The client is to blame; texts go to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BearerError {
    #[error("no token was sent; send the token of a run or a login as bearer")]
    Missing,
    #[error("several Authorization headers were sent; send one")]
    Several,
    #[error("the Authorization header holds no bearer token")]
    NoBearer,
    #[error(
        "this listener takes no proofs of possession (DPoP); use the path of this target at the \
         gateway's https listener, or a token that is bound to no key"
    )]
    CannotProve,
    #[error("{0}")]
    Unproven(String),
}

/// A token as a request shows it.
#[derive(Debug, Clone)]
pub(crate) struct ShownToken {
    pub(crate) token: Secret,
    /// The request proved the key that the token is bound to.
    pub(crate) is_proven: bool,
}

impl ShownToken {
    /// What is kept for a token is found by this: what proven requests left is not there for who
    /// only has the token.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update([u8::from(self.is_proven)]);
        hash.update(self.token.reveal());
        hash.finalize().into()
    }
}

/// The token that a request shows.
///
/// # Errors
/// [`BearerError`]: the client is to blame.
pub(crate) fn shown_token(
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<ShownToken, BearerError> {
    let mut found = headers.get_all(AUTHORIZATION).iter();
    let value = found.next().ok_or(BearerError::Missing)?;
    if found.next().is_some() {
        return Err(BearerError::Several);
    }
    let text = value.to_str().map_err(|_| BearerError::NoBearer)?;
    let (scheme, token) = text.split_once(' ').ok_or(BearerError::NoBearer)?;
    let token = token.trim_matches(' ');
    let is_token = !token.is_empty()
        && token.len() <= limits::ACCESS_TOKEN_BYTES_MAX
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token {
        return Err(BearerError::NoBearer);
    }
    let is_proven = if scheme.eq_ignore_ascii_case("dpop") {
        match extensions.get::<Possession>() {
            Some(Possession::Proven) => true,
            Some(Possession::Refused(text)) => return Err(BearerError::Unproven(text.clone())),
            None => return Err(BearerError::CannotProve),
        }
    } else if scheme.eq_ignore_ascii_case("bearer") {
        false
    } else {
        return Err(BearerError::NoBearer);
    };
    Ok(ShownToken { token: Secret::new(token.to_owned()), is_proven })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn extensions(possession: Option<Possession>) -> Extensions {
        let mut extensions = Extensions::new();
        possession.map(|possession| extensions.insert(possession));
        extensions
    }

    #[test]
    fn a_bound_token_is_taken_from_a_proven_request_only() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("DPoP a.b.c"));
        let check = |possession: Option<Possession>, expect: Result<bool, BearerError>| {
            let found = shown_token(&headers, &extensions(possession));
            assert_eq!(found.map(|shown| shown.is_proven), expect);
        };
        check(Some(Possession::Proven), Ok(true));
        check(None, Err(BearerError::CannotProve));
        let text = "it was used before".to_owned();
        check(Some(Possession::Refused(text.clone())), Err(BearerError::Unproven(text)));
    }

    #[test]
    fn what_is_kept_for_a_proven_token_is_not_found_with_the_token_alone() {
        let shown =
            |token: &str, is_proven| ShownToken { token: Secret::new(token.into()), is_proven };
        assert_eq!(shown("a", true).digest(), shown("a", true).digest());
        assert_ne!(shown("a", true).digest(), shown("a", false).digest());
        assert_ne!(shown("a", true).digest(), shown("b", true).digest());
    }

    #[test]
    fn only_one_bearer_is_taken() {
        let check = |values: &[&str], expect: Result<&str, BearerError>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).expect("a value"));
            }
            // A bearer is one, whatever else was found.
            for possession in [None, Some(Possession::Proven)] {
                let found = shown_token(&headers, &extensions(possession));
                let found = found.map(|shown| (shown.token.reveal().to_owned(), shown.is_proven));
                let expect = expect.clone().map(|token| (token.to_owned(), false));
                assert_eq!(found, expect, "{values:?}");
            }
        };
        check(&["Bearer crl_x"], Ok("crl_x"));
        check(&["bearer  crl_x "], Ok("crl_x"));
        check(&[], Err(BearerError::Missing));
        check(&["Bearer a", "Bearer b"], Err(BearerError::Several));
        check(&["Basic YTpi"], Err(BearerError::NoBearer));
        check(&["Bearer"], Err(BearerError::NoBearer));
        check(&["Bearer "], Err(BearerError::NoBearer));
        check(&["Bearer a b"], Err(BearerError::NoBearer));
        let too_long = "a".repeat(limits::ACCESS_TOKEN_BYTES_MAX + 1);
        check(&[&format!("Bearer {too_long}")], Err(BearerError::NoBearer));
    }
}
