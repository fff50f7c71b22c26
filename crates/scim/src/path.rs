//! What a name in a filter, path or projection means, by the table of attributes.

use scim_v2::filter::AttrPath;

use crate::error::{ErrorType, ScimError};
use crate::schema::{Attribute, COMMON_ATTRIBUTES, ResourceKind, find};

/// A place in a document.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// An extension as a whole.
    Extension(&'static str),
    Attribute(Named),
}

/// An attribute, where it is, and which part of it is meant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named {
    /// The extension that holds it; the document itself when absent.
    pub(crate) extension: Option<&'static str>,
    pub(crate) attribute: &'static Attribute,
    pub(crate) part: Option<&'static Attribute>,
}

impl Place {
    /// # Errors
    /// Of the given type, when there is no such attribute: whoever wrote the name is to blame.
    pub(crate) fn of(
        kind: ResourceKind,
        path: &AttrPath,
        error: ErrorType,
    ) -> Result<Self, ScimError> {
        let unknown = || {
            let detail = format!("there is no attribute '{path}'; /Schemas lists those there are");
            ScimError::bad(error, detail)
        };
        let extension = kind.extension();
        if let (Some(uri), Some((schema, _))) = (&path.uri, extension) {
            // The last word of a bare URN reads as an attribute's name.
            let is_whole = schema
                .rsplit_once(':')
                .is_some_and(|(before, last)| same(before, uri) && same(last, &path.name));
            if is_whole && path.sub_attr.is_none() {
                return Ok(Self::Extension(schema));
            }
        }
        let (holder, attribute) = match &path.uri {
            None => (None, find(kind.attributes(), &path.name)),
            Some(uri) if same(uri, kind.schema()) => (None, find(kind.attributes(), &path.name)),
            Some(uri) => match extension.filter(|(schema, _)| same(schema, uri)) {
                Some((schema, attributes)) => (Some(schema), find(attributes, &path.name)),
                None => return Err(unknown()),
            },
        };
        let common = || find(&COMMON_ATTRIBUTES, &path.name).filter(|_| holder.is_none());
        let attribute = attribute.or_else(common).ok_or_else(unknown)?;
        let part = match &path.sub_attr {
            None => None,
            Some(name) => Some(attribute.part(name).ok_or_else(unknown)?),
        };
        Ok(Self::Attribute(Named { extension: holder, attribute, part }))
    }
}

pub(crate) fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}
