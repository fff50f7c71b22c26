//! What there is: resource types and their attributes (RFC 7643 sections 4, 7 and 8.7), as one
//! table that is both published and obeyed.
//!
//! `password` is left out: nobody signs in here with a provider's password, so none is taken.

use serde_json::{Map, Value, json};

pub const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
pub const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
pub const ENTERPRISE_USER: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

/// The two kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    User,
    Group,
}

impl ResourceKind {
    pub const ALL: [Self; 2] = [Self::User, Self::Group];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Group => "Group",
        }
    }

    /// The folder of its documents, below the base of the service.
    #[must_use]
    pub fn endpoint(self) -> &'static str {
        match self {
            Self::User => "Users",
            Self::Group => "Groups",
        }
    }

    #[must_use]
    pub fn schema(self) -> &'static str {
        match self {
            Self::User => USER,
            Self::Group => GROUP,
        }
    }

    #[must_use]
    pub(crate) fn attributes(self) -> &'static [Attribute] {
        match self {
            Self::User => &USER_ATTRIBUTES,
            Self::Group => &GROUP_ATTRIBUTES,
        }
    }

    /// The schema that extends it.
    #[must_use]
    pub(crate) fn extension(self) -> Option<(&'static str, &'static [Attribute])> {
        match self {
            Self::User => Some((ENTERPRISE_USER, &ENTERPRISE_ATTRIBUTES)),
            Self::Group => None,
        }
    }

    /// The attribute that a document cannot be without: its name.
    #[must_use]
    pub(crate) fn name_attribute(self) -> &'static str {
        match self {
            Self::User => "userName",
            Self::Group => "displayName",
        }
    }
}

/// A type of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Text,
    Boolean,
    Time,
    Reference,
    Binary,
    Complex,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutability {
    ReadWrite,
    ReadOnly,
    /// Set with the value that holds it, and never after.
    Immutable,
}

/// One attribute, or one of its parts.
#[derive(Debug)]
pub(crate) struct Attribute {
    pub(crate) name: &'static str,
    pub(crate) of: Type,
    pub(crate) has_many: bool,
    pub(crate) is_required: bool,
    pub(crate) is_case_exact: bool,
    pub(crate) is_unique: bool,
    pub(crate) mutability: Mutability,
    pub(crate) usual: &'static [&'static str],
    pub(crate) refers_to: &'static [&'static str],
    pub(crate) parts: &'static [Attribute],
}

impl Attribute {
    const fn new(name: &'static str, of: Type) -> Self {
        Self {
            name,
            of,
            has_many: false,
            is_required: false,
            is_case_exact: false,
            is_unique: false,
            mutability: Mutability::ReadWrite,
            usual: &[],
            refers_to: &[],
            parts: &[],
        }
    }

    const fn text(name: &'static str) -> Self {
        Self::new(name, Type::Text)
    }

    const fn reference(name: &'static str, refers_to: &'static [&'static str]) -> Self {
        Self { refers_to, is_case_exact: true, ..Self::new(name, Type::Reference) }
    }

    const fn complex(name: &'static str, parts: &'static [Attribute]) -> Self {
        Self { parts, ..Self::new(name, Type::Complex) }
    }

    const fn many(self) -> Self {
        Self { has_many: true, ..self }
    }

    const fn exact(self) -> Self {
        Self { is_case_exact: true, ..self }
    }

    const fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    const fn unique(self) -> Self {
        Self { is_unique: true, ..self }
    }

    const fn usually(self, usual: &'static [&'static str]) -> Self {
        Self { usual, ..self }
    }

    const fn changed_by(self, mutability: Mutability) -> Self {
        Self { mutability, ..self }
    }

    /// A part by name, without regard to case.
    pub(crate) fn part(&self, name: &str) -> Option<&'static Attribute> {
        find(self.parts, name)
    }
}

/// An attribute by name, without regard to case (RFC 7643 section 2.1).
pub(crate) fn find(attributes: &'static [Attribute], name: &str) -> Option<&'static Attribute> {
    attributes.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name))
}

use Mutability::{Immutable, ReadOnly};

const VALUE: Attribute = Attribute::text("value");
const DISPLAY: Attribute = Attribute::text("display");
const KIND: Attribute = Attribute::text("type");
const PRIMARY: Attribute = Attribute::new("primary", Type::Boolean);

/// What every document has (RFC 7643 section 3.1).
pub(crate) static COMMON_ATTRIBUTES: [Attribute; 4] = [
    Attribute::reference("schemas", &["uri"]).many().changed_by(ReadOnly),
    Attribute::text("id").exact().changed_by(ReadOnly),
    Attribute::text("externalId").exact(),
    Attribute::complex("meta", &META_PARTS).changed_by(ReadOnly),
];

static META_PARTS: [Attribute; 5] = [
    Attribute::text("resourceType").exact().changed_by(ReadOnly),
    Attribute::new("created", Type::Time).changed_by(ReadOnly),
    Attribute::new("lastModified", Type::Time).changed_by(ReadOnly),
    Attribute::reference("location", &["uri"]).changed_by(ReadOnly),
    Attribute::text("version").exact().changed_by(ReadOnly),
];

static NAME_PARTS: [Attribute; 6] = [
    Attribute::text("formatted"),
    Attribute::text("familyName"),
    Attribute::text("givenName"),
    Attribute::text("middleName"),
    Attribute::text("honorificPrefix"),
    Attribute::text("honorificSuffix"),
];

static PLAIN_PARTS: [Attribute; 4] = [VALUE, DISPLAY, KIND, PRIMARY];
static EMAIL_PARTS: [Attribute; 4] =
    [VALUE, DISPLAY, KIND.usually(&["work", "home", "other"]), PRIMARY];
static PHONE_PARTS: [Attribute; 4] =
    [VALUE, DISPLAY, KIND.usually(&["work", "home", "mobile", "fax", "pager", "other"]), PRIMARY];
static PHOTO_PARTS: [Attribute; 4] = [
    Attribute::reference("value", &["external"]),
    DISPLAY,
    KIND.usually(&["photo", "thumbnail"]),
    PRIMARY,
];
static CERTIFICATE_PARTS: [Attribute; 4] =
    [Attribute::new("value", Type::Binary).exact(), DISPLAY, KIND, PRIMARY];
static ADDRESS_PARTS: [Attribute; 8] = [
    Attribute::text("formatted"),
    Attribute::text("streetAddress"),
    Attribute::text("locality"),
    Attribute::text("region"),
    Attribute::text("postalCode"),
    Attribute::text("country"),
    KIND.usually(&["work", "home", "other"]),
    PRIMARY,
];
static GROUPS_PARTS: [Attribute; 4] = [
    VALUE.changed_by(ReadOnly),
    Attribute::reference("$ref", &["Group"]).changed_by(ReadOnly),
    DISPLAY.changed_by(ReadOnly),
    KIND.usually(&["direct"]).changed_by(ReadOnly),
];

static USER_ATTRIBUTES: [Attribute; 20] = [
    Attribute::text("userName").required().unique(),
    Attribute::complex("name", &NAME_PARTS),
    Attribute::text("displayName"),
    Attribute::text("nickName"),
    Attribute::reference("profileUrl", &["external"]),
    Attribute::text("title"),
    Attribute::text("userType"),
    Attribute::text("preferredLanguage"),
    Attribute::text("locale"),
    Attribute::text("timezone"),
    Attribute::new("active", Type::Boolean),
    Attribute::complex("emails", &EMAIL_PARTS).many(),
    Attribute::complex("phoneNumbers", &PHONE_PARTS).many(),
    Attribute::complex("ims", &PLAIN_PARTS).many(),
    Attribute::complex("photos", &PHOTO_PARTS).many(),
    Attribute::complex("addresses", &ADDRESS_PARTS).many(),
    Attribute::complex("groups", &GROUPS_PARTS).many().changed_by(ReadOnly),
    Attribute::complex("entitlements", &PLAIN_PARTS).many(),
    Attribute::complex("roles", &PLAIN_PARTS).many(),
    Attribute::complex("x509Certificates", &CERTIFICATE_PARTS).many(),
];

static MEMBER_PARTS: [Attribute; 4] = [
    VALUE.exact().changed_by(Immutable),
    Attribute::reference("$ref", &["User"]).changed_by(Immutable),
    DISPLAY.changed_by(Immutable),
    KIND.usually(&["User"]).changed_by(Immutable),
];

static GROUP_ATTRIBUTES: [Attribute; 2] = [
    Attribute::text("displayName").required(),
    Attribute::complex("members", &MEMBER_PARTS).many(),
];

static MANAGER_PARTS: [Attribute; 3] = [
    VALUE.exact(),
    Attribute::reference("$ref", &["User"]),
    Attribute::text("displayName").changed_by(ReadOnly),
];

static ENTERPRISE_ATTRIBUTES: [Attribute; 6] = [
    Attribute::text("employeeNumber"),
    Attribute::text("costCenter"),
    Attribute::text("organization"),
    Attribute::text("division"),
    Attribute::text("department"),
    Attribute::complex("manager", &MANAGER_PARTS),
];

/// The documents of `/ResourceTypes` (RFC 7643 section 6). `base` is the address of the service.
#[must_use]
pub fn resource_types(base: &str) -> Vec<Value> {
    let of = |kind: ResourceKind| {
        let extensions: Vec<Value> = kind
            .extension()
            .map(|(schema, _)| json!({"schema": schema, "required": false}))
            .into_iter()
            .collect();
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
            "id": kind.name(),
            "name": kind.name(),
            "endpoint": format!("/{}", kind.endpoint()),
            "schema": kind.schema(),
            "schemaExtensions": extensions,
            "meta": {
                "resourceType": "ResourceType",
                "location": format!("{base}/ResourceTypes/{}", kind.name()),
            },
        })
    };
    ResourceKind::ALL.into_iter().map(of).collect()
}

/// The documents of `/Schemas` (RFC 7643 section 7).
#[must_use]
pub fn schemas(base: &str) -> Vec<Value> {
    let listed = [
        (USER, "User", "A person", attributes_json(&USER_ATTRIBUTES)),
        (GROUP, "Group", "A group of people", attributes_json(&GROUP_ATTRIBUTES)),
        (
            ENTERPRISE_USER,
            "EnterpriseUser",
            "What an organisation adds to a person",
            attributes_json(&ENTERPRISE_ATTRIBUTES),
        ),
        (
            "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig",
            "ServiceProviderConfig",
            "What this service can do",
            attributes_json(&PROVIDER_ATTRIBUTES),
        ),
        (
            "urn:ietf:params:scim:schemas:core:2.0:ResourceType",
            "ResourceType",
            "A kind of resource",
            attributes_json(&TYPE_ATTRIBUTES),
        ),
        (
            "urn:ietf:params:scim:schemas:core:2.0:Schema",
            "Schema",
            "The attributes of a kind of resource",
            attributes_json(&SCHEMA_ATTRIBUTES),
        ),
    ];
    let document = |(id, name, description, attributes): (&str, &str, &str, Value)| {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
            "id": id,
            "name": name,
            "description": description,
            "attributes": attributes,
            "meta": {"resourceType": "Schema", "location": format!("{base}/Schemas/{id}")},
        })
    };
    listed.into_iter().map(document).collect()
}

/// The document of `/ServiceProviderConfig` (RFC 7643 section 5).
#[must_use]
pub fn service_provider_config(base: &str) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": {"supported": true},
        "bulk": {"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": true, "maxResults": crate::bounds::PAGE_LEN_MAX},
        "changePassword": {"supported": false},
        "sort": {"supported": false},
        "etag": {"supported": true},
        "authenticationSchemes": [{
            "type": "oauthbearertoken",
            "name": "Bearer token",
            "description": "The token that the provider's `scim` names",
            "primary": true,
        }],
        "meta": {
            "resourceType": "ServiceProviderConfig",
            "location": format!("{base}/ServiceProviderConfig"),
        },
    })
}

fn attributes_json(attributes: &[Attribute]) -> Value {
    attributes.iter().map(attribute_json).collect()
}

fn attribute_json(attribute: &Attribute) -> Value {
    let of = match attribute.of {
        Type::Text => "string",
        Type::Boolean => "boolean",
        Type::Time => "dateTime",
        Type::Reference => "reference",
        Type::Binary => "binary",
        Type::Complex => "complex",
    };
    let mutability = match attribute.mutability {
        Mutability::ReadWrite => "readWrite",
        Mutability::ReadOnly => "readOnly",
        Mutability::Immutable => "immutable",
    };
    let mut keys = Map::new();
    keys.insert("name".to_owned(), attribute.name.into());
    keys.insert("type".to_owned(), of.into());
    keys.insert("multiValued".to_owned(), attribute.has_many.into());
    keys.insert("required".to_owned(), attribute.is_required.into());
    keys.insert("caseExact".to_owned(), attribute.is_case_exact.into());
    keys.insert("mutability".to_owned(), mutability.into());
    keys.insert("returned".to_owned(), "default".into());
    keys.insert(
        "uniqueness".to_owned(),
        if attribute.is_unique { "server" } else { "none" }.into(),
    );
    if !attribute.usual.is_empty() {
        keys.insert("canonicalValues".to_owned(), attribute.usual.into());
    }
    if !attribute.refers_to.is_empty() {
        keys.insert("referenceTypes".to_owned(), attribute.refers_to.into());
    }
    if !attribute.parts.is_empty() {
        keys.insert("subAttributes".to_owned(), attributes_json(attribute.parts));
    }
    Value::Object(keys)
}

static FEATURE_PARTS: [Attribute; 1] =
    [Attribute::new("supported", Type::Boolean).required().changed_by(ReadOnly)];

const fn feature(name: &'static str) -> Attribute {
    Attribute::complex(name, &FEATURE_PARTS).required().changed_by(ReadOnly)
}

static SCHEME_PARTS: [Attribute; 3] = [
    Attribute::text("type").required().changed_by(ReadOnly),
    Attribute::text("name").required().changed_by(ReadOnly),
    Attribute::text("description").required().changed_by(ReadOnly),
];

static PROVIDER_ATTRIBUTES: [Attribute; 7] = [
    feature("patch"),
    feature("bulk"),
    feature("filter"),
    feature("changePassword"),
    feature("sort"),
    feature("etag"),
    Attribute::complex("authenticationSchemes", &SCHEME_PARTS)
        .many()
        .required()
        .changed_by(ReadOnly),
];

static EXTENSION_PARTS: [Attribute; 2] = [
    Attribute::reference("schema", &["uri"]).required().changed_by(ReadOnly),
    Attribute::new("required", Type::Boolean).required().changed_by(ReadOnly),
];

static TYPE_ATTRIBUTES: [Attribute; 5] = [
    Attribute::text("id").changed_by(ReadOnly),
    Attribute::text("name").required().changed_by(ReadOnly),
    Attribute::reference("endpoint", &["uri"]).required().changed_by(ReadOnly),
    Attribute::reference("schema", &["uri"]).required().changed_by(ReadOnly),
    Attribute::complex("schemaExtensions", &EXTENSION_PARTS).many().changed_by(ReadOnly),
];

static SCHEMA_ATTRIBUTES: [Attribute; 4] = [
    Attribute::text("id").required().changed_by(ReadOnly),
    Attribute::text("name").changed_by(ReadOnly),
    Attribute::text("description").changed_by(ReadOnly),
    Attribute::complex("attributes", &SCHEMA_PARTS).many().required().changed_by(ReadOnly),
];

static SCHEMA_PARTS: [Attribute; 3] = [
    Attribute::text("name").required().changed_by(ReadOnly),
    Attribute::text("type").required().changed_by(ReadOnly),
    Attribute::new("multiValued", Type::Boolean).required().changed_by(ReadOnly),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_type_names_a_published_schema() {
        let schemas = schemas("https://corral/scim/v2");
        for kind in resource_types("https://corral/scim/v2") {
            assert!(schemas.iter().any(|schema| schema["id"] == kind["schema"]), "{kind}");
        }
    }

    #[test]
    fn no_password_is_published() {
        let text = serde_json::to_string(&schemas("")).expect("is JSON");
        assert!(!text.contains("password"));
    }
}
