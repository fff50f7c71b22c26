//! An event's JSON, written without making an [`Event`](corral_model::Event) first.
//!
//! What is the same in all events of a chain is written once and copied: a session writes two
//! events for each statement, and each names the same people and places.

use std::io;

use corral_gate::{Decided, Ruling, event_text};
use corral_model::event::{EventBody, Origin};
use corral_model::limits;
use corral_model::statement::{Facts, ObjectRef, Parameter, Statement};
use serde::Serialize;
use time::OffsetDateTime;
use time::UtcOffset;
use time::format_description::well_known::Rfc3339;

use crate::json::{put_bool, put_list, put_name, put_number, put_text, put_text_or_null};

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

/// Where an event stands, and when it happened.
pub(crate) struct Place<'a> {
    /// Made of characters that JSON does not escape, as chains' names and sessions' ids are.
    pub(crate) chain: &'a str,
    pub(crate) seq: u64,
    pub(crate) at: OffsetDateTime,
    pub(crate) whence: &'a Whence,
}

/// Writes the event behind what is in the buffer.
///
/// # Errors
/// When the body cannot be written as JSON, or the time not as RFC 3339.
pub(crate) fn write_event(
    buffer: &mut Vec<u8>,
    place: &Place<'_>,
    body: &EventBody,
) -> io::Result<()> {
    put_place(buffer, place)?;
    if put_completed(buffer, body)? {
        return Ok(());
    }
    // The body's members follow: its opening brace becomes a comma.
    let start = buffer.len();
    serde_json::to_writer(&mut *buffer, body)?;
    match buffer.get_mut(start) {
        Some(brace) if *brace == b'{' => *brace = b',',
        _ => return Err(io::Error::other("an event's body is not a JSON object")),
    }
    Ok(())
}

/// Writes the event of a decision, as [`write_event`] does, without making it first: every
/// statement has one.
///
/// # Errors
/// As for [`write_event`].
pub(crate) fn write_decided(
    buffer: &mut Vec<u8>,
    place: &Place<'_>,
    decided: &Decided<'_>,
) -> io::Result<()> {
    put_place(buffer, place)?;
    let Statement { seq, text, facts, parameters, in_transaction, state_digest: _, traceparent } =
        decided.statement;
    let Ruling { decision_id, verdict: _, rules, policy_version } = decided.ruling;
    let Facts {
        verbs,
        effects,
        objects,
        functions,
        statement_count: _,
        obstacle: _,
        is_masked: _,
        attributes,
    } = &**facts;
    buffer.extend_from_slice(br#","event":"statement.decided","decision":"#);
    put_text(buffer, decision_id)?;
    put_name(buffer, "statement");
    if text.len() <= limits::EVENT_TEXT_BYTES_MAX {
        put_text(buffer, text)?;
    } else {
        serde_json::to_writer(&mut *buffer, &event_text(text))?;
    }
    put_name(buffer, "seq_in_session");
    put_number(buffer, seq.0);
    put_name(buffer, "verbs");
    put_list(buffer, verbs, |buffer, verb| put_text(buffer, verb.name))?;
    put_name(buffer, "effects");
    put_list(buffer, effects.iter(), |buffer, effect| put_text(buffer, effect.name()))?;
    put_name(buffer, "objects");
    put_list(buffer, objects, put_object)?;
    put_name(buffer, "functions");
    put_list(buffer, functions, |buffer, function| put_text(buffer, function))?;
    if !parameters.is_empty() {
        put_name(buffer, "parameters");
        put_list(buffer, parameters.iter(), put_parameter)?;
    }
    put_name(buffer, "outcome");
    put_text(buffer, decided.outcome().name())?;
    put_name(buffer, "rules");
    put_list(buffer, rules.iter(), |buffer, rule| put_text(buffer, rule))?;
    if let Some(reason) = decided.reason() {
        put_name(buffer, "reason");
        put_text(buffer, reason)?;
    }
    put_name(buffer, "policy_version");
    put_number(buffer, policy_version.0);
    put_name(buffer, "in_transaction");
    put_bool(buffer, *in_transaction);
    if let Some(approval) = decided.approval {
        put_name(buffer, "approval");
        put_text(buffer, approval.as_str())?;
    }
    if let Some(traceparent) = traceparent {
        put_name(buffer, "traceparent");
        put_text(buffer, traceparent.as_str())?;
    }
    if !attributes.is_empty() {
        put_name(buffer, "attributes");
        serde_json::to_writer(&mut *buffer, attributes)?;
    }
    buffer.push(b'}');
    Ok(())
}

/// `{"seq":…,"id":"…","time":"…","gateway":"…",…` up to the body's first member.
fn put_place(buffer: &mut Vec<u8>, place: &Place<'_>) -> io::Result<()> {
    let Place { chain, seq, at, whence } = place;
    buffer.extend_from_slice(br#"{"seq":"#);
    put_number(buffer, *seq);
    buffer.extend_from_slice(br#","id":""#);
    buffer.extend_from_slice(chain.as_bytes());
    buffer.push(b':');
    put_number(buffer, *seq);
    buffer.extend_from_slice(br#"","time":""#);
    at.to_offset(UtcOffset::UTC).format_into(buffer, &Rfc3339).map_err(io::Error::other)?;
    buffer.push(b'"');
    buffer.extend_from_slice(&whence.0);
    Ok(())
}

/// Writes the rest of the line of a statement's end, of which there is one for each statement.
/// False when the body is another event: then nothing was written.
fn put_completed(buffer: &mut Vec<u8>, body: &EventBody) -> io::Result<bool> {
    let EventBody::StatementCompleted {
        decision,
        seq_in_session,
        code,
        tag,
        rows,
        bytes,
        duration_us,
        digest,
    } = body
    else {
        return Ok(false);
    };
    buffer.extend_from_slice(br#","event":"statement.completed","decision":"#);
    put_text(buffer, decision)?;
    put_name(buffer, "seq_in_session");
    put_number(buffer, seq_in_session.0);
    put_name(buffer, "code");
    put_text(buffer, code)?;
    if let Some(tag) = tag {
        put_name(buffer, "tag");
        put_text(buffer, tag)?;
    }
    for (name, number) in [("rows", rows), ("bytes", bytes), ("duration_us", duration_us)] {
        put_name(buffer, name);
        put_number(buffer, *number);
    }
    if let Some(digest) = digest {
        put_name(buffer, "digest");
        put_text(buffer, digest)?;
    }
    buffer.push(b'}');
    Ok(true)
}

fn put_object(buffer: &mut Vec<u8>, object: &ObjectRef) -> io::Result<()> {
    let ObjectRef { schema, name, kind, role } = object;
    buffer.extend_from_slice(br#"{"schema":"#);
    put_text(buffer, schema)?;
    put_name(buffer, "name");
    put_text(buffer, name)?;
    put_name(buffer, "kind");
    put_text(buffer, kind)?;
    put_name(buffer, "role");
    put_text(buffer, role.name())?;
    buffer.push(b'}');
    Ok(())
}

fn put_parameter(buffer: &mut Vec<u8>, parameter: &Parameter) -> io::Result<()> {
    let Parameter { value, format, type_name } = parameter;
    buffer.extend_from_slice(br#"{"value":"#);
    put_text_or_null(buffer, value.as_deref())?;
    put_name(buffer, "format");
    put_text(buffer, format)?;
    put_name(buffer, "type_name");
    put_text_or_null(buffer, type_name.as_deref())?;
    buffer.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use corral_gate::{Denial, DenialKind, HoldTerm, Verdict};
    use corral_model::event::CloseReason;
    use corral_model::ids::{ApprovalId, PolicyVersion, SessionId, StatementSeq, TargetName};
    use corral_model::statement::{Attribute, Effects, ObjectRole, Verb};
    use corral_model::{Effect, Event, TraceParent};
    use time::macros::datetime;

    const AT: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);

    fn expected(at: OffsetDateTime, origin: &Origin, body: EventBody) -> String {
        let event = Event {
            seq: 41,
            id: "s-1:41".to_owned(),
            time: at.to_offset(UtcOffset::UTC),
            gateway: "gw \\ 1".to_owned(),
            origin: origin.clone(),
            body,
        };
        format!("before{}", serde_json::to_string(&event).expect("text"))
    }

    fn written(
        at: OffsetDateTime,
        origin: &Origin,
        write: impl FnOnce(&mut Vec<u8>, &Place<'_>) -> io::Result<()>,
    ) -> String {
        let whence = Whence::new("gw \\ 1", origin).expect("text");
        let mut line = b"before".to_vec();
        write(&mut line, &Place { chain: "s-1", seq: 41, at, whence: &whence }).expect("text");
        String::from_utf8(line).expect("text")
    }

    #[test]
    fn it_is_the_json_of_the_event() {
        let completed = |tag: Option<&str>, digest: Option<&str>| EventBody::StatementCompleted {
            decision: "s-1.7".to_owned(),
            seq_in_session: StatementSeq(7),
            code: "00000".to_owned(),
            tag: tag.map(str::to_owned),
            rows: 0,
            bytes: u64::MAX,
            duration_us: 12,
            digest: digest.map(str::to_owned),
        };
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
            completed(None, None),
            completed(Some("SELECT \"3\"\n"), Some("abc")),
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
        for at in [datetime!(2026-11-29 12:00:00.123456789 +2), AT] {
            for origin in &origins {
                for body in &bodies {
                    let line = written(at, origin, |line, place| write_event(line, place, body));
                    assert_eq!(line, expected(at, origin, body.clone()));
                }
            }
        }
    }

    fn object(role: ObjectRole) -> ObjectRef {
        let (schema, name) = ("public".to_owned(), "a \\ b".to_owned());
        ObjectRef { schema, name, kind: "table".to_owned(), role }
    }

    fn facts() -> Vec<Facts> {
        let roles = [ObjectRole::Read, ObjectRole::Write, ObjectRole::Define, ObjectRole::Reached];
        let full = Facts {
            verbs: ["select", "update"].map(|name| Verb { name, effect: None }).to_vec(),
            effects: Effect::ALL.into_iter().collect(),
            objects: roles.map(object).to_vec(),
            functions: vec!["pg_catalog.\"now\"".to_owned(), "public.f".to_owned()],
            attributes: [
                ("flag", Attribute::Flag(true)),
                ("number", Attribute::Number(-1)),
                ("set", Attribute::Set(vec!["x".to_owned()])),
                ("text", Attribute::Text("\u{1}".to_owned())),
            ]
            .into(),
            ..Facts::default()
        };
        let one = Facts {
            effects: Effects::of(Effect::Read),
            objects: vec![object(ObjectRole::Read)],
            ..Facts::default()
        };
        vec![Facts::default(), one, full]
    }

    fn verdicts() -> Vec<Verdict> {
        let term = HoldTerm {
            rule: "r".to_owned(),
            group: "g".to_owned(),
            quorum: 1,
            reason: "it is \"late\"".to_owned(),
            expires_in: Some(Duration::from_secs(1)),
        };
        let denial = Denial::new(DenialKind::Forbidden, "no\t");
        vec![
            Verdict::Allow,
            Verdict::Deny(denial),
            Verdict::Hold(vec![term]),
            Verdict::Hold(vec![]),
        ]
    }

    #[test]
    fn a_decision_is_the_json_of_its_event() {
        let long = "x".repeat(limits::EVENT_TEXT_BYTES_MAX + 1);
        let texts: [Arc<str>; 4] =
            [Arc::from(""), Arc::from("select 'ä', \"b\\c\"\r"), long[1..].into(), long.into()];
        let parameter = |value: Option<&str>, type_name: Option<&str>| Parameter {
            value: value.map(str::to_owned),
            format: "text".into(),
            type_name: type_name.map(str::to_owned),
        };
        let bound = [parameter(None, None), parameter(Some("\"7\""), Some("23"))];
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let approval = ApprovalId::new("a-1").expect("an id");
        let rule_lists = [Vec::new(), vec!["one".to_owned(), "\"two\"".to_owned()]];
        let mut count = 0;
        for facts in facts().into_iter().map(Arc::new) {
            for (text, rules) in texts.iter().zip(rule_lists.iter().cycle()) {
                for (number, verdict) in (1_u64..).zip(verdicts()) {
                    let is_odd = number % 2 == 1;
                    let statement = Statement {
                        seq: StatementSeq(number),
                        text: text.clone(),
                        facts: facts.clone(),
                        parameters: if is_odd { bound.clone().into() } else { Arc::default() },
                        in_transaction: is_odd,
                        state_digest: "not recorded".into(),
                        traceparent: TraceParent::parse(traceparent).filter(|_| is_odd),
                    };
                    let ruling = Ruling {
                        decision_id: format!("s-1.{number}"),
                        verdict,
                        rules: rules.clone().into(),
                        policy_version: PolicyVersion(number),
                    };
                    let approval = (!is_odd).then_some(&approval);
                    let decided = Decided { statement: &statement, ruling: &ruling, approval };
                    let origin = Origin::default();
                    let line =
                        written(AT, &origin, |line, place| write_decided(line, place, &decided));
                    assert_eq!(line, expected(AT, &origin, decided.event()));
                    count += 1;
                }
            }
        }
        assert_eq!(count, 3 * 4 * 4);
    }
}
