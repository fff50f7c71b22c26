//! What a request says of the trace that it belongs to (W3C Trace Context, section 3.2).

use corral_model::TraceParent;
use http::HeaderMap;

const TRACEPARENT: &str = "traceparent";

/// The one valid `traceparent`. Two of them, or one that the standard calls invalid, say nothing.
#[must_use]
pub fn traceparent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => TraceParent::parse(only.to_str().ok()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn one_valid_header_is_a_claim_and_nothing_else_is() {
        let check = |values: &[&'static [u8]], expect: Option<&str>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRACEPARENT, HeaderValue::from_bytes(value).expect("a value"));
            }
            let found = traceparent(&headers);
            assert_eq!(found.as_ref().map(TraceParent::as_str), expect, "{values:?}");
        };
        check(&[GOOD.as_bytes()], Some(GOOD));
        check(&[], None);
        check(&[GOOD.as_bytes(), GOOD.as_bytes()], None);
        check(&[b"00-xyz"], None);
        check(&[b"\xff\xfe"], None);
    }
}
