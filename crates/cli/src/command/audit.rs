//! `audit tail`, `search`, `export`, `verify`; and following events, for the `watch` commands.

use std::collections::{HashSet, VecDeque};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use corral_api::{EventQuery, StreamQuery};
use corral_model::event::Outcome;
use corral_model::ids::{RunId, SessionId, TargetName};
use corral_model::{Event, limits};
use corral_record::PublicKey;
use serde::Serialize;
use time::OffsetDateTime;

use crate::Context;
use crate::client::Client;
use crate::event_line;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format};
use crate::stream::{Lines, Message};
use crate::text::parse_since;

/// Read, search, export and verify the record
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "\
Examples:
  corral audit tail -f
  corral audit search --since 7d --table customers --outcome deny
  corral audit export --since 24h --out day.jsonl
  corral audit verify ./corral-data/record --key ./corral-data/record.pub")]
pub enum AuditCommand {
    /// Print the newest events, and with -f those that come
    Tail(TailArgs),
    /// Find events; every given field must match
    Search(SearchArgs),
    /// Write events as JSON lines, without a limit
    Export(ExportArgs),
    /// Check the record's chains and signatures; needs no gateway
    Verify(VerifyArgs),
}

#[derive(Debug, Clone, Args)]
pub struct TailArgs {
    /// Go on with events as they happen
    #[arg(short, long)]
    pub follow: bool,
    /// From this time on: 10m, 7d (ago) or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<OffsetDateTime>,
    /// The newest so many; all when --since is given
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<usize>,
}

#[derive(Debug, Clone, Args)]
pub struct SearchArgs {
    #[command(flatten)]
    pub filter: FilterArgs,
    /// The oldest so many; 1,000 when absent, at most 10,000
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub filter: FilterArgs,
    /// A file instead of standard output; it must not be there
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// A gateway's record directory, a copy of it, or a data directory that holds one
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// The public key, record.pub
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

/// Which events.
#[derive(Debug, Clone, Args)]
pub struct FilterArgs {
    /// From this time on: 10m, 7d (ago) or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<OffsetDateTime>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<OffsetDateTime>,
    /// statement.decided, or a prefix such as session.
    #[arg(long, value_name = "NAME")]
    pub event: Option<String>,
    /// A person or workload, also as a sponsor
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,
    /// A run and what is below it
    #[arg(long, value_name = "RUN_ID")]
    pub run: Option<RunId>,
    #[arg(long, value_name = "SESSION_ID")]
    pub session: Option<SessionId>,
    #[arg(long, value_name = "TARGET")]
    pub target: Option<TargetName>,
    /// schema.table, or a table's name
    #[arg(long, value_name = "TABLE")]
    pub table: Option<String>,
    /// select, alter_table
    #[arg(long, value_name = "VERB")]
    pub verb: Option<String>,
    /// In the statement's text, whatever its case
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    #[arg(long, value_enum)]
    pub outcome: Option<OutcomeArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutcomeArg {
    Allow,
    Deny,
    Hold,
}

fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    parse_since(text, OffsetDateTime::now_utc())
}

impl FilterArgs {
    fn query(self, limit: Option<u32>) -> EventQuery {
        EventQuery {
            since: self.since,
            until: self.until,
            principal: self.principal,
            run: self.run,
            session: self.session,
            target: self.target,
            table: self.table,
            verb: self.verb,
            event: self.event,
            text: self.text,
            outcome: self.outcome.map(|outcome| match outcome {
                OutcomeArg::Allow => Outcome::Allow,
                OutcomeArg::Deny => Outcome::Deny,
                OutcomeArg::Hold => Outcome::Hold,
            }),
            limit,
        }
    }
}

pub(crate) async fn audit(context: &Context<'_>, command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Tail(args) => tail(context, args).await,
        AuditCommand::Search(args) => {
            let query = args.filter.query(args.limit);
            let events: Vec<Event> = context.client()?.ask(&["events"], &query).await?;
            let limit = query.limit.unwrap_or(SEARCH_LEN);
            if u32::try_from(events.len()).is_ok_and(|count| count >= limit) {
                output::remark(&format!(
                    "corral: these are the oldest {limit}; there may be more: say --since, \
                     --limit, or `corral audit export`"
                ));
            }
            output::show(context.format(), &events, |events| {
                events.iter().map(event_line::line).collect::<Vec<String>>().join("\n")
            })
        }
        AuditCommand::Export(args) => export(context, args).await,
        AuditCommand::Verify(args) => verify(context, &args),
    }
}

/// How many lines `tail` shows when nothing else is asked for.
const TAIL_LEN: usize = 50;
/// How far the gateway's clock may be behind ours before `tail -f` shows an event twice.
const CLOCKS_APART_MAX: time::Duration = time::Duration::minutes(10);
/// What the gateway's search answers with when nobody says how many.
const SEARCH_LEN: u32 = 1_000;

async fn tail(context: &Context<'_>, args: TailArgs) -> Result<(), Failure> {
    let client = context.client()?;
    let len_max = args.lines.unwrap_or(if args.since.is_some() { usize::MAX } else { TAIL_LEN });
    // What is followed is asked for first, so that nothing falls between past and present; what
    // is in both is shown once.
    let opened_at = OffsetDateTime::now_utc();
    let live = match args.follow {
        true => Some(client.lines(&["events", "stream"], &StreamQuery::default()).await?),
        false => None,
    };
    let query = EventQuery { since: args.since, ..EventQuery::default() };
    let mut past = client.lines(&["events", "export"], &query).await?;
    let mut newest: VecDeque<Event> = VecDeque::new();
    let mut in_past: HashSet<String> = HashSet::new();
    while let Some(event) = past.next_event().await? {
        if event.time > opened_at - CLOCKS_APART_MAX {
            in_past.insert(event.id.clone());
        }
        newest.push_back(event);
        if newest.len() > len_max {
            newest.pop_front();
        }
    }
    for event in &newest {
        print_event(context, event)?;
    }
    match live {
        Some(live) => print_all(context, live, in_past).await,
        None => Ok(()),
    }
}

/// Prints events as they happen, until the stream ends.
pub(crate) async fn follow(
    context: &Context<'_>,
    client: &Client,
    query: &StreamQuery,
) -> Result<(), Failure> {
    let live = client.lines(&["events", "stream"], query).await?;
    print_all(context, live, HashSet::new()).await
}

async fn print_all(
    context: &Context<'_>,
    mut live: Lines,
    mut in_past: HashSet<String>,
) -> Result<(), Failure> {
    while let Some(message) = live.next_message().await? {
        match message {
            Message::Event(event) => {
                if !in_past.remove(&event.id) {
                    print_event(context, &event)?;
                }
            }
            Message::Missed(count) => output::remark(&format!(
                "corral: {count} events came faster than they were read; `corral audit search` \
                 has them"
            )),
        }
    }
    Err(Failure::new(Exit::Unreachable, "the gateway ended the stream"))
}

fn print_event(context: &Context<'_>, event: &Event) -> Result<(), Failure> {
    match context.format() {
        Format::Table => output::print(&event_line::line(event)),
        Format::Json => output::json_line(event),
        Format::Yaml => {
            output::print("---")?;
            output::show(Format::Yaml, event, |_| String::new())
        }
    }
}

async fn export(context: &Context<'_>, args: ExportArgs) -> Result<(), Failure> {
    let client = context.client()?;
    let query = args.filter.query(None);
    let mut lines = client.lines(&["events", "export"], &query).await?;
    match args.out {
        None => {
            while let Some(line) = lines.next().await? {
                output::print(&line)?;
            }
            Ok(())
        }
        Some(path) => export_to(&mut lines, &path).await,
    }
}

async fn export_to(lines: &mut Lines, path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let fail = |error: std::io::Error| Failure::io("write", path, &error);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(fail)?;
    let mut out = std::io::BufWriter::new(file);
    let mut count = 0_u64;
    while let Some(line) = lines.next().await? {
        out.write_all(line.as_bytes()).map_err(fail)?;
        out.write_all(b"\n").map_err(fail)?;
        count += 1;
    }
    out.flush().map_err(fail)?;
    output::print(&format!("{count} events written to {}", path.display()))
}

/// What `verify -o json` prints.
#[derive(Debug, Serialize)]
struct VerifyReport {
    ok: bool,
    entries: u64,
    sessions: u64,
    checkpoints: u64,
    sessions_open: u64,
    entries_unsigned: u64,
}

fn verify(context: &Context<'_>, args: &VerifyArgs) -> Result<(), Failure> {
    let key = PublicKey::read(&args.key)
        .map_err(|error| Failure::failed(format!("--key {}: {error}", args.key.display())))?;
    let verified = corral_record::verify(&args.path, &key)
        .map_err(|error| Failure::failed(error.to_string()))?;
    let report = VerifyReport {
        ok: true,
        entries: verified.entries,
        sessions: verified.sessions,
        checkpoints: verified.checkpoints,
        sessions_open: verified.sessions_open,
        entries_unsigned: verified.entries_unsigned,
    };
    output::show(context.format(), &report, |report| {
        let mut text = verified.to_string();
        if report.sessions_open > 0 {
            text.push_str(&format!("\n{} sessions have no end yet", report.sessions_open));
        }
        if report.entries_unsigned > 0 {
            text.push_str(&format!(
                "\n{} entries are chained, and not yet covered by a signature (a running gateway signs \
                 what is new every {} s, and when it stops)",
                report.entries_unsigned,
                limits::RECORD_CHECKPOINT_INTERVAL.as_secs()
            ));
        }
        text
    })
}
