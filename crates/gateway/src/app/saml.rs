//! Signing in through a SAML identity provider: a browser is sent there with a request, comes back
//! with a response, and goes on as after any other sign-in.
//!
//! A response is posted by the provider's page, so that the browser's cookie is not with it. What
//! it proves waits under its sign-in until the same browser comes for it by itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use corral_model::ids::{GroupName, ResourceName};
use corral_model::limits;
use corral_model::resource::{IdentityProviderSpec, SamlSpec, TextSource};
use corral_model::token::TokenDigest;
use corral_saml::{Expected, IdentityProvider, MetadataError, ServiceProvider};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::principals::new_token;
use super::sign_in::{Next, SignInFor, Vouched};
use super::{App, AppError};

/// An NCName begins with a letter or `_`, and a state need not.
const REQUEST_PREFIX: &str = "_";

/// People who are at a SAML provider, or on their way back, by the state of their sign-in.
#[derive(Debug, Default)]
pub(super) struct SamlSignIns(Mutex<HashMap<String, Waiting>>);

#[derive(Debug, Clone)]
struct Waiting {
    provider: ResourceName,
    /// The browser that began it.
    browser: TokenDigest,
    purpose: SignInFor,
    /// What the response proved; none while there is none.
    proven: Option<Vouched>,
    deadline: Instant,
}

impl SamlSignIns {
    fn lock(&self, now: Instant) -> MutexGuard<'_, HashMap<String, Waiting>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, one| now < one.deadline);
        waiting
    }

    /// False when there is no room for one more.
    fn begin(&self, state: String, one: Waiting, now: Instant) -> bool {
        let mut waiting = self.lock(now);
        if waiting.len() >= limits::SIGN_INS_PENDING_MAX {
            return false;
        }
        waiting.insert(state, one);
        true
    }

    fn is_awaited(&self, state: &str, provider: &ResourceName, now: Instant) -> bool {
        let waiting = self.lock(now);
        waiting.get(state).is_some_and(|one| one.provider == *provider && one.proven.is_none())
    }

    /// False when nobody waits for it any more, or it came before.
    fn prove(&self, state: &str, proven: Vouched, now: Instant) -> bool {
        match self.lock(now).get_mut(state) {
            Some(one) if one.proven.is_none() => {
                one.proven = Some(proven);
                true
            }
            Some(_) | None => false,
        }
    }

    /// What was proven, once, for the browser that began. Another browser does not use it up.
    fn take(
        &self,
        state: &str,
        provider: &ResourceName,
        browser: &TokenDigest,
        now: Instant,
    ) -> Option<(SignInFor, Vouched)> {
        let mut waiting = self.lock(now);
        let one = waiting.get(state)?;
        let is_its = one.provider == *provider
            && corral_identity::token::is_same(&one.browser, browser)
            && one.proven.is_some();
        if !is_its {
            return None;
        }
        let Waiting { purpose, proven, .. } = waiting.remove(state)?;
        proven.map(|proven| (purpose, proven))
    }
}

/// What is wrong with a provider's metadata, in words for whoever applies it.
pub(super) fn fault_of(saml: &SamlSpec) -> Option<String> {
    match read(saml) {
        Ok(_) => None,
        Err(error) => Some(format!("saml.metadata: {error}")),
    }
}

fn read(saml: &SamlSpec) -> Result<IdentityProvider, MetadataError> {
    match &saml.metadata {
        TextSource::Inline(text) => IdentityProvider::read(text),
        // It is refused when it is applied.
        TextSource::File { .. } => IdentityProvider::read(""),
    }
}

impl App {
    /// The metadata that the provider's administrator is given.
    ///
    /// # Errors
    /// [`AppError::NotFound`] when it is no SAML provider.
    pub fn saml_metadata(&self, name: &str) -> Result<String, AppError> {
        let (provider, _) = self.saml_provider(name)?;
        Ok(self.saml_service(&provider).metadata())
    }

    /// Where the browser goes to sign in.
    ///
    /// # Errors
    /// [`AppError::LimitReached`] when too many people sign in at once.
    pub(super) fn begin_saml(
        &self,
        name: &str,
        purpose: SignInFor,
        browser: TokenDigest,
    ) -> Result<String, AppError> {
        let (provider, theirs) = self.saml_provider(name)?;
        let state = new_token()?.reveal().to_owned();
        let request = format!("{REQUEST_PREFIX}{state}");
        let service = self.saml_service(&provider);
        let url = service.request(&theirs, &request, None, OffsetDateTime::now_utc()).url;
        let now = Instant::now();
        let deadline = now + limits::SIGN_IN_DEADLINE;
        let one = Waiting { provider: provider.name, browser, purpose, proven: None, deadline };
        if !self.saml_sign_ins.begin(state, one, now) {
            let text = "too many people sign in at once; try again in a minute";
            return Err(AppError::LimitReached(text.to_owned()));
        }
        Ok(url)
    }

    /// Takes a response that a provider's page posted. Gives the state under which the browser
    /// goes on. Each request has one response, and each assertion counts once.
    ///
    /// # Errors
    /// [`AppError::Denied`]; the reason is recorded. [`AppError::Unavailable`] when it cannot be
    /// told whether it was used before.
    pub async fn take_saml_response(&self, name: &str, response: &str) -> Result<String, AppError> {
        let (provider, theirs) = self.saml_provider(name)?;
        let refuse = |text: &str| self.refuse_person(&provider.name, text);
        let request = corral_saml::request_id(response);
        let request = request.map_err(|error| refuse(&error.to_string()))?;
        let state = request.strip_prefix(REQUEST_PREFIX);
        let state = state.ok_or_else(|| refuse("the response answers no request of ours"))?;
        if !self.saml_sign_ins.is_awaited(state, &provider.name, Instant::now()) {
            return Err(refuse("the response answers no pending request"));
        }
        let now = OffsetDateTime::now_utc();
        let expected = Expected {
            provider: &theirs,
            service: &self.saml_service(&provider),
            request_id: &format!("{REQUEST_PREFIX}{state}"),
            now,
        };
        let signed_in = corral_saml::verify(response, expected);
        let signed_in = signed_in.map_err(|error| refuse(&error.to_string()))?;
        let scope = format!("assertion {}", provider.name);
        let (id, until) = (&signed_in.assertion_id, signed_in.remember_until);
        if !self.store.once(&scope, id, until, now).await? {
            return Err(refuse("the response is refused: its assertion was used before"));
        }
        let vouched = vouched(&provider, signed_in).map_err(|text| refuse(&text))?;
        if !self.saml_sign_ins.prove(state, vouched, Instant::now()) {
            return Err(refuse("the response answers no pending request"));
        }
        Ok(state.to_owned())
    }

    /// The browser comes for what its response proved.
    ///
    /// # Errors
    /// [`AppError::Denied`]; the reason is recorded.
    pub async fn finish_saml(
        &self,
        name: &str,
        state: &str,
        browser: TokenDigest,
    ) -> Result<Next, AppError> {
        let (provider, _) = self.saml_provider(name)?;
        let found = self.saml_sign_ins.take(state, &provider.name, &browser, Instant::now());
        let (purpose, vouched) = found.ok_or_else(|| {
            self.refuse_person(&provider.name, "its answer belongs to no sign-in of this browser")
        })?;
        let person = self.accept_person(&provider.name, vouched).await?;
        self.arrive(person, provider.name, purpose, browser)
    }

    pub(super) fn speaks_saml(&self, name: &str) -> bool {
        self.saml_provider(name).is_ok()
    }

    /// The gateway, to a provider.
    fn saml_service(&self, provider: &IdentityProviderSpec) -> ServiceProvider {
        let base = format!("{}/auth/saml/{}", self.api_url(), provider.name);
        ServiceProvider { entity_id: format!("{base}/metadata"), acs_url: format!("{base}/acs") }
    }

    fn saml_provider(
        &self,
        name: &str,
    ) -> Result<(IdentityProviderSpec, IdentityProvider), AppError> {
        let not_found = || AppError::NotFound { kind: "SAML provider", name: name.to_owned() };
        let config = self.config();
        let mut providers = config.providers.values();
        let provider = providers.find(|known| known.name.as_str() == name).ok_or_else(not_found)?;
        let saml = provider.saml.as_ref().ok_or_else(not_found)?;
        let theirs = read(saml).map_err(|_| not_found())?;
        Ok((provider.clone(), theirs))
    }
}

/// What an assertion says, as this provider's settings read it.
///
/// # Errors
/// Why it says too little or too much, for the record.
fn vouched(
    provider: &IdentityProviderSpec,
    signed_in: corral_saml::SignedIn,
) -> Result<Vouched, String> {
    let saml = provider.saml.as_ref().ok_or("the provider is gone")?;
    let values = |attribute: &String| signed_in.attributes.get(attribute).map(Vec::as_slice);
    let name = match &saml.user_attribute {
        None => signed_in.name_id.clone(),
        Some(attribute) => match values(attribute) {
            Some([one]) if !one.is_empty() => one.clone(),
            Some(_) | None => {
                return Err(format!("the response has not one value of '{attribute}'"));
            }
        },
    };
    let groups = match &saml.groups_attribute {
        None => None,
        Some(attribute) => {
            let theirs = values(attribute).unwrap_or_default();
            let max = limits::GROUPS_MAX;
            if theirs.len() > max {
                return Err(format!("'{attribute}' has {} groups; at most {max}", theirs.len()));
            }
            let mut groups: Vec<GroupName> =
                theirs.iter().filter_map(|theirs| provider.group(theirs)).collect();
            groups.sort();
            groups.dedup();
            Some(groups)
        }
    };
    Ok(Vouched { subject: signed_in.name_id, name, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_proven_is_for_the_browser_that_began_and_once() {
        let start = Instant::now();
        let corp = ResourceName::new("corp").expect("a name");
        let other = ResourceName::new("other").expect("a name");
        let (own, foreign) = (TokenDigest([1; 32]), TokenDigest([2; 32]));
        let sign_ins = SamlSignIns::default();
        let begin = |state: &str| {
            let one = Waiting {
                provider: corp.clone(),
                browser: own,
                purpose: SignInFor::Device("BCDF-GHJK".to_owned()),
                proven: None,
                deadline: start + limits::SIGN_IN_DEADLINE,
            };
            sign_ins.begin(state.to_owned(), one, start)
        };
        let proven = || Vouched { subject: "s".to_owned(), name: "ada".to_owned(), groups: None };
        assert!(begin("a"));
        assert!(sign_ins.is_awaited("a", &corp, start));
        assert!(
            !sign_ins.is_awaited("a", &other, start) && !sign_ins.is_awaited("b", &corp, start)
        );
        assert!(sign_ins.take("a", &corp, &own, start).is_none(), "nothing is proven yet");
        assert!(sign_ins.prove("a", proven(), start));
        assert!(!sign_ins.prove("a", proven(), start), "one response for one request");
        assert!(!sign_ins.is_awaited("a", &corp, start));
        assert!(sign_ins.take("a", &corp, &foreign, start).is_none());
        assert!(sign_ins.take("a", &other, &own, start).is_none());
        assert!(sign_ins.take("a", &corp, &own, start).is_some());
        assert!(sign_ins.take("a", &corp, &own, start).is_none());
        assert!(begin("b") && sign_ins.prove("b", proven(), start));
        let late = start + limits::SIGN_IN_DEADLINE;
        assert!(sign_ins.take("b", &corp, &own, late).is_none());
        for count in 0..limits::SIGN_INS_PENDING_MAX {
            assert!(begin(&count.to_string()));
        }
        assert!(!begin("one more"));
    }
}
