//! Issuers that sign tokens, right and wrong, and publish their keys over HTTP on loopback.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corral_identity::jwt::{Algorithm, KeySet};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub(crate) const ISSUER: &str = "https://ci.example.com";
pub(crate) const AUDIENCE: &str = "corral";

pub(crate) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).expect("a time")
}

/// A private key.
pub(crate) enum Signer {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    pub(crate) fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Es256 => {
                let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                Self::P256(EcdsaKeyPair::generate(algorithm).expect("a key"))
            }
            Algorithm::Es384 => {
                let algorithm = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
                Self::P384(EcdsaKeyPair::generate(algorithm).expect("a key"))
            }
            Algorithm::EdDsa => Self::Ed25519(Ed25519KeyPair::generate().expect("a key")),
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => {
                Self::Rsa(RsaKeyPair::generate(rsa::KeySize::Rsa2048).expect("a key"))
            }
        }
    }

    /// The public key as an issuer publishes it.
    pub(crate) fn jwk(&self, id: &str) -> Value {
        let mut jwk = self.bare_jwk();
        jwk["kid"] = json!(id);
        jwk["use"] = json!("sig");
        jwk
    }

    pub(crate) fn bare_jwk(&self) -> Value {
        match self {
            Self::Rsa(pair) => {
                let key = pair.public_key();
                let n = key.modulus().big_endian_without_leading_zero();
                let e = key.exponent().big_endian_without_leading_zero();
                json!({"kty": "RSA", "n": encoded(n), "e": encoded(e)})
            }
            Self::P256(pair) => on_curve("P-256", pair),
            Self::P384(pair) => on_curve("P-384", pair),
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(pair.public_key())})
            }
        }
    }

    pub(crate) fn sign(&self, algorithm: Algorithm, message: &str) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let padding: &'static dyn signature::RsaEncoding = match algorithm {
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message.as_bytes(), &mut signature).expect("signs");
                signature
            }
            Self::P256(pair) | Self::P384(pair) => {
                pair.sign(&random, message.as_bytes()).expect("signs").as_ref().to_vec()
            }
            Self::Ed25519(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        }
    }

    /// A token of this header and these claims.
    pub(crate) fn token(&self, algorithm: Algorithm, header: &Value, claims: &Value) -> String {
        self.token_of_text(algorithm, &header.to_string(), &claims.to_string())
    }

    pub(crate) fn token_of_text(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let signature = self.sign(algorithm, &signed);
        format!("{signed}.{}", encoded(signature))
    }

    /// The public key in DER, which a confused verifier would take for an HMAC's secret.
    pub(crate) fn public_der(&self) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => {
                let key = pair.public_key();
                AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(key)
                    .expect("der")
                    .as_ref()
                    .to_vec()
            }
            Self::P256(pair) | Self::P384(pair) => pair.public_key().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        }
    }
}

fn on_curve(curve: &str, pair: &EcdsaKeyPair) -> Value {
    let point = pair.public_key().as_ref().get(1..).expect("an uncompressed point");
    let (x, y) = point.split_at(point.len() / 2);
    json!({"kty": "EC", "crv": curve, "x": encoded(x), "y": encoded(y)})
}

pub(crate) fn header(algorithm: Algorithm, id: &str) -> Value {
    json!({"alg": algorithm.name(), "kid": id, "typ": "JWT"})
}

pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "repo:shop/reports", "jti": "one",
        "iat": at(0).unix_timestamp(), "nbf": at(0).unix_timestamp(),
        "exp": at(600).unix_timestamp(),
    })
}

pub(crate) fn key_set(keys: &[Value]) -> KeySet {
    KeySet::read(json!({"keys": keys}).to_string().as_bytes()).expect("keys")
}

/// How a server answers.
#[derive(Clone)]
pub(crate) enum Answer {
    Json(Value),
    /// Sent as they are.
    Raw(Vec<u8>),
    /// The head, then nothing.
    Hang,
    /// A head, then bytes until nobody takes them.
    Endless,
}

/// An issuer's HTTP server on loopback. Its tasks end with the test's runtime.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) requests: Arc<AtomicUsize>,
}

impl Server {
    /// `answer` gets the path, the number of the request from 0, and the server's own address.
    pub(crate) async fn start<F>(answer: F) -> Self
    where
        F: Fn(&str, usize, &str) -> Answer + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(AtomicUsize::new(0));
        let (answer, counted, base) = (Arc::new(answer), requests.clone(), url.clone());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (answer, counted, base) = (answer.clone(), counted.clone(), base.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    let mut byte = [0_u8; 1];
                    while !head.ends_with(b"\r\n\r\n") {
                        match socket.read(&mut byte).await {
                            Ok(1) => head.push(byte[0]),
                            _ => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let number = counted.fetch_add(1, Ordering::SeqCst);
                    let ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                              Connection: close\r\n";
                    match answer(&path, number, &base) {
                        Answer::Json(value) => {
                            let body = value.to_string();
                            let length = body.len();
                            let text = format!("{ok}Content-Length: {length}\r\n\r\n{body}");
                            let _ = socket.write_all(text.as_bytes()).await;
                        }
                        Answer::Raw(bytes) => {
                            let _ = socket.write_all(&bytes).await;
                        }
                        Answer::Hang => {
                            let _ = socket.write_all(format!("{ok}\r\n").as_bytes()).await;
                            std::future::pending::<()>().await;
                        }
                        Answer::Endless => {
                            let _ = socket.write_all(format!("{ok}\r\n").as_bytes()).await;
                            while socket.write_all(&[b' '; 16 * 1024]).await.is_ok() {}
                        }
                    }
                });
            }
        });
        Self { url, requests }
    }

    /// One that publishes these keys, as an issuer of OpenID Connect does.
    pub(crate) async fn issuer(keys: Vec<Value>) -> Self {
        Self::start(move |path, _, base| match path {
            "/.well-known/openid-configuration" => {
                Answer::Json(json!({"issuer": base, "jwks_uri": format!("{base}/keys")}))
            }
            _ => Answer::Json(json!({"keys": keys})),
        })
        .await
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}
