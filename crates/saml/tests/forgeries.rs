//! What a forger could send. Responses are written by hand in canonical form, so that what signs
//! here shares nothing with what verifies.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corral_saml::{Expected, IdentityProvider, Refused, ServiceProvider, SignedIn, bounds, verify};
use time::OffsetDateTime;
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2026-11-29 12:00:00 UTC);
const IDP: &str = "https://idp.example/metadata";
const SP: &str = "https://corral.example/auth/saml/corp/metadata";
const ACS: &str = "https://corral.example/auth/saml/corp/acs";
const REQUEST: &str = "_request1";
const RSA_METHOD: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
const EC_METHOD: &str = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256";

enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

struct Provider {
    signer: Signer,
    certificate: Vec<u8>,
}

impl Provider {
    fn ec() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der());
        Self { signer: Signer::Ec(pair.expect("a pair")), certificate: certificate(&key) }
    }

    fn rsa() -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
        let pair = RsaKeyPair::from_pkcs8(&key.serialize_der()).expect("a pair");
        Self { signer: Signer::Rsa(pair), certificate: certificate(&key) }
    }

    fn metadata(&self) -> String {
        let certificate = STANDARD.encode(&self.certificate);
        format!(
            "<?xml version=\"1.0\"?><!-- of a provider -->\
             <md:EntityDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" \
             xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\" entityID=\"{IDP}\">\
             <md:IDPSSODescriptor \
             protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\">\
             <md:KeyDescriptor use=\"signing\"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>\
             {certificate}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>\
             <md:SingleSignOnService \
             Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" \
             Location=\"https://idp.example/sso\"/></md:IDPSSODescriptor></md:EntityDescriptor>"
        )
    }

    fn method(&self) -> &'static str {
        match &self.signer {
            Signer::Rsa(_) => RSA_METHOD,
            Signer::Ec(_) => EC_METHOD,
        }
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.signer {
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature).expect("signs");
                signature
            }
            Signer::Ec(pair) => pair.sign(&random, bytes).expect("signs").as_ref().to_vec(),
        }
    }

    /// The signature over an element in canonical form.
    fn signature(&self, id: &str, canonical: &str) -> String {
        self.signature_with(id, canonical, |info| info)
    }

    fn signature_with(
        &self,
        id: &str,
        canonical: &str,
        change: impl Fn(String) -> String,
    ) -> String {
        let digest = STANDARD.encode(digest(&SHA256, canonical.as_bytes()).as_ref());
        let body = change(format!(
            "<ds:CanonicalizationMethod \
             Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"></ds:CanonicalizationMethod>\
             <ds:SignatureMethod Algorithm=\"{}\"></ds:SignatureMethod>\
             <ds:Reference URI=\"#{id}\"><ds:Transforms>\
             <ds:Transform \
             Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"></ds:Transform>\
             <ds:Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"></ds:Transform>\
             </ds:Transforms><ds:DigestMethod \
             Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"></ds:DigestMethod>\
             <ds:DigestValue>{digest}</ds:DigestValue></ds:Reference>",
            self.method()
        ));
        let canonical_info = format!(
            "<ds:SignedInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\">{body}</ds:SignedInfo>"
        );
        let value = STANDARD.encode(self.sign(canonical_info.as_bytes()));
        format!(
            "<ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\">\
             <ds:SignedInfo>{body}</ds:SignedInfo>\
             <ds:SignatureValue>{value}</ds:SignatureValue></ds:Signature>"
        )
    }
}

fn certificate(key: &rcgen::KeyPair) -> Vec<u8> {
    let parameters = rcgen::CertificateParams::new(vec!["idp.example".to_owned()]);
    parameters.expect("parameters").self_signed(key).expect("a certificate").der().to_vec()
}

/// The parts of an assertion that tests change.
#[derive(Clone)]
struct Assertion {
    id: &'static str,
    issuer: &'static str,
    issued: &'static str,
    name: &'static str,
    confirmation: String,
    conditions: String,
    more: &'static str,
}

impl Default for Assertion {
    fn default() -> Self {
        Self {
            id: "_assertion1",
            issuer: IDP,
            issued: "2026-11-29T11:59:58Z",
            name: "ada@example.com",
            confirmation: confirmation(ACS, REQUEST, "2026-11-29T12:05:00Z"),
            conditions: conditions("2026-11-29T11:59:28Z", "2026-11-29T12:05:00Z", SP),
            more: "",
        }
    }
}

fn confirmation(recipient: &str, request: &str, until: &str) -> String {
    format!(
        "<saml:SubjectConfirmation Method=\"urn:oasis:names:tc:SAML:2.0:cm:bearer\">\
         <saml:SubjectConfirmationData InResponseTo=\"{request}\" NotOnOrAfter=\"{until}\" \
         Recipient=\"{recipient}\"></saml:SubjectConfirmationData></saml:SubjectConfirmation>"
    )
}

fn conditions(from: &str, until: &str, audience: &str) -> String {
    format!(
        "<saml:Conditions NotBefore=\"{from}\" NotOnOrAfter=\"{until}\">\
         <saml:AudienceRestriction><saml:Audience>{audience}</saml:Audience>\
         </saml:AudienceRestriction></saml:Conditions>"
    )
}

impl Assertion {
    /// In canonical form, with `signature` where signatures go.
    fn text(&self, signature: &str) -> String {
        let Self { id, issuer, issued, name, confirmation, conditions, more } = self;
        format!(
            "<saml:Assertion xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"{id}\" \
             IssueInstant=\"{issued}\" Version=\"2.0\"><saml:Issuer>{issuer}</saml:Issuer>\
             {signature}<saml:Subject><saml:NameID>{name}</saml:NameID>{confirmation}\
             </saml:Subject>{conditions}<saml:AuthnStatement AuthnInstant=\"{issued}\" \
             SessionIndex=\"s-1\"></saml:AuthnStatement><saml:AttributeStatement>\
             <saml:Attribute Name=\"groups\"><saml:AttributeValue>dba</saml:AttributeValue>\
             <saml:AttributeValue>ops</saml:AttributeValue></saml:Attribute>{more}\
             </saml:AttributeStatement></saml:Assertion>"
        )
    }

    fn signed(&self, provider: &Provider) -> String {
        self.text(&provider.signature(self.id, &self.text("")))
    }
}

fn response(content: &str) -> String {
    format!(
        "<samlp:Response xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
         Destination=\"{ACS}\" ID=\"_response1\" InResponseTo=\"{REQUEST}\" \
         IssueInstant=\"2026-11-29T11:59:58Z\" Version=\"2.0\">\
         <saml:Issuer xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\">{IDP}</saml:Issuer>\
         <samlp:Status><samlp:StatusCode \
         Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\"></samlp:StatusCode>\
         </samlp:Status>{content}</samlp:Response>"
    )
}

fn judged(provider: &Provider, response: &str) -> Result<SignedIn, Refused> {
    let provider = IdentityProvider::read(&provider.metadata()).expect("is metadata");
    let service = ServiceProvider { entity_id: SP.to_owned(), acs_url: ACS.to_owned() };
    let expected =
        Expected { provider: &provider, service: &service, request_id: REQUEST, now: NOW };
    verify(&STANDARD.encode(response), expected)
}

fn refusal(provider: &Provider, response: &str) -> String {
    judged(provider, response).expect_err("is refused").to_string()
}

fn check_refused(provider: &Provider, response: &str, words: &str) {
    let text = refusal(provider, response);
    assert!(text.contains(words), "{text}, not {words}: {response}");
}

#[test]
fn a_signed_assertion_is_read() {
    for provider in [Provider::ec(), Provider::rsa()] {
        let signed_in = judged(&provider, &response(&Assertion::default().signed(&provider)));
        let signed_in = signed_in.expect("is taken");
        assert_eq!(signed_in.name_id, "ada@example.com");
        assert_eq!(signed_in.attributes["groups"], ["dba", "ops"]);
        assert_eq!(signed_in.assertion_id, "_assertion1");
        assert_eq!(signed_in.session_index.as_deref(), Some("s-1"));
        assert!(signed_in.remember_until > NOW + bounds::ASSERTION_AGE_MAX);
    }
}

#[test]
fn a_signed_response_must_hold_as_well() {
    let provider = Provider::ec();
    let plain = response(&Assertion::default().signed(&provider));
    let signature = provider.signature("_response1", &plain);
    let signed = plain.replacen("<samlp:Status>", &format!("{signature}<samlp:Status>"), 1);
    judged(&provider, &signed).expect("is taken");
    let changed =
        signed.replacen("<samlp:Status>", "<samlp:Extensions></samlp:Extensions><samlp:Status>", 1);
    check_refused(&provider, &changed, "changed after it was signed");
    // The response's signature does not stand in for the assertion's.
    let plain = response(&Assertion::default().text(""));
    let signature = provider.signature("_response1", &plain);
    let signed = plain.replacen("<samlp:Status>", &format!("{signature}<samlp:Status>"), 1);
    check_refused(&provider, &signed, "not of the one form");
}

#[test]
fn what_was_not_signed_by_the_provider_is_refused() {
    let (provider, other) = (Provider::ec(), Provider::ec());
    let assertion = Assertion::default();
    check_refused(&provider, &response(&assertion.text("")), "not of the one form");
    check_refused(&provider, &response(&assertion.signed(&other)), "no key of the provider");
    check_refused(
        &provider,
        &response(&assertion.signed(&Provider::rsa())),
        "no key of the provider",
    );
    let changed = assertion.signed(&provider).replace("ada@", "admin@");
    check_refused(&provider, &response(&changed), "changed after it was signed");
    // A key that the document brings along is no key.
    let key = format!(
        "<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data>\
         </ds:KeyInfo></ds:Signature>",
        STANDARD.encode(&other.certificate)
    );
    let own = assertion.signed(&other).replace("</ds:Signature>", &key);
    check_refused(&provider, &response(&own), "no key of the provider");
}

#[test]
fn a_wrapped_assertion_is_refused() {
    let provider = Provider::ec();
    let good = Assertion::default().signed(&provider);
    let evil = Assertion { id: "_evil", name: "admin@example.com", ..Assertion::default() };
    let evil_alone = evil.text("");
    let signature = {
        let start = good.find("<ds:Signature").expect("is there");
        let end = good.find("</ds:Signature>").expect("is there") + "</ds:Signature>".len();
        good[start..end].to_owned()
    };
    let unsigned_good = Assertion::default().text("");
    let inside = |holder: &str, content: &str| format!("<{holder}>{content}</{holder}>");
    let with_signature = evil.text(&signature);
    let object = signature.replace(
        "</ds:Signature>",
        &format!("{}</ds:Signature>", inside("ds:Object", &unsigned_good)),
    );
    for (content, words) in [
        (format!("{evil_alone}{good}"), "2 assertions"),
        (format!("{good}{evil_alone}"), "2 assertions"),
        (format!("{evil_alone}{}", inside("samlp:Extensions", &good)), "2 assertions"),
        (evil.text(&good), "2 assertions"),
        (evil.text(&object), "2 assertions"),
        (inside("samlp:Extensions", &good), "not where assertions are"),
        // The signature of the good one, over whatever has its id.
        (with_signature.clone(), "over something else"),
        (with_signature.replace("_evil", "_assertion1"), "changed after it was signed"),
        (format!("{good}{signature}"), "over something else"),
        (format!("{good}{}", inside("samlp:Extensions", &signature)), "none belongs"),
        (format!("{good}{}", unsigned_good.replace("saml:Assertion", "saml:Advice")), "same id"),
    ] {
        check_refused(&provider, &response(&content), words);
    }
    // A second document element, or a response inside a response.
    check_refused(&provider, &format!("{}{}", response(&good), response(&good)), "not XML");
    check_refused(&provider, &inside("x", &response(&good)), "not a Response");
}

#[test]
fn a_name_is_not_cut_by_a_comment() {
    let provider = Provider::ec();
    let good = response(&Assertion::default().signed(&provider));
    check_refused(&provider, &good.replace("ada@", "ada<!-- -->@"), "a comment");
    check_refused(&provider, &good.replace("ada@", "ada<?x y?>@"), "a comment");
    check_refused(&provider, &good.replace("ada@", "<x>ada</x>@"), "changed after it was signed");
}

#[test]
fn dtds_and_entities_are_refused() {
    let provider = Provider::ec();
    let good = response(&Assertion::default().signed(&provider));
    for dtd in [
        "<!DOCTYPE x>",
        "<!DOCTYPE x SYSTEM \"http://evil.example/x.dtd\">",
        "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>",
        "<!DOCTYPE x [<!ATTLIST saml:Assertion ID CDATA \"_x\">]>",
    ] {
        check_refused(&provider, &format!("{dtd}{good}"), "not XML without a DTD");
    }
    check_refused(&provider, &good.replace("ada@", "&e;@"), "not XML without a DTD");
}

#[test]
fn another_signature_than_the_profile_has_is_refused() {
    let provider = Provider::ec();
    let assertion = Assertion::default();
    let check = |from: &str, to: &str, words: &str| {
        let change = |info: String| {
            let changed = info.replacen(from, to, 1);
            assert_ne!(changed, info, "{from}");
            changed
        };
        let signature = provider.signature_with(assertion.id, &assertion.text(""), change);
        check_refused(&provider, &response(&assertion.text(&signature)), words);
    };
    let second = "</ds:Reference><ds:Reference URI=\"\"></ds:Reference>";
    check("</ds:Reference>", second, "not of the one form");
    check("#_assertion1", "", "over something else");
    check("#_assertion1", "#_response1", "over something else");
    check("#_assertion1", "https://evil.example/", "over something else");
    check("xmldsig-more#ecdsa-sha256", "xmldsig-more#hmac-sha256", "algorithm");
    check("2001/04/xmldsig-more#ecdsa-sha256", "2000/09/xmldsig#rsa-sha1", "algorithm");
    check("2001/04/xmlenc#sha256", "2000/09/xmldsig#sha1", "algorithm");
    let xslt = "http://www.w3.org/TR/1999/REC-xslt-19991116";
    check(
        "http://www.w3.org/2001/10/xml-exc-c14n#\"></ds:T",
        &format!("{xslt}\"></ds:T"),
        "algorithm",
    );
    check("2000/09/xmldsig#enveloped-signature", "TR/1999/REC-xpath-19991116", "algorithm");
    check(
        "http://www.w3.org/2001/10/xml-exc-c14n#",
        "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
        "algorithm",
    );
    let three = "<ds:Transform Algorithm=\"x\"></ds:Transform></ds:Transforms>";
    check("</ds:Transforms>", three, "not of the one form");
}

#[test]
fn a_signed_assertion_for_somebody_else_is_refused() {
    let provider = Provider::ec();
    let check = |assertion: Assertion, words: &str| {
        check_refused(&provider, &response(&assertion.signed(&provider)), words);
    };
    let (from, until) = ("2026-11-29T11:59:28Z", "2026-11-29T12:05:00Z");
    let plain = Assertion::default;
    check(
        Assertion { conditions: conditions(from, until, "https://other.example"), ..plain() },
        "another audience",
    );
    check(Assertion { conditions: String::new(), ..plain() }, "no Conditions");
    let open = format!("<saml:Conditions NotOnOrAfter=\"{until}\"></saml:Conditions>");
    check(Assertion { conditions: open, ..plain() }, "names no audience");
    let strange = conditions(from, until, SP)
        .replace("</saml:Conditions>", "<saml:Condition></saml:Condition></saml:Conditions>");
    check(Assertion { conditions: strange, ..plain() }, "not understood");
    check(
        Assertion {
            confirmation: confirmation("https://other.example/acs", REQUEST, until),
            ..plain()
        },
        "another recipient",
    );
    check(
        Assertion { confirmation: confirmation(ACS, "_other", until), ..plain() },
        "no pending request",
    );
    let holder = confirmation(ACS, REQUEST, until).replace("cm:bearer", "cm:holder-of-key");
    check(Assertion { confirmation: holder, ..plain() }, "not for its bearer");
    check(Assertion { confirmation: String::new(), ..plain() }, "SubjectConfirmation");
    check(Assertion { issuer: "https://evil.example", ..plain() }, "another issuer");
    let transient = plain().text("").replace(
        "<saml:NameID>",
        "<saml:NameID Format=\"urn:oasis:names:tc:SAML:2.0:nameid-format:transient\">",
    );
    let signature = provider.signature("_assertion1", &transient);
    let transient = transient.replacen("<saml:Subject>", &format!("{signature}<saml:Subject>"), 1);
    check_refused(&provider, &response(&transient), "transient");
    let good = response(&plain().signed(&provider));
    check_refused(
        &provider,
        &good.replacen("InResponseTo=\"_request1\"", "InResponseTo=\"_other\"", 1),
        "no pending request",
    );
    check_refused(
        &provider,
        &good.replacen(" InResponseTo=\"_request1\"", "", 1),
        "no pending request",
    );
    check_refused(
        &provider,
        &good.replacen("Destination=\"https://corral", "Destination=\"https://other", 1),
        "another address",
    );
    check_refused(
        &provider,
        &good.replacen("status:Success", "status:Requester", 1),
        "did not sign",
    );
}

#[test]
fn time_is_checked_with_a_minute_of_leeway() {
    let provider = Provider::ec();
    let judge = |assertion: Assertion| judged(&provider, &response(&assertion.signed(&provider)));
    let plain = Assertion::default;
    let window =
        |from: &str, until: &str| Assertion { conditions: conditions(from, until, SP), ..plain() };
    let early = "2026-11-29T11:00:00Z";
    judge(window("2026-11-29T12:00:59Z", "2026-11-29T12:05:00Z")).expect("is within the leeway");
    judge(window("2026-11-29T12:01:01Z", "2026-11-29T12:05:00Z")).expect_err("is early");
    judge(window(early, "2026-11-29T11:59:01Z")).expect("is within the leeway");
    judge(window(early, "2026-11-29T11:59:00Z")).expect_err("is late");
    judge(window("yesterday", "2026-11-29T12:05:00Z")).expect_err("is no time");
    let confirmed =
        |until: &str| Assertion { confirmation: confirmation(ACS, REQUEST, until), ..plain() };
    judge(confirmed("2026-11-29T11:58:00Z")).expect_err("is late");
    let endless = confirmation(ACS, REQUEST, "X").replace(" NotOnOrAfter=\"X\"", "");
    judge(Assertion { confirmation: endless, ..plain() }).expect_err("has no end");
    judge(Assertion { issued: "2026-11-29T11:48:30Z", ..plain() }).expect_err("is old");
    judge(Assertion { issued: "2026-11-29T12:02:00Z", ..plain() }).expect_err("is from the future");
    let over =
        plain().text("").replace("SessionIndex", "SessionNotOnOrAfter=\"2026-11-29T11:00:00Z\" x");
    assert!(over.contains("SessionNotOnOrAfter"));
    let signature = provider.signature("_assertion1", &over);
    let over = over.replacen("<saml:Subject>", &format!("{signature}<saml:Subject>"), 1);
    check_refused(&provider, &response(&over), "the session at the provider is over");
}

#[test]
fn what_is_too_large_or_no_response_is_refused() {
    let provider = Provider::ec();
    for text in ["", "x", "<x/>", "<samlp:Response/>"] {
        refusal(&provider, text);
    }
    let long = " ".repeat(bounds::RESPONSE_BYTES_MAX + 1);
    check_refused(&provider, &long, "too long");
    let many: &'static str = Box::leak(
        format!(
            "<saml:Attribute Name=\"g\">{}</saml:Attribute>",
            "<saml:AttributeValue>x</saml:AttributeValue>".repeat(bounds::VALUES_MAX)
        )
        .into_boxed_str(),
    );
    let assertion = Assertion { more: many, ..Assertion::default() };
    check_refused(&provider, &response(&assertion.signed(&provider)), "more than 10000 values");
    let encrypted = "<saml:EncryptedAssertion \
                     xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\"></saml:EncryptedAssertion>";
    check_refused(&provider, &response(encrypted), "encrypted");
    let good = response(&Assertion::default().signed(&provider));
    let base = STANDARD.encode(&good);
    assert_eq!(corral_saml::request_id(&base).as_deref(), Ok(REQUEST));
    for other in ["nonsense", "", &STANDARD.encode("<x/>"), &STANDARD.encode("<!DOCTYPE x><x/>")] {
        corral_saml::request_id(other).expect_err(other);
    }
}

#[test]
fn metadata_must_name_one_provider_with_an_address_and_a_key() {
    let provider = Provider::ec();
    let good = provider.metadata();
    let read = IdentityProvider::read(&good).expect("is metadata");
    assert_eq!(
        (read.entity_id.as_str(), read.sign_in_url.as_str()),
        (IDP, "https://idp.example/sso")
    );
    for (from, to) in [
        ("https://idp.example/sso", "http://idp.example/sso"),
        ("https://idp.example/sso", "javascript:alert(1)"),
        ("HTTP-Redirect", "HTTP-POST"),
        ("use=\"signing\"", "use=\"encryption\""),
        ("SAML:2.0:protocol", "SAML:1.1:protocol"),
        ("<md:IDPSSODescriptor", "<md:SPSSODescriptor"),
        ("<md:EntityDescriptor", "<!DOCTYPE x><md:EntityDescriptor"),
        ("<ds:X509Certificate>M", "<ds:X509Certificate>A"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        IdentityProvider::read(&changed).expect_err(to);
    }
}

#[test]
fn a_request_carries_its_message_and_metadata_the_address() {
    let provider = IdentityProvider::read(&Provider::ec().metadata()).expect("is metadata");
    let service = ServiceProvider { entity_id: SP.to_owned(), acs_url: ACS.to_owned() };
    let request = service.request(&provider, "_r1", Some("state&x"), NOW);
    let (address, query) = request.url.split_once("?SAMLRequest=").expect("a request");
    assert_eq!(address, "https://idp.example/sso");
    let (message, state) = query.split_once("&RelayState=").expect("a state");
    assert_eq!(state, "state%26x");
    let message = message.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    let packed = STANDARD.decode(message).expect("base 64");
    let (header, text) = packed.split_at(5);
    let len = u16::try_from(text.len()).expect("is short");
    assert_eq!(header, [&[1][..], &len.to_le_bytes(), &(!len).to_le_bytes()].concat());
    let text = String::from_utf8(text.to_vec()).expect("text");
    assert!(text.contains("ID=\"_r1\"") && text.contains(ACS) && text.contains(SP), "{text}");
    let metadata = service.metadata();
    assert!(metadata.contains("WantAssertionsSigned=\"true\"") && metadata.contains(ACS));
}
