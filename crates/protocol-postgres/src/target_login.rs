//! Logging in at the target with the gateway's own credential.
//!
//! What the target says against it is never shown to the client: it may name hosts and accounts.

use std::sync::Arc;
use std::time::Instant;

use corral_gate::{Admission, Harmless, Output};
use corral_model::event::CloseReason;
use corral_model::limits;
use corral_model::resource::TargetTlsMode;
use md5::{Digest as _, Md5};

use crate::codec::answers::{
    Authentication, decode_authentication, decode_error_fields, decode_key_data,
    decode_parameter_status, decode_ready,
};
use crate::codec::target::{
    put_password, put_sasl_initial, put_sasl_response, put_ssl_request, put_startup,
};
use crate::codec::{CodecError, head};
use crate::link::{Ending, Link};
use crate::scram::{
    Binding, Closing, KnownKeys, Opening, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramError,
};
use crate::settings::PINNED;
use crate::shared::Shared;
use crate::startup::Request;

enum Stage {
    ExpectConnection,
    ExpectTlsAnswer,
    ExpectTls,
    ExpectAuthentication,
    ExpectChallenge(Box<Opening>),
    ExpectProof(Box<Closing>),
    ExpectReady,
}

/// What the target said of itself during login.
#[derive(Debug, Default)]
pub(crate) struct TargetFacts {
    /// In the target's order.
    pub(crate) parameters: Vec<(String, String)>,
    /// Process id and key for cancel requests.
    pub(crate) key: Option<(u32, Vec<u8>)>,
}

/// A login at the target that is not finished.
pub(crate) struct TargetLogin {
    pub(crate) admission: Box<Admission>,
    pub(crate) request: Request,
    shared: Arc<Shared>,
    stage: Stage,
    is_tls: bool,
    end_point: Option<Vec<u8>>,
    facts: TargetFacts,
    pub(crate) deadline: Instant,
}

impl TargetLogin {
    pub(crate) fn new(
        admission: Box<Admission>,
        request: Request,
        shared: Arc<Shared>,
        link: &mut Link,
    ) -> Self {
        link.ask(Output::DialTarget);
        Self {
            admission,
            request,
            shared,
            stage: Stage::ExpectConnection,
            is_tls: false,
            end_point: None,
            facts: TargetFacts::default(),
            deadline: link.now + limits::TARGET_LOGIN_DEADLINE,
        }
    }

    pub(crate) fn wants_target(&self) -> bool {
        !matches!(self.stage, Stage::ExpectConnection | Stage::ExpectTls)
    }

    pub(crate) fn connected(&mut self, link: &mut Link) {
        match self.admission.tls {
            TargetTlsMode::Disable => self.send_startup(link),
            TargetTlsMode::Require | TargetTlsMode::VerifyFull => {
                link.tell_target(Harmless::Login, put_ssl_request);
                self.stage = Stage::ExpectTlsAnswer;
            }
        }
    }

    pub(crate) fn tls_started(
        &mut self,
        end_point: Option<Vec<u8>>,
        link: &mut Link,
    ) -> Result<(), Ending> {
        if !link.buffers.target_in.is_empty() {
            return Err(unavailable("it sent bytes in clear before TLS started"));
        }
        self.is_tls = true;
        self.end_point = end_point;
        self.send_startup(link);
        Ok(())
    }

    fn send_startup(&mut self, link: &mut Link) {
        let mut parameters: Vec<(&str, &str)> =
            vec![("user", self.admission.credential.username.as_str())];
        if let Some(database) = &self.admission.database {
            parameters.push(("database", database));
        }
        let own = self.request.settings.iter();
        parameters.extend(own.map(|(name, value)| (name.as_str(), value.as_str())));
        let is_free = |name: &str| !self.request.settings.iter().any(|(own, _)| own == name);
        parameters.extend(PINNED.iter().filter(|(name, _)| is_free(name)));
        link.tell_target(Harmless::Login, |out| put_startup(out, &parameters));
        self.stage = Stage::ExpectAuthentication;
    }

    /// Reads what the target sent so far. Gives the facts when it is ready.
    pub(crate) fn pump(&mut self, link: &mut Link) -> Result<Option<TargetFacts>, Ending> {
        if matches!(self.stage, Stage::ExpectTlsAnswer) {
            self.read_tls_answer(link)?;
        }
        while self.wants_target() {
            let bytes = &link.buffers.target_in;
            let Some(head) = head(bytes).map_err(broken)? else { return Ok(None) };
            if head.frame_len > limits::LOGIN_MESSAGE_BYTES_MAX {
                return Err(unavailable("it sent a login message that is too long"));
            }
            if bytes.len() < head.frame_len {
                return Ok(None);
            }
            let frame = link.buffers.target_in.split_to(head.frame_len);
            if self.read_frame(head.tag, &frame, link)? {
                return Ok(Some(std::mem::take(&mut self.facts)));
            }
        }
        Ok(None)
    }

    fn read_tls_answer(&mut self, link: &mut Link) -> Result<(), Ending> {
        let Some((answer, rest)) = link.buffers.target_in.split_first() else { return Ok(()) };
        match answer {
            b'S' if rest.is_empty() => {
                link.buffers.target_in.clear();
                link.ask(Output::StartTargetTls);
                self.stage = Stage::ExpectTls;
                Ok(())
            }
            b'S' => Err(unavailable("it sent bytes in clear before TLS started")),
            b'N' => Err(unavailable("it has no TLS, which its configuration here requires")),
            _ => Err(unavailable("it is no PostgreSQL")),
        }
    }

    /// True when the target is ready.
    fn read_frame(&mut self, tag: u8, frame: &[u8], link: &mut Link) -> Result<bool, Ending> {
        match (tag, &self.stage) {
            (b'N', _) => {}
            (b'E', _) => return Err(refused(frame)),
            (b'v', Stage::ExpectAuthentication) => {}
            (
                b'R',
                Stage::ExpectAuthentication | Stage::ExpectChallenge(_) | Stage::ExpectProof(_),
            ) => {
                let authentication = decode_authentication(frame).map_err(broken)?;
                self.authenticate(&authentication, link)?;
            }
            (b'S', Stage::ExpectReady) => {
                let (name, value) = decode_parameter_status(frame).map_err(broken)?;
                self.facts.parameters.push((name.to_owned(), value.into_owned()));
            }
            (b'K', Stage::ExpectReady) => {
                let (process, key) = decode_key_data(frame).map_err(broken)?;
                self.facts.key = Some((process, key.to_vec()));
            }
            (b'Z', Stage::ExpectReady) => {
                decode_ready(frame).map_err(broken)?;
                return Ok(true);
            }
            _ => return Err(unavailable("it broke the protocol during login")),
        }
        Ok(false)
    }

    fn authenticate(
        &mut self,
        authentication: &Authentication<'_>,
        link: &mut Link,
    ) -> Result<(), Ending> {
        let stage = std::mem::replace(&mut self.stage, Stage::ExpectAuthentication);
        self.stage = match (authentication, stage) {
            (Authentication::Ok, Stage::ExpectAuthentication) => Stage::ExpectReady,
            (Authentication::CleartextPassword, Stage::ExpectAuthentication) => {
                // Whoever stands in the way of an unverified connection could ask for it.
                let is_verified = self.is_tls && self.admission.tls == TargetTlsMode::VerifyFull;
                if !is_verified && !self.admission.is_target_local {
                    return Err(unavailable("it asks for a password in clear"));
                }
                let password = self.password()?.to_owned();
                link.tell_target(Harmless::Login, |out| put_password(out, &password));
                Stage::ExpectAuthentication
            }
            (Authentication::Md5Password { salt }, Stage::ExpectAuthentication) => {
                let password = self.password()?;
                let hash = md5_hash(&self.admission.credential.username, password, *salt);
                link.tell_target(Harmless::Login, |out| put_password(out, &hash));
                Stage::ExpectAuthentication
            }
            (Authentication::Sasl(mechanisms), Stage::ExpectAuthentication) => {
                self.start_scram(mechanisms, link)?
            }
            (Authentication::SaslContinue(message), Stage::ExpectChallenge(opening)) => {
                let password = self.password()?;
                let (answer, closing) =
                    opening.answer(message, password, self.known_keys()).map_err(not_proven)?;
                link.tell_target(Harmless::Login, |out| put_sasl_response(out, answer.as_bytes()));
                Stage::ExpectProof(Box::new(closing))
            }
            (Authentication::SaslFinal(message), Stage::ExpectProof(closing)) => {
                closing.finish(message, self.known_keys()).map_err(not_proven)?;
                Stage::ExpectAuthentication
            }
            _ => return Err(unavailable("it asks for a way to log in that is not supported")),
        };
        Ok(())
    }

    fn start_scram(&self, mechanisms: &[&str], link: &mut Link) -> Result<Stage, Ending> {
        // Without one there is no use in asking for a challenge.
        self.password()?;
        let has_plus = mechanisms.contains(&SCRAM_SHA_256_PLUS);
        let (mechanism, binding) = match &self.end_point {
            Some(hash) if has_plus => (SCRAM_SHA_256_PLUS, Binding::EndPoint(hash.clone())),
            Some(_) => (SCRAM_SHA_256, Binding::Unrequested),
            None => (SCRAM_SHA_256, Binding::Unsupported),
        };
        if !mechanisms.contains(&mechanism) {
            return Err(unavailable("it asks for a way to log in that is not supported"));
        }
        let opening = Opening::new(binding, &self.admission.cancel_secret);
        link.tell_target(Harmless::Login, |out| {
            put_sasl_initial(out, mechanism, opening.message().as_bytes());
        });
        Ok(Stage::ExpectChallenge(Box::new(opening)))
    }

    fn known_keys(&self) -> &KnownKeys {
        &self.shared.known_keys
    }

    fn password(&self) -> Result<&str, Ending> {
        match &self.admission.credential.secret {
            Some(password) => Ok(password.reveal()),
            None => Err(unavailable("it asks for a password, and none is configured here")),
        }
    }
}

/// What PostgreSQL takes for a password with `md5` (src/common/md5_common.c, `pg_md5_encrypt`).
fn md5_hash(username: &str, password: &str, salt: [u8; 4]) -> String {
    let hex = |digest: Md5| format!("{:032x}", u128::from_be_bytes(digest.finalize().into()));
    let inner = hex(Md5::new_with_prefix(password).chain_update(username));
    format!("md5{}", hex(Md5::new_with_prefix(inner).chain_update(salt)))
}

/// The target cannot be used; `why` is a fixed clause without a name in it.
pub(crate) fn unavailable(why: &'static str) -> Ending {
    Ending::with(CloseReason::Target, "08006", format!("the target cannot be used: {why}"))
}

fn not_proven(error: ScramError) -> Ending {
    unavailable(match error {
        ScramError::Broken => "its SCRAM exchange failed",
        ScramError::Unproven => "it did not prove that it knows the password",
    })
}

fn broken(_: CodecError) -> Ending {
    unavailable("it broke the protocol during login")
}

fn refused(frame: &[u8]) -> Ending {
    let code = decode_error_fields(frame).map(|fields| fields.code).unwrap_or_default();
    match code {
        "3D000" => {
            Ending::with(CloseReason::Target, "3D000", "the target has no database of that name")
        }
        "53300" => unavailable("it has too many connections"),
        "57P03" => unavailable("it is starting up or shutting down"),
        _ => unavailable("it refused the gateway's login"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_md5_answer_is_as_another_implementation_has_it() {
        // Computed by Python's hashlib.
        assert_eq!(
            md5_hash("md5_user", "password", [0x2a, 0x3d, 0x8f, 0xe0]),
            "md562af4dd09bbb41884907a838a3233294"
        );
    }
}
