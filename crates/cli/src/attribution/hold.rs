//! This process as the wrapper of a run: the connection that the run ends with.

use std::convert::Infallible;
use std::time::Duration;

use corral_api::{ATTACH_UPGRADE, WRAPPER_KEY_HEADER};
use corral_model::{RunId, Secret, limits};
use reqwest::Upgraded;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::client::Client;
use crate::failure::{Exit, Failure};

/// Between two tries to attach again.
const RETURN_INTERVAL: Duration = Duration::from_millis(500);

/// A held run.
pub(crate) struct Held {
    client: Client,
    run: RunId,
    key: Secret,
    connection: BufReader<Upgraded>,
}

impl Held {
    /// Attaches to a run before anything runs in it, which makes this process its wrapper.
    ///
    /// # Errors
    /// When another wrapper was first, or the gateway cannot be reached.
    pub(crate) async fn new(client: &Client, run: &RunId) -> Result<Self, Failure> {
        let mut connection = attach(client, run, None).await?;
        let line = tokio::time::timeout(limits::ATTACH_LEASE, read_line(&mut connection)).await;
        let line = line.ok().flatten().unwrap_or_default();
        let Some(key) = line.strip_prefix("key ") else {
            return Err(Failure::failed("the gateway did not let this process hold the run")
                .with_hint("is this `corral` of the same version as the gateway?"));
        };
        let key = Secret::new(key.to_owned());
        Ok(Self { client: client.clone(), run: run.clone(), key, connection })
    }

    /// The proof of being the wrapper.
    #[must_use]
    pub(crate) fn key(&self) -> &Secret {
        &self.key
    }

    /// Answers the gateway, and attaches again when it was restarted. A run that ended otherwise
    /// (killed, expired) is no reason to end the command, so this never ends.
    ///
    /// # Cancel safety
    /// Dropping it ends the run, unless it was ended before.
    pub(crate) async fn answer(mut self) -> Infallible {
        loop {
            if is_over(&mut self.connection).await {
                return std::future::pending().await;
            }
            self.connection = loop {
                tokio::time::sleep(RETURN_INTERVAL).await;
                match attach(&self.client, &self.run, Some(&self.key)).await {
                    Ok(connection) => break connection,
                    // The run has ended, and its token with it.
                    Err(failure) if failure.exit == Exit::Denied => {
                        return std::future::pending().await;
                    }
                    Err(failure) => tracing::debug!(%failure, "the run is not held yet"),
                }
            };
        }
    }
}

async fn attach(
    client: &Client,
    run: &RunId,
    key: Option<&Secret>,
) -> Result<BufReader<Upgraded>, Failure> {
    let path = ["runs", run.as_str(), "attach"];
    let header = key.map(|key| (WRAPPER_KEY_HEADER, key));
    Ok(BufReader::new(client.upgrade(&path, &Value::Null, ATTACH_UPGRADE, header).await?))
}

/// Answers until the connection closes; true when the gateway says that the run has ended.
async fn is_over(connection: &mut BufReader<Upgraded>) -> bool {
    loop {
        match read_line(connection).await.as_deref() {
            Some("ended") => return true,
            Some("ping") => {
                let stream = connection.get_mut();
                let said = async {
                    stream.write_all(b"pong\n").await?;
                    stream.flush().await
                };
                if said.await.is_err() {
                    return false;
                }
            }
            // What a later gateway adds.
            Some(_) => {}
            None => return false,
        }
    }
}

/// A line without its break; None at the end, and for one that is too long.
async fn read_line(connection: &mut BufReader<Upgraded>) -> Option<String> {
    let mut line = String::new();
    let max = u64::try_from(limits::ATTACH_LINE_BYTES_MAX).unwrap_or(u64::MAX);
    connection.take(max).read_line(&mut line).await.ok()?;
    line.strip_suffix('\n').map(str::to_owned)
}
