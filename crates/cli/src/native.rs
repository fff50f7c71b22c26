//! Fills the variables of a stock client: the gateway says which, only this side knows the token,
//! the host and where the authority's certificate is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use corral_api::{GatewayInfo, TargetConnection};
use corral_model::native::{ClientVariable, VariableValue};

use crate::client::{Client, host_of};
use crate::discover::Authority;
use crate::failure::Failure;
use crate::saved::write_private;

/// What the variables are filled with.
#[derive(Debug)]
pub(crate) struct Filling<'a> {
    pub host: &'a str,
    pub token: &'a str,
    pub ca_file: &'a Path,
    /// Free text that the gateway keeps as a claim.
    pub claim: &'a str,
}

/// Fills `variables`.
#[must_use]
pub(crate) fn fill(
    variables: &[ClientVariable],
    filling: &Filling<'_>,
) -> BTreeMap<String, String> {
    let value = |value: &VariableValue| match value {
        VariableValue::Text(text) => text.clone(),
        VariableValue::Host => filling.host.to_owned(),
        VariableValue::Token => filling.token.to_owned(),
        VariableValue::CaFile => filling.ca_file.display().to_string(),
        VariableValue::Claim => filling.claim.to_owned(),
    };
    variables.iter().map(|variable| (variable.name.clone(), value(&variable.value))).collect()
}

/// Where a client dials: an unspecified address means the host at which the API was reached.
#[must_use]
pub(crate) fn reachable_host<'a>(listener: &'a str, gateway: &'a str) -> &'a str {
    match listener.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => host_of(gateway),
        Ok(_) | Err(_) => listener,
    }
}

/// Variables for clients of these targets: of the one target, or of the shared listeners when
/// there are none or several.
///
/// # Errors
/// Whatever kept the gateway's answer away.
pub(crate) async fn variables(
    client: &Client,
    targets: &[String],
    token: &str,
    ca_file: &Path,
    claim: &str,
) -> Result<BTreeMap<String, String>, Failure> {
    let gateway = &client.found().gateway;
    if let [target] = targets {
        let connection: TargetConnection = client.get(&["targets", target, "connection"]).await?;
        let host = reachable_host(&connection.host, gateway);
        let filling = Filling { host, token, ca_file, claim };
        let variables = connection.client.map(|client| client.variables).unwrap_or_default();
        return Ok(fill(&variables, &filling));
    }
    let info: GatewayInfo = client.get(&["connection"]).await?;
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for listener in &info.clients {
        let host = reachable_host(&listener.host, gateway);
        let filling = Filling { host, token, ca_file, claim };
        all.extend(fill(&listener.client.variables, &filling));
    }
    Ok(all)
}

/// The authority's certificate as a file that a child can read; a private temporary one, removed
/// with this value, when there was none.
#[derive(Debug)]
pub(crate) struct CaFile {
    path: PathBuf,
    own_dir: Option<PathBuf>,
}

impl CaFile {
    /// # Errors
    /// When the file cannot be written, or the gateway does not tell its authority.
    pub(crate) async fn of(client: &Client) -> Result<Self, Failure> {
        match &client.found().authority {
            Authority::File { path, .. } => Ok(Self { path: path.clone(), own_dir: None }),
            Authority::Pem(pem) => Self::temporary(pem),
            // The API's certificate is one that the system trusts; the listeners' authority is
            // learnt over that connection.
            Authority::System => {
                let info: GatewayInfo = client.get(&["connection"]).await?;
                Self::temporary(&info.ca_pem)
            }
        }
    }

    fn temporary(pem: &str) -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt as _;
        let started = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map(|since| since.as_nanos())
            .unwrap_or_default();
        let dir = std::env::temp_dir().join(format!("corral-{}-{started:x}", std::process::id()));
        // Fails when it is there already, so nobody can have put a file of theirs into it.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(|error| Failure::io("make the directory", &dir, &error))?;
        let path = dir.join("ca.pem");
        let file = Self { path: path.clone(), own_dir: Some(dir) };
        write_private(&path, pem)?;
        Ok(file)
    }

    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        if let Some(dir) = &self.own_dir {
            // It holds one public certificate; a directory that stays behind harms nobody.
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unspecified_host_is_replaced() {
        let check = |listener: &str, expect: &str| {
            assert_eq!(reachable_host(listener, "https://gate.example.com:443"), expect);
        };
        check("0.0.0.0", "gate.example.com");
        check("::", "gate.example.com");
        check("127.0.0.1", "127.0.0.1");
        check("db-gate.example.com", "db-gate.example.com");
    }

    #[test]
    fn variables_are_filled_with_what_this_side_knows() {
        let variables = [
            ClientVariable::new("A_HOST", VariableValue::Host),
            ClientVariable::new("A_PORT", VariableValue::Text("41001".to_owned())),
            ClientVariable::new("A_PASSWORD", VariableValue::Token),
            ClientVariable::new("A_CA", VariableValue::CaFile),
            ClientVariable::new("A_USER", VariableValue::Claim),
        ];
        let filling =
            Filling { host: "h", token: "crl_x", ca_file: Path::new("/ca.pem"), claim: "planner" };
        let filled = fill(&variables, &filling);
        let values: Vec<&str> = filled.values().map(String::as_str).collect();
        assert_eq!(values, ["/ca.pem", "h", "crl_x", "41001", "planner"]);
    }

    #[test]
    fn a_temporary_authority_is_private_and_removed() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = CaFile::temporary("PEM").expect("is written");
        let path = file.path().to_owned();
        let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(file);
        assert!(!path.exists());
    }
}
