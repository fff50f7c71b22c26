//! A provider's metadata (saml-metadata-2.0): who it is, where it takes requests, with which keys
//! it signs.

use crate::bounds;
use crate::signature::Key;
use crate::xml::{METADATA, Node, PROTOCOL, SIGNATURE, XmlError, decoded, parse};

const REDIRECT: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";

/// An identity provider, as its metadata describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityProvider {
    /// The issuer of its assertions.
    pub entity_id: String,
    /// Where a browser is sent with a request.
    pub sign_in_url: String,
    pub(crate) keys: Vec<Key>,
}

/// Why metadata cannot be used: whoever applied it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    #[error("the metadata is longer than {} bytes", bounds::METADATA_BYTES_MAX)]
    TooLong,
    #[error("the metadata cannot be read: {0}")]
    NoDocument(String),
    #[error("the metadata is not one EntityDescriptor with one IDPSSODescriptor for SAML 2.0")]
    NoProvider,
    #[error(
        "the metadata has no SingleSignOnService for HTTP-Redirect at an https address (http on \
         loopback only)"
    )]
    NoAddress,
    #[error(
        "the metadata has no signing certificate with an RSA key of 2048 bits or more, or a key on \
         P-256 or P-384"
    )]
    NoKey,
    #[error("the metadata has more than {} signing certificates", bounds::CERTIFICATES_MAX)]
    TooManyKeys,
}

impl IdentityProvider {
    /// Reads metadata. Its own signature is not looked at: whoever applies it vouches for it.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn read(metadata: &str) -> Result<Self, MetadataError> {
        if metadata.len() > bounds::METADATA_BYTES_MAX {
            return Err(MetadataError::TooLong);
        }
        let document = parse_metadata(metadata)?;
        let entity =
            Node::outermost(&document).filter(|node| node.is(METADATA, "EntityDescriptor"));
        let entity = entity.ok_or(MetadataError::NoProvider)?;
        let entity_id = entity.attribute("entityID").filter(|id| !id.is_empty());
        let entity_id = entity_id.ok_or(MetadataError::NoProvider)?.to_owned();
        let role = entity.only(METADATA, "IDPSSODescriptor").ok_or(MetadataError::NoProvider)?;
        let protocols = role.attribute("protocolSupportEnumeration").unwrap_or_default();
        if !protocols.split_ascii_whitespace().any(|protocol| protocol == PROTOCOL) {
            return Err(MetadataError::NoProvider);
        }
        let services = role.children(METADATA, "SingleSignOnService");
        let mut redirect =
            services.filter(|service| service.attribute("Binding") == Some(REDIRECT));
        let sign_in_url = redirect.next().and_then(|service| service.attribute("Location"));
        let sign_in_url =
            sign_in_url.filter(|url| is_sound(url)).ok_or(MetadataError::NoAddress)?;
        Ok(Self { entity_id, sign_in_url: sign_in_url.to_owned(), keys: keys(role)? })
    }
}

/// Metadata is not signed material of ours: comments are common in it and mean nothing.
fn parse_metadata(text: &str) -> Result<uppsala::Document<'_>, MetadataError> {
    match parse(text) {
        Err(XmlError::Hidden) => {
            let parser = uppsala::Parser::new().with_forbid_dtd(true);
            let parser = parser.with_max_depth(bounds::DEPTH_MAX);
            parser
                .parse(text)
                .map_err(|_| MetadataError::NoDocument(XmlError::Malformed.to_string()))
        }
        Err(error) => Err(MetadataError::NoDocument(error.to_string())),
        Ok(document) => Ok(document),
    }
}

fn keys(role: Node<'_, '_>) -> Result<Vec<Key>, MetadataError> {
    let is_for_signing =
        |descriptor: &Node<'_, '_>| matches!(descriptor.attribute("use"), None | Some("signing"));
    let mut keys: Vec<Key> = Vec::new();
    for descriptor in role.children(METADATA, "KeyDescriptor").filter(is_for_signing) {
        for certificate in descriptor.all_below(SIGNATURE, "X509Certificate") {
            let der = certificate.document.text_content_deep(certificate.id);
            let key = decoded(&der).and_then(|der| Key::of_certificate(&der));
            keys.extend(key.filter(|key| !keys.contains(key)));
        }
    }
    match keys.len() {
        0 => Err(MetadataError::NoKey),
        count if count > bounds::CERTIFICATES_MAX => Err(MetadataError::TooManyKeys),
        _ => Ok(keys),
    }
}

/// Encrypted, or on this machine.
fn is_sound(url: &str) -> bool {
    let is_plain = url.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '#'));
    let is_loopback = |rest: &str| {
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        matches!(host, "127.0.0.1" | "localhost" | "[::1]")
    };
    let is_safe = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => rest.starts_with(|c: char| c != '/'),
        (None, Some(rest)) => is_loopback(rest),
        (None, None) => false,
    };
    is_plain && is_safe
}
