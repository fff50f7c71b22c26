//! The agent: one key, many clients, one request after another.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use corral_model::limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::identity::{Certificate, Identity};
use crate::message::{Answer, Request};

/// A future that a callback gives.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A client that does not take its answer for so long is left.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// A certificate is renewed when less than this is left of it, or half of its time.
const RENEW_BEFORE: Duration = Duration::from_secs(90);

/// A certificate that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// A line in OpenSSH's form.
    pub certificate: String,
    pub ttl: Duration,
}

/// Asks for a certificate; what went wrong is told to the user by the callback itself.
pub trait Renewal: Send {
    /// None: there is none to be had at the moment.
    fn renew<'a>(&'a mut self, public_line: &'a str) -> BoxFuture<'a, Option<Renewed>>;
}

/// The agent of one run, process or person.
pub struct Agent<R> {
    identity: Identity,
    public_line: String,
    renewal: R,
    held: Option<Held>,
    /// The certificate before this one: a client may have listed that, and sign by it.
    earlier: Option<Certificate>,
}

struct Held {
    certificate: Certificate,
    renew_at: Instant,
    ends_at: Instant,
}

impl<R: Renewal> Agent<R> {
    /// An agent for a key. It asks for a certificate when somebody wants to see one.
    ///
    /// # Errors
    /// When the key cannot be written as a line.
    pub fn new(identity: Identity, renewal: R) -> Result<Self, crate::IdentityError> {
        let public_line = identity.public_line()?;
        Ok(Self { identity, public_line, renewal, held: None, earlier: None })
    }

    async fn answer(&mut self, message: &[u8]) -> Vec<u8> {
        match Request::read(message) {
            Request::Identities => {
                self.renew_when_due().await;
                let held = self.held.as_ref().map(|held| held.certificate.blob());
                Answer::Identities(held).write()
            }
            Request::Sign { key, data } => match self.is_ours(key) {
                true => self.identity.sign(data).map_or(Answer::Failure, Answer::Signature).write(),
                false => Answer::Failure.write(),
            },
            Request::Other => Answer::Failure.write(),
        }
    }

    fn is_ours(&self, key: &[u8]) -> bool {
        let held = self.held.as_ref().map(|held| &held.certificate);
        held.into_iter().chain(&self.earlier).any(|certificate| certificate.blob() == key)
    }

    /// Keeps what there is as long as it is good, when no other is to be had.
    async fn renew_when_due(&mut self) {
        let now = Instant::now();
        if self.held.as_ref().is_some_and(|held| now < held.renew_at) {
            return;
        }
        let renewed = self.renewal.renew(&self.public_line).await;
        let certificate = renewed.and_then(|renewed| {
            let certificate = Certificate::read(&renewed.certificate, &self.identity).ok()?;
            Some((certificate, renewed.ttl))
        });
        if let Some((certificate, ttl)) = certificate {
            let before = RENEW_BEFORE.min(ttl / 2);
            let held = Held { certificate, renew_at: now + (ttl - before), ends_at: now + ttl };
            self.earlier = self.held.replace(held).map(|held| held.certificate);
        } else if self.held.as_ref().is_some_and(|held| held.ends_at <= Instant::now()) {
            self.held = None;
            self.earlier = None;
        }
    }
}

/// Answers one client until it leaves, sends what is no request, or does not take its answer. All
/// clients of an agent wait while one is answered.
///
/// # Limits
/// [`limits::AGENT_REQUEST_BYTES_MAX`] for a request.
///
/// # Cancel safety
/// Dropping it closes the client's connection.
pub async fn answer_client<R: Renewal>(agent: &Mutex<Agent<R>>, mut stream: UnixStream) {
    while let Some((mut left, message)) = next_request(stream).await {
        let answer = agent.lock().await.answer(&message).await;
        let written = timeout(WRITE_DEADLINE, left.write_all(&answer)).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
        stream = left;
    }
}

/// The next request of a client; None when it left, or sent what is no request.
async fn next_request(mut stream: UnixStream) -> Option<(UnixStream, Vec<u8>)> {
    let length = usize::try_from(stream.read_u32().await.ok()?).ok()?;
    if length == 0 || length > limits::AGENT_REQUEST_BYTES_MAX {
        return None;
    }
    let mut message = vec![0_u8; length];
    stream.read_exact(&mut message).await.ok()?;
    Some((stream, message))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io;
    use std::sync::Arc;
    use std::time::SystemTime;

    use tokio::net::UnixListener;

    use super::*;
    use crate::identity::tests::certificate;

    /// Gives certificates with growing serials; none once it is told to.
    struct Authority {
        identity: Identity,
        given: u64,
        is_away: bool,
    }

    impl Renewal for Authority {
        fn renew<'a>(&'a mut self, _: &'a str) -> BoxFuture<'a, Option<Renewed>> {
            Box::pin(async {
                if self.is_away {
                    return None;
                }
                self.given += 1;
                Some(Renewed {
                    certificate: certificate(&self.identity, SystemTime::now(), self.given),
                    ttl: Duration::from_secs(300),
                })
            })
        }
    }

    fn agent() -> Agent<Authority> {
        let identity = Identity::generate().expect("a key");
        let file = identity.to_file().expect("is written").clone();
        let same = Identity::read(&file).expect("is read");
        let authority = Authority { identity: same, given: 0, is_away: false };
        Agent::new(identity, authority).expect("an agent")
    }

    /// Answers whoever connects.
    async fn serve(agent: Agent<Authority>, listener: &UnixListener) -> Infallible {
        let agent = Arc::new(Mutex::new(agent));
        loop {
            let (stream, _) = listener.accept().await.expect("a client");
            let agent = agent.clone();
            tokio::spawn(async move { answer_client(&agent, stream).await });
        }
    }

    /// The key that an answer lists.
    fn listed(answer: &[u8]) -> Option<Vec<u8>> {
        let count = answer.get(5..9).expect("a count");
        if count == [0; 4] {
            return None;
        }
        let length = u32::from_be_bytes(answer[9..13].try_into().expect("a length"));
        Some(answer[13..13 + usize::try_from(length).expect("fits")].to_vec())
    }

    fn sign_request(key: &[u8]) -> Vec<u8> {
        let mut message = vec![13];
        for part in [key, b"data"] {
            message.extend(u32::try_from(part.len()).expect("fits").to_be_bytes());
            message.extend(part);
        }
        message.extend([0; 4]);
        message
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_is_renewed_before_it_ends() {
        let mut agent = agent();
        let first = listed(&agent.answer(&[11]).await).expect("is listed");
        tokio::time::advance(Duration::from_secs(200)).await;
        assert_eq!(listed(&agent.answer(&[11]).await).as_ref(), Some(&first), "half is left");
        tokio::time::advance(Duration::from_secs(15)).await;
        let second = listed(&agent.answer(&[11]).await).expect("is listed");
        assert_ne!(first, second);
        assert_eq!(agent.renewal.given, 2);
        // Who listed the first one signs by it.
        for key in [&first, &second] {
            assert_eq!(agent.answer(&sign_request(key)).await.get(4), Some(&14));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_gateway_the_certificate_serves_until_its_end() {
        let mut agent = agent();
        let first = listed(&agent.answer(&[11]).await).expect("is listed");
        agent.renewal.is_away = true;
        tokio::time::advance(Duration::from_secs(299)).await;
        assert_eq!(listed(&agent.answer(&[11]).await).as_ref(), Some(&first));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(listed(&agent.answer(&[11]).await), None);
        assert_eq!(agent.answer(&sign_request(&first)).await, [0, 0, 0, 1, 5]);
    }

    #[tokio::test]
    async fn a_key_that_is_not_ours_signs_nothing() {
        let mut agent = agent();
        assert_eq!(agent.answer(&sign_request(b"other")).await, [0, 0, 0, 1, 5]);
        assert_eq!(agent.answer(&[17, 1, 2]).await, [0, 0, 0, 1, 5], "no key can be added");
    }

    #[tokio::test]
    async fn clients_that_break_the_protocol_harm_nobody_else() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("agent.sock");
        let listener = UnixListener::bind(&path).expect("listens");
        let talk = async {
            let mut large = UnixStream::connect(&path).await.expect("connects");
            large.write_all(&[0xff; 64]).await.expect("writes");
            let ended = large.read_u8().await.expect_err("is left");
            assert!(matches!(
                ended.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            ));
            let mut silent = UnixStream::connect(&path).await.expect("connects");
            silent.write_all(&[0, 0]).await.expect("writes half a length");
            let mut fine = UnixStream::connect(&path).await.expect("connects");
            fine.write_all(&[0, 0, 0, 1, 11]).await.expect("writes");
            let length = fine.read_u32().await.expect("an answer");
            assert!(length > 100, "{length}");
        };
        tokio::select! {
            () = talk => {}
            never = serve(agent(), &listener) => match never {},
        }
    }

    #[tokio::test]
    async fn openssh_takes_the_agent_for_one() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("agent.sock");
        let listener = UnixListener::bind(&path).expect("listens");
        let listing =
            tokio::process::Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", &path).output();
        let output = tokio::select! {
            output = listing => output.expect("OpenSSH's tools are installed"),
            never = serve(agent(), &listener) => match never {},
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("corral (ED25519-CERT)"), "{text}{output:?}");
    }
}
