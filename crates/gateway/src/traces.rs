//! Traces of what is recorded, sent to a collector beside the record.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use corral_model::event::{EventBody, Origin};
use corral_model::limits;
use corral_otlp::{Collector, Exporter, FLUSH_DEADLINE, Intake, Known, Options};
use corral_record::{Outlet, Recorder};
use corral_store::Store;
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::protocols;
use crate::settings::{Otlp, SecretPlace};

/// The task that sends traces.
pub(crate) struct Traces {
    intake: Intake,
    task: JoinHandle<()>,
}

/// The record's events, as they are written.
struct Recorded(Intake);

impl Outlet for Recorded {
    fn take(&self, at: OffsetDateTime, origin: &Origin, body: &EventBody) {
        self.0.take(at, origin, body);
    }
}

impl Traces {
    /// Follows what is recorded from here on, and the runs that are active.
    pub(crate) async fn start(
        otlp: &Otlp,
        gateway: &str,
        recorder: &Recorder,
        store: &Store,
    ) -> anyhow::Result<Self> {
        let collector = collector(otlp).context("otlp")?;
        let names = protocols::all().iter().map(|service| {
            let spec = service.protocol().spec();
            (spec.id.to_owned(), spec.traces)
        });
        let (exporter, intake) = Exporter::new(Options {
            collector,
            gateway: gateway.to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            names: names.collect(),
        });
        let task = tokio::spawn(exporter.run());
        // Parents come before their children.
        let runs: Vec<_> = store.active_runs().await?.into_iter().map(|kept| kept.run).collect();
        let mut paths = std::collections::HashMap::new();
        for run in &runs {
            let above = run.parent.as_ref().and_then(|parent| paths.get(parent));
            let path = match above {
                Some(above) => format!("{above}/{}", run.name),
                None => run.name.clone(),
            };
            intake.take_known(&Known { run, path: path.clone() });
            paths.insert(run.id.clone(), path);
        }
        if recorder.attach(Box::new(Recorded(intake.clone()))).is_err() {
            bail!("otlp: traces are made already");
        }
        Ok(Self { intake, task })
    }

    pub(crate) fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Sends what waits, for a bounded time.
    pub(crate) async fn stop(mut self) {
        self.intake.stop();
        if timeout(FLUSH_DEADLINE, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!("otlp: the last spans did not reach the collector in time");
        }
    }
}

fn collector(otlp: &Otlp) -> anyhow::Result<Collector> {
    let mut headers = Vec::new();
    for (name, place) in &otlp.headers {
        headers.push((name.clone(), secret(place).with_context(|| format!("headers: {name}"))?));
    }
    let ca_pem = otlp.ca_file.as_deref().map(read).transpose().context("ca_file")?;
    Ok(Collector::new(&otlp.endpoint, headers, ca_pem.as_deref())?)
}

fn secret(place: &SecretPlace) -> anyhow::Result<String> {
    let text = match place {
        SecretPlace::Env(name) => std::env::var(name)
            .ok()
            .with_context(|| format!("the environment has no usable {name}"))?,
        SecretPlace::File(path) => read(path)?,
    };
    Ok(text.trim().to_owned())
}

fn read(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let bytes = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    if bytes.len() > limits::MANIFEST_BYTES_MAX {
        bail!("{shown} has {} bytes; at most {}", bytes.len(), limits::MANIFEST_BYTES_MAX);
    }
    String::from_utf8(bytes).ok().with_context(|| format!("{shown} is not UTF-8"))
}
