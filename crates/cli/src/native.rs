//! Fills the variables and files of stock clients: the gateway says which, only this side knows
//! the token, the host and where the authority's certificate is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use corral_api::{
    ClientQuery, GatewayInfo, ListenerClient, PublishedQuery, PublishedView, TargetConnection,
};
use corral_model::native::{FileKind, Lifetime, LocalClient, NativeClient, Piece, VariableValue};

use crate::client::{Client, host_of};
use crate::client_dir::ClientDir;
use crate::discover::{Authority, read_bounded};
use crate::failure::Failure;
use crate::saved::write_private;

/// The authority's certificate, in the directory of clients' files.
const CA_FILE: &str = "ca.pem";

/// What the variables and files are filled with.
#[derive(Debug)]
pub(crate) struct Filling<'a> {
    pub gateway: &'a str,
    pub token: &'a str,
    pub ca_file: &'a Path,
    /// Free text that the gateway keeps as a claim.
    pub claim: &'a str,
    /// Where files go; None as long as no client has any.
    pub directory: Option<&'a str>,
    /// The authority's certificate in base64, where a client has files.
    pub ca_base64: &'a str,
}

/// A client that the gateway described, and where it goes.
#[derive(Debug)]
pub(crate) struct Led {
    pub protocol: String,
    /// As this side reaches the listener.
    pub host: String,
    pub port: u16,
    pub client: NativeClient,
    /// What the gateway publishes for this host and port, where the client's files hold it.
    published: String,
    /// Where a wrapper of this machine stands in for the gateway.
    local: Option<Local>,
}

/// A wrapper's sockets for one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Local {
    /// The Unix socket's name in the directory.
    pub socket: String,
    /// The port of the loopback address.
    pub port: Option<u16>,
    pub target: Option<String>,
}

impl Led {
    fn new(protocol: String, host: &str, port: u16, client: NativeClient, gateway: &str) -> Self {
        let host = reachable_host(host, gateway).to_owned();
        Self { protocol, host, port, client, published: String::new(), local: None }
    }

    /// Whether a wrapper can stand in for the gateway, and with which sockets.
    #[must_use]
    pub(crate) fn wants_local(&self) -> Option<&LocalClient> {
        self.client.local.as_ref()
    }

    /// Leads it to a wrapper's sockets.
    pub(crate) fn lead_locally(&mut self, port: Option<u16>) {
        let Some(local) = self.client.local.take() else { return };
        let LocalClient { socket, target, variables, files, has_loopback: _ } = local;
        self.client
            .variables
            .retain(|known| variables.iter().all(|variable| variable.name != known.name));
        self.client.variables.extend(variables);
        self.client.files.retain(|known| files.iter().all(|file| file.name != known.name));
        self.client.files.extend(files);
        self.local = Some(Local { socket, port, target });
    }

    /// The wrapper's sockets that it is led to.
    #[must_use]
    pub(crate) fn local(&self) -> Option<&Local> {
        self.local.as_ref()
    }

    /// The variables, filled.
    #[must_use]
    pub(crate) fn variables(&self, filling: &Filling<'_>) -> BTreeMap<String, String> {
        let value = |value: &VariableValue| match value {
            VariableValue::Text(text) => text.clone(),
            VariableValue::Host => self.host.clone(),
            VariableValue::Token => filling.token.to_owned(),
            VariableValue::CaFile => filling.ca_file.display().to_string(),
            VariableValue::Claim => filling.claim.to_owned(),
            VariableValue::Pieces(pieces) => self.text(pieces, filling),
        };
        let variables = self.client.variables.iter();
        variables.map(|variable| (variable.name.clone(), value(&variable.value))).collect()
    }

    fn text(&self, pieces: &[Piece], filling: &Filling<'_>) -> String {
        let directory = filling.directory.unwrap_or_default();
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Host => self.host.clone(),
            Piece::UrlHost if self.host.contains(':') => format!("[{}]", self.host),
            Piece::UrlHost => self.host.clone(),
            Piece::Gateway => filling.gateway.to_owned(),
            Piece::Directory => directory.to_owned(),
            Piece::AgentSocket => format!("{directory}/{}", self.socket_name()),
            Piece::LocalPort => {
                let port = self.local.as_ref().and_then(|local| local.port);
                port.map(|port| port.to_string()).unwrap_or_default()
            }
            Piece::CaBase64 => filling.ca_base64.to_owned(),
            Piece::Published => self.published.clone(),
        };
        pieces.iter().map(text).collect()
    }

    /// The name of its agent's socket.
    #[must_use]
    pub(crate) fn socket_name(&self) -> String {
        format!("{}.sock", self.protocol)
    }

    /// Writes its files.
    fn write(&self, directory: &ClientDir, filling: &Filling<'_>) -> Result<(), Failure> {
        self.client.files.iter().try_for_each(|file| {
            directory.write(&file.name, file.kind, &self.text(&file.pieces, filling))
        })
    }

    fn holds_what_is_published(&self) -> bool {
        let mut pieces = self.client.files.iter().flat_map(|file| &file.pieces);
        pieces.any(|piece| *piece == Piece::Published)
    }
}

/// Where a client dials: an unspecified address means the host at which the API was reached.
#[must_use]
pub(crate) fn reachable_host<'a>(listener: &'a str, gateway: &'a str) -> &'a str {
    match listener.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => host_of(gateway),
        Ok(_) | Err(_) => listener,
    }
}

/// The client of a target; None when its protocol has no usual one.
///
/// # Errors
/// Whatever kept the gateway's answer away.
pub(crate) async fn client_of(
    client: &Client,
    target: &str,
    lifetime: Lifetime,
) -> Result<(TargetConnection, Option<Led>), Failure> {
    let path = ["targets", target, "connection"];
    let connection: TargetConnection = client.ask(&path, &query(lifetime)).await?;
    let led = connection.client.clone().map(|native| {
        let TargetConnection { protocol, host, port, .. } = &connection;
        Led::new(protocol.clone(), host, *port, native, &client.found().gateway)
    });
    Ok((connection, led))
}

/// The clients of these targets: of the one target, or of every protocol, with all targets that
/// may be used, when there are none or several.
///
/// # Errors
/// Whatever kept the gateway's answer away.
pub(crate) async fn clients_of(
    client: &Client,
    targets: &[String],
    lifetime: Lifetime,
) -> Result<Vec<Led>, Failure> {
    if let [target] = targets {
        let (_, led) = client_of(client, target, lifetime).await?;
        return Ok(led.into_iter().collect());
    }
    let info: GatewayInfo = client.ask(&["connection"], &query(lifetime)).await?;
    let gateway = &client.found().gateway;
    let led = |listener: ListenerClient| {
        let ListenerClient { protocol, host, port, client } = listener;
        Led::new(protocol, &host, port, client, gateway)
    };
    Ok(info.clients.into_iter().map(led).collect())
}

fn query(lifetime: Lifetime) -> ClientQuery {
    ClientQuery { kept: lifetime == Lifetime::Kept }
}

/// What clients find: their variables, and the directory of their files, where they have any.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub variables: BTreeMap<String, String>,
    pub directory: Option<ClientDir>,
}

impl Prepared {
    /// The variables with the directory's programs first on the path.
    #[must_use]
    pub(crate) fn with_path(&self) -> BTreeMap<String, String> {
        let mut variables = self.variables.clone();
        if let Some(directory) = &self.directory {
            let earlier = std::env::var("PATH").unwrap_or_default();
            let programs = directory.programs().display().to_string();
            let path = match earlier.as_str() {
                "" => programs,
                _ => format!("{programs}:{earlier}"),
            };
            variables.insert("PATH".to_owned(), path);
        }
        variables
    }
}

/// Writes the clients' files and fills their variables. `make` makes the directory, when one is
/// needed.
///
/// # Errors
/// When a file cannot be written, or the gateway does not say what is to stand in it.
pub(crate) async fn prepare(
    client: &Client,
    clients: &mut [Led],
    ca_file: &CaFile,
    claim: &str,
    make: impl FnOnce() -> Result<ClientDir, Failure>,
) -> Result<Prepared, Failure> {
    let needs_one = |led: &Led| !led.client.files.is_empty() || led.local.is_some();
    let directory = if clients.iter().any(needs_one) { Some(make()?) } else { None };
    let own_ca = directory.as_ref().map(|directory| directory.path().join(CA_FILE));
    let text = directory.as_ref().map(ClientDir::text);
    let pem = ca_file.pem()?;
    let filling = Filling {
        gateway: &client.found().gateway,
        token: client.token()?.reveal(),
        ca_file: own_ca.as_deref().unwrap_or(ca_file.path()),
        claim,
        directory: text.as_deref(),
        ca_base64: &BASE64.encode(pem.as_bytes()),
    };
    if let Some(directory) = &directory {
        directory.write(CA_FILE, FileKind::Text, &pem)?;
        let own = std::env::current_exe()
            .map_err(|error| Failure::failed(format!("cannot tell where corral is: {error}")))?;
        directory.link_program("corral", &own)?;
        for led in clients.iter_mut().filter(|led| led.holds_what_is_published()) {
            let query = PublishedQuery { host: led.host.clone(), port: led.port };
            let published: PublishedView =
                client.ask(&["published", &led.protocol], &query).await?;
            led.published = published.clients;
        }
        clients.iter().try_for_each(|led| led.write(directory, &filling))?;
    }
    let variables = clients.iter().flat_map(|led| led.variables(&filling)).collect();
    Ok(Prepared { variables, directory })
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

    /// A file that stays.
    #[must_use]
    pub(crate) fn lasting(path: PathBuf) -> Self {
        Self { path, own_dir: None }
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

    fn pem(&self) -> Result<String, Failure> {
        read_bounded(&self.path)
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
    use corral_model::native::ClientVariable;

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

    fn led(host: &str, client: NativeClient) -> Led {
        let mut led = Led::new("p".to_owned(), host, 1, client, "https://gate.example.com");
        led.published = "keys\n".to_owned();
        led
    }

    fn filling() -> Filling<'static> {
        Filling {
            gateway: "https://gate.example.com",
            token: "crl_x",
            ca_file: Path::new("/ca.pem"),
            claim: "planner",
            directory: Some("/run/d"),
            ca_base64: "UEVN",
        }
    }

    #[test]
    fn variables_are_filled_with_what_this_side_knows() {
        let variables = vec![
            ClientVariable::new("A_HOST", VariableValue::Host),
            ClientVariable::new("A_PORT", VariableValue::Text("41001".to_owned())),
            ClientVariable::new("A_PASSWORD", VariableValue::Token),
            ClientVariable::new("A_CA", VariableValue::CaFile),
            ClientVariable::new("A_USER", VariableValue::Claim),
        ];
        let filled = led("h", NativeClient::of_variables("a", variables)).variables(&filling());
        let values: Vec<&str> = filled.values().map(String::as_str).collect();
        assert_eq!(values, ["/ca.pem", "h", "crl_x", "41001", "planner"]);
    }

    #[test]
    fn pieces_are_filled_with_what_this_side_knows() {
        let check = |host: &str, pieces: &[Piece], expect: &str| {
            let led = led(host, NativeClient::of_variables("a", Vec::new()));
            assert_eq!(led.text(pieces, &filling()), expect);
        };
        check("0.0.0.0", &[Piece::Host, Piece::text(" x")], "gate.example.com x");
        check("::1", &[Piece::Host, Piece::text(" "), Piece::UrlHost], "::1 [::1]");
        check("h", &[Piece::UrlHost, Piece::Gateway], "hhttps://gate.example.com");
        check("h", &[Piece::Directory, Piece::text("/k")], "/run/d/k");
        check("h", &[Piece::AgentSocket], "/run/d/p.sock");
        check("h", &[Piece::CaBase64, Piece::Published], "UEVNkeys\n");
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
