//! The wrapper's own socket: a process of the run asks for its own run's token, and gets no other.
//!
//! One line each way would be one too many: who asks is told by the kernel, so a line is only
//! answered. `token TOKEN`, `own` (who asks acts for the run itself, whose token it has), or
//! `refused WHY`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use corral_model::native::FileKind;
use corral_model::{Secret, limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::children::{Children, Found};
use crate::client_dir::ClientDir;
use crate::discover::read_bounded;
use crate::failure::{Exit, Failure};

/// The variable that names the socket to what runs in the run.
pub(crate) const CONTROL_VARIABLE: &str = "CORRAL_CONTROL";
/// Beside the socket: which token is the run's own. Whoever was given another one acts with that.
const TOKEN_FILE: &str = "control.sha256";
/// One answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 4 * 1024;

/// The socket of the wrapper around this process; None outside of one.
pub(crate) fn socket() -> Option<PathBuf> {
    std::env::var_os(CONTROL_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Says beside the socket which token is the run's own.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn say_whose(directory: &ClientDir, token: &Secret) -> Result<(), Failure> {
    directory.write(TOKEN_FILE, FileKind::Text, &digest_of(token))
}

/// Whether this token is the own one of the run behind a socket.
pub(crate) fn is_token_of(socket: &Path, token: &Secret) -> bool {
    read_bounded(&socket.with_file_name(TOKEN_FILE)).is_ok_and(|said| said == digest_of(token))
}

fn digest_of(token: &Secret) -> String {
    let digest = digest::digest(&digest::SHA256, token.reveal().as_bytes());
    digest.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Answers the command itself.
pub(crate) async fn answer_command(mut asker: UnixStream) {
    // Who does not wait for the answer does not need it.
    let _ = timeout(limits::ATTRIBUTION_DEADLINE, asker.write_all(b"own\n")).await;
}

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

/// The token of the process that this one, a helper, acts for. None when it acts for the run
/// itself.
///
/// # Errors
/// When the wrapper refuses, or is gone.
pub(crate) async fn ask(socket: &Path) -> Result<Option<Secret>, Failure> {
    let gone = |error: std::io::Error| Failure::io("ask", socket, &error);
    let asked = async {
        let stream = UnixStream::connect(socket).await.map_err(gone)?;
        let mut line = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut line).await.map_err(gone)?;
        Ok::<_, Failure>(Secret::new(line))
    };
    let late = |_| Failure::failed(format!("{} does not answer", socket.display()));
    let line = timeout(limits::ATTRIBUTION_DEADLINE, asked).await.map_err(late)??;
    let line = line.reveal().trim_end();
    match line.split_once(' ') {
        Some(("token", token)) => Ok(Some(Secret::new(token.to_owned()))),
        None if line == "own" => Ok(None),
        Some(("refused", why)) => Err(Failure::new(Exit::Denied, why)),
        Some(_) | None => Err(Failure::failed("the wrapper's answer cannot be read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_token_than_the_runs_is_told_from_it() {
        let folder = tempfile::tempdir().expect("a directory");
        let socket = folder.path().join("control");
        let token = |text: &str| Secret::new(text.to_owned());
        assert!(!is_token_of(&socket, &token("crl_own")), "nothing is said");
        let file = folder.path().join(TOKEN_FILE);
        std::fs::write(file, digest_of(&token("crl_own"))).expect("is written");
        assert!(is_token_of(&socket, &token("crl_own")));
        assert!(!is_token_of(&socket, &token("crl_other")));
    }
}
