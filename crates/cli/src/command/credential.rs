//! What stock clients call by themselves: `credential` renews a key's certificate in a file,
//! `k8s-credential` hands a token to an exec credential plugin's caller.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use corral_model::Secret;
use corral_ssh_agent::{Certificate, Identity};
use serde_json::{Value, json};

use crate::attribution::control;
use crate::discover::read_bounded;
use crate::failure::Failure;
use crate::saved::write_private;
use crate::{Context, key_agent, output};

/// A certificate with less left than this is renewed before it is used.
const RENEW_BEFORE: Duration = Duration::from_secs(120);

/// Renew the certificate beside a key; the files that `corral env` writes call it
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  corral credential --protocol ssh --key ~/.config/corral/id

Makes the key when it is missing, and KEY-cert.pub when it is missing or nearly over. A certificate
is good for five minutes at most, and only as long as your login is.")]
pub struct CredentialArgs {
    /// The protocol that takes the certificate
    #[arg(long)]
    pub protocol: String,
    /// The private key's file
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

/// Print your token as an ExecCredential; kubeconfigs that corral writes call it
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example, in a kubeconfig:
  users:
  - name: corral
    user:
      exec:
        apiVersion: client.authentication.k8s.io/v1
        command: corral
        args: [k8s-credential]
        interactiveMode: Never")]
pub struct K8sCredentialArgs {}

pub(crate) async fn credential(context: &Context<'_>, args: CredentialArgs) -> Result<(), Failure> {
    let certificate_file = beside(&args.key, "-cert.pub");
    // Clients that start at once share one key and one certificate.
    let lock_file = beside(&args.key, ".lock");
    let fail = |error: std::io::Error| Failure::io("lock", &lock_file, &error);
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let lock = options.open(&lock_file).map_err(fail)?;
    lock.lock().map_err(fail)?;
    let identity = key(&args.key)?;
    if is_good(&certificate_file, &identity) {
        return Ok(());
    }
    let client = context.client()?;
    let public_line = identity.public_line().map_err(of_identity)?;
    let issued = key_agent::issue(&client, &args.protocol, &public_line).await?;
    let mut line = issued.certificate.trim_end().to_owned();
    line.push('\n');
    replace(&certificate_file, &line)
}

/// The key in this file, made where there is none.
fn key(path: &Path) -> Result<Identity, Failure> {
    if path.exists() {
        let text = Secret::new(read_bounded(path)?);
        return Identity::read(text.reveal())
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display())));
    }
    let identity = Identity::generate().map_err(of_identity)?;
    replace(path, &identity.to_file().map_err(of_identity)?)?;
    Ok(identity)
}

fn is_good(certificate_file: &Path, identity: &Identity) -> bool {
    let Ok(line) = read_bounded(certificate_file) else { return false };
    let certificate = Certificate::read(line.trim_end(), identity);
    certificate.is_ok_and(|certificate| certificate.time_left(SystemTime::now()) > RENEW_BEFORE)
}

fn of_identity(error: corral_ssh_agent::IdentityError) -> Failure {
    Failure::failed(error.to_string())
}

/// A reader sees the whole earlier file or the whole new one.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let draft = beside(path, ".draft");
    write_private(&draft, text)?;
    std::fs::rename(&draft, path).map_err(|error| Failure::io("write", path, &error))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

pub(crate) async fn k8s_credential(
    context: &Context<'_>,
    _: K8sCredentialArgs,
) -> Result<(), Failure> {
    let asked = std::env::var("KUBERNETES_EXEC_INFO").unwrap_or_default();
    // Within a run, the wrapper has a token for the process that calls this.
    if let Some(socket) = control::socket()
        && let Some(token) = control::ask(&socket).await?
    {
        return output::print(&exec_credential(&token, &asked).to_string());
    }
    let client = context.client()?;
    output::print(&exec_credential(client.token()?, &asked).to_string())
}

/// As client-go's plugins answer (client.authentication.k8s.io). `asked` is what the caller put
/// into KUBERNETES_EXEC_INFO; it takes only its own version.
fn exec_credential(token: &Secret, asked: &str) -> Value {
    const BETA: &str = "client.authentication.k8s.io/v1beta1";
    let asked: Value = serde_json::from_str(asked).unwrap_or_default();
    let version = match asked.get("apiVersion").and_then(Value::as_str) {
        Some(BETA) => BETA,
        Some(_) | None => "client.authentication.k8s.io/v1",
    };
    json!({
        "apiVersion": version,
        "kind": "ExecCredential",
        "status": {"token": token.reveal()},
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_caller_gets_the_token_in_its_own_version() {
        let check = |asked: &str, version: &str| {
            let answer = exec_credential(&Secret::new("crl_x".to_owned()), asked);
            assert_eq!(answer["apiVersion"], format!("client.authentication.k8s.io/{version}"));
            assert_eq!(answer["kind"], "ExecCredential");
            assert_eq!(answer["status"], json!({"token": "crl_x"}));
        };
        check("", "v1");
        check(r#"{"apiVersion":"client.authentication.k8s.io/v1"}"#, "v1");
        check(r#"{"apiVersion":"client.authentication.k8s.io/v1beta1"}"#, "v1beta1");
        check("nonsense", "v1");
    }

    #[test]
    fn a_key_is_made_once_and_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("id");
        let first = key(&path).expect("is made").public_line();
        assert_eq!(key(&path).expect("is read").public_line(), first);
        let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!is_good(&beside(&path, "-cert.pub"), &key(&path).expect("is read")));
        std::fs::write(&path, "hunter2").expect("writes");
        let failure = key(&path).expect_err("is no key").to_string();
        assert!(!failure.contains("hunter2"), "{failure}");
    }
}
