//! One enveloped signature (XML Signature 1.1) over the element that holds it, by a known key.
//!
//! Keys never come from the document. What is signed is looked at as the node that the caller
//! holds, not looked up by an id, so that there is nothing to be wrapped.

use aws_lc_rs::digest::{self, digest};
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use bergshamra_c14n::{C14nMode, canonicalize_doc};
use bergshamra_xml::NodeSet;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::xml::{Node, SIGNATURE, decoded};

const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
/// Prefixes of one `InclusiveNamespaces`: those of schemas, for values with a type.
const PREFIXES_MAX: usize = 16;

/// Why a signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureError {
    #[error("its signature is not of the one form that is taken")]
    Form,
    #[error("its signature uses an algorithm that is not taken; RSA or ECDSA with SHA-256 is")]
    Algorithm,
    #[error("its signature is over something else")]
    Reference,
    #[error("it was changed after it was signed")]
    Digest,
    #[error("its signature is of no key of the provider's metadata")]
    Key,
}

/// A key of a provider's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// `RSAPublicKey`, DER.
    Rsa(Vec<u8>),
    /// The uncompressed point.
    P256(Vec<u8>),
    P384(Vec<u8>),
}

impl Key {
    /// The key of a certificate, DER; none when it is of a kind that is not taken.
    pub(crate) fn of_certificate(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let info = certificate.public_key();
        let bytes = info.subject_public_key.data.to_vec();
        match info.parsed().ok()? {
            PublicKey::RSA(_) => Some(Self::Rsa(bytes)),
            PublicKey::EC(point) => match point.key_size() {
                256 => Some(Self::P256(bytes)),
                384 => Some(Self::P384(bytes)),
                _ => None,
            },
            _ => None,
        }
    }

    /// How a signature of this method is verified with it (RFC 9231 section 2.3); none when it
    /// is not.
    fn verifier(&self, method: &str) -> Option<(&'static dyn VerificationAlgorithm, &[u8])> {
        const MORE: &str = "http://www.w3.org/2001/04/xmldsig-more#";
        let method = method.strip_prefix(MORE)?;
        let (algorithm, bytes): (&'static dyn VerificationAlgorithm, &[u8]) = match (self, method) {
            (Self::Rsa(key), "rsa-sha256") => (&signature::RSA_PKCS1_2048_8192_SHA256, key),
            (Self::Rsa(key), "rsa-sha384") => (&signature::RSA_PKCS1_2048_8192_SHA384, key),
            (Self::Rsa(key), "rsa-sha512") => (&signature::RSA_PKCS1_2048_8192_SHA512, key),
            (Self::P256(key), "ecdsa-sha256") => (&signature::ECDSA_P256_SHA256_FIXED, key),
            (Self::P384(key), "ecdsa-sha384") => (&signature::ECDSA_P384_SHA384_FIXED, key),
            (Self::Rsa(_) | Self::P256(_) | Self::P384(_), _) => return None,
        };
        Some((algorithm, bytes))
    }
}

const METHODS: [&str; 5] = [
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384",
];

fn digest_algorithm(uri: &str) -> Option<&'static digest::Algorithm> {
    match uri {
        "http://www.w3.org/2001/04/xmlenc#sha256" => Some(&digest::SHA256),
        "http://www.w3.org/2001/04/xmldsig-more#sha384" => Some(&digest::SHA384),
        "http://www.w3.org/2001/04/xmlenc#sha512" => Some(&digest::SHA512),
        _ => None,
    }
}

/// Whether the element was signed as it is, by one of the keys.
pub(crate) fn verify(signed: Node<'_, '_>, keys: &[Key]) -> Result<(), SignatureError> {
    use SignatureError::{Algorithm, Digest, Form, Key as NoKey, Reference};
    let signature = signed.only(SIGNATURE, "Signature").ok_or(Form)?;
    let info = signature.only(SIGNATURE, "SignedInfo").ok_or(Form)?;
    let canonical = info.only(SIGNATURE, "CanonicalizationMethod").ok_or(Form)?;
    if canonical.attribute("Algorithm") != Some(EXCLUSIVE) {
        return Err(Algorithm);
    }
    let method = info.only(SIGNATURE, "SignatureMethod").ok_or(Form)?;
    let method = method.attribute("Algorithm").filter(|method| METHODS.contains(method));
    let method = method.ok_or(Algorithm)?;

    let reference = info.only(SIGNATURE, "Reference").ok_or(Form)?;
    let id = signed.attribute("ID").filter(|id| !id.is_empty()).ok_or(Form)?;
    let uri = reference.attribute("URI").ok_or(Reference)?;
    if uri.strip_prefix('#') != Some(id) {
        return Err(Reference);
    }
    let transforms = reference.only(SIGNATURE, "Transforms").ok_or(Form)?;
    let prefixes = prefixes_of(transforms)?;
    let wanted = reference.only(SIGNATURE, "DigestMethod").ok_or(Form)?;
    let wanted = wanted.attribute("Algorithm").and_then(digest_algorithm).ok_or(Algorithm)?;
    let expect = reference.text_of(SIGNATURE, "DigestValue").and_then(|text| decoded(&text));
    let expect = expect.ok_or(Form)?;

    let mut nodes = NodeSet::tree_without_comments(signed.id, signed.document);
    for node in signed.document.descendants(signature.id) {
        nodes.remove_id(node);
    }
    nodes.remove_id(signature.id);
    let mode = C14nMode::Exclusive;
    let bytes = canonicalize_doc(signed.document, mode, Some(&nodes), &prefixes);
    let bytes = bytes.map_err(|_| Form)?;
    if digest(wanted, &bytes).as_ref() != expect.as_slice() {
        return Err(Digest);
    }

    let nodes = NodeSet::tree_without_comments(info.id, info.document);
    let prefixes = inclusive_prefixes(canonical)?;
    let bytes = canonicalize_doc(info.document, mode, Some(&nodes), &prefixes);
    let bytes = bytes.map_err(|_| Form)?;
    let value = signature.text_of(SIGNATURE, "SignatureValue").and_then(|text| decoded(&text));
    let value = value.ok_or(Form)?;
    let is_good = |key: &Key| {
        let verifier = key.verifier(method);
        verifier.is_some_and(|(algorithm, key)| {
            UnparsedPublicKey::new(algorithm, key).verify(&bytes, &value).is_ok()
        })
    };
    if keys.iter().any(is_good) { Ok(()) } else { Err(NoKey) }
}

/// The signature is taken out, then the rest is made canonical: nothing else may happen to it
/// (saml-core-2.0 section 5.4.4).
fn prefixes_of(transforms: Node<'_, '_>) -> Result<Vec<String>, SignatureError> {
    let listed: Vec<Node<'_, '_>> = transforms.elements().collect();
    let [enveloped, exclusive] = listed.as_slice() else { return Err(SignatureError::Form) };
    let is = |node: &Node<'_, '_>, algorithm: &str| {
        node.is(SIGNATURE, "Transform") && node.attribute("Algorithm") == Some(algorithm)
    };
    if !is(enveloped, ENVELOPED) || !is(exclusive, EXCLUSIVE) {
        return Err(SignatureError::Algorithm);
    }
    inclusive_prefixes(*exclusive)
}

fn inclusive_prefixes(canonical: Node<'_, '_>) -> Result<Vec<String>, SignatureError> {
    let listed: Vec<Node<'_, '_>> = canonical.elements().collect();
    let inclusive = match listed.as_slice() {
        [] => return Ok(Vec::new()),
        [one] if one.is(EXCLUSIVE, "InclusiveNamespaces") => one,
        _ => return Err(SignatureError::Form),
    };
    let list = inclusive.attribute("PrefixList").unwrap_or_default();
    let prefixes: Vec<String> = list.split_ascii_whitespace().map(ToOwned::to_owned).collect();
    if prefixes.len() > PREFIXES_MAX { Err(SignatureError::Form) } else { Ok(prefixes) }
}
