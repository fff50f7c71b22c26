//! The form of a request (RFC 6749 appendix B): every name once, at most so much.

use std::sync::Arc;

use axum::extract::{Form as AxumForm, FromRequest, Request};
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corral_model::Secret;

use super::refusal::Refusal;
use crate::app::App;

/// Names in one form: more than any profile has.
const FIELDS_MAX: usize = 64;

/// What was sent. A value that is empty counts as absent (RFC 6749 section 3.2).
pub(super) struct Form(Vec<(String, String)>);

impl FromRequest<Arc<App>> for Form {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refusal> {
        let read = AxumForm::<Vec<(String, String)>>::from_request(request, app).await;
        let AxumForm(fields) = read.map_err(|_| {
            Refusal::invalid("send a form: content-type application/x-www-form-urlencoded")
        })?;
        Self::of(fields)
    }
}

impl Form {
    fn of(fields: Vec<(String, String)>) -> Result<Self, Refusal> {
        if fields.len() > FIELDS_MAX {
            return Err(Refusal::invalid("the form has too many parameters"));
        }
        for (at, (name, _)) in fields.iter().enumerate() {
            if fields.iter().take(at).any(|(earlier, _)| earlier == name) {
                return Err(Refusal::invalid("a parameter stands twice; send each once"));
            }
        }
        Ok(Self(fields))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, value)| known == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn owned(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    pub(super) fn required(&self, name: &'static str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::invalid(format!("{name} is missing")))
    }
}

/// A client's name and secret (RFC 6749 section 2.3.1): in the header, or in the form.
pub(super) struct ClientAuthentication {
    pub(super) id: String,
    pub(super) secret: Secret,
}

impl ClientAuthentication {
    pub(super) fn of(headers: &HeaderMap, form: &Form) -> Result<Self, Refusal> {
        let in_form = form.get("client_secret");
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            let (Some(id), Some(secret)) = (form.get("client_id"), in_form) else {
                return Err(Refusal::bad_client("send client_id and client_secret"));
            };
            return Ok(Self { id: id.to_owned(), secret: Secret::new(secret.to_owned()) });
        };
        if in_form.is_some() {
            return Err(Refusal::invalid("the client authenticates twice; choose one way"));
        }
        let read = value.to_str().ok().and_then(basic);
        let (id, secret) = read.ok_or_else(|| Refusal::bad_client("this is no Basic header"))?;
        if form.get("client_id").is_some_and(|other| other != id) {
            return Err(Refusal::invalid("client_id is not whom the header names"));
        }
        Ok(Self { id, secret })
    }
}

fn basic(value: &str) -> Option<(String, Secret)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((decoded(id)?, Secret::new(decoded(secret)?)))
}

/// Both parts are form-encoded before they are joined.
fn decoded(text: &str) -> Option<String> {
    let mut bytes: Vec<u8> = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: &[(&str, &str)]) -> Result<Form, Refusal> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Form::of(fields.iter().map(own).collect())
    }

    #[test]
    fn a_name_stands_once_and_an_empty_value_is_none() {
        assert!(form(&[("a", "1"), ("a", "1")]).is_err());
        let read = form(&[("a", "1"), ("b", "")]).expect("a form");
        assert_eq!((read.get("a"), read.get("b"), read.get("c")), (Some("1"), None, None));
        let many: Vec<(String, String)> =
            (0..=FIELDS_MAX).map(|n| (n.to_string(), "x".to_owned())).collect();
        assert!(Form::of(many).is_err());
    }

    #[test]
    fn a_client_authenticates_in_one_way() {
        let mut headers = HeaderMap::new();
        let in_form = form(&[("client_id", "ci"), ("client_secret", "s")]).expect("a form");
        let read = ClientAuthentication::of(&headers, &in_form).expect("a client");
        assert_eq!((read.id.as_str(), read.secret.reveal()), ("ci", "s"));
        let basic = format!("Basic {}", STANDARD.encode("c%2Bi:p%3Aw+d"));
        headers.insert(header::AUTHORIZATION, basic.parse().expect("a value"));
        assert!(ClientAuthentication::of(&headers, &in_form).is_err());
        let empty = form(&[]).expect("a form");
        let read = ClientAuthentication::of(&headers, &empty).expect("a client");
        assert_eq!((read.id.as_str(), read.secret.reveal()), ("c+i", "p:w d"));
        let other = form(&[("client_id", "other")]).expect("a form");
        assert!(ClientAuthentication::of(&headers, &other).is_err());
        assert!(ClientAuthentication::of(&HeaderMap::new(), &empty).is_err());
        for wrong in ["Bearer x", "Basic !", "Basic", "Basic Y2k="] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, wrong.parse().expect("a value"));
            assert!(ClientAuthentication::of(&headers, &empty).is_err(), "{wrong}");
        }
    }
}
