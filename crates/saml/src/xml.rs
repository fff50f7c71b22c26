//! Documents of which every part means something: parsed without DTD, and refused when they hold
//! what only serves to show one reader something else than another.

use std::collections::BTreeSet;

use uppsala::{Document, NodeId, NodeKind, Parser};

use crate::bounds;

pub(crate) const SAML: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
pub(crate) const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
pub(crate) const METADATA: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
pub(crate) const SIGNATURE: &str = "http://www.w3.org/2000/09/xmldsig#";

/// Why a text is not taken as a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum XmlError {
    #[error("it is not XML without a DTD of at most {} levels", bounds::DEPTH_MAX)]
    Malformed,
    #[error("it holds a comment or a processing instruction")]
    Hidden,
    #[error("it has more than {} elements", bounds::ELEMENTS_MAX)]
    TooLarge,
    #[error("two elements have the same id")]
    TwoIds,
}

/// Parses, and looks at every node once.
pub(crate) fn parse(text: &str) -> Result<Document<'_>, XmlError> {
    let parser = Parser::new().with_forbid_dtd(true).with_max_depth(bounds::DEPTH_MAX);
    let document = parser.parse(text).map_err(|_| XmlError::Malformed)?;
    let mut ids: BTreeSet<&str> = BTreeSet::new();
    let mut elements = 0_usize;
    for node in document.descendants(document.root()) {
        match document.node_kind(node) {
            Some(NodeKind::Comment(_) | NodeKind::ProcessingInstruction(_)) => {
                return Err(XmlError::Hidden);
            }
            Some(NodeKind::Element(element)) => {
                elements += 1;
                for attribute in &element.attributes {
                    let is_id = attribute.name.local_name.eq_ignore_ascii_case("id");
                    if is_id && !ids.insert(&attribute.value) {
                        return Err(XmlError::TwoIds);
                    }
                }
            }
            Some(
                NodeKind::Document
                | NodeKind::Text(_)
                | NodeKind::CData(_)
                | NodeKind::Attribute(_, _),
            )
            | None => {}
        }
    }
    if elements > bounds::ELEMENTS_MAX {
        return Err(XmlError::TooLarge);
    }
    Ok(document)
}

/// An element and the document that it is in.
#[derive(Clone, Copy)]
pub(crate) struct Node<'d, 't> {
    pub(crate) document: &'d Document<'t>,
    pub(crate) id: NodeId,
}

impl<'d, 't> Node<'d, 't> {
    /// The outermost element.
    pub(crate) fn outermost(document: &'d Document<'t>) -> Option<Self> {
        document.document_element().map(|id| Self { document, id })
    }

    pub(crate) fn is(self, namespace: &str, name: &str) -> bool {
        let element = self.document.element(self.id);
        element.is_some_and(|element| element.name.matches(Some(namespace), name))
    }

    /// An attribute without a namespace.
    pub(crate) fn attribute(self, name: &str) -> Option<&'d str> {
        let element = self.document.element(self.id)?;
        let found = element.attributes.iter().find(|found| found.name.matches(None, name))?;
        Some(&found.value)
    }

    pub(crate) fn parent(self) -> Option<Self> {
        self.document.parent(self.id).map(|id| Self { id, ..self })
    }

    /// All elements directly below it.
    pub(crate) fn elements(self) -> impl Iterator<Item = Self> + use<'d, 't> {
        let children = self.document.children(self.id).into_iter();
        let nodes = children.map(move |id| Self { id, ..self });
        nodes.filter(|node| node.document.element(node.id).is_some())
    }

    /// The elements of one name directly below it.
    pub(crate) fn children(
        self,
        namespace: &'static str,
        name: &'static str,
    ) -> impl Iterator<Item = Self> + use<'d, 't> {
        self.elements().filter(move |node| node.is(namespace, name))
    }

    /// The one element of this name directly below it; none when there is none, or several.
    pub(crate) fn only(self, namespace: &'static str, name: &'static str) -> Option<Self> {
        let mut found = self.children(namespace, name);
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// The elements of one name anywhere in it.
    pub(crate) fn all_below(self, namespace: &str, name: &str) -> Vec<Self> {
        let nodes = self.document.descendants(self.id).into_iter();
        let nodes = nodes.map(|id| Self { id, ..self });
        nodes.filter(|node| node.is(namespace, name)).collect()
    }

    /// Its text; none when it holds elements.
    pub(crate) fn text(self) -> Option<String> {
        let mut text = String::new();
        for child in self.document.children(self.id) {
            match self.document.node_kind(child) {
                Some(NodeKind::Text(part) | NodeKind::CData(part)) => text.push_str(part),
                Some(
                    NodeKind::Element(_)
                    | NodeKind::Document
                    | NodeKind::Comment(_)
                    | NodeKind::ProcessingInstruction(_)
                    | NodeKind::Attribute(_, _),
                )
                | None => return None,
            }
        }
        Some(text.trim().to_owned())
    }

    /// The text of the one element of this name directly below it.
    pub(crate) fn text_of(self, namespace: &'static str, name: &'static str) -> Option<String> {
        self.only(namespace, name)?.text()
    }
}

/// A text as it stands in an attribute or between tags.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Base 64 as XML writes it, with white space.
pub(crate) fn decoded(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    base64::engine::general_purpose::STANDARD.decode(packed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let check = |text: &str, expect: Option<XmlError>| {
            assert_eq!(parse(text).err(), expect, "{text}");
        };
        check("<a><b ID='1'/><c Id='2'/></a>", None);
        check("<a>x<!-- y --></a>", Some(XmlError::Hidden));
        check("<a><?x y?></a>", Some(XmlError::Hidden));
        check("<!DOCTYPE a><a/>", Some(XmlError::Malformed));
        check(
            "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
            Some(XmlError::Malformed),
        );
        check("<a>&x;</a>", Some(XmlError::Malformed));
        check("<a><b ID='1'/><c id='1'/></a>", Some(XmlError::TwoIds));
        check("<a><b></a>", Some(XmlError::Malformed));
        let deep = format!("{}{}", "<a>".repeat(1_000), "</a>".repeat(1_000));
        check(&deep, Some(XmlError::Malformed));
        let wide = format!("<a>{}</a>", "<b/>".repeat(bounds::ELEMENTS_MAX));
        check(&wide, Some(XmlError::TooLarge));
    }
}
