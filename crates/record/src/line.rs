//! An event's JSON, written without making an [`Event`](corral_model::Event) first.
//!
//! What is the same in all events of a chain is written once and copied: a session writes two
//! events for each statement, and each names the same people and places.

use std::io::{self, Write};

use corral_model::event::{EventBody, Origin};
use serde::Serialize;
use time::OffsetDateTime;
use time::UtcOffset;
use time::format_description::well_known::Rfc3339;

/// The part that names the gateway and the origin: `,"gateway":"…","principal":"…"`.
pub(crate) struct Whence(Box<[u8]>);

#[derive(Serialize)]
struct Named<'a> {
    gateway: &'a str,
    #[serde(flatten)]
    origin: &'a Origin,
}

impl Whence {
    /// # Errors
    /// None that can happen: names are text.
    pub(crate) fn new(gateway: &str, origin: &Origin) -> io::Result<Self> {
        let mut json = serde_json::to_vec(&Named { gateway, origin })?;
        // An object of at least one member: its braces become the comma in front.
        json.pop();
        if let Some(brace) = json.first_mut() {
            *brace = b',';
        }
        Ok(Self(json.into()))
    }
}

/// Writes the event behind what is in the buffer. `chain` is made of characters that JSON does not
/// escape, as chains' names and sessions' ids are.
///
/// # Errors
/// When the body cannot be written as JSON, or the time not as RFC 3339.
pub(crate) fn write_event(
    buffer: &mut Vec<u8>,
    chain: &str,
    seq: u64,
    at: OffsetDateTime,
    whence: &Whence,
    body: &EventBody,
) -> io::Result<()> {
    write!(buffer, r#"{{"seq":{seq},"id":"{chain}:{seq}","time":""#)?;
    at.to_offset(UtcOffset::UTC).format_into(buffer, &Rfc3339).map_err(io::Error::other)?;
    buffer.push(b'"');
    buffer.extend_from_slice(&whence.0);
    // The body's members follow: its opening brace becomes a comma.
    let start = buffer.len();
    serde_json::to_writer(&mut *buffer, body)?;
    match buffer.get_mut(start) {
        Some(brace) if *brace == b'{' => *brace = b',',
        _ => return Err(io::Error::other("an event's body is not a JSON object")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use corral_model::Event;
    use corral_model::event::CloseReason;
    use corral_model::ids::{SessionId, TargetName};
    use time::macros::datetime;

    #[test]
    fn it_is_the_json_of_the_event() {
        let bodies = [
            EventBody::GatewayStopped {},
            EventBody::SessionClosed {
                reason: CloseReason::Killed,
                statements: 1,
                rows: 2,
                bytes_to_client: 3,
                bytes_to_target: 4,
                duration_ms: 5,
            },
        ];
        let origins = [
            Origin::default(),
            Origin {
                principal: Some("a \"quoted\" name\n".to_owned()),
                session: Some(SessionId::new("s-1").expect("an id")),
                target: Some(TargetName::new("orders-db").expect("a name")),
                ..Origin::default()
            },
        ];
        for at in [datetime!(2026-11-29 12:00:00.123456789 +2), datetime!(2026-01-02 03:04:05 UTC)]
        {
            for origin in &origins {
                for body in &bodies {
                    let event = Event {
                        seq: 41,
                        id: "s-1:41".to_owned(),
                        time: at.to_offset(UtcOffset::UTC),
                        gateway: "gw \\ 1".to_owned(),
                        origin: origin.clone(),
                        body: body.clone(),
                    };
                    let mut line = b"before".to_vec();
                    let whence = Whence::new("gw \\ 1", origin).expect("text");
                    write_event(&mut line, "s-1", 41, at, &whence, body).expect("text");
                    let expect = serde_json::to_string(&event).expect("text");
                    assert_eq!(String::from_utf8_lossy(&line), format!("before{expect}"));
                }
            }
        }
    }
}
