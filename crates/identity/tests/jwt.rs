//! Tokens that are taken, and every way in which one is not.

mod support;

use std::time::Duration;

use corral_identity::jwt::{
    Algorithm, Claims, Expiry, JwtError, KeySet, Rules, SeveralAudiences, Unverified,
};
use corral_model::limits;
use serde_json::{Value, json};

use support::{AUDIENCE, ISSUER, Signer, at, claims, encoded, header, key_set};

fn verify(token: &str, keys: &KeySet, rules: &Rules<'_>) -> Result<Claims, JwtError> {
    Unverified::parse(token)?.verify(keys, rules, at(60))
}

fn rules() -> Rules<'static> {
    Rules::new(ISSUER, AUDIENCE)
}

#[test]
fn every_algorithm_verifies_with_its_own_key_and_no_other() {
    let signers: Vec<(Algorithm, Signer)> =
        [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa]
            .into_iter()
            .map(|algorithm| (algorithm, Signer::of(algorithm)))
            .collect();
    let same_key = |algorithm: Algorithm| match algorithm {
        Algorithm::Es256 => 1,
        Algorithm::Es384 => 2,
        Algorithm::EdDsa => 3,
        _ => 0,
    };
    for algorithm in Algorithm::ALL {
        let (_, signer) = &signers[same_key(algorithm)];
        let token = signer.token(algorithm, &header(algorithm, "k"), &claims());
        let keys = key_set(&[signer.jwk("k")]);
        let verified = verify(&token, &keys, &rules()).expect("verifies");
        assert_eq!(verified.subject(), Some("repo:shop/reports"));
        // The same key under a stranger's name, and a stranger's key under the same name.
        let others = key_set(&[signer.jwk("other")]);
        assert_eq!(verify(&token, &others, &rules()).unwrap_err(), JwtError::UnknownKey);
        let stranger = Signer::of(algorithm);
        let theirs = key_set(&[stranger.jwk("k")]);
        assert_eq!(verify(&token, &theirs, &rules()).unwrap_err(), JwtError::Signature);
        for (of_other, other) in &signers {
            if same_key(*of_other) != same_key(algorithm) {
                let keys = key_set(&[other.jwk("k")]);
                assert_eq!(verify(&token, &keys, &rules()).unwrap_err(), JwtError::KeyMismatch);
            }
        }
    }
}

#[test]
fn no_signature_and_no_shared_secret_is_ever_taken() {
    let signer = Signer::of(Algorithm::Rs256);
    let keys = key_set(&[signer.jwk("k")]);
    let payload = encoded(claims().to_string());
    for algorithm in ["none", "None", "nOnE", "", "HS256", "HS384", "HS512", "RS1"] {
        let head = encoded(json!({"alg": algorithm, "kid": "k"}).to_string());
        for signature in [String::new(), "AAAA".to_owned()] {
            let token = format!("{head}.{payload}.{signature}");
            assert_eq!(verify(&token, &keys, &rules()).unwrap_err(), JwtError::Algorithm);
        }
    }
    // The public key as the secret of an HMAC: the classic confusion.
    let head = encoded(json!({"alg": "HS256", "kid": "k"}).to_string());
    let signed = format!("{head}.{payload}");
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &signer.public_der());
    let token = format!("{signed}.{}", encoded(aws_lc_rs::hmac::sign(&secret, signed.as_bytes())));
    assert_eq!(verify(&token, &keys, &rules()).unwrap_err(), JwtError::Algorithm);
    // A published secret is no key either.
    let secret = json!({"keys": [{"kty": "oct", "kid": "k", "k": "c2VjcmV0"}]});
    assert!(KeySet::read(secret.to_string().as_bytes()).is_err());
    // An RSA token under a rule that takes elliptic curves only.
    let token = signer.token(Algorithm::Rs256, &header(Algorithm::Rs256, "k"), &claims());
    let narrow = Rules { algorithms: &[Algorithm::Es256], ..rules() };
    assert_eq!(verify(&token, &keys, &narrow).unwrap_err(), JwtError::Algorithm);
}

#[test]
fn a_changed_truncated_or_mixed_token_is_refused() {
    let signer = Signer::of(Algorithm::Es256);
    let keys = key_set(&[signer.jwk("k")]);
    let token = signer.token(Algorithm::Es256, &header(Algorithm::Es256, "k"), &claims());
    assert!(verify(&token, &keys, &rules()).is_ok());
    for length in 0..token.len() {
        assert!(verify(&token[..length], &keys, &rules()).is_err(), "{length}");
    }
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ascii");
        assert!(verify(&changed, &keys, &rules()).is_err(), "{at}");
    }
    let mut richer = claims();
    richer["sub"] = json!("repo:shop/admin");
    let (head, rest) = token.split_once('.').expect("parts");
    let (_, signature) = rest.split_once('.').expect("parts");
    let mixed = format!("{head}.{}.{signature}", encoded(richer.to_string()));
    assert_eq!(verify(&mixed, &keys, &rules()).unwrap_err(), JwtError::Signature);
    for text in
        ["", ".", "..", "...", "a.b", "a.b.c.d.e", &format!("{token}."), &format!("{token}=")]
    {
        assert!(verify(text, &keys, &rules()).is_err(), "{text}");
    }
}

#[test]
fn size_is_looked_at_before_anything_else() {
    let huge = "A".repeat(limits::JWT_BYTES_MAX + 1);
    assert_eq!(Unverified::parse(&huge).unwrap_err(), JwtError::TooLarge);
    let signer = Signer::of(Algorithm::EdDsa);
    let mut many = claims();
    many["groups"] = (0..10_000).map(|n| Value::from(format!("group-{n}"))).collect();
    let token = signer.token(Algorithm::EdDsa, &header(Algorithm::EdDsa, "k"), &many);
    assert_eq!(Unverified::parse(&token).unwrap_err(), JwtError::TooLarge);
}

#[test]
fn a_key_that_stands_twice_or_a_critical_extension_is_refused() {
    let signer = Signer::of(Algorithm::EdDsa);
    let keys = key_set(&[signer.jwk("k")]);
    let head = r#"{"alg":"EdDSA","kid":"k"}"#;
    let twice = format!(r#"{{"iss":"x",{}"#, &claims().to_string()[1..]);
    let token = signer.token_of_text(Algorithm::EdDsa, head, &twice);
    assert_eq!(verify(&token, &keys, &rules()).unwrap_err(), JwtError::NotJson("claims"));
    let check = |head: &str, expect: JwtError| {
        let token = signer.token_of_text(Algorithm::EdDsa, head, &claims().to_string());
        assert_eq!(verify(&token, &keys, &rules()).unwrap_err(), expect, "{head}");
    };
    check(r#"{"alg":"none","alg":"EdDSA","kid":"k"}"#, JwtError::NotJson("header"));
    check(r#"{"alg":"EdDSA","kid":"k","crit":["exp"],"exp":1}"#, JwtError::Critical);
    check(r#"{"alg":"EdDSA","kid":"k","b64":false}"#, JwtError::Critical);
    check(r#"{"alg":["EdDSA"],"kid":"k"}"#, JwtError::BadMember("alg"));
    check(r#"{"alg":"EdDSA","kid":7}"#, JwtError::BadMember("kid"));
    check(r#"{"kid":"k"}"#, JwtError::Missing("alg"));
    check(r#"["alg"]"#, JwtError::NotJson("header"));
    // A key, or an address of one, that the token brings itself changes nothing.
    let thief = Signer::of(Algorithm::EdDsa);
    let head = json!({"alg": "EdDSA", "jwk": thief.bare_jwk(), "jku": "https://evil.example"});
    let token = thief.token(Algorithm::EdDsa, &head, &claims());
    assert_eq!(verify(&token, &keys, &rules()).unwrap_err(), JwtError::Signature);
}

#[test]
fn each_claim_is_checked() {
    let signer = Signer::of(Algorithm::EdDsa);
    let keys = key_set(&[signer.jwk("k")]);
    let with = |rules: &Rules<'_>, name: &str, value: Value| {
        let mut claims = claims();
        match value {
            Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
            value => claims[name] = value,
        }
        let token = signer.token(Algorithm::EdDsa, &header(Algorithm::EdDsa, "k"), &claims);
        verify(&token, &keys, rules).map(|_| ())
    };
    let check = |name: &str, value: Value, expect: Result<(), JwtError>| {
        assert_eq!(with(&rules(), name, value.clone()), expect, "{name} {value}");
    };
    let seconds = |offset: i64| json!(at(offset).unix_timestamp());
    check("iss", json!("https://ci.example.com/"), Err(JwtError::Issuer));
    check("iss", json!([ISSUER]), Err(JwtError::Issuer));
    check("iss", Value::Null, Err(JwtError::Issuer));
    check("aud", json!("other"), Err(JwtError::Audience));
    check("aud", json!([]), Err(JwtError::Audience));
    check("aud", json!([AUDIENCE]), Ok(()));
    check("aud", json!([AUDIENCE, "other"]), Err(JwtError::SeveralAudiences));
    check("aud", json!([AUDIENCE, 7]), Err(JwtError::BadMember("aud")));
    check("aud", json!({"corral": 1}), Err(JwtError::BadMember("aud")));
    check("aud", Value::Null, Err(JwtError::Missing("aud")));
    check("exp", seconds(29), Err(JwtError::Expired));
    check("exp", seconds(30), Err(JwtError::Expired));
    check("exp", seconds(31), Ok(()));
    check("exp", json!(at(600).unix_timestamp() as f64 + 0.5), Ok(()));
    check("exp", json!("2099-01-01"), Err(JwtError::BadMember("exp")));
    check("exp", json!(-1), Err(JwtError::Expired));
    check("exp", json!(1e300), Err(JwtError::BadMember("exp")));
    check("exp", json!(i64::MAX), Err(JwtError::BadMember("exp")));
    check("exp", Value::Null, Err(JwtError::Missing("exp")));
    check("nbf", seconds(91), Err(JwtError::NotYet));
    check("nbf", seconds(90), Ok(()));
    check("nbf", json!(true), Err(JwtError::BadMember("nbf")));
    check("iat", seconds(91), Err(JwtError::IssuedLater));
    check("iat", Value::Null, Ok(()));
    check("jti", json!(7), Err(JwtError::BadMember("jti")));
    check("sub", json!({}), Err(JwtError::BadMember("sub")));

    let asked = Rules { nonce: Some("n"), ..rules() };
    assert_eq!(with(&asked, "nonce", json!("n")), Ok(()));
    assert_eq!(with(&asked, "nonce", json!("m")), Err(JwtError::Nonce));
    assert_eq!(with(&asked, "nonce", Value::Null), Err(JwtError::Nonce));
    let young = Rules { age_max: Some(Duration::from_secs(10)), ..rules() };
    assert_eq!(with(&young, "iat", seconds(20)), Ok(()));
    assert_eq!(with(&young, "iat", seconds(19)), Err(JwtError::TooOld));
    assert_eq!(with(&young, "iat", Value::Null), Err(JwtError::Missing("iat")));
    let endless = Rules { expiry: Expiry::Optional, ..rules() };
    assert_eq!(with(&endless, "exp", Value::Null), Ok(()));
    assert_eq!(with(&endless, "exp", seconds(0)), Err(JwtError::Expired));
    let named = Rules { required: &["jti", "sid"], ..rules() };
    assert_eq!(with(&named, "sid", json!("s")), Ok(()));
    assert_eq!(with(&named, "sid", Value::Null), Err(JwtError::Missing("sid")));
}

#[test]
fn several_audiences_need_the_authorized_party() {
    let signer = Signer::of(Algorithm::EdDsa);
    let keys = key_set(&[signer.jwk("k")]);
    let check =
        |several: SeveralAudiences<'_>, aud: Value, azp: Value, expect: Result<(), JwtError>| {
            let mut claims = claims();
            claims["aud"] = aud;
            if !azp.is_null() {
                claims["azp"] = azp;
            }
            let token = signer.token(Algorithm::EdDsa, &header(Algorithm::EdDsa, "k"), &claims);
            let rules = Rules { several, ..rules() };
            assert_eq!(verify(&token, &keys, &rules).map(|_| ()), expect);
        };
    let party = SeveralAudiences::IssuedTo(AUDIENCE);
    check(party, json!(AUDIENCE), Value::Null, Ok(()));
    check(party, json!(AUDIENCE), json!(AUDIENCE), Ok(()));
    check(party, json!(AUDIENCE), json!("other"), Err(JwtError::Party));
    check(party, json!([AUDIENCE, "other"]), Value::Null, Err(JwtError::Party));
    check(party, json!([AUDIENCE, "other"]), json!("other"), Err(JwtError::Party));
    check(party, json!([AUDIENCE, "other"]), json!(AUDIENCE), Ok(()));
    check(SeveralAudiences::Allow, json!([AUDIENCE, "other"]), Value::Null, Ok(()));
}

#[test]
fn the_type_is_compared_where_a_profile_has_one() {
    let signer = Signer::of(Algorithm::EdDsa);
    let keys = key_set(&[signer.jwk("k")]);
    let check = |typ: Value, is_taken: bool| {
        let head = json!({"alg": "EdDSA", "kid": "k", "typ": typ});
        let token = signer.token(Algorithm::EdDsa, &head, &claims());
        let rules = Rules { types: &["at+jwt"], ..rules() };
        assert_eq!(verify(&token, &keys, &rules).is_ok(), is_taken, "{typ}");
    };
    check(json!("at+jwt"), true);
    check(json!("application/at+jwt"), true);
    check(json!("AT+JWT"), true);
    check(json!("JWT"), false);
    check(json!("dpop+jwt"), false);
    check(json!(["at+jwt"]), false);
    let head = json!({"alg": "EdDSA", "kid": "k"});
    let token = signer.token(Algorithm::EdDsa, &head, &claims());
    let rules = Rules { types: &["at+jwt"], ..rules() };
    assert_eq!(verify(&token, &keys, &rules).unwrap_err(), JwtError::Type);
}

#[test]
fn a_token_without_a_key_id_needs_exactly_one_key_that_fits() {
    let (signer, other) = (Signer::of(Algorithm::Es256), Signer::of(Algorithm::Es256));
    let rsa = Signer::of(Algorithm::Rs256);
    let token = signer.token(Algorithm::Es256, &json!({"alg": "ES256"}), &claims());
    assert!(verify(&token, &key_set(&[signer.jwk("a"), rsa.jwk("b")]), &rules()).is_ok());
    let two = key_set(&[signer.jwk("a"), other.jwk("b")]);
    assert_eq!(verify(&token, &two, &rules()).unwrap_err(), JwtError::AmbiguousKey);
    let none = key_set(&[rsa.jwk("b")]);
    assert_eq!(verify(&token, &none, &rules()).unwrap_err(), JwtError::UnknownKey);
}

#[test]
fn keys_that_verify_nothing_here_are_left_out() {
    let signer = Signer::of(Algorithm::Es256);
    let change = |name: &str, value: Value| {
        let mut jwk = signer.jwk("k");
        jwk[name] = value;
        let document = json!({"keys": [jwk]}).to_string();
        KeySet::read(document.as_bytes()).is_ok()
    };
    assert!(change("alg", json!("ES256")));
    assert!(change("x5c", json!(["ignored"])));
    assert!(!change("alg", json!("RS256")));
    assert!(!change("alg", json!("HS256")));
    assert!(!change("use", json!("enc")));
    assert!(!change("key_ops", json!(["sign"])));
    assert!(!change("crv", json!("secp256k1")));
    assert!(!change("crv", json!("P-384")));
    assert!(!change("x", json!("AAAA")));
    assert!(!change("y", json!("!")));
    // Its issuer gave the secret away.
    assert!(!change("d", json!("AAAA")));
    let weak = json!({"keys": [{"kty": "RSA", "n": encoded([0xff_u8; 128]), "e": "AQAB"}]});
    assert!(KeySet::read(weak.to_string().as_bytes()).is_err());
    let padded = [vec![0_u8; 129], vec![0xff_u8; 127]].concat();
    let padded = json!({"keys": [{"kty": "RSA", "n": encoded(padded), "e": "AQAB"}]});
    assert!(KeySet::read(padded.to_string().as_bytes()).is_err());
    for text in ["", "{}", "[]", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[7]}"#] {
        assert!(KeySet::read(text.as_bytes()).is_err(), "{text}");
    }
    let many: Vec<Value> =
        (0..=limits::JWKS_KEYS_MAX).map(|n| signer.jwk(&n.to_string())).collect();
    assert!(KeySet::read(json!({"keys": many}).to_string().as_bytes()).is_err());
}

#[test]
fn a_proof_is_verified_with_its_own_key_whose_thumbprint_is_that_of_rfc_7638() {
    let signer = Signer::of(Algorithm::Es256);
    let head = json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": signer.bare_jwk()});
    let body = json!({"jti": "1", "htm": "POST", "iat": at(0).unix_timestamp()});
    let rules = Rules {
        types: &["dpop+jwt"],
        expiry: Expiry::Optional,
        age_max: Some(Duration::from_secs(60)),
        required: &["jti", "htm"],
        ..Rules::proof()
    };
    let token = signer.token(Algorithm::Es256, &head, &body);
    let parsed = Unverified::parse(&token).expect("parses");
    let (claims, key) = parsed.verify_possession(&rules, at(10)).expect("verifies");
    assert_eq!(claims.text("htm"), Some("POST"));
    assert_eq!(key.thumbprint().len(), 43);
    // Another key's name on it.
    let thief = Signer::of(Algorithm::Es256);
    let token = thief.token(Algorithm::Es256, &head, &body);
    let parsed = Unverified::parse(&token).expect("parses");
    assert_eq!(parsed.verify_possession(&rules, at(10)).unwrap_err(), JwtError::Signature);
    // A secret key, or none.
    let mut secret = signer.bare_jwk();
    secret["d"] = json!("AAAA");
    for jwk in [secret, json!({"kty": "oct", "k": "AAAA"}), json!(null)] {
        let head = json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": jwk});
        let token = signer.token(Algorithm::Es256, &head, &body);
        let parsed = Unverified::parse(&token).expect("parses");
        assert!(parsed.verify_possession(&rules, at(10)).is_err());
    }
    // RFC 7638 section 3.1.
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tS\
             oc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65\
             YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyr\
             dkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK\
             nqDKgw";
    let rsa = json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"});
    let keys = KeySet::read(json!({"keys": [rsa]}).to_string().as_bytes()).expect("a key");
    assert!(format!("{keys:?}").contains("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
}

#[test]
fn nothing_shows_a_token_or_its_values() {
    let signer = Signer::of(Algorithm::EdDsa);
    let mut secret = claims();
    secret["groups"] = json!(["hunter2"]);
    let token = signer.token(Algorithm::EdDsa, &header(Algorithm::EdDsa, "k"), &secret);
    let parsed = Unverified::parse(&token).expect("parses");
    let signature = token.rsplit('.').next().expect("a part");
    let shown = format!("{parsed:?} {:?}", parsed.claimed());
    assert!(!shown.contains("hunter2") && !shown.contains(signature));
}
