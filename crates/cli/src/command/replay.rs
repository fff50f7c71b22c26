//! `replay`: what happened in a session, or in a run and everything below it.

use std::time::Duration;

use clap::{Args, ValueEnum};
use corral_model::Event;
use corral_record::render;
use serde_json::Value;

use crate::Context;
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
  corral replay SESSION_ID --format cast > session.cast")]
pub struct ReplayArgs {
    /// A session's id, or a run's
    #[arg(value_name = "SESSION_OR_RUN")]
    pub id: String,
    /// What to print: text for people, json (an event a line), cast for asciinema
    #[arg(long, value_enum)]
    pub format: Option<ReplayFormat>,
    /// Print the text in its own time, so many times faster; pauses are cut to 5 s
    #[arg(long, value_name = "N", value_parser = parse_speed)]
    pub speed: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReplayFormat {
    Text,
    Json,
    Cast,
}

fn parse_speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| format!("'{text}' is not a number"))?;
    if speed.is_finite() && speed > 0.0 {
        Ok(speed)
    } else {
        Err("a speed is larger than 0; 1 is as it was".to_owned())
    }
}

pub(crate) async fn replay(context: &Context<'_>, args: ReplayArgs) -> Result<(), Failure> {
    let client = context.client()?;
    let mut lines = client.lines(&["replay", &args.id], &Value::Null).await?;
    let mut events: Vec<Event> = Vec::new();
    while let Some(event) = lines.next_event().await? {
        events.push(event);
    }
    let format = args.format.unwrap_or(match context.format() {
        Format::Table => ReplayFormat::Text,
        Format::Json | Format::Yaml => ReplayFormat::Json,
    });
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
        (ReplayFormat::Cast, _) => output::print(&render::cast(&events, &args.id)),
        (ReplayFormat::Text, _) => match args.speed {
            None => output::print(&render::text(&events)),
            Some(speed) => play(&events, speed).await,
        },
    }
}

async fn play(events: &[Event], speed: f64) -> Result<(), Failure> {
    let mut at_ms = 0;
    for line in render::lines(events) {
        let pause = Duration::from_millis(line.offset_ms.saturating_sub(at_ms)).div_f64(speed);
        tokio::time::sleep(pause.min(SILENCE_MAX)).await;
        at_ms = line.offset_ms;
        output::print(&line.text)?;
    }
    Ok(())
}
