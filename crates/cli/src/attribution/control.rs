//! The wrapper's own socket: a process of the run asks for its own run's token, and gets no other.
//!
//! One line each way would be one too many: who asks is told by the kernel, so a line is only
//! answered. `token TOKEN`, or `refused WHY`.

use std::path::Path;
use std::sync::Arc;

use corral_model::{Secret, limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::children::{Children, Found};
use crate::failure::{Exit, Failure};

/// The variable that names the socket to what runs in the run.
pub(crate) const CONTROL_VARIABLE: &str = "CORRAL_CONTROL";
/// One answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 4 * 1024;

/// Answers one process.
pub(crate) async fn answer(
    children: Arc<Children>,
    found: Result<Found, String>,
    mut asker: UnixStream,
) {
    let token = async {
        let client = children.client_of(&found?.member).await?;
        let token = client.token().map_err(|failure| failure.message)?;
        Ok::<_, String>(Secret::new(token.reveal().to_owned()))
    };
    let answered = async {
        let line = match token.await {
            Ok(token) => Secret::new(format!("token {}\n", token.reveal())),
            Err(why) => Secret::new(format!("refused {why}\n")),
        };
        asker.write_all(line.reveal().as_bytes()).await
    };
    // Who does not wait for the answer does not need it.
    let _ = timeout(limits::ATTRIBUTION_DEADLINE, answered).await;
}

/// The token of the process that this one, a helper, acts for.
///
/// # Errors
/// When the wrapper refuses, or is gone.
pub(crate) async fn ask(socket: &Path) -> Result<Secret, Failure> {
    let gone = |error: std::io::Error| Failure::io("ask", socket, &error);
    let asked = async {
        let stream = UnixStream::connect(socket).await.map_err(gone)?;
        let mut line = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut line).await.map_err(gone)?;
        Ok::<_, Failure>(Secret::new(line))
    };
    let late = |_| Failure::failed(format!("{} does not answer", socket.display()));
    let line = timeout(limits::ATTRIBUTION_DEADLINE, asked).await.map_err(late)??;
    match line.reveal().trim_end().split_once(' ') {
        Some(("token", token)) => Ok(Secret::new(token.to_owned())),
        Some(("refused", why)) => Err(Failure::new(Exit::Denied, why)),
        Some(_) | None => Err(Failure::failed("the wrapper's answer cannot be read")),
    }
}
