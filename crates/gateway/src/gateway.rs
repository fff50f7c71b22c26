//! One gateway from its start to its end: store, record, certificates, listeners.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use corral_api::ReadyFile;
use corral_identity::{PasswordChecks, Token, TokenDigest};
use corral_model::event::{EventBody, Origin};
use corral_record::Recorder;
use corral_session::Analysts;
use corral_store::{SealSource, Store};
use time::OffsetDateTime;

use crate::app::about::{Identity, Reach};
use crate::app::{App, Parts};
use crate::certificates::{self, Certificates};
use crate::data_dir::DataDir;
use crate::events::EventLines;
use crate::https::Https;
use crate::listeners::Listeners;
use crate::settings::{HTTPS, RELAY, SecretPlace, Settings};
use crate::traces::Traces;
use crate::up::UpOptions;

const ADMIN_TOKEN_FILE: &str = "admin.token";
/// How long sessions may take to tell their clients that the gateway stops.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(5);
const READY_FILE: &str = "ready.json";

/// A gateway that runs.
pub struct Gateway {
    options: UpOptions,
    settings: Settings,
    directory: DataDir,
    app: Arc<App>,
    listeners: Listeners,
    https: Https,
    recorder: Recorder,
    store: Store,
    watchers: tokio::task::JoinSet<()>,
    lines: Option<EventLines>,
    traces: Option<Traces>,
}

impl Gateway {
    /// Starts everything; returns when connections are accepted and `ready.json` says so.
    ///
    /// # Errors
    /// When it cannot start: the text says what, where, and what would be right.
    pub async fn start(options: UpOptions) -> anyhow::Result<Self> {
        let settings = Settings::load(options.config.as_deref(), options.data_dir.as_deref())?;
        let directory = DataDir::open(&settings.data_dir)?;
        directory.remove(READY_FILE);
        let now = OffsetDateTime::now_utc();
        let certificates = certificates::load(&directory, &settings, now)?;
        let store = open_store(&directory, &settings).await?;
        let (recorder, recovery) = Recorder::open(directory.path(), &settings.name, now)
            .context("the record cannot be opened")?;
        let follow = |sink| EventLines::start(sink, recorder.subscribe());
        let lines = settings.events.as_ref().map(follow).transpose()?;
        let identity = identity(&directory, &settings, &certificates)?;
        let passwords = PasswordChecks::start().await.context("passwords cannot be checked")?;
        let parts = Parts {
            identity,
            store: store.clone(),
            recorder: recorder.clone(),
            passwords,
            relay_certificate_lifetime: settings.relay_certificate_lifetime,
            access_token_lifetime: settings.access_token_lifetime,
            dpop_nonces: settings.dpop_nonces,
        };
        let app = App::start(parts).await?;
        let traces = match &settings.otlp {
            Some(otlp) => Some(Traces::start(otlp, &settings.name, &recorder, &store).await?),
            None => None,
        };
        if let Some(traces) = &traces {
            app.count_traces(traces.intake().clone());
        }
        let started = EventBody::GatewayStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            recovered_sessions: recovery.sessions_lost,
        };
        recorder
            .append_gateway(now, &Origin::default(), &started)
            .context("the record cannot be written")?;
        let (listeners, https) = listen(&app, &settings, &certificates).await?;
        let mut watchers = tokio::task::JoinSet::new();
        watchers.spawn(app.clone().watch_deadlines());
        watchers.spawn(app.clone().watch_usage());
        watchers.spawn(app.clone().watch_authority());
        watchers.spawn(app.clone().watch_credentials());
        watchers.spawn(app.clone().watch_jobs());
        watchers.spawn(app.clone().watch_people(settings.identity_recheck_interval));
        let gateway = Self {
            options,
            settings,
            directory,
            app,
            listeners,
            https,
            recorder,
            store,
            watchers,
            lines,
            traces,
        };
        gateway.write_ready()?;
        let api = format!("https://{}", gateway.https.address());
        let data = gateway.directory.path().display();
        tracing::info!(%api, %data, lost_sessions = recovery.sessions_lost, "gateway is ready");
        Ok(gateway)
    }

    /// What the gateway can do.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Opens and closes listeners of single targets as the configuration says.
    pub(crate) async fn follow_targets(&mut self) {
        self.listeners.follow_targets().await;
    }

    /// Tells whoever waits that connections are accepted.
    fn write_ready(&self) -> anyhow::Result<()> {
        let show = |name: &str| self.directory.file(name).display().to_string();
        let reach = self.app.identity().reach();
        let listeners = reach.listeners.iter();
        let listeners = listeners.map(|(name, address)| (name.clone(), address.to_string()));
        let ready = ReadyFile {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            api: format!("https://{}", self.https.address()),
            ca_file: show(certificates::CA_FILE),
            admin_token_file: show(ADMIN_TOKEN_FILE),
            listeners: listeners.collect(),
        };
        let mut text = serde_json::to_vec_pretty(&ready)?;
        text.push(b'\n');
        self.directory.replace(READY_FILE, &text)
    }

    /// Reads certificates and configuration again. What is wrong is logged and changes nothing.
    pub async fn reload(&mut self) {
        match self.try_reload().await {
            Ok(()) => tracing::info!("certificates and configuration were read again"),
            Err(error) => tracing::error!("nothing was changed: {error:#}"),
        }
    }

    async fn try_reload(&mut self) -> anyhow::Result<()> {
        let options = &self.options;
        let settings = Settings::load(options.config.as_deref(), options.data_dir.as_deref())?;
        // A socket or a folder is not changed under living sessions.
        let fixed = [
            ("name", settings.name != self.settings.name),
            ("data_dir", settings.data_dir != self.settings.data_dir),
            ("listeners", settings.listeners != self.settings.listeners),
            ("public_address", settings.public_address != self.settings.public_address),
            ("events", settings.events != self.settings.events),
            ("otlp", settings.otlp != self.settings.otlp),
            ("seal_key", settings.seal_key != self.settings.seal_key),
            (
                "identity_recheck_interval",
                settings.identity_recheck_interval != self.settings.identity_recheck_interval,
            ),
            ("require_dpop_nonce", settings.dpop_nonces != self.settings.dpop_nonces),
            (
                "access_token_lifetime",
                settings.access_token_lifetime != self.settings.access_token_lifetime,
            ),
            (
                "relay_certificate_lifetime",
                settings.relay_certificate_lifetime != self.settings.relay_certificate_lifetime,
            ),
        ];
        if let Some((key, _)) = fixed.iter().find(|(_, is_changed)| *is_changed) {
            anyhow::bail!("{key} was changed; that needs a restart of the gateway");
        }
        let now = OffsetDateTime::now_utc();
        let certificates = certificates::load(&self.directory, &settings, now)?;
        let Certificates { chain_pem, key_pem, ca_pem } = certificates;
        // Both take the same bytes, so the second cannot refuse what the first took.
        self.https.replace_certificate(&chain_pem, &key_pem)?;
        self.listeners.replace_certificate(&chain_pem, &key_pem)?;
        self.app.identity().change_reach(|reach| reach.ca_pem = ca_pem);
        self.settings = settings;
        Ok(())
    }

    /// Lets nobody in, lets sessions finish for `drain_timeout`, ends the rest, signs the record.
    ///
    /// # Errors
    /// When the last words cannot be written to the record.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop_unless(std::future::pending()).await
    }

    /// As [`Gateway::stop`]; once `hurry` is ready, sessions get no more time.
    ///
    /// # Errors
    /// When the last words cannot be written to the record.
    pub(crate) async fn stop_unless(self, hurry: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self {
            settings,
            directory,
            app,
            mut listeners,
            https,
            recorder,
            store,
            mut watchers,
            lines,
            traces,
            ..
        } = self;
        tracing::info!(sessions = app.sessions_open(), "gateway stops");
        directory.remove(READY_FILE);
        app.drain();
        listeners.close().await;
        tokio::select! {
            () = listeners.wait() => {}
            () = tokio::time::sleep(settings.drain_timeout) => {}
            () = hurry => {}
        }
        let ended = app.end_all_sessions();
        if ended > 0 {
            tracing::info!(sessions = ended, "the time to finish is over");
        }
        let goodbye = async {
            listeners.wait().await;
            https.stop().await;
            app.sessions_ended().await;
            // Last: sessions say goodbye to their targets through relays.
            listeners.close_relays().await;
        };
        if tokio::time::timeout(GOODBYE_DEADLINE, goodbye).await.is_err() {
            tracing::warn!("some sessions did not say goodbye in time");
        }
        watchers.shutdown().await;
        app.keep_usage().await;
        app.note_all_refusals();
        let at = OffsetDateTime::now_utc();
        let stopped = EventBody::GatewayStopped {};
        recorder
            .append_gateway(at, &Origin::default(), &stopped)
            .context("the record cannot be written")?;
        let last = recorder.clone();
        tokio::task::spawn_blocking(move || last.stop())
            .await
            .context("signing the record ended early")?
            .context("the record cannot be signed")?;
        store.close().await;
        if let Some(traces) = traces {
            traces.stop().await;
        }
        if let Some(lines) = lines {
            let _ = tokio::task::spawn_blocking(move || lines.stop()).await;
        }
        tracing::info!("gateway stopped");
        Ok(())
    }
}

async fn open_store(directory: &DataDir, settings: &Settings) -> anyhow::Result<Store> {
    let path = directory.file("corral.db");
    let own = directory.file("seal.key");
    let source = match &settings.seal_key {
        Some(SecretPlace::File(path)) => SealSource::choose(None, path.clone()),
        Some(SecretPlace::Env(name)) => {
            let key = std::env::var(name)
                .with_context(|| format!("seal_key: the environment has no usable {name}"))?;
            SealSource::choose(Some(&key), own)
        }
        None => SealSource::choose(std::env::var("CORRAL_SEAL_KEY").ok().as_deref(), own),
    };
    let source = source.context("the seal key cannot be used")?;
    Store::open(&path, &source)
        .await
        .with_context(|| format!("the store {} cannot be opened", path.display()))
}

fn identity(
    directory: &DataDir,
    settings: &Settings,
    certificates: &Certificates,
) -> anyhow::Result<Identity> {
    let reach = Reach { ca_pem: certificates.ca_pem.clone(), ..Reach::default() };
    Ok(Identity {
        name: settings.name.clone(),
        public_address: settings.public_address.clone(),
        admin: admin_token(directory)?,
        reach: reach.into(),
    })
}

/// The administrator's token, made at the first start. Removing the file and starting again makes
/// another one.
fn admin_token(directory: &DataDir) -> anyhow::Result<TokenDigest> {
    let path = directory.file(ADMIN_TOKEN_FILE);
    if let Some(bytes) = directory.read(ADMIN_TOKEN_FILE)? {
        let text = String::from_utf8(bytes).unwrap_or_default();
        let token = Token::parse(text.trim()).with_context(|| {
            format!("{} holds no token; remove it to get another one", path.display())
        })?;
        return Ok(token.digest());
    }
    let token = Token::generate().context("no token can be made")?;
    directory.replace(ADMIN_TOKEN_FILE, format!("{}\n", token.reveal()).as_bytes())?;
    Ok(token.digest())
}

async fn listen(
    app: &Arc<App>,
    settings: &Settings,
    certificates: &Certificates,
) -> anyhow::Result<(Listeners, Https)> {
    let analysts = Analysts::start().context("no thread for analysis")?;
    let Certificates { chain_pem, key_pem, .. } = certificates;
    let mut listeners = Listeners::new(app.clone(), &analysts, chain_pem, key_pem)?;
    let mut reach: Vec<(String, std::net::SocketAddr)> = Vec::new();
    let mut https_address = None;
    for (name, address) in &settings.listeners {
        if name == HTTPS {
            https_address = Some(*address);
        } else if name == RELAY {
            reach.push((name.clone(), listeners.open_relays(*address).await?));
        } else {
            reach.push((name.clone(), listeners.open(name, *address).await?));
        }
    }
    let https_address = https_address.context("no address for the API")?;
    let router = crate::api::router(app.clone(), listeners.streams());
    let https = Https::start(https_address, router, app.clone(), chain_pem, key_pem).await?;
    reach.push((HTTPS.to_owned(), https.address()));
    app.identity().change_reach(|known| known.listeners.extend(reach));
    listeners.follow_targets().await;
    Ok((listeners, https))
}
