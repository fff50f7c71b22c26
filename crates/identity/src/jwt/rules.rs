//! What a profile asks of a token's claims, and the checks themselves.

use std::time::Duration;

use corral_model::limits;
use time::OffsetDateTime;

use super::claims::{Claims, texts};
use super::{Algorithm, Header, JwtError};

/// What to do with a token that is for more than one audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeveralAudiences<'r> {
    /// Refuse it: any of the others could show it here.
    Refuse,
    /// The audience must be among them (logout tokens, security events).
    Allow,
    /// `azp` must name this party, also when it stands beside one audience (OpenID Connect Core
    /// 1.0 section 3.1.3.7, steps 3 to 5).
    IssuedTo(&'r str),
}

/// Whether a token must say when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    Required,
    /// Checked where it is there (security events have none: RFC 8417 section 2.2).
    Optional,
}

/// What is asked of a token. Begin with [`Rules::new`] and change what the profile needs.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'r> {
    pub algorithms: &'r [Algorithm],
    /// None: the signer is known otherwise (a proof of a key's possession has no issuer).
    pub issuer: Option<&'r str>,
    /// None: the profile has no audience.
    pub audience: Option<&'r str>,
    pub several: SeveralAudiences<'r>,
    /// Values of `typ` that are taken, without `application/` and in any case; empty takes any,
    /// and none at all.
    pub types: &'r [&'r str],
    pub nonce: Option<&'r str>,
    pub expiry: Expiry,
    /// How long ago it may have been issued; `iat` is needed then.
    pub age_max: Option<Duration>,
    /// Claims that must be there.
    pub required: &'r [&'static str],
}

impl<'r> Rules<'r> {
    /// Of this issuer, for this audience alone, by any algorithm, with an end.
    #[must_use]
    pub fn new(issuer: &'r str, audience: &'r str) -> Self {
        Self { issuer: Some(issuer), audience: Some(audience), ..Self::proof() }
    }

    /// Without issuer and audience: for proofs of possession.
    #[must_use]
    pub fn proof() -> Self {
        Self {
            algorithms: &Algorithm::ALL,
            issuer: None,
            audience: None,
            several: SeveralAudiences::Refuse,
            types: &[],
            nonce: None,
            expiry: Expiry::Required,
            age_max: None,
            required: &[],
        }
    }

    pub(super) fn check_header(&self, header: &Header) -> Result<(), JwtError> {
        if !self.algorithms.contains(&header.algorithm) {
            return Err(JwtError::Algorithm);
        }
        let is_taken = |typ: &String| {
            let typ = typ.to_ascii_lowercase();
            let typ = typ.strip_prefix("application/").unwrap_or(&typ);
            self.types.iter().any(|taken| taken.eq_ignore_ascii_case(typ))
        };
        if self.types.is_empty() || header.typ.as_ref().is_some_and(is_taken) {
            Ok(())
        } else {
            Err(JwtError::Type)
        }
    }

    pub(super) fn check_claims(
        &self,
        claims: &Claims,
        now: OffsetDateTime,
    ) -> Result<(), JwtError> {
        self.check_issuer(claims)?;
        self.check_audience(claims)?;
        self.check_times(claims, now)?;
        if let Some(nonce) = self.nonce
            && claims.text("nonce") != Some(nonce)
        {
            return Err(JwtError::Nonce);
        }
        for name in ["sub", "jti"] {
            if claims.get(name).is_some_and(|value| !value.is_string()) {
                return Err(JwtError::BadMember(name));
            }
        }
        match self.required.iter().find(|name| claims.get(name).is_none_or(|value| value.is_null()))
        {
            Some(missing) => Err(JwtError::Missing(missing)),
            None => Ok(()),
        }
    }

    fn check_issuer(&self, claims: &Claims) -> Result<(), JwtError> {
        match self.issuer {
            Some(issuer) if claims.issuer() != Some(issuer) => Err(JwtError::Issuer),
            Some(_) | None => Ok(()),
        }
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), JwtError> {
        let Some(audience) = self.audience else { return Ok(()) };
        let Some(value) = claims.get("aud") else { return Err(JwtError::Missing("aud")) };
        let audiences = texts(Some(value)).ok_or(JwtError::BadMember("aud"))?;
        if !audiences.contains(&audience) {
            return Err(JwtError::Audience);
        }
        let is_one = audiences.iter().all(|other| *other == audience);
        match self.several {
            SeveralAudiences::Allow => Ok(()),
            SeveralAudiences::Refuse if is_one => Ok(()),
            SeveralAudiences::Refuse => Err(JwtError::SeveralAudiences),
            SeveralAudiences::IssuedTo(party) => match claims.get("azp") {
                None if is_one => Ok(()),
                Some(azp) if azp.as_str() == Some(party) => Ok(()),
                None | Some(_) => Err(JwtError::Party),
            },
        }
    }

    fn check_times(&self, claims: &Claims, now: OffsetDateTime) -> Result<(), JwtError> {
        let time = |name: &'static str| claims.time(name).map_err(|()| JwtError::BadMember(name));
        let leeway = limits::JWT_LEEWAY;
        match (time("exp")?, self.expiry) {
            (Some(at), _) if at + leeway <= now => return Err(JwtError::Expired),
            (None, Expiry::Required) => return Err(JwtError::Missing("exp")),
            (Some(_), _) | (None, Expiry::Optional) => {}
        }
        if time("nbf")?.is_some_and(|at| at - leeway > now) {
            return Err(JwtError::NotYet);
        }
        match (time("iat")?, self.age_max) {
            (Some(at), _) if at - leeway > now => Err(JwtError::IssuedLater),
            (Some(at), Some(age_max)) if at + age_max + leeway < now => Err(JwtError::TooOld),
            (None, Some(_)) => Err(JwtError::Missing("iat")),
            (Some(_), _) | (None, None) => Ok(()),
        }
    }
}
