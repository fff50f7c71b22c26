//! What real providers sent, at the time at which they sent it.

use corral_saml::{Expected, IdentityProvider, Refused, ServiceProvider, SignedIn, verify};
use time::OffsetDateTime;
use time::macros::datetime;

const METADATA: &str = include_str!("golden/simplesamlphp-1.19-metadata.xml");
const RESPONSE: &str = include_str!("golden/simplesamlphp-1.19-response.b64");

fn judged(response: &str, now: OffsetDateTime) -> Result<SignedIn, Refused> {
    let provider = IdentityProvider::read(METADATA).expect("is metadata");
    let service = ServiceProvider {
        entity_id: "https://corral.example/auth/saml/corp/metadata".to_owned(),
        acs_url: "https://corral.example/auth/saml/corp/acs".to_owned(),
    };
    let expected =
        Expected { provider: &provider, service: &service, request_id: "_request1", now };
    verify(response, expected)
}

#[test]
fn a_response_of_simplesamlphp_is_taken_in_its_time() {
    let signed_in = judged(RESPONSE, datetime!(2026-11-29 01:23:30 UTC)).expect("is taken");
    assert_eq!(signed_in.name_id, "ada");
    assert_eq!(signed_in.attributes["mail"], ["ada@example.com"]);
    assert_eq!(signed_in.attributes["memberOf"], ["DB Admins", "Agents"]);
    judged(RESPONSE, datetime!(2026-11-29 01:40:00 UTC)).expect_err("is late");
    judged(RESPONSE, datetime!(2026-11-29 01:20:00 UTC)).expect_err("is early");
}

/// A changed response is refused, or says exactly the same: the certificate that it brings along,
/// for one, is not looked at.
#[test]
fn a_change_anywhere_changes_nothing_that_is_read() {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let text = String::from_utf8(engine.decode(RESPONSE.trim()).expect("base 64")).expect("text");
    let now = datetime!(2026-11-29 01:23:30 UTC);
    let original = judged(RESPONSE, now).expect("is taken");
    let mut refused = 0;
    for place in (0..text.len()).step_by(11) {
        let other = if text.as_bytes()[place] == b'x' { "y" } else { "x" };
        let mut copy = text.clone();
        copy.replace_range(place..=place, other);
        match judged(&engine.encode(&copy), now) {
            Err(_) => refused += 1,
            Ok(signed_in) => assert_eq!(signed_in, original, "at {place}"),
        }
    }
    assert!(refused > 300, "{refused}");
}
