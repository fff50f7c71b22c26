//! Security events (RFC 8417) of the CAEP and RISC profiles, after their token was verified: what
//! they say happened, to whom, and what that takes away.
//!
//! Pure: knows no person and no store. Who a subject is here is for the caller to find out.

use serde_json::{Map, Value};

/// Events of one token: a transmitter sends one, RFC 8417 allows several about one subject.
pub const EVENTS_MAX: usize = 8;
/// Ways in which one subject may be named.
pub const ALIASES_MAX: usize = 8;
/// One identifier, in bytes.
pub const IDENTIFIER_BYTES_MAX: usize = 512;

/// Who is meant (RFC 9493).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Email(String),
    IssSub {
        iss: String,
        sub: String,
    },
    /// An id of the transmitter's own.
    Opaque(String),
}

/// What an event takes away, or gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Until the next good sign-in: what the provider once said may no longer hold.
    Suspend,
    /// What the provider said of the person is otherwise now. Where the new claims are enough to
    /// go on with, they are taken; else as [`Effect::Suspend`].
    Reevaluate,
    /// Until the provider, or an administrator, says otherwise.
    Disable,
    /// What the provider itself took away is given back.
    Reinstate,
    /// The event means nothing here; it is recorded.
    Nothing,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// Its address, as the transmitter wrote it.
    pub event: String,
    pub effect: Effect,
    /// Every way in which the subject is named; empty when none of them is read here.
    pub subjects: Vec<Subject>,
    /// The claims that changed, with their values now; empty when it names none.
    pub claims: Map<String, Value>,
}

/// Why something is no event, or no subject: whoever sent it is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    #[error("`events` is not an object with one to {EVENTS_MAX} events")]
    Events,
    #[error("a subject is an object with a `format` and its members (RFC 9493)")]
    Subject,
    #[error("a subject identifier is longer than {IDENTIFIER_BYTES_MAX} bytes")]
    TooLong,
}

/// Reads the events of a verified token. One subject for all stands in `sub_id` (or `sub`, of
/// the issuer); older transmitters write `subject` into each event.
///
/// # Errors
/// [`SignalError`].
///
/// # Limits
/// [`EVENTS_MAX`], [`ALIASES_MAX`], [`IDENTIFIER_BYTES_MAX`].
pub fn read(claims: &Map<String, Value>) -> Result<Vec<Signal>, SignalError> {
    let events = claims.get("events").and_then(Value::as_object).ok_or(SignalError::Events)?;
    if events.is_empty() || events.len() > EVENTS_MAX {
        return Err(SignalError::Events);
    }
    let of_token = match claims.get("sub_id") {
        Some(subject) => Subject::read(subject)?,
        None => plain_subject(claims)?,
    };
    let read_event = |(event, payload): (&String, &Value)| {
        check_len(event)?;
        let subjects = match payload.get("subject") {
            Some(subject) => Subject::read(subject)?,
            None => of_token.clone(),
        };
        let claims = payload.get("claims").and_then(Value::as_object).cloned().unwrap_or_default();
        Ok(Signal { event: event.clone(), effect: effect_of(event, payload), subjects, claims })
    };
    events.iter().map(read_event).collect()
}

/// `iss` and `sub` of the token itself.
fn plain_subject(claims: &Map<String, Value>) -> Result<Vec<Subject>, SignalError> {
    let text = |key: &str| claims.get(key).and_then(Value::as_str);
    let (Some(iss), Some(sub)) = (text("iss"), text("sub")) else { return Ok(Vec::new()) };
    check_len(iss)?;
    check_len(sub)?;
    Ok(vec![Subject::IssSub { iss: iss.to_owned(), sub: sub.to_owned() }])
}

impl Subject {
    /// Reads a subject identifier; of a complex one the user. A format that is not read here
    /// gives none.
    ///
    /// # Errors
    /// [`SignalError::Subject`], [`SignalError::TooLong`].
    pub fn read(value: &Value) -> Result<Vec<Self>, SignalError> {
        let keys = value.as_object().ok_or(SignalError::Subject)?;
        let format = keys.get("format").and_then(Value::as_str);
        match (format, keys.get("user")) {
            (None | Some("complex"), Some(user)) => Self::read_simple(user),
            (Some("complex"), None) => Ok(Vec::new()),
            (Some("aliases"), _) => {
                let listed = keys.get("identifiers").and_then(Value::as_array);
                let listed = listed.ok_or(SignalError::Subject)?;
                if listed.len() > ALIASES_MAX {
                    return Err(SignalError::Subject);
                }
                let mut subjects: Vec<Self> = Vec::new();
                for one in listed {
                    subjects.extend(Self::read_simple(one)?);
                }
                Ok(subjects)
            }
            (Some(_), _) => Self::read_simple(value),
            (None, None) => Err(SignalError::Subject),
        }
    }

    fn read_simple(value: &Value) -> Result<Vec<Self>, SignalError> {
        let text = |key: &str| -> Result<String, SignalError> {
            let text = value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
            let text = text.ok_or(SignalError::Subject)?;
            check_len(text)?;
            Ok(text.to_owned())
        };
        Ok(match text("format")?.as_str() {
            "email" => vec![Self::Email(text("email")?)],
            "iss_sub" => vec![Self::IssSub { iss: text("iss")?, sub: text("sub")? }],
            "opaque" => vec![Self::Opaque(text("id")?)],
            _ => Vec::new(),
        })
    }
}

fn check_len(text: &str) -> Result<(), SignalError> {
    if text.len() > IDENTIFIER_BYTES_MAX { Err(SignalError::TooLong) } else { Ok(()) }
}

/// The events of OpenID CAEP 1.0 section 3 and RISC 1.0 section 2 that concern whether somebody
/// may act.
fn effect_of(event: &str, payload: &Value) -> Effect {
    const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
    const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
    if let Some(name) = event.strip_prefix(CAEP) {
        return match name {
            "session-revoked" => Effect::Suspend,
            "token-claims-change" => Effect::Reevaluate,
            "credential-change" => match payload.get("change_type").and_then(Value::as_str) {
                // One more credential takes nothing away.
                Some("create") => Effect::Nothing,
                Some(_) | None => Effect::Suspend,
            },
            _ => Effect::Nothing,
        };
    }
    match event.strip_prefix(RISC) {
        Some("account-disabled" | "account-purged") => Effect::Disable,
        Some("account-enabled") => Effect::Reinstate,
        Some(
            "credential-compromise" | "sessions-revoked" | "account-credential-change-required",
        ) => Effect::Suspend,
        Some(_) | None => Effect::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_json(claims: &Value) -> Result<Vec<Signal>, SignalError> {
        read(claims.as_object().expect("an object"))
    }

    fn caep(name: &str) -> String {
        format!("https://schemas.openid.net/secevent/caep/event-type/{name}")
    }

    fn risc(name: &str) -> String {
        format!("https://schemas.openid.net/secevent/risc/event-type/{name}")
    }

    #[test]
    fn every_event_has_its_effect() {
        let check = |event: String, payload: Value, effect: Effect| {
            let claims = json!({
                "sub_id": {"format": "email", "email": "ada@example.com"}, "events": {&event: payload},
            });
            let read = read_json(&claims).expect("is an event");
            assert_eq!(read[0].effect, effect, "{event}");
            assert_eq!(read[0].subjects, [Subject::Email("ada@example.com".into())]);
        };
        check(caep("session-revoked"), json!({}), Effect::Suspend);
        check(caep("token-claims-change"), json!({"claims": {"groups": []}}), Effect::Reevaluate);
        check(caep("token-claims-change"), json!({}), Effect::Reevaluate);
        check(caep("credential-change"), json!({"change_type": "revoke"}), Effect::Suspend);
        check(caep("credential-change"), json!({"change_type": "create"}), Effect::Nothing);
        check(caep("device-compliance-change"), json!({}), Effect::Nothing);
        check(risc("account-disabled"), json!({}), Effect::Disable);
        check(risc("account-purged"), json!({}), Effect::Disable);
        check(risc("account-enabled"), json!({}), Effect::Reinstate);
        check(risc("credential-compromise"), json!({}), Effect::Suspend);
        check(risc("sessions-revoked"), json!({}), Effect::Suspend);
        check(risc("recovery-activated"), json!({}), Effect::Nothing);
        check("https://evil.example/account-disabled".into(), json!({}), Effect::Nothing);
    }

    #[test]
    fn the_claims_that_changed_come_with_the_event() {
        let check = |payload: Value, expect: Value| {
            let read = read_json(&json!({"events": {caep("token-claims-change"): payload}}));
            assert_eq!(Value::Object(read.expect("is an event")[0].claims.clone()), expect);
        };
        check(json!({"claims": {"groups": ["a"]}}), json!({"groups": ["a"]}));
        check(json!({"claims": ["groups"]}), json!({}));
        check(json!({}), json!({}));
    }

    #[test]
    fn subjects_are_found_wherever_transmitters_write_them() {
        let ada = Subject::IssSub { iss: "https://idp".into(), sub: "ada".into() };
        let iss_sub = json!({"format": "iss_sub", "iss": "https://idp", "sub": "ada"});
        let check = |claims: Value, expect: &[Subject]| {
            let read = read_json(&claims).expect("is an event");
            assert_eq!(read[0].subjects, expect, "{claims}");
        };
        check(json!({"sub_id": iss_sub, "events": {"x": {}}}), std::slice::from_ref(&ada));
        check(json!({"events": {"x": {"subject": iss_sub}}}), std::slice::from_ref(&ada));
        let complex = json!({"user": iss_sub, "session": {"format": "opaque", "id": "s"}});
        check(json!({"sub_id": complex, "events": {"x": {}}}), std::slice::from_ref(&ada));
        let complex = json!({"format": "complex", "user": iss_sub});
        check(json!({"sub_id": complex, "events": {"x": {}}}), std::slice::from_ref(&ada));
        check(
            json!({"iss": "https://idp", "sub": "ada", "events": {"x": {}}}),
            std::slice::from_ref(&ada),
        );
        let aliases = json!({"format": "aliases", "identifiers": [
            iss_sub, {"format": "phone_number", "phone_number": "+1"}, {"format": "opaque", "id": "7"},
        ]});
        check(json!({"sub_id": aliases, "events": {"x": {}}}), &[ada, Subject::Opaque("7".into())]);
        check(json!({"sub_id": {"format": "did", "url": "did:x"}, "events": {"x": {}}}), &[]);
        check(json!({"sub_id": {"format": "complex", "tenant": {}}, "events": {"x": {}}}), &[]);
        check(json!({"events": {"x": {}}}), &[]);
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let check = |claims: Value, expect: SignalError| {
            assert_eq!(read_json(&claims), Err(expect), "{claims}");
        };
        check(json!({}), SignalError::Events);
        check(json!({"events": {}}), SignalError::Events);
        check(json!({"events": ["x"]}), SignalError::Events);
        let many: Map<String, Value> =
            (0..=EVENTS_MAX).map(|n| (format!("e{n}"), json!({}))).collect();
        check(json!({"events": many}), SignalError::Events);
        check(json!({"sub_id": "ada", "events": {"x": {}}}), SignalError::Subject);
        check(json!({"sub_id": {"email": "a@b"}, "events": {"x": {}}}), SignalError::Subject);
        check(json!({"sub_id": {"format": "email"}, "events": {"x": {}}}), SignalError::Subject);
        check(
            json!({"sub_id": {"format": "email", "email": 7}, "events": {"x": {}}}),
            SignalError::Subject,
        );
        let long = "x".repeat(IDENTIFIER_BYTES_MAX + 1);
        check(
            json!({"sub_id": {"format": "opaque", "id": long}, "events": {"x": {}}}),
            SignalError::TooLong,
        );
        let aliases = vec![json!({"format": "opaque", "id": "7"}); ALIASES_MAX + 1];
        check(
            json!({"sub_id": {"format": "aliases", "identifiers": aliases}, "events": {"x": {}}}),
            SignalError::Subject,
        );
    }
}
