//! What the service provider says: its metadata, and requests to sign somebody in.

use base64::Engine as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::metadata::IdentityProvider;
use crate::xml::{METADATA, PROTOCOL, SAML, escaped};

/// The gateway, to one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceProvider {
    /// The audience of assertions.
    pub entity_id: String,
    /// Where browsers bring responses.
    pub acs_url: String,
}

/// A request, to be sent with a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthnRequest {
    /// The id to which the response answers: an NCName that cannot be guessed.
    pub id: String,
    /// Where the browser goes.
    pub url: String,
}

impl ServiceProvider {
    /// The metadata that the provider's administrator is given.
    #[must_use]
    pub fn metadata(&self) -> String {
        let (entity_id, acs_url) = (escaped(&self.entity_id), escaped(&self.acs_url));
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <EntityDescriptor xmlns=\"{METADATA}\" entityID=\"{entity_id}\">\
             <SPSSODescriptor AuthnRequestsSigned=\"false\" WantAssertionsSigned=\"true\" \
             protocolSupportEnumeration=\"{PROTOCOL}\">\
             <AssertionConsumerService \
             Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\" \
             Location=\"{acs_url}\" index=\"0\" isDefault=\"true\"/>\
             </SPSSODescriptor></EntityDescriptor>\n"
        )
    }

    /// A request with this id, and the address that carries it (saml-bindings-2.0 section 3.4).
    /// `relay_state` comes back with the response, unread by the provider.
    #[must_use]
    pub fn request(
        &self,
        provider: &IdentityProvider,
        id: &str,
        relay_state: Option<&str>,
        now: OffsetDateTime,
    ) -> AuthnRequest {
        let issued = now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default();
        let message = format!(
            "<samlp:AuthnRequest xmlns:samlp=\"{PROTOCOL}\" ID=\"{}\" Version=\"2.0\" \
             IssueInstant=\"{issued}\" Destination=\"{}\" AssertionConsumerServiceURL=\"{}\" \
             ProtocolBinding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\">\
             <saml:Issuer xmlns:saml=\"{SAML}\">{}</saml:Issuer></samlp:AuthnRequest>",
            escaped(id),
            escaped(&provider.sign_in_url),
            escaped(&self.acs_url),
            escaped(&self.entity_id),
        );
        let packed = base64::engine::general_purpose::STANDARD.encode(stored(message.as_bytes()));
        let mark = if provider.sign_in_url.contains('?') { '&' } else { '?' };
        let mut url = format!("{}{mark}SAMLRequest={}", provider.sign_in_url, encoded(&packed));
        if let Some(relay_state) = relay_state {
            url.push_str("&RelayState=");
            url.push_str(&encoded(relay_state));
        }
        AuthnRequest { id: id.to_owned(), url }
    }
}

/// DEFLATE without compression (RFC 1951 section 3.2.4): a request is short. Each block holds at
/// most 65,535 bytes.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(bytes.len() + 16);
    let blocks = bytes.chunks(usize::from(u16::MAX));
    let last = blocks.len().saturating_sub(1);
    for (place, block) in blocks.enumerate() {
        let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
        packed.push(u8::from(place == last));
        packed.extend(len.to_le_bytes());
        packed.extend((!len).to_le_bytes());
        packed.extend(block);
    }
    packed
}

/// Percent-encoding of everything but what no reader could mistake.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
