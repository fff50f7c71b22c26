//! The client's side of a connection's start: encryption, the startup packet, the password.
//!
//! It must not know how a target is reached or what a statement is.

use std::time::Instant;

use corral_gate::machine::Start;
use corral_gate::{Login, Output, Proof};
use corral_model::event::CloseReason;
use corral_model::ids::TargetName;
use corral_model::{Secret, limits};
use zeroize::Zeroize;

use crate::codec::client::decode_password;
use crate::codec::opening::{Opening, OpeningError, StartupPacket, decode_opening, opening_len};
use crate::codec::server::{put_ask_password, put_negotiate_version};
use crate::codec::{head, opening};
use crate::link::{Ending, Link};
use crate::settings::{Setting, sort, split_options};

/// The newest minor version of protocol 3 that is spoken with clients.
const MINOR_MAX: u16 = 2;

/// What a client asked for before it showed its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) minor: u16,
    pub(crate) target: String,
    pub(crate) database: Option<String>,
    pub(crate) claims: Vec<(String, String)>,
    /// Forwarded to the target.
    pub(crate) settings: Vec<(String, String)>,
}

#[derive(Debug)]
enum Stage {
    ExpectOpening,
    ExpectTls,
    ExpectPassword,
    ExpectAdmission,
}

/// A client that has not been let in.
#[derive(Debug)]
pub(crate) struct Startup {
    is_local: bool,
    is_tls: bool,
    can_tls: bool,
    target: Option<TargetName>,
    /// What was shown for the client already.
    shown: Option<Proof>,
    stage: Stage,
    request: Option<Request>,
    pub(crate) deadline: Instant,
}

impl Startup {
    pub(crate) fn new(start: Start) -> Self {
        Self {
            is_local: start.is_local,
            is_tls: start.is_tls,
            can_tls: start.can_tls,
            target: start.target,
            shown: start.shown,
            stage: Stage::ExpectOpening,
            request: None,
            deadline: start.now + limits::LOGIN_DEADLINE,
        }
    }

    /// Whether bytes of the client are of any use.
    pub(crate) fn wants_client(&self) -> bool {
        match self.stage {
            Stage::ExpectOpening | Stage::ExpectPassword => true,
            Stage::ExpectTls | Stage::ExpectAdmission => false,
        }
    }

    /// What the client asked for, once it was admitted.
    pub(crate) fn take_request(&mut self) -> Option<Request> {
        self.request.take()
    }

    pub(crate) fn tls_started(&mut self, link: &mut Link) -> Result<(), Ending> {
        refuse_early_bytes(link)?;
        self.is_tls = true;
        self.stage = Stage::ExpectOpening;
        Ok(())
    }

    /// Reads what the client sent so far.
    pub(crate) fn pump(&mut self, link: &mut Link) -> Result<(), Ending> {
        loop {
            let goes_on = match self.stage {
                Stage::ExpectOpening => self.read_opening(link)?,
                Stage::ExpectPassword => self.read_password(link)?,
                Stage::ExpectTls | Stage::ExpectAdmission => false,
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    fn read_opening(&mut self, link: &mut Link) -> Result<bool, Ending> {
        let bytes = &link.buffers.client_in;
        let Some(length) = opening_len(bytes, limits::LOGIN_MESSAGE_BYTES_MAX).map_err(refused)?
        else {
            return Ok(false);
        };
        if bytes.len() < length {
            return Ok(false);
        }
        let message = link.buffers.client_in.split_to(length);
        match decode_opening(&message).map_err(refused)? {
            Opening::SslRequest if self.is_tls => {
                Err(Ending::client_fault("encryption was already negotiated"))
            }
            Opening::SslRequest => self.answer_ssl(link),
            Opening::GssEncRequest => {
                link.buffers.client_out.extend_from_slice(b"N");
                Ok(true)
            }
            Opening::CancelRequest(key) => {
                link.ask(Output::CancelSession(key));
                Err(Ending::quiet(CloseReason::Client))
            }
            Opening::Startup(packet) => self.read_startup(packet, link),
        }
    }

    fn answer_ssl(&mut self, link: &mut Link) -> Result<bool, Ending> {
        if !self.can_tls {
            link.buffers.client_out.extend_from_slice(b"N");
            return Ok(true);
        }
        refuse_early_bytes(link)?;
        link.buffers.client_out.extend_from_slice(b"S");
        link.ask(Output::StartClientTls);
        self.stage = Stage::ExpectTls;
        Ok(false)
    }

    fn read_startup(&mut self, packet: StartupPacket, link: &mut Link) -> Result<bool, Ending> {
        let unknown: Vec<&str> = packet
            .parameters
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| name.starts_with("_pq_."))
            .collect();
        let minor = packet.minor.min(MINOR_MAX);
        if minor != packet.minor || !unknown.is_empty() {
            put_negotiate_version(&mut link.buffers.client_out, minor, &unknown);
        }
        if !self.is_tls && !self.is_local {
            return Err(Ending::with(
                CloseReason::Protocol,
                "28000",
                "a token is accepted inside TLS only; connect with sslmode=require or stronger",
            ));
        }
        self.request = Some(read_request(packet, minor, self.target.as_ref())?);
        if let Some(proof) = self.shown.take() {
            return self.ask_admission(proof, link);
        }
        put_ask_password(&mut link.buffers.client_out);
        self.stage = Stage::ExpectPassword;
        Ok(true)
    }

    fn read_password(&mut self, link: &mut Link) -> Result<bool, Ending> {
        let Some(head) = head(&link.buffers.client_in).map_err(Ending::client_fault)? else {
            return Ok(false);
        };
        if head.tag == b'X' {
            return Err(Ending::quiet(CloseReason::Client));
        }
        if head.tag != b'p' {
            return Err(Ending::client_fault("a password was expected"));
        }
        if head.frame_len > limits::LOGIN_MESSAGE_BYTES_MAX {
            return Err(Ending::client_fault("the password is too long"));
        }
        if link.buffers.client_in.len() < head.frame_len {
            return Ok(false);
        }
        let mut frame = link.buffers.client_in.split_to(head.frame_len);
        let token = decode_password(&frame).map(|token| Secret::new(token.to_owned()));
        frame.as_mut().zeroize();
        let token = token.map_err(Ending::client_fault)?;
        self.ask_admission(Proof::Token(token), link)
    }

    fn ask_admission(&mut self, proof: Proof, link: &mut Link) -> Result<bool, Ending> {
        let Some(request) = &self.request else {
            return Err(Ending::client_fault("a password without a startup packet"));
        };
        let login = Login {
            proof,
            target: request.target.clone(),
            database: request.database.clone(),
            claims: request.claims.clone(),
        };
        self.stage = Stage::ExpectAdmission;
        link.ask(Output::Admit(Box::new(login)));
        Ok(false)
    }
}

/// Bytes that came in clear and would be read as if they had come inside TLS (CVE-2021-23214).
fn refuse_early_bytes(link: &mut Link) -> Result<(), Ending> {
    if link.buffers.client_in.is_empty() {
        return Ok(());
    }
    link.buffers.client_in.clear();
    Err(Ending::client_fault("bytes were sent in clear after the request for TLS"))
}

fn refused(error: opening::OpeningError) -> Ending {
    match error {
        OpeningError::Version { .. } => {
            Ending::with(CloseReason::Protocol, "0A000", error.to_string())
        }
        OpeningError::TooLarge(_) | OpeningError::Codec(_) => Ending::client_fault(error),
    }
}

fn read_request(
    packet: StartupPacket,
    minor: u16,
    listener_target: Option<&TargetName>,
) -> Result<Request, Ending> {
    let mut user = String::new();
    let mut database = String::new();
    let mut request = Request {
        minor,
        target: String::new(),
        database: None,
        claims: Vec::new(),
        settings: Vec::new(),
    };
    for (name, value) in packet.parameters {
        match name.as_str() {
            "user" => user = value,
            "database" => database = value,
            "replication" => refuse_replication(&value)?,
            "options" => {
                let settings = split_options(&value).map_err(not_allowed)?;
                for (name, value) in settings {
                    add_setting(&mut request, &name, value)?;
                }
            }
            name if name.starts_with("_pq_.") => {}
            name => add_setting(&mut request, name, value)?,
        }
    }
    if user.is_empty() {
        return Err(Ending::with(
            CloseReason::Protocol,
            "28000",
            "no user name in the startup packet",
        ));
    }
    (request.target, request.database) = place(&database, &user, listener_target)?;
    request.claims.insert(0, ("user".to_owned(), user));
    Ok(request)
}

fn refuse_replication(value: &str) -> Result<(), Ending> {
    let is_off = matches!(value.to_ascii_lowercase().as_str(), "false" | "off" | "no" | "0");
    if is_off {
        return Ok(());
    }
    Err(Ending::with(
        CloseReason::Protocol,
        "0A000",
        "replication connections are not supported: startup parameter \"replication\"",
    ))
}

fn not_allowed(text: String) -> Ending {
    Ending::with(CloseReason::Protocol, "42501", text)
}

fn add_setting(request: &mut Request, name: &str, value: String) -> Result<(), Ending> {
    match sort(name, &value) {
        Setting::Forward(name) => {
            if name == "application_name" {
                request.claims.push((name.clone(), value.clone()));
            }
            request.settings.retain(|(known, _)| *known != name);
            request.settings.push((name, value));
            Ok(())
        }
        Setting::Fixed => Ok(()),
        Setting::Refused(text) => Err(not_allowed(text)),
    }
}

/// Target and database of `dbname`. Where the listener names the target, `dbname` is a database
/// of it; libpq's default (`dbname` = `user`) and the target's own name mean its default one.
fn place(
    database: &str,
    user: &str,
    listener_target: Option<&TargetName>,
) -> Result<(String, Option<String>), Ending> {
    let (first, rest) = match database.split_once('/') {
        Some((first, rest)) => (first, Some(rest.to_owned()).filter(|rest| !rest.is_empty())),
        None => (database, None),
    };
    match listener_target {
        None if first.is_empty() => Err(Ending::with(
            CloseReason::Protocol,
            "3D000",
            "no target: connect with dbname=TARGET or dbname=TARGET/DATABASE",
        )),
        None => Ok((first.to_owned(), rest)),
        Some(target) if first == target.as_str() => Ok((target.to_string(), rest)),
        Some(target) if database.is_empty() || database == user => Ok((target.to_string(), None)),
        Some(target) => Ok((target.to_string(), Some(database.to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dbname_names_target_and_database() {
        let orders = TargetName::new("orders").expect("a name");
        let cases = [
            ("orders", None, Some(("orders", None))),
            ("orders/shop", None, Some(("orders", Some("shop")))),
            ("orders/", None, Some(("orders", None))),
            ("", None, None),
            ("shop", Some(&orders), Some(("orders", Some("shop")))),
            ("orders", Some(&orders), Some(("orders", None))),
            ("orders/shop", Some(&orders), Some(("orders", Some("shop")))),
            ("ada", Some(&orders), Some(("orders", None))),
            ("", Some(&orders), Some(("orders", None))),
        ];
        for (database, listener, expect) in cases {
            let found = place(database, "ada", listener).ok();
            let expect = expect.map(|(target, db)| (target.to_owned(), db.map(str::to_owned)));
            assert_eq!(found, expect, "{database}");
        }
    }
}
