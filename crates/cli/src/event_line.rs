//! One event on one line, for `audit tail`, `search` and the `watch` commands.

use corral_model::Event;
use corral_model::event::{EventBody, EventText, StreamData};

use crate::text::{duration, short, timestamp};
use crate::words;

/// Longest text of a statement or reason, in characters.
const TEXT_CHARS_MAX: usize = 160;

/// Time, name, who, where, and what.
#[must_use]
pub(crate) fn line(event: &Event) -> String {
    let mut parts: Vec<String> = vec![timestamp(event.time), format!("{:<19}", event.body.name())];
    let origin = &event.origin;
    if let Some(who) = origin.run_path.as_ref().or(origin.principal.as_ref()) {
        parts.push(who.clone());
    }
    if let Some(target) = &origin.target {
        parts.push(format!("@{target}"));
    }
    parts.push(detail(&event.body));
    let ids = [
        origin.session.as_ref().map(|id| id.to_string()),
        // Where there is no session, the run is what can be replayed.
        origin.run.as_ref().filter(|_| origin.session.is_none()).map(|id| id.to_string()),
    ];
    parts.extend(ids.into_iter().flatten().map(|id| format!("[{id}]")));
    parts.retain(|part| !part.is_empty());
    crate::text::visible(&parts.join(" "))
}

fn detail(body: &EventBody) -> String {
    match body {
        EventBody::GatewayStarted { version, recovered_sessions } => {
            format!("version {version}, {recovered_sessions} lost sessions closed")
        }
        EventBody::GatewayStopped {} => String::new(),
        EventBody::AuthorityLost { sessions_closed } => {
            format!("the store does not answer; {sessions_closed} sessions closed")
        }
        EventBody::AuthorityRegained { away_ms } => format!("after {away_ms} ms"),
        EventBody::TokenRenewed { until, key } => {
            let bound = if key.is_some() { ", bound to a key" } else { "" };
            format!("JWT, good until {}{bound}", until.truncate_to_second())
        }
        EventBody::CredentialRenewed { until } => {
            format!("credential, good until {}", until.truncate_to_second())
        }
        EventBody::CredentialRenewalFailed { reason } => format!("credential: {reason}"),
        EventBody::PollFailed { workload, reason } => format!("{workload}: {reason}"),
        EventBody::PollRecovered { workload } => workload.clone(),
        EventBody::ConfigChanged { by, version, changes } => {
            format!("version {} by {by}: {}", version.0, changes.join(", "))
        }
        EventBody::PrincipalDisabled { name, by, runs_ended, sessions_closed, .. }
        | EventBody::PrincipalSuspended { name, by, runs_ended, sessions_closed, .. } => {
            format!("{name} by {by}: {runs_ended} runs, {sessions_closed} sessions ended")
        }
        EventBody::PrincipalEnabled { name, by } => format!("{name} by {by}"),
        EventBody::SignalReceived { provider, signal, effect, people } => {
            format!("{provider}: {signal}: {effect} {}", people.join(", "))
        }
        EventBody::PrincipalSignedIn { name, method, provider, break_glass } => {
            let provider = provider.as_ref().map(|name| format!(" at {name}"));
            let local = if *break_glass { " (local account)" } else { "" };
            format!("{name} by {method}{}{local}", provider.unwrap_or_default())
        }
        EventBody::PrincipalRefused { name, reason } => format!("{name}: {reason}"),
        EventBody::RunStarted { name, targets, ttl_s, .. } => {
            let targets: Vec<&str> = targets.iter().map(|target| target.as_str()).collect();
            let ttl = i64::try_from(*ttl_s).unwrap_or(i64::MAX);
            let ttl = duration(time::Duration::seconds(ttl));
            if targets.is_empty() {
                format!("{name} for {ttl}")
            } else {
                format!("{name} for {ttl} on {}", targets.join(", "))
            }
        }
        EventBody::RelayInvited { relay, by, .. } => format!("{relay} by {by}"),
        EventBody::RelayRevoked { relay, by } => format!("{relay} by {by}"),
        EventBody::RelayJoined { relay, address, .. } => format!("{relay} from {address}"),
        EventBody::RelayLeft { relay, address, reason, streams, .. } => {
            format!("{relay} from {address}: {reason}, {streams} streams ended")
        }
        EventBody::RelayRefused { relay, address, reason } => {
            let relay = relay.as_deref().unwrap_or("unknown");
            let from = address.as_ref().map(|address| format!(" from {address}"));
            format!("{relay}{}: {reason}", from.unwrap_or_default())
        }
        EventBody::RelayDialRefused { relay, address, reason } => {
            format!("{relay} to {address}: {reason}")
        }
        EventBody::RunRefused { name, reason, .. } => format!("{name}: {reason}"),
        EventBody::ProcessesLeft { count, programs } => {
            format!("{count} processes, claims its wrapper: {}", programs.join(", "))
        }
        EventBody::RunEnded { reason, by, sessions_closed } => {
            format!("{} by {by}, {sessions_closed} sessions closed", words::run_end(*reason))
        }
        EventBody::SessionOpened { protocol, client_address, tls, .. } => {
            let tls = if *tls { "TLS" } else { "no TLS" };
            format!("{protocol} from {client_address}, {tls}")
        }
        EventBody::SessionRefused { reason, client_address } => {
            format!("from {client_address}: {reason}")
        }
        EventBody::RefusalsCounted { refused, count, lasted_ms, reasons, client_address, name } => {
            let name = name.as_ref().map_or(String::new(), |name| format!(", last {name}"));
            let from = client_address.as_ref();
            let from = from.map_or(String::new(), |from| format!(", last from {from}"));
            let lasted = i64::try_from(*lasted_ms).unwrap_or(i64::MAX);
            let lasted = duration(time::Duration::milliseconds(lasted));
            format!("{count} more {refused} within {lasted}{name}{from}: {}", reasons.join("; "))
        }
        EventBody::SessionClosed { reason, statements, rows, duration_ms, .. } => {
            let lasted = i64::try_from(*duration_ms).unwrap_or(i64::MAX);
            let lasted = duration(time::Duration::milliseconds(lasted));
            let reason = words::close_reason(*reason);
            format!("{reason} after {lasted}: {statements} statements, {rows} rows")
        }
        EventBody::StatementDecided { statement, outcome, rules, decision, .. } => {
            let rules = if rules.is_empty() { String::new() } else { rules.join(", ") + " " };
            format!("{} {rules}{} ({decision})", outcome.name(), statement_text(statement))
        }
        EventBody::StatementCompleted { code, tag, rows, duration_us, .. } => {
            let tag = tag.as_deref().unwrap_or_default();
            format!("{code} {tag}, {rows} rows, {} ms", duration_us / 1_000)
        }
        EventBody::StreamPassed { seq_in_session, from, data } => {
            let from = words::stream_end(*from);
            let said = match data {
                StreamData::Text(text) => short(text, TEXT_CHARS_MAX),
                StreamData::Base64(text) => format!("{} bytes", text.len() / 4 * 3),
            };
            format!("#{} {from}: {said}", seq_in_session.0)
        }
        EventBody::TerminalResized { columns, rows, .. } => format!("{columns} by {rows}"),
        EventBody::StreamCut { detail, .. } => detail.clone(),
        EventBody::ObjectChanged { object, diff, .. } => {
            let name = [object.schema.as_str(), object.name.as_str()];
            let name: Vec<&str> = name.into_iter().filter(|part| !part.is_empty()).collect();
            format!("{} {}: {} changes", object.kind, name.join("/"), diff.len())
        }
        EventBody::StatementRows { rows, truncated, .. } => {
            format!("{} rows kept{}", rows.len(), if *truncated { ", of more" } else { "" })
        }
        EventBody::ApprovalRequested { approval, groups, expires_at, .. } => {
            format!("{approval} of {} until {}", groups.join(", "), timestamp(*expires_at))
        }
        EventBody::ApprovalDecided { approval, state, by, reason, .. } => {
            let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
            let state = words::approval_state(*state);
            format!("{approval} {state}{by}: {}", short(reason, TEXT_CHARS_MAX))
        }
        EventBody::RowsMasked { columns, rows, .. } => {
            format!("{rows} rows: {}", columns.join(", "))
        }
        EventBody::SessionTripped { detail, .. } => detail.clone(),
        EventBody::RecordCheckpointed { entries, sessions } => {
            format!("{entries} entries, {sessions} sessions")
        }
    }
}

fn statement_text(text: &EventText) -> String {
    match text {
        EventText::Whole(text) => short(text, TEXT_CHARS_MAX),
        EventText::Digest { sha256, bytes } => format!("{bytes} bytes, sha256 {sha256}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_when_who_where_and_what_and_hides_nothing() {
        let text = r#"{"seq":4,"id":"s1:4","time":"2026-01-01T00:00:00.5Z","gateway":"g",
            "principal":"nightly","run":"run_1","run_path":"job/planner","session":"ses_1",
            "target":"orders-db","event":"statement.decided","decision":"d1",
            "statement":"drop\u001b table t","seq_in_session":1,"verbs":["drop_table"],
            "effects":["define"],"objects":[],"functions":[],"outcome":"hold",
            "rules":["schema-changes"],"policy_version":3,"in_transaction":false}"#;
        let event: Event = serde_json::from_str(text).expect("is an event");
        let expect = "2026-01-01T00:00:00Z statement.decided   job/planner @orders-db hold \
                      schema-changes drop\\u{1b} table t (d1) [ses_1]";
        assert_eq!(line(&event), expect);
    }
}
