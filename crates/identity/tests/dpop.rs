//! Proofs of possession: taken once, for one request and one token.

mod support;

use corral_identity::dpop::{self, BoundToken, Nonces, ProofError, ProofMemory, ProvenRequest};
use corral_identity::jwt::{Algorithm, JwtError};
use corral_model::limits;
use serde_json::{Value, json};

use support::{Signer, at, encoded};

const URL: &str = "https://gate.example.com/oauth2/token";

fn proof(signer: &Signer, change: impl FnOnce(&mut Value)) -> String {
    let head = json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": signer.bare_jwk()});
    let mut claims =
        json!({"jti": "one", "htm": "POST", "htu": URL, "iat": at(0).unix_timestamp()});
    change(&mut claims);
    signer.token(Algorithm::Es256, &head, &claims)
}

fn take(
    memory: &ProofMemory,
    proof: &str,
    bound: Option<BoundToken<'_>>,
) -> Result<String, ProofError> {
    let urls = [URL.to_owned(), "https://127.0.0.1:443/oauth2/token".to_owned()];
    let request = ProvenRequest { method: "POST", urls: &urls, bound, nonces: None };
    memory.take(proof, request, at(10))
}

#[test]
fn a_proof_is_taken_once() {
    let (memory, signer) = (ProofMemory::default(), Signer::of(Algorithm::Es256));
    let first = proof(&signer, |_| {});
    let key = take(&memory, &first, None).expect("is taken");
    assert_eq!(key.len(), 43);
    assert_eq!(take(&memory, &first, None), Err(ProofError::Replayed));
    let second = proof(&signer, |claims| claims["jti"] = json!("two"));
    assert_eq!(take(&memory, &second, None), Ok(key));
    // Another key may use the same id.
    let other = Signer::of(Algorithm::Es256);
    assert!(take(&memory, &proof(&other, |_| {}), None).is_ok());
}

#[test]
fn a_proof_is_for_one_request() {
    let signer = Signer::of(Algorithm::Es256);
    let check = |change: fn(&mut Value), expect: Result<(), ProofError>| {
        let memory = ProofMemory::default();
        let taken = take(&memory, &proof(&signer, change), None).map(|_| ());
        assert_eq!(taken, expect);
    };
    check(|claims| claims["htm"] = json!("GET"), Err(ProofError::Method));
    check(|claims| claims["htm"] = json!("post"), Err(ProofError::Method));
    check(
        |claims| claims["htu"] = json!("https://evil.example/oauth2/token"),
        Err(ProofError::Address),
    );
    check(
        |claims| claims["htu"] = json!("https://gate.example.com/oauth2"),
        Err(ProofError::Address),
    );
    check(|claims| claims["htu"] = json!("not a URL"), Err(ProofError::Address));
    check(|claims| claims["htu"] = json!(format!("{URL}?x=1#y")), Ok(()));
    check(|claims| claims["htu"] = json!("https://GATE.example.com:443/oauth2/token"), Ok(()));
    let late = Err(ProofError::Token(JwtError::TooOld));
    check(|claims| claims["iat"] = json!(at(-81).unix_timestamp()), late);
    let early = Err(ProofError::Token(JwtError::IssuedLater));
    check(|claims| claims["iat"] = json!(at(41).unix_timestamp()), early);
    let missing = Err(ProofError::Token(JwtError::Missing("jti")));
    check(|claims| drop(claims.as_object_mut().expect("an object").remove("jti")), missing);
    let long = |claims: &mut Value| claims["jti"] = json!("x".repeat(limits::NAME_BYTES_MAX + 1));
    check(long, Err(ProofError::LongId));
}

#[test]
fn a_proof_is_for_one_token() {
    let signer = Signer::of(Algorithm::Es256);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"token");
    let with = |claims: &mut Value| claims["ath"] = json!(encoded(digest));
    let bound = proof(&signer, with);
    let key = take(&ProofMemory::default(), &bound, None).expect("is taken");
    let shown = |token| Some(BoundToken { token, key: &key });
    assert!(take(&ProofMemory::default(), &bound, shown("token")).is_ok());
    let memory = ProofMemory::default();
    assert_eq!(take(&memory, &bound, shown("other")), Err(ProofError::OtherToken));
    let unbound = proof(&signer, |_| {});
    assert_eq!(take(&memory, &unbound, shown("token")), Err(ProofError::OtherToken));
    // Another key than the token's; its proof is not remembered, so that it fills nothing.
    let thief = proof(&Signer::of(Algorithm::Es256), with);
    for _ in 0..2 {
        assert_eq!(take(&memory, &thief, shown("token")), Err(ProofError::OtherKey));
    }
    assert!(take(&memory, &thief, None).is_ok());
}

#[test]
fn where_nonces_are_given_out_a_proof_has_a_young_one() {
    let signer = Signer::of(Algorithm::Es256);
    let nonces = Nonces::new(&[7; 32]);
    let urls = [URL.to_owned()];
    let check = |nonce: Option<Value>, expect: Result<(), ProofError>| {
        let request =
            ProvenRequest { method: "POST", urls: &urls, bound: None, nonces: Some(&nonces) };
        let proof = proof(&signer, |claims| {
            if let Some(nonce) = &nonce {
                claims["nonce"] = nonce.clone();
            }
        });
        let checked = dpop::check(&proof, request, at(10)).map(|_| ());
        assert_eq!(checked, expect, "{nonce:?}");
    };
    let hour = 3600 * std::time::Duration::from_secs(1);
    check(Some(json!(nonces.current(at(10)))), Ok(()));
    check(Some(json!(nonces.current(at(10) - hour))), Err(ProofError::Nonce));
    check(Some(json!(Nonces::new(&[8; 32]).current(at(10)))), Err(ProofError::Nonce));
    check(Some(json!("nonsense")), Err(ProofError::Nonce));
    check(Some(json!(7)), Err(ProofError::Nonce));
    check(None, Err(ProofError::Nonce));
}
