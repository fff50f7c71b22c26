//! What each kind of event says in a transcript: a word in front, and a text.

use corral_model::event::{ApprovalState, EventBody};

use super::words::{bytes_text, counted, duration_text, snake, table};

/// Events that need no memory of others, as one text.
pub(super) fn one_line(body: &EventBody) -> String {
    match body {
        EventBody::StatementCompleted {
            seq_in_session,
            code,
            tag,
            rows,
            bytes,
            duration_us,
            digest,
            ..
        } => {
            let result = match (tag, code.as_str()) {
                (Some(tag), _) => tag.clone(),
                (None, "00000" | "0") => "done".to_owned(),
                (None, "aborted") => "aborted".to_owned(),
                // A SQLSTATE; other codes are statuses, which may be good ones.
                (None, code) if code.len() == 5 => format!("failed with {code}"),
                (None, code) => format!("code {code}"),
            };
            let rows = if *rows == 0 && digest.is_some() {
                String::new()
            } else {
                format!("{}, ", counted(*rows, "row"))
            };
            let digest = digest.as_ref().map(|digest| format!(", SHA-256 {digest}"));
            format!(
                "#{}: {result}; {rows}{}, {}{}",
                seq_in_session.0,
                bytes_text(*bytes),
                duration_text(*duration_us),
                digest.unwrap_or_default()
            )
        }
        EventBody::RowsMasked { seq_in_session, columns, rows } => {
            format!("#{}: {} in {}", seq_in_session.0, columns.join(", "), counted(*rows, "row"))
        }
        EventBody::StatementRows { seq_in_session, columns, rows, truncated } => {
            let more = if *truncated { "\n…" } else { "" };
            format!("#{}: {}{more}", seq_in_session.0, table(columns, rows))
        }
        EventBody::SessionTripped { seq_in_session, detail } => {
            format!("#{}: {detail}", seq_in_session.0)
        }
        EventBody::SessionClosed {
            reason, statements, rows, bytes_to_client, duration_ms, ..
        } => {
            format!(
                "{}; {}, {}, {}, {}",
                snake(reason),
                counted(*statements, "statement"),
                counted(*rows, "row"),
                bytes_text(*bytes_to_client),
                duration_text(duration_ms.saturating_mul(1000))
            )
        }
        EventBody::SessionRefused { reason, client_address } => {
            format!("session from {client_address}: {reason}")
        }
        EventBody::RefusalsCounted { refused, count, lasted_ms, reasons, client_address, name } => {
            let name = name.as_ref().map_or(String::new(), |name| format!(", last {name}"));
            let from =
                client_address.as_ref().map_or(String::new(), |from| format!(", last from {from}"));
            format!(
                "{count} more {refused} within {}{name}{from}: {}",
                duration_text(lasted_ms.saturating_mul(1000)),
                reasons.join("; ")
            )
        }
        EventBody::RunStarted {
            name,
            purpose,
            targets,
            actions,
            ttl_s,
            started_by,
            job,
            traceparent,
            ..
        } => {
            let purpose =
                purpose.as_ref().map_or(String::new(), |purpose| format!(" for: {purpose}"));
            let targets: Vec<&str> = targets.iter().map(|target| target.as_str()).collect();
            let targets =
                if targets.is_empty() { "any target".to_owned() } else { targets.join(", ") };
            let actions = if actions.is_empty() {
                String::new()
            } else {
                format!(", only {}", actions.join(", "))
            };
            let by = started_by.as_ref().map_or(String::new(), |by| format!(", started by {by}"));
            let of_job = job.as_ref().map_or(String::new(), |job| {
                format!(", {} job {} of {}", job.platform.name(), job.key, job.issuer)
            });
            let claims = traceparent
                .as_ref()
                .map_or(String::new(), |trace| format!(", claims traceparent {trace}"));
            format!("run {name}{purpose} ({targets}{actions}, {ttl_s} s{by}{of_job}{claims})")
        }
        EventBody::RunRefused { name, reason, traceparent } => {
            let claims = traceparent
                .as_ref()
                .map_or(String::new(), |trace| format!(", claims traceparent {trace}"));
            format!("run {name}: {reason}{claims}")
        }
        EventBody::ProcessesLeft { count, programs } => {
            format!("{count} left behind, claims its wrapper: {}", programs.join(", "))
        }
        EventBody::RunEnded { reason, by, sessions_closed } => {
            format!(
                "run: {} by {by}; {} closed",
                snake(reason),
                counted(*sessions_closed, "session")
            )
        }
        EventBody::GatewayStarted { version, recovered_sessions } => {
            format!("gateway {version}; {} found lost", counted(*recovered_sessions, "session"))
        }
        EventBody::GatewayStopped {} => "gateway".to_owned(),
        EventBody::AuthorityLost { sessions_closed } => format!(
            "the store did not answer for a whole lease; {} closed",
            counted(*sessions_closed, "session")
        ),
        EventBody::PollFailed { workload, reason } => {
            format!("jobs of {workload} cannot be asked after: {reason}")
        }
        EventBody::PollRecovered { workload } => {
            format!("jobs of {workload} are asked after again")
        }
        EventBody::AuthorityRegained { away_ms } => {
            format!(
                "the store answers again, after {}",
                duration_text(away_ms.saturating_mul(1_000))
            )
        }
        EventBody::TokenRenewed { until, key } => {
            let bound = if key.is_some() { ", bound to a key" } else { "" };
            format!("JWT, good until {}{bound}", until.truncate_to_second())
        }
        EventBody::CredentialRenewed { until } => {
            format!("credential, good until {}", until.truncate_to_second())
        }
        EventBody::CredentialRenewalFailed { reason } => format!("credential: {reason}"),
        EventBody::ConfigChanged { by, version, changes } => {
            format!("version {} by {by}: {}", version.0, changes.join(", "))
        }
        EventBody::PrincipalDisabled { name, by, runs_ended, sessions_closed, .. }
        | EventBody::PrincipalSuspended { name, by, runs_ended, sessions_closed, .. } => format!(
            "{name} by {by}: {} ended, {} closed",
            counted(*runs_ended, "run"),
            counted(*sessions_closed, "session")
        ),
        EventBody::PrincipalEnabled { name, by } => format!("{name} by {by}"),
        EventBody::SignalReceived { provider, signal, effect, people } => {
            format!("{provider}: {signal}: {effect} {}", people.join(", "))
        }
        EventBody::PrincipalSignedIn { name, method, provider, .. } => {
            let provider = provider.as_ref().map_or(String::new(), |name| format!(" at {name}"));
            format!("{name} by {method}{provider}")
        }
        EventBody::PrincipalRefused { name, reason } => format!("{name}: {reason}"),
        EventBody::RelayInvited { relay, by, .. } => format!("relay {relay} by {by}"),
        EventBody::RelayRevoked { relay, by } => format!("relay {relay} by {by}"),
        EventBody::RelayJoined { relay, address, .. } => format!("relay {relay} from {address}"),
        EventBody::RelayLeft { relay, address, reason, streams, .. } => {
            format!("relay {relay} from {address}: {reason}; {}", counted(*streams, "stream"))
        }
        EventBody::RelayRefused { relay, address, reason } => {
            let relay = relay.as_deref().unwrap_or("unknown");
            let from = address.as_ref().map_or(String::new(), |address| format!(" from {address}"));
            format!("relay {relay}{from}: {reason}")
        }
        EventBody::RelayDialRefused { relay, address, reason } => {
            format!("relay {relay} to {address}: {reason}")
        }
        EventBody::RecordCheckpointed { entries, sessions } => {
            format!("{}, {}", counted(*entries, "entry"), counted(*sessions, "session"))
        }
        EventBody::TerminalResized { seq_in_session, columns, rows } => {
            format!("#{}: terminal of {columns} by {rows}", seq_in_session.0)
        }
        EventBody::StreamCut { seq_in_session, detail } => {
            format!("#{}: {detail}", seq_in_session.0)
        }
        EventBody::ObjectChanged { seq_in_session, object, diff, .. } => {
            let name = match object.schema.as_str() {
                "" => object.name.clone(),
                schema => format!("{schema}/{}", object.name),
            };
            let mut lines = vec![format!("#{}: {} {name}", seq_in_session.0, object.kind)];
            lines.extend(diff.iter().map(|line| format!("  {line}")));
            lines.join("\n")
        }
        // These are told with what was before them.
        EventBody::SessionOpened { .. }
        | EventBody::StreamPassed { .. }
        | EventBody::StatementDecided { .. }
        | EventBody::ApprovalRequested { .. }
        | EventBody::ApprovalDecided { .. } => String::new(),
    }
}

pub(super) fn word_of(body: &EventBody) -> &'static str {
    match body {
        EventBody::GatewayStarted { .. } | EventBody::RunStarted { .. } => "started",
        EventBody::GatewayStopped {} => "stopped",
        EventBody::AuthorityLost { .. } => "LOST",
        EventBody::AuthorityRegained { .. } => "regained",
        EventBody::CredentialRenewed { .. } | EventBody::TokenRenewed { .. } => "renewed",
        EventBody::CredentialRenewalFailed { .. } => "NOT RENEWED",
        EventBody::PollFailed { .. } => "FAILED",
        EventBody::PollRecovered { .. } => "recovered",
        EventBody::ConfigChanged { .. } => "changed",
        EventBody::PrincipalDisabled { .. } => "disabled",
        EventBody::PrincipalSuspended { .. } => "suspended",
        EventBody::SignalReceived { .. } => "received",
        EventBody::PrincipalEnabled { .. } => "enabled",
        EventBody::PrincipalSignedIn { .. } => "signed in",
        EventBody::PrincipalRefused { .. }
        | EventBody::RunRefused { .. }
        | EventBody::SessionRefused { .. }
        | EventBody::RefusalsCounted { .. }
        | EventBody::RelayRefused { .. }
        | EventBody::RelayDialRefused { .. } => "REFUSED",
        EventBody::RelayInvited { .. } => "invited",
        EventBody::RelayRevoked { .. } => "revoked",
        EventBody::RelayJoined { .. } => "joined",
        EventBody::RelayLeft { .. } | EventBody::ProcessesLeft { .. } => "left",
        EventBody::RunEnded { .. } => "ended",
        EventBody::SessionOpened { .. } => "opened",
        EventBody::SessionClosed { .. } => "closed",
        EventBody::StatementDecided { .. } | EventBody::ApprovalDecided { .. } => "decided",
        EventBody::StatementCompleted { .. } => "result",
        EventBody::StreamPassed { .. } => "stream",
        EventBody::TerminalResized { .. } => "resized",
        EventBody::StreamCut { .. } => "cut",
        EventBody::ObjectChanged { .. } => "changed",
        EventBody::StatementRows { .. } => "rows",
        EventBody::ApprovalRequested { .. } => "waits",
        EventBody::RowsMasked { .. } => "masked",
        EventBody::SessionTripped { .. } => "TRIPPED",
        EventBody::RecordCheckpointed { .. } => "signed",
    }
}

pub(super) fn approval_word(state: ApprovalState) -> &'static str {
    match state {
        ApprovalState::Pending => "pending",
        ApprovalState::Approved => "approved",
        ApprovalState::Denied => "DENIED",
        ApprovalState::Expired => "EXPIRED",
        ApprovalState::Withdrawn => "withdrawn",
    }
}
