//! The requests and answers that turn an HTTP/1.1 connection into a WebSocket (RFC 6455
//! section 4), for both ends.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What messages of a connection mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subprotocol {
    /// Channels, each message with the channel's number in front.
    V4,
    /// The same, with messages that close a channel.
    V5,
    /// A tunnel: SPDY inside, not looked into.
    Tunnel,
    /// Two channels for each forwarded port, with a name like [`Self::V4`]'s.
    Ports,
}

impl Subprotocol {
    /// As in `Sec-WebSocket-Protocol`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 | Self::Ports => "v4.channel.k8s.io",
            Self::V5 => "v5.channel.k8s.io",
            Self::Tunnel => "SPDY/3.1+portforward.k8s.io",
        }
    }
}

/// What the stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// `exec` and `attach`: channels that are recorded.
    Terminal,
    /// `portforward`: bytes that are counted.
    Forward,
}

/// Why an upgrade cannot be carried. The client is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error(
        "this target takes streams over WebSocket, because SPDY cannot be recorded; use a client \
         that speaks WebSocket (kubectl 1.31 or later, without KUBECTL_REMOTE_COMMAND_WEBSOCKETS=\
         false and KUBECTL_PORT_FORWARD_WEBSOCKETS=false)"
    )]
    Spdy,
    #[error("a stream into a container needs an upgrade to WebSocket")]
    NoUpgrade,
    #[error("an upgrade to another protocol than WebSocket is not known here")]
    Protocol,
    #[error("a WebSocket handshake is a GET of HTTP/1.1 without a body")]
    Method,
    #[error("a WebSocket handshake has one version, 13, and one key of 16 bytes")]
    Key,
    #[error(
        "exec and attach need one of the WebSocket subprotocols v5.channel.k8s.io and \
         v4.channel.k8s.io, portforward SPDY/3.1+portforward.k8s.io or v4.channel.k8s.io"
    )]
    Subprotocol,
}

/// A client's handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientHandshake {
    pub(crate) subprotocol: Subprotocol,
    accept: String,
}

impl ClientHandshake {
    /// Reads a request's head.
    ///
    /// # Errors
    /// [`HandshakeError`]: the client is to blame.
    pub(crate) fn read(
        kind: StreamKind,
        method: &Method,
        version: Version,
        headers: &HeaderMap,
    ) -> Result<Self, HandshakeError> {
        let upgrades: Vec<String> = tokens(headers, &UPGRADE);
        let is = |wanted: &str| upgrades.iter().any(|upgrade| upgrade == wanted);
        if is("spdy/3.1") {
            return Err(HandshakeError::Spdy);
        }
        if upgrades.is_empty() {
            return Err(HandshakeError::NoUpgrade);
        }
        if upgrades != ["websocket"] {
            return Err(HandshakeError::Protocol);
        }
        let connects = tokens(headers, &CONNECTION).iter().any(|token| token == "upgrade");
        if method != Method::GET || version != Version::HTTP_11 || !connects {
            return Err(HandshakeError::Method);
        }
        let key = single(headers, &SEC_WEBSOCKET_KEY).ok_or(HandshakeError::Key)?;
        let is_key = STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16);
        if !is_key || single(headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
            return Err(HandshakeError::Key);
        }
        let known: &[Subprotocol] = match kind {
            StreamKind::Terminal => &[Subprotocol::V5, Subprotocol::V4],
            StreamKind::Forward => &[Subprotocol::Tunnel, Subprotocol::Ports],
        };
        // The client's order is its preference. Names are compared as written.
        let offered = listed(headers, &SEC_WEBSOCKET_PROTOCOL);
        let subprotocol = offered
            .iter()
            .find_map(|name| known.iter().find(|protocol| protocol.name() == name))
            .ok_or(HandshakeError::Subprotocol)?;
        Ok(Self { subprotocol: *subprotocol, accept: accept_of(key) })
    }

    /// The headers of the answer, 101.
    pub(crate) fn answer(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        let name = HeaderValue::from_static(self.subprotocol.name());
        headers.insert(SEC_WEBSOCKET_PROTOCOL, name);
        headers
    }
}

/// Why a target's answer is no WebSocket. The target is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetHandshakeError {
    #[error("the target refused the stream")]
    Refused(StatusCode),
    #[error("the target's answer is no WebSocket handshake for this request")]
    Answer,
    #[error("no random bytes could be made")]
    Random,
}

/// The gateway's own handshake with a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetHandshake {
    subprotocol: Subprotocol,
    key: String,
}

impl TargetHandshake {
    /// # Errors
    /// [`TargetHandshakeError::Random`].
    pub(crate) fn new(subprotocol: Subprotocol) -> Result<Self, TargetHandshakeError> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).map_err(|_| TargetHandshakeError::Random)?;
        Ok(Self { subprotocol, key: STANDARD.encode(bytes) })
    }

    /// Puts the handshake into a request's headers, in place of the client's.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        if let Ok(key) = HeaderValue::from_str(&self.key) {
            headers.insert(SEC_WEBSOCKET_KEY, key);
        }
        let name = HeaderValue::from_static(self.subprotocol.name());
        headers.insert(SEC_WEBSOCKET_PROTOCOL, name);
    }

    /// Checks the target's answer.
    ///
    /// # Errors
    /// [`TargetHandshakeError`]: the target is to blame.
    pub(crate) fn check(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<(), TargetHandshakeError> {
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(TargetHandshakeError::Refused(status));
        }
        let is_right = tokens(headers, &UPGRADE) == ["websocket"]
            && single(headers, &SEC_WEBSOCKET_ACCEPT) == Some(accept_of(&self.key).as_str())
            && single(headers, &SEC_WEBSOCKET_PROTOCOL) == Some(self.subprotocol.name())
            && !headers.contains_key(SEC_WEBSOCKET_EXTENSIONS);
        if is_right { Ok(()) } else { Err(TargetHandshakeError::Answer) }
    }
}

fn accept_of(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()))
}

/// The values of a header that is a list, as written.
fn listed(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|token| token.trim().to_owned())
        .filter(|token| !token.is_empty())
        .collect()
}

/// The same in lower case.
fn tokens(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    listed(headers, name).into_iter().map(|token| token.to_ascii_lowercase()).collect()
}

/// The value of a header that stands once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn good(protocols: &'static str) -> HeaderMap {
        headers(&[
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-key", KEY),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", protocols),
        ])
    }

    fn read(kind: StreamKind, headers: &HeaderMap) -> Result<Subprotocol, HandshakeError> {
        let read = ClientHandshake::read(kind, &Method::GET, Version::HTTP_11, headers);
        read.map(|handshake| handshake.subprotocol)
    }

    #[test]
    fn the_answer_proves_that_the_key_was_read() {
        let headers = good("v5.channel.k8s.io");
        let handshake =
            ClientHandshake::read(StreamKind::Terminal, &Method::GET, Version::HTTP_11, &headers);
        let answer = handshake.expect("reads").answer();
        // The example of RFC 6455 section 1.3.
        assert_eq!(
            answer.get("sec-websocket-accept").expect("is there"),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(answer.get("sec-websocket-protocol").expect("is there"), "v5.channel.k8s.io");
    }

    #[test]
    fn the_client_chooses_among_known_subprotocols() {
        let terminal = StreamKind::Terminal;
        assert_eq!(
            read(terminal, &good("v5.channel.k8s.io, v4.channel.k8s.io")),
            Ok(Subprotocol::V5)
        );
        assert_eq!(
            read(terminal, &good("x, v4.channel.k8s.io,v5.channel.k8s.io")),
            Ok(Subprotocol::V4)
        );
        for other in [
            "base64.channel.k8s.io",
            "v4.base64.channel.k8s.io",
            "channel.k8s.io",
            "",
            "V5.channel.k8s.io",
        ] {
            assert_eq!(read(terminal, &good(other)), Err(HandshakeError::Subprotocol), "{other}");
        }
        let tunnel = "SPDY/3.1+portforward.k8s.io";
        assert_eq!(read(terminal, &good(tunnel)), Err(HandshakeError::Subprotocol));
        assert_eq!(read(StreamKind::Forward, &good(tunnel)), Ok(Subprotocol::Tunnel));
        let ports = good("v5.channel.k8s.io, v4.channel.k8s.io");
        assert_eq!(read(StreamKind::Forward, &ports), Ok(Subprotocol::Ports));
    }

    #[test]
    fn what_is_no_websocket_handshake_is_refused() {
        let check = |change: &[(&'static str, Option<&'static str>)], expect: HandshakeError| {
            let mut headers = good("v5.channel.k8s.io");
            for (name, value) in change {
                headers.remove(*name);
                if let Some(value) = value {
                    headers.append(*name, HeaderValue::from_static(value));
                }
            }
            assert_eq!(read(StreamKind::Terminal, &headers), Err(expect), "{change:?}");
        };
        check(&[("upgrade", Some("SPDY/3.1"))], HandshakeError::Spdy);
        check(&[("upgrade", Some("websocket, SPDY/3.1"))], HandshakeError::Spdy);
        check(&[("upgrade", None)], HandshakeError::NoUpgrade);
        check(&[("upgrade", Some("h2c"))], HandshakeError::Protocol);
        check(&[("upgrade", Some("h2c, websocket"))], HandshakeError::Protocol);
        check(&[("connection", Some("keep-alive"))], HandshakeError::Method);
        check(&[("sec-websocket-key", None)], HandshakeError::Key);
        check(&[("sec-websocket-key", Some("c2hvcnQ="))], HandshakeError::Key);
        check(&[("sec-websocket-version", Some("8"))], HandshakeError::Key);
        let mut twice = good("v5.channel.k8s.io");
        twice.append("sec-websocket-key", HeaderValue::from_static(KEY));
        assert_eq!(read(StreamKind::Terminal, &twice), Err(HandshakeError::Key));
        for (method, version) in [(Method::POST, Version::HTTP_11), (Method::GET, Version::HTTP_2)]
        {
            let read = ClientHandshake::read(
                StreamKind::Terminal,
                &method,
                version,
                &good("v5.channel.k8s.io"),
            );
            assert_eq!(read.err(), Some(HandshakeError::Method));
        }
    }

    #[test]
    fn a_target_must_answer_this_request() {
        let mut asked = headers(&[("sec-websocket-extensions", "permessage-deflate")]);
        let handshake = TargetHandshake::new(Subprotocol::V4).expect("random");
        handshake.apply(&mut asked);
        assert!(!asked.contains_key("sec-websocket-extensions"));
        let client =
            ClientHandshake::read(StreamKind::Terminal, &Method::GET, Version::HTTP_11, &asked);
        let answer = client.expect("reads").answer();
        assert_eq!(handshake.check(StatusCode::SWITCHING_PROTOCOLS, &answer), Ok(()));
        let refused = TargetHandshakeError::Refused(StatusCode::NOT_FOUND);
        assert_eq!(handshake.check(StatusCode::NOT_FOUND, &answer), Err(refused));
        let other = TargetHandshake::new(Subprotocol::V4).expect("random");
        let wrong = Err(TargetHandshakeError::Answer);
        assert_eq!(other.check(StatusCode::SWITCHING_PROTOCOLS, &answer), wrong);
        for (name, value) in [
            ("sec-websocket-protocol", "v5.channel.k8s.io"),
            ("upgrade", "h2c"),
            ("sec-websocket-extensions", "x"),
        ] {
            let mut lie = answer.clone();
            lie.insert(name, HeaderValue::from_static(value));
            assert_eq!(handshake.check(StatusCode::SWITCHING_PROTOCOLS, &lie), wrong, "{name}");
        }
    }
}
