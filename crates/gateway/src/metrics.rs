//! Counters and their Prometheus text. Labels come from closed sets, so that nobody can make
//! them grow.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use corral_gate::Verdict;
use corral_model::CloseReason;
use corral_session::Usage;

/// Counts since the gateway started.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    sessions_opened: AtomicU64,
    sessions_refused: AtomicU64,
    sessions_closed: [AtomicU64; CLOSE_REASONS.len()],
    allowed: AtomicU64,
    denied: AtomicU64,
    held: AtomicU64,
    approvals_requested: AtomicU64,
    rows: AtomicU64,
    bytes_to_client: AtomicU64,
    bytes_to_target: AtomicU64,
}

/// What is counted elsewhere, at this moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gauges {
    pub(crate) sessions_open: usize,
    pub(crate) runs_active: usize,
    pub(crate) approvals_pending: usize,
    pub(crate) config_version: u64,
}

const CLOSE_REASONS: [(CloseReason, &str); 13] = [
    (CloseReason::Client, "client"),
    (CloseReason::Target, "target"),
    (CloseReason::Killed, "killed"),
    (CloseReason::Expired, "expired"),
    (CloseReason::Disabled, "disabled"),
    (CloseReason::Idle, "idle"),
    (CloseReason::Budget, "budget"),
    (CloseReason::Protocol, "protocol"),
    (CloseReason::Tripwire, "tripwire"),
    (CloseReason::Record, "record"),
    (CloseReason::Authority, "authority"),
    (CloseReason::Shutdown, "shutdown"),
    (CloseReason::Lost, "lost"),
];

impl Metrics {
    pub(crate) fn session_opened(&self) {
        add(&self.sessions_opened, 1);
    }

    pub(crate) fn session_refused(&self) {
        add(&self.sessions_refused, 1);
    }

    pub(crate) fn session_closed(&self, reason: CloseReason) {
        let counters = self.sessions_closed.iter().zip(CLOSE_REASONS);
        for (counter, _) in counters.filter(|(_, (known, _))| *known == reason) {
            add(counter, 1);
        }
    }

    pub(crate) fn statement_decided(&self, verdict: &Verdict) {
        match verdict {
            Verdict::Allow => add(&self.allowed, 1),
            Verdict::Deny(_) => add(&self.denied, 1),
            Verdict::Hold(_) => add(&self.held, 1),
        }
    }

    pub(crate) fn approval_requested(&self) {
        add(&self.approvals_requested, 1);
    }

    pub(crate) fn moved(&self, usage: Usage) {
        add(&self.rows, usage.rows);
        add(&self.bytes_to_client, usage.bytes_to_client);
        add(&self.bytes_to_target, usage.bytes_to_target);
    }

    /// Prometheus text format, version 0.0.4.
    pub(crate) fn render(&self, gauges: &Gauges, traces: Option<&corral_otlp::Counts>) -> String {
        let mut page = Page::default();
        page.gauge("corral_sessions_open", "Sessions open now", count(gauges.sessions_open));
        page.gauge("corral_runs_active", "Runs that are active", count(gauges.runs_active));
        let pending = count(gauges.approvals_pending);
        page.gauge("corral_approvals_pending", "Statements waiting for approval", pending);
        page.gauge("corral_config_version", "Version of the configuration", gauges.config_version);
        page.counter("corral_sessions_opened_total", "Sessions let in", &self.sessions_opened);
        page.counter("corral_sessions_refused_total", "Sessions refused", &self.sessions_refused);
        page.head("corral_sessions_closed_total", "Sessions closed", "counter");
        for (counter, (_, name)) in self.sessions_closed.iter().zip(CLOSE_REASONS) {
            page.line(&format!("corral_sessions_closed_total{{reason=\"{name}\"}}"), read(counter));
        }
        page.head("corral_statements_decided_total", "Statements decided", "counter");
        let outcomes = [("allow", &self.allowed), ("deny", &self.denied), ("hold", &self.held)];
        for (name, counter) in outcomes {
            let name = format!("corral_statements_decided_total{{outcome=\"{name}\"}}");
            page.line(&name, read(counter));
        }
        let asked = &self.approvals_requested;
        page.counter("corral_approvals_requested_total", "Approvals asked for", asked);
        page.counter("corral_rows_total", "Rows that went to clients", &self.rows);
        let (client, target) = (&self.bytes_to_client, &self.bytes_to_target);
        page.counter("corral_client_bytes_total", "Bytes that went to clients", client);
        page.counter("corral_target_bytes_total", "Bytes that went to targets", target);
        if let Some(traces) = traces {
            page.gauge("corral_otlp_spans_queued", "Spans that wait to be sent", traces.queued());
            let counters = [
                ("corral_otlp_spans_exported_total", "Spans sent", traces.exported()),
                ("corral_otlp_spans_dropped_total", "Spans and events lost", traces.dropped()),
            ];
            for (name, help, value) in counters {
                page.head(name, help, "counter");
                page.line(name, value);
            }
        }
        if let Some(process) = Process::now() {
            page.gauge("process_resident_memory_bytes", "Resident memory", process.memory_bytes);
            page.head("process_cpu_seconds_total", "User and system CPU time", "counter");
            let _ = writeln!(page.text, "process_cpu_seconds_total {:.2}", process.cpu_seconds);
        }
        page.text
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[derive(Default)]
struct Page {
    text: String,
}

// Writing to a String cannot fail.
impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, value: u64) {
        let _ = writeln!(self.text, "{name} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        self.line(name, value);
    }

    fn counter(&mut self, name: &str, help: &str, counter: &AtomicU64) {
        self.head(name, help, "counter");
        self.line(name, read(counter));
    }
}

/// This process, as the kernel counts it.
struct Process {
    memory_bytes: u64,
    cpu_seconds: f64,
}

/// Ticks a second in `/proc/self/stat`: fixed on Linux (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    /// None where the kernel does not say.
    fn now() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = resident.split_whitespace().next()?.parse().ok()?;
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the command in parentheses, and may hold anything.
        let (_, after) = stat.rsplit_once(')')?;
        let mut times = after.split_whitespace().skip(11);
        let user: f64 = times.next()?.parse().ok()?;
        let system: f64 = times.next()?.parse().ok()?;
        let cpu_seconds = (user + system) / TICKS_PER_SECOND;
        Some(Self { memory_bytes: kib.saturating_mul(1024), cpu_seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_close_reason_is_counted() {
        let metrics = Metrics::default();
        for (reason, _) in CLOSE_REASONS {
            metrics.session_closed(reason);
        }
        let text = metrics.render(&Gauges::default(), None);
        for (_, name) in CLOSE_REASONS {
            let line = format!("corral_sessions_closed_total{{reason=\"{name}\"}} 1\n");
            assert!(text.contains(&line), "{name}: {text}");
        }
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
    }
}
