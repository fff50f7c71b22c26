//! Carries a client's connection to the gateway, unread, as the run of the client's process.

use std::sync::Arc;

use corral_api::{STREAM_UPGRADE, SessionStreamQuery};
use corral_model::ids::TargetName;
use corral_model::limits;
use reqwest::Upgraded;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::time::timeout;

use super::children::{Children, Found};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output;

/// Bytes on their way in one direction of one connection.
const BUFFER_BYTES: usize = 16 * 1024;

/// Where the connections of one socket go.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub protocol: String,
    /// None where clients name it.
    pub target: Option<TargetName>,
}

/// Carries one connection until it or its process ends.
pub(crate) async fn carry(
    children: Arc<Children>,
    way: Way,
    found: Result<Found, String>,
    mut client: impl AsyncRead + AsyncWrite + Unpin,
) {
    match timeout(limits::ATTRIBUTION_DEADLINE, open(&children, &way, &found)).await {
        Ok(Ok(mut gateway)) => {
            let copied = copy_bidirectional_with_sizes(
                &mut client,
                &mut gateway,
                BUFFER_BYTES,
                BUFFER_BYTES,
            );
            let ended = async {
                match &found {
                    Ok(found) => found.ended().await,
                    Err(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                // How a connection ends is between the client and the gateway.
                _ = copied => {}
                () = ended => {}
            }
        }
        Ok(Err(failure)) => {
            output::remark(&format!("corral: a connection was closed: {}", failure.message));
        }
        Err(_) => output::remark("corral: a connection was closed: the gateway did not answer"),
    }
}

/// The gateway's end. Who is refused hears so in the protocol's own words, which the gateway
/// knows.
async fn open(
    children: &Children,
    way: &Way,
    found: &Result<Found, String>,
) -> Result<Upgraded, Failure> {
    let refusal = match found {
        Ok(found) => match children.client_of(&found.member).await {
            Ok(client) => match stream(&client, way, None).await {
                // Its run was killed, or has expired: the process does not get another one.
                Err(failure) if failure.exit == Exit::Denied => {
                    "the run of this process has ended".to_owned()
                }
                other => return other,
            },
            Err(why) => why,
        },
        Err(why) => why.clone(),
    };
    output::remark(&format!("corral: a connection is refused: {refusal}"));
    stream(children.wrapper(), way, Some(refusal)).await
}

async fn stream(client: &Client, way: &Way, refusal: Option<String>) -> Result<Upgraded, Failure> {
    let query = SessionStreamQuery {
        protocol: way.protocol.clone(),
        target: way.target.clone(),
        refusal: refusal.map(|text| plain(&text)),
    };
    client.upgrade(&["sessions", "stream"], &query, STREAM_UPGRADE, None).await
}

/// As the gateway takes it.
fn plain(text: &str) -> String {
    let mut kept = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > limits::REFUSAL_BYTES_MAX {
            break;
        }
        kept.push(c);
    }
    kept
}
