//! How psql, and everything else that stands on libpq, is told where to connect.

use corral_model::native::{
    ClientVariable, Lifetime, LocalClient, NativeClient, Piece, Reach, VariableValue,
};

/// The port that names a Unix socket; libpq takes it from `PGPORT`.
const SOCKET_PORT: &str = "5432";

/// The variables of libpq for a listener.
pub(crate) fn client(reach: &Reach) -> NativeClient {
    let mut variables = vec![
        ClientVariable::new("PGHOST", VariableValue::Host),
        ClientVariable::new("PGPORT", VariableValue::Text(reach.port.to_string())),
        ClientVariable::new("PGUSER", VariableValue::Claim),
        ClientVariable::new("PGPASSWORD", VariableValue::Token),
        ClientVariable::new("PGSSLMODE", VariableValue::Text("verify-full".to_owned())),
        ClientVariable::new("PGSSLROOTCERT", VariableValue::CaFile),
    ];
    if let Some(target) = reach.named_target() {
        let name = VariableValue::Text(target.name.clone());
        variables.push(ClientVariable::new("PGDATABASE", name));
    }
    let mut client = NativeClient::of_variables("psql", variables);
    client.local = (reach.lifetime == Lifetime::Process).then(|| local(reach));
    client
}

/// libpq takes a host that begins with `/` for the directory of a Unix socket, asks for no TLS
/// there, and is asked for no password. JDBC knows no Unix sockets.
fn local(reach: &Reach) -> LocalClient {
    let pieces = |pieces: Vec<Piece>| VariableValue::Pieces(pieces);
    let mut variables = vec![
        ClientVariable::new("PGHOST", pieces(vec![Piece::Directory])),
        ClientVariable::new("PGPORT", VariableValue::Text(SOCKET_PORT.to_owned())),
        ClientVariable::new("CORRAL_POSTGRES_PORT", pieces(vec![Piece::LocalPort])),
    ];
    if let [only] = reach.targets.as_slice() {
        let url = vec![
            Piece::text("jdbc:postgresql://127.0.0.1:"),
            Piece::LocalPort,
            Piece::text(format!("/{}?sslmode=disable", only.name)),
        ];
        variables.push(ClientVariable::new("CORRAL_JDBC_URL", pieces(url)));
    }
    LocalClient {
        socket: format!(".s.PGSQL.{SOCKET_PORT}"),
        has_loopback: true,
        target: reach.listener_target().map(|target| target.name.clone()),
        variables,
        files: Vec::new(),
    }
}
