//! Issuers' keys: found, kept, asked for again, and what a bad issuer costs.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use corral_identity::FetchError;
use corral_identity::jwks::{JwksError, KeySource, KeySourceOptions, VerifyError};
use corral_identity::jwt::{Algorithm, JwtError, Rules};
use corral_model::limits;
use serde_json::json;
use time::OffsetDateTime;

use support::{AUDIENCE, Answer, Server, Signer, at, claims, header};

const ALG: Algorithm = Algorithm::Es256;

fn source(issuer: &str) -> KeySource {
    let issuer = issuer.to_owned();
    KeySource::new(&KeySourceOptions { issuer, jwks_uri: None, ca_pem: None }).expect("a source")
}

fn token(signer: &Signer, issuer: &str, key: &str) -> String {
    let mut claims = claims();
    claims["iss"] = json!(issuer);
    signer.token(ALG, &header(ALG, key), &claims)
}

async fn verify(source: &KeySource, token: &str, now: OffsetDateTime) -> Result<(), VerifyError> {
    let issuer = source.issuer().to_owned();
    let mut rules = Rules::new(&issuer, AUDIENCE);
    // The clock is moved over hours here; the claims' times are checked elsewhere.
    rules.age_max = None;
    source.verify(token, &rules, now).await.map(|_| ())
}

#[tokio::test]
async fn keys_are_found_by_discovery_and_kept() {
    let signer = Signer::of(ALG);
    let server = Server::issuer(vec![signer.jwk("k")]).await;
    let source = source(&server.url);
    let token = token(&signer, &server.url, "k");
    for _ in 0..5 {
        verify(&source, &token, at(1)).await.expect("verifies");
    }
    assert_eq!(server.requests(), 2);
    let discovery = source.discovery(at(1)).await.expect("is known");
    assert_eq!(discovery.jwks_uri.as_str(), format!("{}/keys", server.url));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn an_address_of_keys_needs_no_discovery() {
    let signer = Signer::of(ALG);
    let server = Server::issuer(vec![signer.jwk("k")]).await;
    let options = KeySourceOptions {
        issuer: "https://cluster.example.com".to_owned(),
        jwks_uri: Some(format!("{}/openid/v1/jwks", server.url)),
        ca_pem: None,
    };
    let source = KeySource::new(&options).expect("a source");
    let token = token(&signer, "https://cluster.example.com", "k");
    verify(&source, &token, at(1)).await.expect("verifies");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn another_issuers_document_is_refused() {
    let signer = Signer::of(ALG);
    let jwk = signer.jwk("k");
    let server = Server::start(move |path, _, base| match path {
        "/.well-known/openid-configuration" => {
            Answer::Json(json!({"issuer": format!("{base}/"), "jwks_uri": format!("{base}/keys")}))
        }
        _ => Answer::Json(json!({"keys": [jwk]})),
    })
    .await;
    let error = verify(&source(&server.url), &token(&signer, &server.url, "k"), at(1)).await;
    assert!(matches!(error, Err(VerifyError::Keys(JwksError::OtherIssuer { .. }))), "{error:?}");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn keys_behind_plain_http_elsewhere_are_not_asked_for() {
    let server = Server::start(|_, _, base| {
        Answer::Json(json!({"issuer": base, "jwks_uri": "http://192.0.2.1/keys"}))
    })
    .await;
    let token = token(&Signer::of(ALG), &server.url, "k");
    let error = verify(&source(&server.url), &token, at(1)).await;
    assert!(matches!(error, Err(VerifyError::Keys(JwksError::BadEndpoint { .. }))), "{error:?}");
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_once_in_an_interval_by_all_together() {
    let signer = Signer::of(ALG);
    let server = Server::issuer(vec![signer.jwk("k")]).await;
    let source = Arc::new(source(&server.url));
    let good = token(&signer, &server.url, "k");
    verify(&source, &good, at(0)).await.expect("verifies");
    let later = at(0) + limits::JWKS_INTERVAL;
    let unknown = token(&signer, &server.url, "forged");
    let all: Vec<_> = (0..50).map(|_| verify(&source, &unknown, later)).collect();
    for result in futures_util::future::join_all(all).await {
        assert!(matches!(result, Err(VerifyError::Token(JwtError::UnknownKey))), "{result:?}");
    }
    assert_eq!(server.requests(), 4);
    for second in 0..9 {
        let now = later + Duration::from_secs(second);
        assert!(verify(&source, &unknown, now).await.is_err());
        verify(&source, &good, now).await.expect("known keys go on");
    }
    assert_eq!(server.requests(), 4);
    assert!(verify(&source, &unknown, later + limits::JWKS_INTERVAL).await.is_err());
    assert_eq!(server.requests(), 6);
}

#[tokio::test]
async fn a_rotated_key_is_found_and_the_old_one_forgotten() {
    let (old, new) = (Signer::of(ALG), Signer::of(ALG));
    let (old_jwk, new_jwk) = (old.jwk("old"), new.jwk("new"));
    let server = Server::start(move |path, number, base| match path {
        "/.well-known/openid-configuration" => {
            Answer::Json(json!({"issuer": base, "jwks_uri": format!("{base}/keys")}))
        }
        _ if number < 2 => Answer::Json(json!({"keys": [old_jwk]})),
        _ => Answer::Json(json!({"keys": [new_jwk]})),
    })
    .await;
    let source = source(&server.url);
    let (old, new) = (token(&old, &server.url, "old"), token(&new, &server.url, "new"));
    verify(&source, &old, at(0)).await.expect("verifies");
    verify(&source, &new, at(11)).await.expect("is found");
    let error = verify(&source, &old, at(12)).await;
    assert!(matches!(error, Err(VerifyError::Token(JwtError::UnknownKey))), "{error:?}");
}

#[tokio::test]
async fn keys_that_change_with_every_answer_cost_one_fetch_in_an_interval() {
    let server = Server::start(|path, number, base| match path {
        "/.well-known/openid-configuration" => {
            Answer::Json(json!({"issuer": base, "jwks_uri": format!("{base}/keys")}))
        }
        _ => Answer::Json(json!({"keys": [Signer::of(ALG).jwk(&format!("k{number}"))]})),
    })
    .await;
    let source = source(&server.url);
    let token = token(&Signer::of(ALG), &server.url, "k");
    for _ in 0..100 {
        assert!(verify(&source, &token, at(0)).await.is_err());
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn an_issuer_that_fails_is_refused_named_and_not_hammered() {
    let raw = |text: &str| Answer::Raw(text.as_bytes().to_vec());
    let redirect = "HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\n\
                    Content-Length: 0\r\nConnection: close\r\n\r\n";
    let broken = "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let cases: Vec<(&str, Answer)> = vec![
        ("answered 500", raw(broken)),
        ("answered 302", raw(redirect)),
        ("larger than", Answer::Endless),
        ("cannot be reached", raw("this is no HTTP\r\n\r\n")),
        ("cannot be read", raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")),
        ("'jwks_uri' is missing", Answer::Json(json!({"issuer": "SELF"}))),
    ];
    for (expect, answer) in cases {
        let server = Server::start(move |_, _, base| match &answer {
            Answer::Json(_) => Answer::Json(json!({"issuer": base})),
            other => other.clone(),
        })
        .await;
        let source = source(&server.url);
        let token = token(&Signer::of(ALG), &server.url, "k");
        let began = Instant::now();
        for _ in 0..10 {
            let error = verify(&source, &token, at(0)).await.expect_err(expect).to_string();
            assert!(error.contains(expect), "{expect}: {error}");
            assert!(!error.contains(&token), "{error}");
        }
        assert_eq!(server.requests(), 1, "{expect}");
        assert!(began.elapsed() < limits::JWKS_DEADLINE, "{expect}");
    }
}

#[tokio::test]
async fn an_issuer_that_hangs_holds_nobody_who_knows_its_keys() {
    let signer = Signer::of(ALG);
    let jwk = signer.jwk("k");
    let server = Server::start(move |path, number, base| match path {
        _ if number >= 2 => Answer::Hang,
        "/.well-known/openid-configuration" => {
            Answer::Json(json!({"issuer": base, "jwks_uri": format!("{base}/keys")}))
        }
        _ => Answer::Json(json!({"keys": [jwk]})),
    })
    .await;
    let source = Arc::new(source(&server.url));
    let mut long = claims();
    long["iss"] = json!(server.url);
    long["exp"] = json!(at(100_000).unix_timestamp());
    let good = signer.token(ALG, &header(ALG, "k"), &long);
    verify(&source, &good, at(0)).await.expect("verifies");
    let unknown = token(&signer, &server.url, "forged");
    let later = at(20);
    // One waits for the deadline; whoever knows the key does not.
    let waiting = verify(&source, &unknown, later);
    let others = async {
        let began = Instant::now();
        for _ in 0..100 {
            verify(&source, &good, later).await.expect("verifies");
        }
        assert!(began.elapsed() < Duration::from_secs(1));
    };
    let began = Instant::now();
    let (refused, ()) = tokio::join!(waiting, others);
    assert!(
        matches!(refused, Err(VerifyError::Keys(JwksError::Fetch(FetchError::TooSlow { .. })))),
        "{refused:?}"
    );
    assert!(began.elapsed() < limits::JWKS_DEADLINE + Duration::from_secs(2));
    // Old keys are used while they may be, and no longer.
    let aged = at(0) + limits::JWKS_FRESH + Duration::from_secs(1);
    verify(&source, &good, aged).await.expect("still verifies");
    let stale = at(0) + limits::JWKS_AGE_MAX;
    assert!(matches!(verify(&source, &good, stale).await, Err(VerifyError::Keys(_))));
}

#[tokio::test]
async fn a_fetch_goes_on_when_whoever_began_it_leaves() {
    let signer = Signer::of(ALG);
    let server = Server::issuer(vec![signer.jwk("k")]).await;
    let source = source(&server.url);
    let token = token(&signer, &server.url, "k");
    // Polled once: the fetch has begun, and its first waiter is gone.
    let mut first = Box::pin(verify(&source, &token, at(0)));
    assert!(futures_util::FutureExt::now_or_never(&mut first).is_none());
    drop(first);
    verify(&source, &token, at(0)).await.expect("the next one hears the answer");
    assert_eq!(server.requests(), 2);
}

#[test]
fn a_wrong_configuration_is_named() {
    let check = |issuer: &str, jwks_uri: Option<&str>, ca_pem: Option<&str>| {
        let own = |text: Option<&str>| text.map(str::to_owned);
        KeySource::new(&KeySourceOptions {
            issuer: issuer.to_owned(),
            jwks_uri: own(jwks_uri),
            ca_pem: own(ca_pem),
        })
        .expect_err("is refused")
    };
    assert!(matches!(
        check("http://idp.example.com", None, None),
        JwksError::Fetch(FetchError::BadUrl(_))
    ));
    let keys = Some("http://idp.example.com/keys");
    assert!(matches!(
        check("https://idp.example.com", keys, None),
        JwksError::Fetch(FetchError::BadUrl(_))
    ));
    let refused = check("https://idp.example.com", None, Some("no certificate"));
    assert!(matches!(refused, JwksError::Fetch(FetchError::BadCertificates)));
}
