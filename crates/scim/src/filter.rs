//! Filters (RFC 7644 section 3.4.2.2): read by the grammar of `scim_v2`, bound to the table of
//! attributes, and asked of documents.

use std::cmp::Ordering;

use scim_v2::filter as grammar;
use scim_v2::filter::{AttrExp, AttrPath, CompValue, CompareOp, ValFilter};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::bounds;
use crate::error::{ErrorType, ScimError};
use crate::path::{Named, Place, same};
use crate::schema::{Attribute, ResourceKind, Type};

/// A filter whose names all mean something.
#[derive(Debug, Clone)]
pub struct Filter(Test);

impl Filter {
    /// # Errors
    /// `invalidFilter`: no filter, a name that the kind does not have, or an operator that its
    /// type does not take.
    ///
    /// # Limits
    /// [`bounds::FILTER_BYTES_MAX`]; 64 levels and 1,024 comparisons by the grammar.
    pub fn read(kind: ResourceKind, text: &str) -> Result<Self, ScimError> {
        if text.len() > bounds::FILTER_BYTES_MAX {
            let most = bounds::FILTER_BYTES_MAX;
            return Err(invalid(format!("the filter is longer than {most} bytes")));
        }
        let filter: grammar::Filter =
            text.parse().map_err(|error| invalid(format!("this is no filter: {error}")))?;
        Ok(Self(Test::of_filter(kind, &filter)?))
    }

    /// Whether it holds of a document as it is shown.
    #[must_use]
    pub fn matches(&self, shown: &Map<String, Value>) -> bool {
        self.0.matches(shown)
    }

    /// By what the few documents can be found of which it may hold, as providers ask before they
    /// write somebody. None: all have to be looked at.
    #[must_use]
    pub fn key(&self, kind: ResourceKind) -> Option<Key<'_>> {
        self.0.key(kind)
    }
}

/// What a document must have for a filter to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'f> {
    Id(&'f str),
    /// `userName` or `displayName`, in lower case.
    Name(&'f str),
    ExternalId(&'f str),
    /// One of a person's e-mail addresses, in lower case.
    Email(&'f str),
    /// The id of one of a group's members.
    Member(&'f str),
}

fn invalid(detail: impl Into<String>) -> ScimError {
    ScimError::bad(ErrorType::InvalidFilter, detail)
}

/// A question to a document, or to one value of an attribute.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    Present(Field),
    Compare {
        field: Field,
        op: Op,
        to: Operand,
    },
    /// Some value of the attribute passes.
    Within {
        named: Named,
        test: Box<Test>,
    },
}

/// Where a question looks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Field {
    Document(Named),
    /// A part of the value that is looked at.
    Part(&'static Attribute),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Eq,
    Ne,
    Contains,
    Starts,
    Ends,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Op {
    /// Whether it holds of how a value compares to the wanted one.
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Eq => ordering.is_eq(),
            Self::Ne => ordering.is_ne(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Contains | Self::Starts | Self::Ends => false,
        }
    }

    /// Whether it looks into texts, which times do not take.
    fn is_of_texts(self) -> bool {
        matches!(self, Self::Contains | Self::Starts | Self::Ends)
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Operand {
    Text(String),
    Boolean(bool),
    Time(OffsetDateTime),
    Null,
}

impl Test {
    fn of_filter(kind: ResourceKind, filter: &grammar::Filter) -> Result<Self, ScimError> {
        let each = |filters: &[grammar::Filter]| -> Result<Vec<Self>, ScimError> {
            filters.iter().map(|filter| Self::of_filter(kind, filter)).collect()
        };
        let named = |path: &AttrPath| match Place::of(kind, path, ErrorType::InvalidFilter)? {
            Place::Attribute(named) => Ok(named),
            Place::Extension(schema) => {
                Err(invalid(format!("{schema} is a schema; name one of its attributes")))
            }
        };
        Ok(match filter {
            grammar::Filter::Attr(expression) => {
                let path = match expression {
                    AttrExp::Present(path) | AttrExp::Comparison(path, _, _) => path,
                };
                Self::of_expression(Field::Document(named(path)?), expression)?
            }
            grammar::Filter::ValuePath(path) => {
                let named = named(&path.attr)?;
                let test = Box::new(Self::of_values(named.attribute, &path.filter)?);
                Self::Within { named, test }
            }
            grammar::Filter::Not(inner) => Self::Not(Box::new(Self::of_filter(kind, inner)?)),
            grammar::Filter::And(filters) => Self::All(each(filters)?),
            grammar::Filter::Or(filters) => Self::Any(each(filters)?),
        })
    }

    /// A question to one value of an attribute.
    pub(crate) fn of_values(
        attribute: &'static Attribute,
        filter: &ValFilter,
    ) -> Result<Self, ScimError> {
        let each = |filters: &[ValFilter]| -> Result<Vec<Self>, ScimError> {
            filters.iter().map(|filter| Self::of_values(attribute, filter)).collect()
        };
        Ok(match filter {
            ValFilter::Attr(expression) => {
                let path = match expression {
                    AttrExp::Present(path) | AttrExp::Comparison(path, _, _) => path,
                };
                let part = attribute
                    .part(&path.name)
                    .filter(|_| path.uri.is_none() && path.sub_attr.is_none());
                let part = part
                    .ok_or_else(|| invalid(format!("'{}' has no part '{path}'", attribute.name)))?;
                Self::of_expression(Field::Part(part), expression)?
            }
            ValFilter::Not(inner) => Self::Not(Box::new(Self::of_values(attribute, inner)?)),
            ValFilter::And(filters) => Self::All(each(filters)?),
            ValFilter::Or(filters) => Self::Any(each(filters)?),
        })
    }

    fn of_expression(field: Field, expression: &AttrExp) -> Result<Self, ScimError> {
        let AttrExp::Comparison(path, op, to) = expression else {
            return Ok(Self::Present(field));
        };
        let op = match op {
            CompareOp::Eq => Op::Eq,
            CompareOp::Ne => Op::Ne,
            CompareOp::Co => Op::Contains,
            CompareOp::Sw => Op::Starts,
            CompareOp::Ew => Op::Ends,
            CompareOp::Gt => Op::Greater,
            CompareOp::Ge => Op::GreaterOrEqual,
            CompareOp::Lt => Op::Less,
            CompareOp::Le => Op::LessOrEqual,
        };
        let leaf = field.leaf().ok_or_else(|| {
            invalid(format!("'{path}' has parts; name one of them, such as '{path}.value'"))
        })?;
        let unfit = || invalid(format!("'{path}' cannot be compared so: {expression}"));
        let to = match (leaf.of, to) {
            (_, CompValue::Null) => Operand::Null,
            (Type::Boolean, CompValue::True) => Operand::Boolean(true),
            (Type::Boolean, CompValue::False) => Operand::Boolean(false),
            (Type::Boolean, CompValue::Str(text)) if same(text, "true") => Operand::Boolean(true),
            (Type::Boolean, CompValue::Str(text)) if same(text, "false") => Operand::Boolean(false),
            (Type::Time, CompValue::Str(text)) => {
                Operand::Time(OffsetDateTime::parse(text, &Rfc3339).map_err(|_| unfit())?)
            }
            (Type::Text | Type::Reference | Type::Binary, CompValue::Str(text)) => {
                let is_exact = leaf.is_case_exact;
                Operand::Text(if is_exact { text.clone() } else { text.to_lowercase() })
            }
            _ => return Err(unfit()),
        };
        let is_fit = match (&to, op) {
            (_, Op::Eq | Op::Ne) => true,
            (Operand::Text(_), _) => true,
            (Operand::Time(_), op) => !op.is_of_texts(),
            (Operand::Boolean(_) | Operand::Null, _) => false,
        };
        if is_fit { Ok(Self::Compare { field, op, to }) } else { Err(unfit()) }
    }

    pub(crate) fn matches(&self, holder: &Map<String, Value>) -> bool {
        match self {
            Self::All(tests) => tests.iter().all(|test| test.matches(holder)),
            Self::Any(tests) => tests.iter().any(|test| test.matches(holder)),
            Self::Not(test) => !test.matches(holder),
            Self::Present(field) => field.values(holder).next().is_some(),
            Self::Compare { field, op, to } => compare(*field, *op, to, holder),
            Self::Within { named, test } => {
                let mut values = named.values(holder).filter_map(Value::as_object);
                values.any(|value| test.matches(value))
            }
        }
    }

    fn key(&self, kind: ResourceKind) -> Option<Key<'_>> {
        match self {
            Self::All(tests) => tests.iter().find_map(|test| test.key(kind)),
            Self::Compare { field: Field::Document(named), op: Op::Eq, to } => {
                let Operand::Text(text) = to else { return None };
                let is_value = named.part.is_none_or(|part| part.name == "value");
                key_at(kind, *named, text).filter(|_| is_value)
            }
            Self::Within { named, test } => key_at(kind, *named, test.asked_value()?),
            Self::Compare { .. } | Self::Any(_) | Self::Not(_) | Self::Present(_) => None,
        }
    }

    /// The one `value` of which this holds.
    pub(crate) fn asked_value(&self) -> Option<&str> {
        match self {
            Self::Compare { field: Field::Part(part), op: Op::Eq, to: Operand::Text(text) } => {
                (part.name == "value").then_some(text)
            }
            Self::Compare { .. }
            | Self::All(_)
            | Self::Any(_)
            | Self::Not(_)
            | Self::Present(_)
            | Self::Within { .. } => None,
        }
    }

    /// The value that this describes, where it only says what parts are equal to.
    pub(crate) fn described(&self) -> Option<Map<String, Value>> {
        match self {
            Self::All(tests) => {
                let mut described = Map::new();
                for test in tests {
                    described.extend(test.described()?);
                }
                Some(described)
            }
            Self::Compare { field: Field::Part(part), op: Op::Eq, to } => {
                let value = match to {
                    Operand::Text(text) => Value::String(text.clone()),
                    Operand::Boolean(is_it) => Value::Bool(*is_it),
                    Operand::Time(_) | Operand::Null => return None,
                };
                Some(Map::from_iter([(part.name.to_owned(), value)]))
            }
            Self::Any(_)
            | Self::Not(_)
            | Self::Present(_)
            | Self::Compare { .. }
            | Self::Within { .. } => None,
        }
    }
}

fn key_at(kind: ResourceKind, named: Named, text: &str) -> Option<Key<'_>> {
    if named.extension.is_some() {
        return None;
    }
    match named.attribute.name {
        "id" => Some(Key::Id(text)),
        "externalId" => Some(Key::ExternalId(text)),
        "emails" => Some(Key::Email(text)),
        "members" => Some(Key::Member(text)),
        name => (name == kind.name_attribute()).then_some(Key::Name(text)),
    }
}

impl Named {
    /// Every value at this place.
    pub(crate) fn values(
        self,
        holder: &Map<String, Value>,
    ) -> impl Iterator<Item = &Value> + use<'_> {
        let holder = match self.extension {
            None => Some(holder),
            Some(schema) => holder.get(schema).and_then(Value::as_object),
        };
        let value = holder.and_then(|holder| holder.get(self.attribute.name));
        let values: &[Value] = match value {
            None => &[],
            Some(Value::Array(values)) => values,
            Some(single) => std::slice::from_ref(single),
        };
        let part = self.part;
        values.iter().filter_map(move |value| match part {
            None => Some(value),
            Some(part) => value.get(part.name),
        })
    }
}

impl Field {
    /// The attribute whose type decides; a complex one stands for its `value`.
    fn leaf(self) -> Option<&'static Attribute> {
        let attribute = match self {
            Self::Part(part) => part,
            Self::Document(named) => named.part.unwrap_or(named.attribute),
        };
        match attribute.of {
            Type::Complex => attribute.part("value"),
            _ => Some(attribute),
        }
    }

    fn values(self, holder: &Map<String, Value>) -> Box<dyn Iterator<Item = &Value> + '_> {
        match self {
            Self::Part(part) => Box::new(holder.get(part.name).into_iter()),
            Self::Document(named) => Box::new(named.values(holder)),
        }
    }
}

fn compare(field: Field, op: Op, to: &Operand, holder: &Map<String, Value>) -> bool {
    let is_exact = field.leaf().is_some_and(|leaf| leaf.is_case_exact);
    let leaf_of = |value: &'_ Value| match value {
        Value::Object(parts) => parts.get("value").cloned(),
        other => Some(other.clone()),
    };
    let mut values = field.values(holder).filter_map(leaf_of);
    match (op, to) {
        (Op::Eq, Operand::Null) => values.next().is_none(),
        (Op::Ne, Operand::Null) => values.next().is_some(),
        // Not equal to any: the opposite of `eq`, also when there is no value.
        (Op::Ne, _) => !values.any(|value| holds(Op::Eq, &value, to, is_exact)),
        (_, _) => values.any(|value| holds(op, &value, to, is_exact)),
    }
}

fn holds(op: Op, value: &Value, to: &Operand, is_exact: bool) -> bool {
    match (value, to) {
        (Value::Bool(is_it), Operand::Boolean(wanted)) => op == Op::Eq && is_it == wanted,
        (Value::String(text), Operand::Time(wanted)) => {
            OffsetDateTime::parse(text, &Rfc3339).is_ok_and(|time| op.holds(time.cmp(wanted)))
        }
        (Value::String(text), Operand::Text(wanted)) => {
            let lower = (!is_exact).then(|| text.to_lowercase());
            let text = lower.as_deref().unwrap_or(text);
            match op {
                Op::Contains => text.contains(wanted.as_str()),
                Op::Starts => text.starts_with(wanted.as_str()),
                Op::Ends => text.ends_with(wanted.as_str()),
                _ => op.holds(text.cmp(wanted.as_str())),
            }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ada() -> Map<String, Value> {
        let value = json!({
            "id": "u-1", "userName": "Ada@Example.com", "externalId": "E1", "active": true,
            "name": {"familyName": "Lovelace"},
            "emails": [
                {"value": "ada@work.example", "type": "work", "primary": true},
                {"value": "ada@home.example", "type": "home"},
            ],
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "Engines"},
            "meta": {"lastModified": "2026-11-01T10:00:00Z"},
        });
        value.as_object().cloned().unwrap_or_default()
    }

    fn check(filter: &str, expect: bool) {
        let read = Filter::read(ResourceKind::User, filter).expect(filter);
        assert_eq!(read.matches(&ada()), expect, "{filter}");
    }

    #[test]
    fn every_operator_is_that_of_rfc_7644() {
        check(r#"userName eq "ada@example.com""#, true);
        check(r#"USERNAME Eq "ada""#, false);
        check(r#"userName ne "bob""#, true);
        check(r#"userName co "EXAMPLE""#, true);
        check(r#"userName sw "ada""#, true);
        check(r#"userName ew ".org""#, false);
        check(r#"userName gt "aaa""#, true);
        check(r#"userName lt "aaa""#, false);
        check("title pr", false);
        check("emails pr", true);
        check("active eq true", true);
        check(r#"active eq "False""#, false);
        check(r#"meta.lastModified ge "2026-11-01T12:00:00+02:00""#, true);
        check(r#"meta.lastModified gt "2026-11-01T10:00:00Z""#, false);
        check("title eq null", true);
        check("userName ne null", true);
    }

    #[test]
    fn case_matters_where_the_table_says_so() {
        check(r#"externalId eq "E1""#, true);
        check(r#"externalId eq "e1""#, false);
        check(r#"id eq "U-1""#, false);
    }

    #[test]
    fn logic_grouping_value_paths_and_extensions_hold() {
        check(r#"userName eq "x" or active eq true and title pr"#, false);
        check(r#"(userName eq "x" or active eq true) and not (title pr)"#, true);
        check(r#"emails[type eq "work" and value co "@work"]"#, true);
        check(r#"emails[type eq "work" and value co "@home"]"#, false);
        check(r#"emails.type eq "home""#, true);
        check(r#"emails eq "ada@home.example""#, true);
        check(r#"emails ne "ada@home.example""#, false);
        check(r#"name.familyName sw "love""#, true);
        check(r#"urn:ietf:params:scim:schemas:core:2.0:User:userName sw "ada""#, true);
        let department = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department";
        check(&format!(r#"{department} eq "engines""#), true);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let deep = format!("{}title pr{}", "(".repeat(5_000), ")".repeat(5_000));
        let wide = vec!["title pr"; 2_000].join(" or ");
        let long = format!("title eq \"{}\"", "x".repeat(bounds::FILTER_BYTES_MAX));
        let texts = [
            "",
            "title",
            "title eq",
            "nonsense pr",
            "title.x pr",
            r#"active co "t""#,
            "active gt true",
            "userName eq 7",
            "userName eq true",
            r#"name eq "x""#,
            r#"emails[nonsense eq "x"]"#,
            r#"meta.created eq "yesterday""#,
            r#"urn:example:User:userName eq "x""#,
            deep.as_str(),
            wide.as_str(),
            long.as_str(),
        ];
        for text in texts {
            let error = Filter::read(ResourceKind::User, text).expect_err("is refused");
            assert_eq!(error.kind, Some(ErrorType::InvalidFilter), "{error}");
        }
    }

    #[test]
    fn a_question_that_few_documents_answer_is_recognised() {
        let check = |kind: ResourceKind, text: &str, expect: Option<Key<'_>>| {
            let filter = Filter::read(kind, text).expect("is a filter");
            assert_eq!(filter.key(kind), expect, "{text}");
        };
        let of_user = |text: &str, expect| check(ResourceKind::User, text, expect);
        of_user(r#"userName eq "Ada""#, Some(Key::Name("ada")));
        of_user(r#"id eq "U-1""#, Some(Key::Id("U-1")));
        of_user(r#"externalId eq "E1" and active eq true"#, Some(Key::ExternalId("E1")));
        of_user(r#"active eq true and userName eq "x""#, Some(Key::Name("x")));
        of_user(r#"emails.value eq "A@b""#, Some(Key::Email("a@b")));
        of_user(r#"emails eq "a@b""#, Some(Key::Email("a@b")));
        of_user(r#"emails[value eq "a@b"]"#, Some(Key::Email("a@b")));
        of_user(r#"emails.type eq "work""#, None);
        of_user(r#"emails[type eq "work" and value eq "x"]"#, None);
        of_user(r#"userName sw "Ada""#, None);
        of_user(r#"not (userName eq "Ada")"#, None);
        of_user(r#"userName eq "a" or userName eq "b""#, None);
        of_user(r#"displayName eq "Ada""#, None);
        let of_group = |text: &str, expect| check(ResourceKind::Group, text, expect);
        of_group(r#"displayName eq "Ops""#, Some(Key::Name("ops")));
        of_group(r#"members eq "U-1""#, Some(Key::Member("U-1")));
        of_group(r#"members[value eq "u-1"]"#, Some(Key::Member("u-1")));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_fall(text in ".{0,200}") {
            let _ = Filter::read(ResourceKind::User, &text);
        }
    }
}
