//! The one response that is taken.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::bounds;
use crate::metadata::IdentityProvider;
use crate::request::ServiceProvider;
use crate::signature;
use crate::xml::{Node, PROTOCOL, SAML, SIGNATURE, decoded, parse};

const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";
const TRANSIENT: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient";
const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";

/// What a response must fit.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'e> {
    pub provider: &'e IdentityProvider,
    pub service: &'e ServiceProvider,
    /// The id of the pending request.
    pub request_id: &'e str,
    pub now: OffsetDateTime,
}

/// Somebody whom the provider vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// To be taken once, and remembered until `remember_until`.
    pub assertion_id: String,
    pub remember_until: OffsetDateTime,
    /// The provider's lasting name of the person.
    pub name_id: String,
    pub attributes: BTreeMap<String, Vec<String>>,
    /// The provider's own session, where it names one.
    pub session_index: Option<String>,
}

/// Why a response is not taken. The text is for the log and the record of whoever runs the
/// gateway: it quotes nothing of the response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the response is refused: {0}")]
pub struct Refused(pub String);

fn refused<T>(text: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(text.into()))
}

trait OrRefused<T> {
    fn or_refused(self, text: &str) -> Result<T, Refused>;
}

impl<T> OrRefused<T> for Option<T> {
    fn or_refused(self, text: &str) -> Result<T, Refused> {
        self.ok_or_else(|| Refused(text.to_owned()))
    }
}

/// The id of the request that a response claims to answer, by which the pending one is found.
/// Nothing of it is proven.
///
/// # Errors
/// [`Refused`] when it is no document, or claims nothing.
pub fn request_id(posted: &str) -> Result<String, Refused> {
    let text = decode(posted)?;
    let document = parse(&text).map_err(|error| Refused(error.to_string()))?;
    let response = Node::outermost(&document).or_refused("it is empty")?;
    let id = response.attribute("InResponseTo").filter(|id| id.len() <= bounds::ID_BYTES_MAX);
    id.map(ToOwned::to_owned).or_refused("it answers no request")
}

/// Reads the `SAMLResponse` of a form.
///
/// # Errors
/// [`Refused`]: whoever sent it is to blame. Whether the assertion was used before is for the
/// caller to ask, with [`SignedIn::assertion_id`].
///
/// # Limits
/// [`bounds::RESPONSE_BYTES_MAX`], [`bounds::DEPTH_MAX`], [`bounds::ELEMENTS_MAX`],
/// [`bounds::VALUES_MAX`].
pub fn verify(posted: &str, expected: Expected<'_>) -> Result<SignedIn, Refused> {
    let text = decode(posted)?;
    let document = parse(&text).map_err(|error| Refused(error.to_string()))?;
    let response = Node::outermost(&document).or_refused("it is empty")?;
    check_response(response, expected)?;
    let assertion = only_assertion(response)?;
    // The signature is over the node that is read from here on.
    signature::verify(assertion, &expected.provider.keys)
        .map_err(|error| Refused(format!("the assertion: {error}")))?;
    if response.children(SIGNATURE, "Signature").next().is_some() {
        signature::verify(response, &expected.provider.keys)
            .map_err(|error| Refused(error.to_string()))?;
    }
    read_assertion(assertion, expected)
}

fn decode(posted: &str) -> Result<String, Refused> {
    // Base 64 is a third longer, and may have line breaks.
    if posted.len() > bounds::RESPONSE_BYTES_MAX * 3 / 2 {
        return refused("it is too long");
    }
    let bytes = decoded(posted).or_refused("it is not base 64")?;
    if bytes.len() > bounds::RESPONSE_BYTES_MAX {
        return refused("it is too long");
    }
    String::from_utf8(bytes).map_err(|_| Refused("it is not UTF-8".to_owned()))
}

/// What surrounds the assertion. It need not be signed, so it can only refuse.
fn check_response(response: Node<'_, '_>, expected: Expected<'_>) -> Result<(), Refused> {
    if !response.is(PROTOCOL, "Response") || response.attribute("Version") != Some("2.0") {
        return refused("it is not a Response of SAML 2.0");
    }
    if response.attribute("InResponseTo") != Some(expected.request_id) {
        return refused("it answers no pending request");
    }
    let destination = response.attribute("Destination");
    if destination.is_some_and(|url| url != expected.service.acs_url) {
        return refused("it is for another address");
    }
    if response.children(SAML, "Issuer").next().is_some() {
        check_issuer(response, expected)?;
    }
    let status = response.only(PROTOCOL, "Status");
    let code = status.and_then(|status| status.only(PROTOCOL, "StatusCode"));
    match code.and_then(|code| code.attribute("Value")) {
        Some(SUCCESS) => Ok(()),
        Some(_) | None => refused("the provider did not sign the person in"),
    }
}

fn check_issuer(node: Node<'_, '_>, expected: Expected<'_>) -> Result<(), Refused> {
    let issuer = node.text_of(SAML, "Issuer");
    if issuer.as_deref() == Some(expected.provider.entity_id.as_str()) {
        return Ok(());
    }
    refused("it is of another issuer")
}

/// The only assertion of the document, where it belongs.
fn only_assertion<'d, 't>(response: Node<'d, 't>) -> Result<Node<'d, 't>, Refused> {
    if !response.all_below(SAML, "EncryptedAssertion").is_empty() {
        return refused("its assertion is encrypted, which is not served");
    }
    let all = response.all_below(SAML, "Assertion");
    let [assertion] = all.as_slice() else {
        return refused(format!("it has {} assertions; one is taken", all.len()));
    };
    if assertion.parent().map(|parent| parent.id) != Some(response.id) {
        return refused("its assertion is not where assertions are");
    }
    for signature in response.all_below(SIGNATURE, "Signature") {
        let holder = signature.parent().map(|parent| parent.id);
        if holder != Some(assertion.id) && holder != Some(response.id) {
            return refused("it has a signature where none belongs");
        }
    }
    Ok(*assertion)
}

fn read_assertion(assertion: Node<'_, '_>, expected: Expected<'_>) -> Result<SignedIn, Refused> {
    let leeway = bounds::CLOCK_LEEWAY;
    let now = expected.now;
    if assertion.attribute("Version") != Some("2.0") {
        return refused("its assertion is not of SAML 2.0");
    }
    let assertion_id = assertion.attribute("ID").or_refused("its assertion has no id")?;
    if assertion_id.len() > bounds::ID_BYTES_MAX {
        return refused("the id of its assertion is too long");
    }
    check_issuer(assertion, expected)?;
    let issued = time_of(assertion, "IssueInstant")?.or_refused("its assertion has no time")?;
    if issued > now + leeway || issued + bounds::ASSERTION_AGE_MAX + leeway < now {
        return refused("its assertion is from another time; compare the clocks");
    }
    let subject = assertion.only(SAML, "Subject").or_refused("it names nobody")?;
    let name_node = subject.only(SAML, "NameID").or_refused("it names nobody")?;
    if name_node.attribute("Format") == Some(TRANSIENT) {
        return refused("its NameID is transient; let the provider send a lasting one");
    }
    let name_id = name_node.text().filter(|name| !name.is_empty()).or_refused("it names nobody")?;
    if name_id.len() > bounds::VALUE_BYTES_MAX {
        return refused("its NameID is too long");
    }
    check_confirmation(subject, expected)?;
    check_conditions(assertion, expected)?;
    let statements: Vec<Node<'_, '_>> = assertion.children(SAML, "AuthnStatement").collect();
    let statement = statements.first().or_refused("it does not say that anybody signed in")?;
    if time_of(*statement, "SessionNotOnOrAfter")?.is_some_and(|end| end <= now) {
        return refused("the session at the provider is over");
    }
    Ok(SignedIn {
        assertion_id: assertion_id.to_owned(),
        // Later than that it is refused by its age.
        remember_until: issued + bounds::ASSERTION_AGE_MAX + leeway + leeway,
        name_id,
        attributes: attributes(assertion)?,
        session_index: statement.attribute("SessionIndex").map(ToOwned::to_owned),
    })
}

/// saml-profiles-2.0 section 4.1.4.3: for us, for this request, and not for long.
fn check_confirmation(subject: Node<'_, '_>, expected: Expected<'_>) -> Result<(), Refused> {
    let confirmation = subject.only(SAML, "SubjectConfirmation");
    let confirmation = confirmation.or_refused("it has not one SubjectConfirmation")?;
    if confirmation.attribute("Method") != Some(BEARER) {
        return refused("it is not for its bearer");
    }
    let data = confirmation.only(SAML, "SubjectConfirmationData");
    let data = data.or_refused("its SubjectConfirmation has no data")?;
    if data.attribute("Recipient") != Some(expected.service.acs_url.as_str()) {
        return refused("it is for another recipient");
    }
    if data.attribute("InResponseTo") != Some(expected.request_id) {
        return refused("its assertion answers no pending request");
    }
    match time_of(data, "NotOnOrAfter")? {
        None => refused("its SubjectConfirmation has no end"),
        Some(_) => check_window(data, expected.now),
    }
}

fn check_conditions(assertion: Node<'_, '_>, expected: Expected<'_>) -> Result<(), Refused> {
    let conditions = assertion.only(SAML, "Conditions").or_refused("it has no Conditions")?;
    check_window(conditions, expected.now)?;
    let mut restrictions = 0_usize;
    for condition in conditions.elements() {
        if condition.is(SAML, "AudienceRestriction") {
            restrictions += 1;
            let mut audiences = condition.children(SAML, "Audience").filter_map(Node::text);
            if !audiences.any(|audience| audience == expected.service.entity_id) {
                return refused("it is for another audience");
            }
        } else if !condition.is(SAML, "OneTimeUse") && !condition.is(SAML, "ProxyRestriction") {
            return refused("it has a condition that is not understood");
        }
    }
    if restrictions == 0 { refused("it names no audience") } else { Ok(()) }
}

fn check_window(node: Node<'_, '_>, now: OffsetDateTime) -> Result<(), Refused> {
    if time_of(node, "NotBefore")?.is_some_and(|start| start > now + bounds::CLOCK_LEEWAY) {
        return refused("it is not valid yet; compare the clocks");
    }
    if time_of(node, "NotOnOrAfter")?.is_some_and(|end| end + bounds::CLOCK_LEEWAY <= now) {
        return refused("it is no longer valid; compare the clocks");
    }
    Ok(())
}

/// A time; a text that is none is refused, never passed over.
fn time_of(node: Node<'_, '_>, name: &str) -> Result<Option<OffsetDateTime>, Refused> {
    let Some(text) = node.attribute(name) else { return Ok(None) };
    let time = OffsetDateTime::parse(text, &Rfc3339);
    time.map(Some).map_err(|_| Refused("it has a time that is none".to_owned()))
}

fn attributes(assertion: Node<'_, '_>) -> Result<BTreeMap<String, Vec<String>>, Refused> {
    let mut attributes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut count = 0_usize;
    for statement in assertion.children(SAML, "AttributeStatement") {
        for attribute in statement.children(SAML, "Attribute") {
            let Some(name) = attribute.attribute("Name") else { continue };
            let values = attributes.entry(name.to_owned()).or_default();
            for value in attribute.children(SAML, "AttributeValue") {
                count += 1;
                if count > bounds::VALUES_MAX {
                    return refused(format!("it has more than {} values", bounds::VALUES_MAX));
                }
                // A value with elements in it is of a kind that nobody asks for.
                let Some(text) = value.text() else { continue };
                if text.len() > bounds::VALUE_BYTES_MAX {
                    return refused("one of its values is too long");
                }
                values.push(text);
            }
        }
    }
    Ok(attributes)
}
