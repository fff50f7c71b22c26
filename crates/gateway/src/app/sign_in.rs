//! People who come from an identity provider: sent there, taken back, linked to their user, and
//! given a login token by whoever began (a command line on loopback, or a device).
//!
//! Groups are stored before any token is given. Knows no HTTP.

use std::sync::Arc;

use corral_identity::jwks::{KeySource, KeySourceOptions};
use corral_identity::jwt::Claims;
use corral_identity::oidc::{OidcClient, OidcError, OidcOptions};
use corral_identity::token::digest_of;
use corral_model::event::{EventBody, Origin};
use corral_model::ids::{GroupName, PrincipalName, ResourceName};
use corral_model::resource::{
    EMAIL_CLAIM, ExternalIdentity, FirstSignIn, IdentityProviderSpec, OidcSpec, ProviderSecret,
    UserSpec,
};
use corral_model::token::TokenDigest;
use corral_model::{OffboardCause, Principal, Secret, limits};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::config::Config;
use super::live::sign_ins::{Arrived, AtProvider, Confirming, DeviceAnswer, Full};
use super::principals::{SignedIn, new_token};
use super::resources::Author;
use super::{App, AppError, Problem};

pub use super::live::sign_ins::SignInFor;

/// Letters of a user code (RFC 8628 section 6.1): no vowels, so that no words come out.
const USER_CODE_LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const USER_CODE_LEN: usize = 8;

/// Whom events name who is no person.
const RESERVED_NAMES: [&str; 2] = ["admin", "gateway"];

/// What a provider says of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vouched {
    /// The provider's own, lasting name.
    pub(crate) subject: String,
    /// The name here, when the person comes for the first time.
    pub(crate) name: String,
    /// None: the provider does not say.
    pub(crate) groups: Option<Vec<GroupName>>,
}

/// What comes back from a provider, in the query of the address that the browser is sent to.
#[derive(Debug, Clone, Default)]
pub struct ProviderAnswer {
    pub state: String,
    pub code: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
    pub issuer: Option<String>,
}

/// What the browser does next.
#[derive(Debug)]
pub enum Next {
    /// Go to the command line, which waits on loopback.
    Redirect(String),
    /// Say whether this device is theirs; `key` goes with the answer.
    Confirm { key: Secret, user_code: String, person: PrincipalName },
}

/// A device that may wait for its person.
#[derive(Debug)]
pub struct DeviceStarted {
    pub device_code: Secret,
    /// As people type it: `BCDF-GHJK`.
    pub user_code: String,
}

/// Why no token was given for a code, as RFC 6749 section 5.2 and RFC 8628 section 3.5 name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoToken {
    InvalidGrant,
    AuthorizationPending,
    SlowDown,
    AccessDenied,
    ExpiredToken,
    Unavailable(String),
}

impl App {
    /// The providers that people may sign in through.
    #[must_use]
    pub fn sign_in_providers(&self) -> Vec<ResourceName> {
        self.config().providers.keys().cloned().collect()
    }

    /// Where the browser goes to sign in.
    ///
    /// # Errors
    /// [`AppError::NotFound`] for an unknown provider, [`AppError::LimitReached`] when too many
    /// people sign in at once, [`AppError::Unavailable`] when the provider cannot be asked.
    pub async fn begin_sign_in(
        &self,
        provider: &str,
        purpose: SignInFor,
        browser: TokenDigest,
    ) -> Result<String, AppError> {
        #[cfg(feature = "saml")]
        if self.speaks_saml(provider) {
            return self.begin_saml(provider, purpose, browser);
        }
        let (provider, client) = self.oidc_client(provider)?;
        let redirect_uri = format!("{}/auth/callback/{}", self.api_url(), provider.name);
        let begun = client.begin(&redirect_uri, OffsetDateTime::now_utc()).await;
        let (url, begun) = begun.map_err(|error| {
            tracing::warn!(%error, provider = %provider.name, "a sign-in cannot begin");
            unavailable()
        })?;
        let now = Instant::now();
        let name = provider.name.clone();
        let deadline = now + limits::SIGN_IN_DEADLINE;
        let one = AtProvider { provider: name, browser, purpose, begun, deadline };
        self.live.sign_ins().begin(one, now).map_err(too_many)?;
        Ok(url)
    }

    /// Takes the provider's answer: once, from the same browser, within the time.
    ///
    /// # Errors
    /// [`AppError::Denied`] when the person is not let in, with a text for the person; the reason
    /// is recorded. [`AppError::Unavailable`] when the provider cannot be asked.
    pub async fn finish_sign_in(
        &self,
        provider: &str,
        answer: &ProviderAnswer,
        browser: TokenDigest,
    ) -> Result<Next, AppError> {
        let (provider, client) = self.oidc_client(provider)?;
        let now = Instant::now();
        let at = self.live.sign_ins().take(&answer.state, &provider.name, &browser, now);
        let at = at.ok_or_else(|| {
            self.refuse_person(&provider.name, "its answer belongs to no sign-in of this browser")
        })?;
        let code = match (&answer.code, &answer.error) {
            (Some(code), None) => code,
            (_, _) => {
                let text = "the provider did not sign the person in";
                return Err(self.refuse_person(&provider.name, text));
            }
        };
        let secret = self.store.provider_secret(&provider.name, ProviderSecret::OidcClient);
        let secret = secret.await?;
        let wall = OffsetDateTime::now_utc();
        let issuer = answer.issuer.as_deref();
        let grant = client.finish(&at.begun, code, issuer, secret.as_ref(), wall).await;
        let grant = grant.map_err(|error| self.no_grant(&provider.name, &error))?;
        let oidc = provider.oidc.as_ref().ok_or_else(unavailable)?;
        let vouched = vouched(&provider, oidc, &grant.claims)
            .map_err(|text| self.refuse_person(&provider.name, &text))?;
        let person = self.accept_person(&provider.name, vouched).await?;
        self.store.keep_grant(&person, &provider.name, grant.refresh_token.as_ref(), wall).await?;
        if let Some(sid) = grant.claims.text("sid") {
            let until = wall + limits::RUN_TTL_MAX;
            self.store.keep_provider_session(&provider.name, sid, &person, until, wall).await?;
        }
        self.arrive(person, provider.name.clone(), at.purpose, browser)
    }

    /// A person who is known by now goes on to what the sign-in was for.
    pub(crate) fn arrive(
        &self,
        person: PrincipalName,
        provider: ResourceName,
        purpose: SignInFor,
        browser: TokenDigest,
    ) -> Result<Next, AppError> {
        let now = Instant::now();
        let token = new_token()?;
        match purpose {
            SignInFor::CommandLine { redirect_uri, state, challenge } => {
                let mut next = format!("{redirect_uri}?code={}", token.reveal());
                if let Some(state) = state {
                    next.push_str("&state=");
                    next.push_str(&percent_encoded(&state));
                }
                next.push_str("&iss=");
                next.push_str(&percent_encoded(&self.api_url()));
                let deadline = now + limits::SIGN_IN_CODE_TTL;
                let one = Arrived { person, provider, redirect_uri, challenge, deadline };
                self.live.sign_ins().arrive(token.digest(), one, now).map_err(too_many)?;
                Ok(Next::Redirect(next))
            }
            SignInFor::Device(user_code) => {
                let deadline = now + limits::SIGN_IN_DEADLINE;
                let one = Confirming {
                    person: person.clone(),
                    provider,
                    browser,
                    user_code: user_code.clone(),
                    deadline,
                };
                let mut sign_ins = self.live.sign_ins();
                sign_ins.ask_to_confirm(token.digest(), one, now).map_err(too_many)?;
                let key = Secret::new(token.reveal().to_owned());
                Ok(Next::Confirm { key, user_code, person })
            }
        }
    }

    /// Links the person to a user here, or makes one, and takes the groups over: a change of the
    /// configuration, stored before anything else happens.
    ///
    /// # Errors
    /// [`AppError::Denied`] when there is no such user and none may be made, when a user of that
    /// name belongs to somebody else, and when the user is disabled.
    pub(crate) async fn accept_person(
        &self,
        provider: &ResourceName,
        vouched: Vouched,
    ) -> Result<PrincipalName, AppError> {
        let author = Author { by: provider.to_string(), cause: OffboardCause::ByHand };
        let mut name: Option<PrincipalName> = None;
        let choose = |config: &Config| {
            let mut user = user_for(config, provider, &vouched)
                .map_err(|text| self.refuse_person(provider, &text))?;
            if user.disabled {
                let text = format!("user '{}' is disabled", user.name);
                return Err(self.refuse_person(provider, &text));
            }
            let subject = Some(vouched.subject.clone());
            user.identity = Some(ExternalIdentity { provider: provider.clone(), subject });
            if let Some(groups) = vouched.groups.clone() {
                user.groups = groups;
            }
            user.suspended = None;
            name = Some(user.name.clone());
            Ok(user)
        };
        let changed = self.change_person(&author, choose).await;
        changed.map_err(|error| match error {
            // The person does not fit beside what else there is, such as a workload of that name.
            AppError::Invalid(_) => self.refuse_person(provider, &error.to_string()),
            other => other,
        })?;
        name.ok_or_else(unavailable)
    }

    /// The token for a code of [`Next::Redirect`], for the command line that began the sign-in.
    ///
    /// # Errors
    /// [`NoToken`].
    pub async fn redeem_code(
        &self,
        code: &str,
        redirect_uri: &str,
        verifier: &str,
    ) -> Result<SignedIn, NoToken> {
        let found = self.live.sign_ins().redeem(&digest_of(code), Instant::now());
        let found = found.ok_or(NoToken::InvalidGrant)?;
        let is_its = found.redirect_uri == redirect_uri && is_verifier(&found.challenge, verifier);
        if !is_its {
            return Err(NoToken::InvalidGrant);
        }
        self.sign_in_person(found.person, found.provider, "browser").await
    }

    /// A device begins to wait.
    ///
    /// # Errors
    /// [`AppError::LimitReached`], [`AppError::Conflict`] when nobody can sign in by a browser.
    pub fn begin_device(&self) -> Result<DeviceStarted, AppError> {
        if self.config().providers.is_empty() {
            let text = "there is no identity provider; sign in with --user";
            return Err(AppError::Conflict(text.to_owned()));
        }
        let device = new_token()?;
        let user_code = user_code()?;
        let mut sign_ins = self.live.sign_ins();
        sign_ins
            .add_device(device.digest(), user_code.clone(), Instant::now())
            .map_err(too_many)?;
        Ok(DeviceStarted { device_code: Secret::new(device.reveal().to_owned()), user_code })
    }

    /// The code of a device that waits, as it is kept; None when there is none.
    ///
    /// # Errors
    /// [`AppError::LimitReached`] after too many wrong codes.
    pub fn find_device(&self, typed: &str) -> Result<Option<String>, AppError> {
        let Some(user_code) = read_user_code(typed) else { return Ok(None) };
        let is_waiting = self.live.sign_ins().find_device(&user_code, Instant::now());
        Ok(is_waiting.map_err(too_many)?.then_some(user_code))
    }

    /// The person says whether the device is theirs; None when this browser was not asked.
    #[must_use]
    pub fn confirm_device(
        &self,
        key: &str,
        browser: TokenDigest,
        is_allowed: bool,
    ) -> Option<PrincipalName> {
        let key = digest_of(key);
        self.live.sign_ins().confirm(&key, &browser, is_allowed, Instant::now())
    }

    /// The token for a device whose person said yes.
    ///
    /// # Errors
    /// [`NoToken`].
    pub async fn redeem_device(&self, device_code: &str) -> Result<SignedIn, NoToken> {
        let found = self.live.sign_ins().poll(&digest_of(device_code), Instant::now());
        let (person, provider) = found.map_err(|answer| match answer {
            DeviceAnswer::Pending => NoToken::AuthorizationPending,
            DeviceAnswer::SlowDown => NoToken::SlowDown,
            DeviceAnswer::Denied => NoToken::AccessDenied,
            DeviceAnswer::Expired => NoToken::ExpiredToken,
        })?;
        self.sign_in_person(person, provider, "device").await
    }

    async fn sign_in_person(
        &self,
        person: PrincipalName,
        provider: ResourceName,
        method: &str,
    ) -> Result<SignedIn, NoToken> {
        let failed = |error: AppError| NoToken::Unavailable(error.to_string());
        let principal = Principal::user(person);
        if !self.may_hold_a_login(&principal) {
            return Err(NoToken::InvalidGrant);
        }
        let name = principal.to_string();
        let origin = Origin { principal: Some(name.clone()), ..Origin::default() };
        let (method, provider) = (method.to_owned(), Some(provider.to_string()));
        let body = EventBody::PrincipalSignedIn { name, method, provider, break_glass: false };
        self.append(origin, body).map_err(failed)?;
        let signed_in = self.issue_login(&principal).await.map_err(failed)?;
        // As in `sign_in`: whoever offboards changes the state first and then removes tokens.
        if !self.may_hold_a_login(&principal) {
            self.forget_logins(&principal).await.map_err(failed)?;
            return Err(NoToken::InvalidGrant);
        }
        Ok(signed_in)
    }

    /// The provider and the client for it, which is made again when its settings changed.
    pub(super) fn oidc_client(
        &self,
        name: &str,
    ) -> Result<(IdentityProviderSpec, Arc<OidcClient>), AppError> {
        let not_found = || AppError::NotFound { kind: "identity provider", name: name.to_owned() };
        let config = self.config();
        let known = ResourceName::new(name).ok();
        let provider = known.and_then(|name| config.providers.get(&name)).ok_or_else(not_found)?;
        let oidc = provider.oidc.as_ref().ok_or_else(not_found)?;
        let mut clients = self.live.clients();
        clients.retain(|name, _| config.providers.contains_key(name));
        if let Some((spec, client)) = clients.get(&provider.name)
            && spec == oidc
        {
            return Ok((provider.clone(), client.clone()));
        }
        let keys = KeySource::new(&KeySourceOptions {
            issuer: oidc.issuer.clone(),
            jwks_uri: None,
            ca_pem: oidc.ca_file.clone(),
        });
        let keys = keys.map_err(|error| {
            AppError::Invalid(vec![Problem::new(
                Some(format!("IdentityProvider/{}", provider.name)),
                error.to_string(),
            )])
        })?;
        let options = OidcOptions {
            client_id: oidc.client_id.clone(),
            scopes: oidc.scopes.clone(),
            prompt: oidc.prompt.clone(),
            wanted: oidc.groups_claim.clone(),
        };
        let client = Arc::new(OidcClient::new(Arc::new(keys), options));
        clients.insert(provider.name.clone(), (oidc.clone(), client.clone()));
        Ok((provider.clone(), client))
    }

    /// Records why somebody is not let in; the person reads no details.
    pub(super) fn refuse_person(&self, provider: &ResourceName, reason: &str) -> AppError {
        let name = format!("somebody from {provider}");
        let body = EventBody::PrincipalRefused { name, reason: reason.to_owned() };
        self.note(Origin::default(), body);
        AppError::Denied(
            "you are not let in; whoever runs this gateway finds the reason in its record"
                .to_owned(),
        )
    }

    fn no_grant(&self, provider: &ResourceName, error: &OidcError) -> AppError {
        tracing::warn!(%error, %provider, "a sign-in failed");
        match error {
            OidcError::Provider(_)
            | OidcError::Call(_)
            | OidcError::Client(_)
            | OidcError::Userinfo(_) => {
                self.refuse_person(provider, &error.to_string());
                unavailable()
            }
            OidcError::Refused
            | OidcError::OtherIssuer
            | OidcError::OtherSubject
            | OidcError::Token(_)
            | OidcError::NoIdToken => self.refuse_person(provider, &error.to_string()),
        }
    }
}

fn unavailable() -> AppError {
    AppError::Unavailable("the identity provider cannot be asked; try again".to_owned())
}

fn too_many(_: Full) -> AppError {
    AppError::LimitReached("too many people sign in at once; try again in a minute".to_owned())
}

/// The user whom a provider means.
///
/// # Errors
/// Why there is none, for the record.
fn user_for(
    config: &Config,
    provider: &ResourceName,
    vouched: &Vouched,
) -> Result<UserSpec, String> {
    if let Some(user) = config.users.of_subject(provider, &vouched.subject).next() {
        return Ok(user.clone());
    }
    let spec = config.providers.get(provider).ok_or("the provider is gone")?;
    // Case decides nothing in addresses that people have, and must not make a second person.
    let wanted = vouched.name.as_str();
    match config.users.in_any_case(wanted).next() {
        Some(user) => {
            let is_meant = match &user.identity {
                // SCIM made the person, who comes for the first time.
                Some(identity) => identity.provider == *provider && identity.subject.is_none(),
                None => user.provider.as_ref() == Some(provider) && names_are_sure(spec),
            };
            if is_meant {
                Ok(user.clone())
            } else {
                Err(format!("user '{}' is somebody else's account", user.name))
            }
        }
        None => {
            let name = PrincipalName::new(wanted.to_ascii_lowercase())
                .map_err(|error| format!("the name cannot be used here: {error}"))?;
            if RESERVED_NAMES.contains(&name.as_str()) {
                return Err(format!("'{name}' is the gateway's own name in the record"));
            }
            match spec.sign_in {
                FirstSignIn::Create => Ok(UserSpec::new(name)),
                FirstSignIn::Provisioned => Err(format!(
                    "there is no user '{name}' of this provider, and a sign-in makes none"
                )),
            }
        }
    }
}

/// Whether a name from this provider is enough to be a user whom a manifest named: an e-mail
/// address that it verified ([`vouched`] takes no other), or what its SAML directory says. Other
/// claims may be chosen by whoever has them.
fn names_are_sure(provider: &IdentityProviderSpec) -> bool {
    provider.oidc.as_ref().is_none_or(|oidc| oidc.user_claim == EMAIL_CLAIM)
}

/// What a verified ID token says, as this provider's settings read it.
///
/// # Errors
/// Why it says too little or too much, for the record.
pub(super) fn vouched(
    provider: &IdentityProviderSpec,
    oidc: &OidcSpec,
    claims: &Claims,
) -> Result<Vouched, String> {
    let subject = claims.subject().filter(|subject| !subject.is_empty());
    let subject = subject.ok_or("the ID token names nobody (sub)")?.to_owned();
    if subject.len() > limits::URL_BYTES_MAX {
        return Err("the ID token's sub is too long".to_owned());
    }
    let claim = oidc.user_claim.as_str();
    let name = claims.text(claim).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| format!("the ID token has no '{claim}'"))?.to_owned();
    if claim == EMAIL_CLAIM && claims.get("email_verified") != Some(&Value::Bool(true)) {
        return Err("the provider has not verified the e-mail address".to_owned());
    }
    let groups = match &oidc.groups_claim {
        None => None,
        Some(claim) => Some(groups_of(provider, claim, claims.get(claim))?),
    };
    Ok(Vouched { subject, name, groups })
}

/// The groups of this gateway that a provider's claim names.
///
/// # Errors
/// What is wrong with it, for the record; more than [`limits::GROUPS_MAX`] are refused.
pub(super) fn groups_of(
    provider: &IdentityProviderSpec,
    claim: &str,
    value: Option<&Value>,
) -> Result<Vec<GroupName>, String> {
    let unfit = || format!("the claim '{claim}' is no list of texts");
    let theirs: Vec<&str> = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(many)) => {
            let texts: Option<Vec<&str>> = many.iter().map(Value::as_str).collect();
            texts.ok_or_else(unfit)?
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => return Err(unfit()),
    };
    let max = limits::GROUPS_MAX;
    if theirs.len() > max {
        return Err(format!("the claim '{claim}' has {} groups; at most {max}", theirs.len()));
    }
    let mut groups: Vec<GroupName> =
        theirs.into_iter().filter_map(|theirs| provider.group(theirs)).collect();
    groups.sort();
    groups.dedup();
    Ok(groups)
}

/// RFC 7636 section 4.6, with S256 alone.
fn is_verifier(challenge: &str, verifier: &str) -> bool {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    (43..=128).contains(&verifier.len())
        && URL_SAFE_NO_PAD.encode(digest_of(verifier).0) == challenge
}

fn user_code() -> Result<String, AppError> {
    let mut code = String::with_capacity(USER_CODE_LEN + 1);
    while code.len() < USER_CODE_LEN {
        let mut byte = [0_u8; 1];
        aws_lc_rs::rand::fill(&mut byte)
            .map_err(|_| AppError::Unavailable("the gateway has no random numbers".to_owned()))?;
        // 240 is a multiple of 20, so that every letter is as likely.
        let letter = USER_CODE_LETTERS.get(usize::from(byte[0]) % USER_CODE_LETTERS.len());
        if let (true, Some(letter)) = (byte[0] < 240, letter) {
            code.push(char::from(*letter));
        }
    }
    code.insert(USER_CODE_LEN / 2, '-');
    Ok(code)
}

/// As people type it: any case, with or without the dash.
fn read_user_code(typed: &str) -> Option<String> {
    let letters: String = typed
        .chars()
        .filter(|c| !matches!(c, '-' | ' '))
        .map(|c| c.to_ascii_uppercase())
        .take(USER_CODE_LEN + 1)
        .collect();
    let is_code = letters.len() == USER_CODE_LEN
        && letters.bytes().all(|letter| USER_CODE_LETTERS.contains(&letter));
    let (first, second) = letters.split_at_checked(USER_CODE_LEN / 2)?;
    is_code.then(|| format!("{first}-{second}"))
}

/// For the query of an address (RFC 3986 section 2.3).
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_code_reads_back_as_people_type_it() {
        let code = user_code().expect("random bytes");
        assert_eq!(code.len(), 9);
        let plain = code.replace('-', " ").to_lowercase();
        assert_eq!(read_user_code(&plain).as_deref(), Some(code.as_str()));
        for wrong in ["", "BCDF", "BCDFGHJKL", "BCDF-GHJA", "BCDF-GHJ1", "BCDFGHJÉ"] {
            assert_eq!(read_user_code(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_verifier_is_that_of_rfc_7636() {
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert!(is_verifier(challenge, verifier));
        assert!(!is_verifier(verifier, verifier));
        assert!(!is_verifier(challenge, ""));
        assert!(!is_verifier(challenge, &verifier.replace('d', "e")));
    }

    #[test]
    fn what_goes_into_an_address_changes_nothing_else_of_it() {
        assert_eq!(percent_encoded("a&b=c#d é"), "a%26b%3Dc%23d%20%C3%A9");
    }
}
