//! `login`, `logout`, `whoami`.

use std::io::Read as _;

use clap::Args;
use corral_api::{Identity, LoginRequest, LoginResponse, ProviderView, WireSecret};
use corral_model::ids::PrincipalName;
use corral_model::{PrincipalKind, limits};

use crate::Context;
use crate::client::Client;
use crate::discover::Authority;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format};
use crate::saved::SavedLogin;
use crate::sign_in;
use crate::text::timestamp;

/// Sign in and save the token
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  corral login
  corral login --provider corp --device
  corral --gateway https://127.0.0.1:41000 --ca-file ca.pem login --user ada@example.com --password-stdin < pw
  printf %s \"$SECRET\" | corral login --workload nightly-report --secret-stdin -o json

The token is saved under $XDG_CONFIG_HOME/corral (~/.config/corral), readable by you only.")]
pub struct LoginArgs {
    /// The identity provider to sign in through, when there are several
    #[arg(long, value_name = "NAME", conflicts_with_all = ["user", "workload"])]
    pub provider: Option<String>,
    /// Show a code for a browser on another machine
    #[arg(long, conflicts_with_all = ["user", "workload"])]
    pub device: bool,
    /// A person's local account
    #[arg(long, value_name = "NAME", conflicts_with = "workload", requires = "password_stdin")]
    pub user: Option<PrincipalName>,
    /// Read the password from standard input
    #[arg(long, requires = "user")]
    pub password_stdin: bool,
    /// A CI job or a service
    #[arg(long, value_name = "NAME", requires = "secret_stdin")]
    pub workload: Option<PrincipalName>,
    /// Read the workload's secret from standard input
    #[arg(long, requires = "workload")]
    pub secret_stdin: bool,
}

/// Revoke the token and forget the saved login
#[derive(Debug, Clone, Args)]
pub struct LogoutArgs {}

/// Show whom the token stands for
#[derive(Debug, Clone, Args)]
pub struct WhoamiArgs {}

pub(crate) async fn login(context: &Context<'_>, args: LoginArgs) -> Result<(), Failure> {
    let client = context.client()?;
    let LoginArgs { provider, device, user, workload, .. } = args;
    let (name, response) = match (user, workload) {
        (Some(name), _) => by_secret(&client, PrincipalKind::User, name).await?,
        (None, Some(name)) => by_secret(&client, PrincipalKind::Workload, name).await?,
        (None, None) => by_provider(&client, provider.as_deref(), device).await?,
    };
    let config = context.environment().config.ok_or_else(|| {
        Failure::failed("there is no place to save the login")
            .with_hint("set HOME or XDG_CONFIG_HOME to an absolute path")
    })?;
    let ca_pem = match &client.found().authority {
        Authority::File { pem, .. } | Authority::Pem(pem) => Some(pem.clone()),
        Authority::System => None,
    };
    config.save(&SavedLogin {
        gateway: client.found().gateway.clone(),
        name: name.clone(),
        token: response.token.clone(),
        expires_at: response.expires_at,
        ca_pem,
    })?;
    output::show(context.format(), &response, |response| {
        format!("signed in as {name} until {}", timestamp(response.expires_at))
    })
}

async fn by_secret(
    client: &Client,
    kind: PrincipalKind,
    name: PrincipalName,
) -> Result<(String, LoginResponse), Failure> {
    let request = LoginRequest { kind, name: name.clone(), secret: secret_of_stdin()? };
    let answer = client.post_open(&["login"], &request).await;
    Ok((name.to_string(), answer.map_err(Failure::without_hint)?))
}

async fn by_provider(
    client: &Client,
    provider: Option<&str>,
    is_device: bool,
) -> Result<(String, LoginResponse), Failure> {
    let known: Vec<ProviderView> = client.get_open(&["providers"]).await?;
    let names: Vec<&str> = known.iter().map(|provider| provider.name.as_str()).collect();
    match provider {
        None if names.is_empty() => {
            return Err(Failure::usage(
                "this gateway has no identity provider; name who signs in: --user or --workload",
            ));
        }
        Some(wanted) if !names.contains(&wanted) => {
            let text = format!("there is no identity provider '{wanted}'");
            let hint = format!("there are: {}", names.join(", "));
            return Err(Failure::new(Exit::NotFound, text).with_hint(hint));
        }
        Some(_) | None => {}
    }
    let tokens = if is_device {
        sign_in::by_device(client).await?
    } else {
        sign_in::by_browser(client, provider).await?
    };
    let token = tokens.access_token;
    let identity: Identity = client.with_token(token.secret().clone()).get(&["whoami"]).await?;
    let expires_at = identity
        .expires_at
        .ok_or_else(|| Failure::failed("the gateway does not say how long the login is good"))?;
    Ok((identity.name, LoginResponse { token, expires_at }))
}

/// All of standard input, without one line break at its end.
fn secret_of_stdin() -> Result<WireSecret, Failure> {
    let mut text = String::new();
    let bytes_max = u64::try_from(limits::PASSWORD_BYTES_MAX).unwrap_or(u64::MAX);
    std::io::stdin()
        .lock()
        // A line break of two bytes, and one byte that shows that it is too long.
        .take(bytes_max + 3)
        .read_to_string(&mut text)
        .map_err(|error| Failure::failed(format!("cannot read standard input: {error}")))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.len() > limits::PASSWORD_BYTES_MAX {
        let max = limits::PASSWORD_BYTES_MAX;
        return Err(Failure::usage(format!("the secret is longer than {max} bytes")));
    }
    Ok(WireSecret::new(text))
}

pub(crate) async fn logout(context: &Context<'_>, _: LogoutArgs) -> Result<(), Failure> {
    let client = context.client()?;
    client.tell(&["logout"]).await?;
    if let Some(config) = context.environment().config {
        let saved = config.load()?;
        let is_this = saved.is_some_and(|saved| {
            client.found().token.as_ref().is_some_and(|token| saved.token.secret() == token)
        });
        if is_this {
            config.forget()?;
        }
    }
    output::print("signed out")
}

pub(crate) async fn whoami(context: &Context<'_>, _: WhoamiArgs) -> Result<(), Failure> {
    let identity: Identity = context.client()?.get(&["whoami"]).await?;
    let format: Format = context.format();
    output::show(format, &identity, |identity| {
        let groups = (!identity.groups.is_empty()).then(|| identity.groups.join(", "));
        output::fields(&[
            ("name", Some(identity.name.clone())),
            ("kind", Some(identity.kind.name().to_owned())),
            ("sponsor", identity.sponsor.clone()),
            ("groups", groups),
            ("provider", identity.provider.clone()),
            ("run", identity.run_id.as_ref().map(ToString::to_string)),
            ("expires", identity.expires_at.map(timestamp)),
        ])
    })
}
