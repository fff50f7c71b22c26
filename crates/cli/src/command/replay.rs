//! `replay`: what happened in a session, or in a run and everything below it.

use std::time::Duration;

use clap::{Args, ValueEnum};
use corral_model::Event;
use corral_model::ids::StatementSeq;
use corral_record::render::{self, CastVersion, Detail};
use serde_json::Value;

use crate::Context;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Longest silence that a replay at speed keeps.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Show what happened in a session, or in a whole run tree
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  corral replay SESSION_ID
  corral replay RUN_ID --speed 10
  corral replay RUN_ID --full
  corral replay SESSION_ID --format cast > session.cast
  corral replay SESSION_ID --format cast3 --statement 4 > shell.cast

A run is one timeline over all of its sessions and those of the runs below it.")]
pub struct ReplayArgs {
    /// A session's id, or a run's
    #[arg(value_name = "SESSION_OR_RUN")]
    pub id: String,
    /// What to print: text for people, json (an event a line), cast or cast3 for asciinema
    /// (asciicast version 2 or 3): of the session's first terminal, of all terminals of a run one
    /// after the other, or else of the text
    #[arg(long, value_enum)]
    pub format: Option<ReplayFormat>,
    /// Of a session with several streams: the cast of this statement
    #[arg(long, value_name = "N")]
    pub statement: Option<u64>,
    /// Show what was said in terminals and commands, not only how much
    #[arg(long)]
    pub full: bool,
    /// Print the text in its own time, so many times faster; pauses are cut to 5 s
    #[arg(long, value_name = "N", value_parser = parse_speed)]
    pub speed: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReplayFormat {
    Text,
    Json,
    Cast,
    Cast3,
}

fn parse_speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| format!("'{text}' is not a number"))?;
    if speed.is_finite() && speed > 0.0 {
        Ok(speed)
    } else {
        Err("a speed is larger than 0; 1 is as it was".to_owned())
    }
}

/// How much of streams a text shows.
#[must_use]
pub(crate) fn detail(is_full: bool) -> Detail {
    if is_full { Detail::Full } else { Detail::Compact }
}

/// The events of a session or run, in the timeline's order.
pub(crate) async fn events_of(client: &Client, id: &str) -> Result<Vec<Event>, Failure> {
    let mut lines = client.lines(&["replay", id], &Value::Null).await?;
    let mut events: Vec<Event> = Vec::new();
    while let Some(event) = lines.next_event().await? {
        events.push(event);
    }
    Ok(events)
}

pub(crate) async fn replay(context: &Context<'_>, args: ReplayArgs) -> Result<(), Failure> {
    let format = args.format.unwrap_or(match (context.format(), args.statement) {
        (_, Some(_)) => ReplayFormat::Cast,
        (Format::Table, None) => ReplayFormat::Text,
        (Format::Json | Format::Yaml, None) => ReplayFormat::Json,
    });
    if args.statement.is_some() && matches!(format, ReplayFormat::Text | ReplayFormat::Json) {
        return Err(Failure::usage("--statement picks a cast; add --format cast or cast3"));
    }
    let events = events_of(&context.client()?, &args.id).await?;
    match (format, context.format()) {
        (ReplayFormat::Json, Format::Yaml) => {
            output::show(Format::Yaml, &events, |_| String::new())
        }
        // `-o json` is one document, as everywhere; `--format json` is a line for each event.
        (ReplayFormat::Json, Format::Json) if args.format.is_none() => {
            output::show(Format::Json, &events, |_| String::new())
        }
        (ReplayFormat::Json, _) => {
            for event in &events {
                output::json_line(event)?;
            }
            Ok(())
        }
        (ReplayFormat::Cast, _) => print_cast(&events, &args, CastVersion::V2),
        (ReplayFormat::Cast3, _) => print_cast(&events, &args, CastVersion::V3),
        (ReplayFormat::Text, _) => match args.speed {
            None => output::print(&render::text(&events, detail(args.full))),
            Some(speed) => play(&events, detail(args.full), speed).await,
        },
    }
}

fn print_cast(events: &[Event], args: &ReplayArgs, version: CastVersion) -> Result<(), Failure> {
    let statement = args.statement.map(StatementSeq);
    match render::cast(events, &args.id, version, statement) {
        Ok(cast) => output::print(&cast),
        Err(error) => Err(Failure::failed(error.to_string())),
    }
}

async fn play(events: &[Event], detail: Detail, speed: f64) -> Result<(), Failure> {
    let mut at_ms = 0;
    for line in render::lines(events, detail) {
        let pause = Duration::from_millis(line.offset_ms.saturating_sub(at_ms)).div_f64(speed);
        tokio::time::sleep(pause.min(SILENCE_MAX)).await;
        at_ms = line.offset_ms;
        output::print(&line.text)?;
    }
    Ok(())
}
