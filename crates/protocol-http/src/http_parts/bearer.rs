//! The token of a request: one `Authorization` header with a bearer (RFC 6750 section 2.1).

use corral_model::{Secret, limits};
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// Why a request shows no token. The client is to blame; texts go to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BearerError {
    #[error("no token was sent; send the token of a run or a login as bearer")]
    Missing,
    #[error("several Authorization headers were sent; send one")]
    Several,
    #[error("the Authorization header holds no bearer token")]
    NoBearer,
}

/// The token that a request shows.
///
/// # Errors
/// [`BearerError`]: the client is to blame.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Secret, BearerError> {
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
    if !scheme.eq_ignore_ascii_case("bearer") || !is_token {
        return Err(BearerError::NoBearer);
    }
    Ok(Secret::new(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_one_bearer_is_taken() {
        let check = |values: &[&str], expect: Result<&str, BearerError>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).expect("a value"));
            }
            let found = bearer(&headers);
            assert_eq!(
                found.as_ref().map(Secret::reveal),
                expect.as_ref().map(|t| *t),
                "{values:?}"
            );
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
