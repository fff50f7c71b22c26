//! The credential that one session shows its target: the one it began with, until the target gave
//! a new one.

use std::sync::{Mutex, PoisonError};

use corral_gate::blank::Secrets;
use corral_gate::{Credential, Denial, DenialKind};
use corral_model::Secret;
use corral_model::resource::CredentialKind;
use http::HeaderValue;
use tokio::sync::watch;

use crate::http_parts::headers::sensitive;

/// What the target is shown at the moment.
pub(crate) struct Shown {
    now: Mutex<Now>,
}

struct Now {
    renewed: Option<watch::Receiver<Option<Secret>>>,
    credential: Credential,
    /// None where a certificate is shown.
    authorization: Option<HeaderValue>,
    secrets: Secrets,
}

impl Shown {
    /// # Errors
    /// A [`Denial`] when the credential is none of this protocol, or cannot stand in a header.
    pub(crate) fn new(
        credential: &Credential,
        renewed: Option<watch::Receiver<Option<Secret>>>,
    ) -> Result<Self, Denial> {
        let unusable = || {
            let text = "the target's credential cannot be used";
            Denial::new(DenialKind::TargetUnavailable, text)
        };
        let authorization = match (credential.kind, &credential.secret) {
            (CredentialKind::Token, Some(token)) => Some(bearer(token).ok_or_else(unusable)?),
            (CredentialKind::ClientKey, Some(_)) => None,
            (
                CredentialKind::Token
                | CredentialKind::ClientKey
                | CredentialKind::Password
                | CredentialKind::PrivateKey,
                _,
            ) => return Err(unusable()),
        };
        let secrets = Secrets::of(credential);
        let now = Now { renewed, credential: credential.clone(), authorization, secrets };
        Ok(Self { now: Mutex::new(now) })
    }

    /// The `Authorization` of a request that is sent now.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.follow();
        now.authorization.clone()
    }

    /// By which the credential would be recognised in a recording that begins now.
    pub(crate) fn secrets(&self) -> Secrets {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.follow();
        now.secrets.clone()
    }
}

impl Now {
    /// Takes up the credential that the target gave last.
    fn follow(&mut self) {
        // An error says that none will come any more: the target was applied again.
        let Some(true) = self.renewed.as_ref().and_then(|renewed| renewed.has_changed().ok())
        else {
            return;
        };
        let renewed = self.renewed.as_mut().and_then(|renewed| renewed.borrow_and_update().clone());
        let Some(token) = renewed else { return };
        let Some(authorization) = bearer(&token) else {
            tracing::error!("a renewed token cannot stand in a header; the present one stays");
            return;
        };
        // The one before may still be on its way back.
        let before = Secrets::of(&self.credential);
        self.credential.secret = Some(token);
        self.secrets = before.and(&Secrets::of(&self.credential));
        self.authorization = Some(authorization);
    }
}

fn bearer(token: &Secret) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {}", token.reveal().trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Credential {
        let mut credential = Credential::password("", Some(Secret::new(text.to_owned())));
        credential.kind = CredentialKind::Token;
        credential
    }

    #[test]
    fn a_renewed_token_is_shown_from_the_next_request_on() {
        let (sender, receiver) = watch::channel(None);
        let shown = Shown::new(&token("first\n"), Some(receiver)).expect("it can be used");
        let header = || shown.authorization().expect("a header");
        assert_eq!(header(), "Bearer first");
        sender.send_replace(Some(Secret::new("second".to_owned())));
        assert_eq!(header(), "Bearer second");
        // What cannot stand in a header changes nothing.
        sender.send_replace(Some(Secret::new("third\nx".to_owned())));
        assert_eq!(header(), "Bearer second");
        drop(sender);
        assert_eq!(header(), "Bearer second");
        assert!(header().is_sensitive());
    }

    #[test]
    fn a_credential_of_another_kind_is_none() {
        assert!(Shown::new(&Credential::password("u", None), None).is_err());
        assert!(Shown::new(&token("a\nb"), None).is_err());
    }
}
