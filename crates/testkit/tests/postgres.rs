//! PostgreSQL's machine against a real server: the list that holds for every protocol.

use std::sync::Arc;

use corral_gate::{Actor, Admission, Credential, Framed, Rights};
use corral_model::ids::{PrincipalName, SessionId, TargetName};
use corral_model::resource::{RecordRows, TargetTlsMode};
use corral_model::{Principal, Secret};
use corral_protocol_postgres::Postgres;
use corral_testkit::{Dialect, RealPostgres, conformance};

struct PostgresDialect {
    protocol: Postgres,
    server: RealPostgres,
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 4).expect("a short message");
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn startup(words: &[&str]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for word in words {
        body.extend_from_slice(word.as_bytes());
        body.push(0);
    }
    body.push(0);
    let mut bytes = u32::try_from(body.len() + 4).expect("short").to_be_bytes().to_vec();
    bytes.append(&mut body);
    bytes
}

/// The whole messages in these bytes, as kind and body.
fn messages(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while let Some((header, rest)) = bytes.split_at_checked(5) {
        let len = u32::from_be_bytes(header[1..].try_into().expect("four bytes")) as usize;
        let Some((body, rest)) = rest.split_at_checked(len - 4) else { break };
        found.push((header[0], body));
        bytes = rest;
    }
    found
}

fn is_ready(bytes: &[u8]) -> bool {
    messages(bytes).last().is_some_and(|(kind, _)| *kind == b'Z')
}

impl Dialect for PostgresDialect {
    fn protocol(&self) -> &dyn Framed {
        &self.protocol
    }

    fn address(&self) -> String {
        self.server.address()
    }

    fn admission(&self) -> Admission {
        Admission {
            session: SessionId::new("session-1").expect("an id"),
            target: TargetName::new("orders-db").expect("a name"),
            target_revision: 1,
            credential: Credential::password(
                "postgres",
                Some(Secret::new(self.server.password.clone())),
            ),
            database: Some("postgres".to_owned()),
            tls: TargetTlsMode::Disable,
            is_target_local: true,
            classified: Arc::from([]),
            rights: Rights::default(),
            record_rows: RecordRows::None,
            cancel_secret: [7; 32],
            options: Arc::default(),
            commands: Arc::default(),
            actor: Actor {
                principal: Principal::user(PrincipalName::new("ada@example.com").expect("a name")),
                sponsor: PrincipalName::new("ada@example.com").expect("a name"),
                groups: Vec::new(),
                run: None,
            },
        }
    }

    fn login(&self) -> Vec<Vec<u8>> {
        vec![startup(&["user", "agent", "database", "orders-db"]), message(b'p', b"crl_token\0")]
    }

    fn statement(&self, constant: &str) -> Vec<u8> {
        message(b'Q', format!("select '{constant}'\0").as_bytes())
    }

    fn goodbye(&self) -> Vec<u8> {
        message(b'X', b"")
    }

    fn is_answered(&self) -> fn(&[u8]) -> bool {
        is_ready
    }

    fn refusal(&self, client_out: &[u8]) -> Option<String> {
        let (_, body) = messages(client_out).into_iter().rfind(|(kind, _)| *kind == b'E')?;
        let text = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"M"))?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

#[test]
fn postgres_does_what_every_protocol_must() {
    let server = RealPostgres::start().expect("starts");
    conformance::check_all(&PostgresDialect { protocol: Postgres::new(), server });
}
