//! Lists (RFC 7644 section 3.4.2) and what of a resource is shown (section 3.9).

use scim_v2::filter::{AttrPath, PatchPath};
use serde_json::{Map, Value, json};

use crate::bounds;
use crate::error::{ErrorType, ScimError};
use crate::filter::Filter;
use crate::path::{Place, same};
use crate::schema::ResourceKind;

const LIST: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
const SEARCH: &str = "urn:ietf:params:scim:api:messages:2.0:SearchRequest";

/// What is asked of a list.
#[derive(Debug, Clone)]
pub struct ListQuery {
    pub filter: Option<Filter>,
    /// From 1.
    start_index: usize,
    count: usize,
    pub projection: Projection,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    total: usize,
    start_index: usize,
    resources: Vec<Value>,
}

/// Which attributes are shown.
#[derive(Debug, Clone, Default)]
pub struct Projection(Shown);

#[derive(Debug, Clone, Default)]
enum Shown {
    #[default]
    Everything,
    Only(Vec<Place>),
    Without(Vec<Place>),
}

impl ListQuery {
    /// Reads the query of a URL, decoded. What it does not know (`sortBy`) it leaves alone.
    ///
    /// # Errors
    /// `invalidFilter`, `invalidValue`, `tooMany`: whoever asks is to blame.
    pub fn of_url(kind: ResourceKind, pairs: &[(String, String)]) -> Result<Self, ScimError> {
        let value = |name: &str| {
            pairs.iter().find(|(key, _)| same(key, name)).map(|(_, value)| value.as_str())
        };
        let number = |name: &str| -> Result<Option<i64>, ScimError> {
            let parse = |text: &str| {
                let detail = format!("'{name}' must be a whole number");
                text.parse().map_err(|_| ScimError::bad(ErrorType::InvalidValue, detail))
            };
            value(name).map(parse).transpose()
        };
        let names = |name: &str| -> Vec<String> {
            let listed = value(name).unwrap_or_default().split(',').map(str::trim);
            listed.filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect()
        };
        Ok(Self {
            filter: value("filter").map(|text| Filter::read(kind, text)).transpose()?,
            start_index: start_index(number("startIndex")?),
            count: count(number("count")?),
            projection: Projection::of(kind, &names("attributes"), &names("excludedAttributes"))?,
        })
    }

    /// Reads the body of a `.search`.
    ///
    /// # Errors
    /// As [`ListQuery::of_url`], and `invalidSyntax`.
    pub fn of_search(kind: ResourceKind, body: &Value) -> Result<Self, ScimError> {
        let schemas = body.get("schemas").and_then(Value::as_array);
        let is_search = schemas.into_iter().flatten().any(|schema| schema == SEARCH);
        if !is_search {
            let detail = format!("'schemas' must name {SEARCH}");
            return Err(ScimError::bad(ErrorType::InvalidSyntax, detail));
        }
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let number = |name: &str| body.get(name).and_then(Value::as_i64);
        let names = |name: &str| -> Vec<String> {
            let listed = body.get(name).and_then(Value::as_array).into_iter().flatten();
            listed.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
        };
        Ok(Self {
            filter: text("filter").map(|text| Filter::read(kind, text)).transpose()?,
            start_index: start_index(number("startIndex")),
            count: count(number("count")),
            projection: Projection::of(kind, &names("attributes"), &names("excludedAttributes"))?,
        })
    }

    /// The same over all kinds (RFC 7644 section 3.4.2.1): a kind that has not what the filter
    /// asks for has nothing to show.
    ///
    /// # Errors
    /// As [`ListQuery::of_search`], when the search fits no kind.
    pub fn of_search_in_all(body: &Value) -> Result<Vec<(ResourceKind, Self)>, ScimError> {
        let mut queries: Vec<(ResourceKind, Self)> = Vec::new();
        let mut refusal: Option<ScimError> = None;
        for kind in ResourceKind::ALL {
            match Self::of_search(kind, body) {
                Ok(query) => queries.push((kind, query)),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        match refusal {
            Some(error) if queries.is_empty() => Err(error),
            Some(_) | None => Ok(queries),
        }
    }

    /// The page of all that the filter lets through, in the order given.
    #[must_use]
    pub fn page(&self, all: impl Iterator<Item = Map<String, Value>>) -> Page {
        let mut page = Page::begin(self);
        for shown in all {
            page.see(self, || shown);
        }
        page
    }
}

/// Below 1 means 1.
fn start_index(asked: Option<i64>) -> usize {
    asked.and_then(|asked| usize::try_from(asked).ok()).unwrap_or(1).max(1)
}

/// Below 0 means 0: only the total is asked for.
fn count(asked: Option<i64>) -> usize {
    match asked {
        None => bounds::PAGE_LEN_MAX,
        Some(asked) => usize::try_from(asked).unwrap_or(0).min(bounds::PAGE_LEN_MAX),
    }
}

impl Page {
    /// An empty page where a query asks it to begin.
    #[must_use]
    pub fn begin(query: &ListQuery) -> Self {
        Self { total: 0, start_index: query.start_index, resources: Vec::new() }
    }

    /// Looks at the next of all resources, and takes it when it belongs on this page. It is shown
    /// only when that is needed.
    pub fn see(&mut self, query: &ListQuery, show: impl FnOnce() -> Map<String, Value>) {
        let is_wanted = self.total + 1 >= self.start_index && self.resources.len() < query.count;
        let shown = match &query.filter {
            Some(filter) => {
                let shown = show();
                if !filter.matches(&shown) {
                    return;
                }
                is_wanted.then_some(shown)
            }
            None => is_wanted.then(show),
        };
        self.total += 1;
        let projected = shown.map(|shown| Value::Object(query.projection.of_shown(shown)));
        self.resources.extend(projected);
    }

    /// A list that is short and whole, such as `/Schemas`.
    #[must_use]
    pub fn whole(resources: Vec<Value>) -> Self {
        Self { total: resources.len(), start_index: 1, resources }
    }

    #[must_use]
    pub fn body(self) -> Value {
        json!({
            "schemas": [LIST],
            "totalResults": self.total,
            "startIndex": self.start_index,
            "itemsPerPage": self.resources.len(),
            "Resources": self.resources,
        })
    }
}

impl Projection {
    /// Names that mean nothing show nothing.
    ///
    /// # Errors
    /// `invalidValue` when both are given, `tooMany`.
    fn of(kind: ResourceKind, only: &[String], without: &[String]) -> Result<Self, ScimError> {
        if only.len().max(without.len()) > bounds::PROJECTION_LEN_MAX {
            let detail = format!("more than {} attributes", bounds::PROJECTION_LEN_MAX);
            return Err(ScimError::bad(ErrorType::TooMany, detail));
        }
        let places = |names: &[String]| -> Vec<Place> {
            let paths = names.iter().filter(|name| name.len() <= bounds::FILTER_BYTES_MAX);
            let paths = paths.filter_map(|name| name.parse::<PatchPath>().ok());
            let attributes = paths.filter_map(|path| match path {
                PatchPath::Attr(path) => Some(path),
                PatchPath::Value(_) => None,
            });
            let place = |path: AttrPath| Place::of(kind, &path, ErrorType::InvalidValue).ok();
            attributes.filter_map(place).collect()
        };
        Ok(Self(match (only, without) {
            ([], []) => Shown::Everything,
            (only, []) => Shown::Only(places(only)),
            ([], without) => Shown::Without(places(without)),
            (_, _) => {
                let detail = "'attributes' and 'excludedAttributes' exclude each other";
                return Err(ScimError::bad(ErrorType::InvalidValue, detail));
            }
        }))
    }

    /// What is left of a resource; `schemas` and `id` always are.
    #[must_use]
    pub fn of_shown(&self, mut shown: Map<String, Value>) -> Map<String, Value> {
        match &self.0 {
            Shown::Everything => shown,
            Shown::Only(places) => {
                let mut kept = Map::new();
                for always in ["schemas", "id"] {
                    kept.extend(shown.remove_entry(always));
                }
                for place in places {
                    keep(&mut kept, &shown, place);
                }
                kept
            }
            Shown::Without(places) => {
                for place in places {
                    leave_out(&mut shown, place);
                }
                shown
            }
        }
    }
}

fn keep(kept: &mut Map<String, Value>, shown: &Map<String, Value>, place: &Place) {
    let named = match place {
        Place::Extension(schema) => {
            kept.extend(
                shown.get_key_value(*schema).map(|(key, value)| (key.clone(), value.clone())),
            );
            return;
        }
        Place::Attribute(named) => named,
    };
    let (from, to) = match named.extension {
        None => (Some(shown), kept),
        Some(schema) => {
            let Some(from) = shown.get(schema).and_then(Value::as_object) else { return };
            let to = kept.entry(schema).or_insert_with(|| Value::Object(Map::new()));
            let Some(to) = to.as_object_mut() else { return };
            (Some(from), to)
        }
    };
    let name = named.attribute.name;
    let Some(value) = from.and_then(|from| from.get(name)) else { return };
    let Some(part) = named.part else {
        to.insert(name.to_owned(), value.clone());
        return;
    };
    let only = |value: &Value| -> Map<String, Value> {
        let found = value.get(part.name).cloned();
        Map::from_iter(found.map(|found| (part.name.to_owned(), found)))
    };
    match (value, to.get_mut(name)) {
        (Value::Array(values), Some(Value::Array(known))) => {
            for (known, value) in known.iter_mut().zip(values) {
                if let Value::Object(known) = known {
                    known.extend(only(value));
                }
            }
        }
        (Value::Array(values), _) => {
            let values = values.iter().map(|value| Value::Object(only(value))).collect();
            to.insert(name.to_owned(), Value::Array(values));
        }
        (value, Some(Value::Object(known))) => known.extend(only(value)),
        (value, _) => drop(to.insert(name.to_owned(), Value::Object(only(value)))),
    }
}

fn leave_out(shown: &mut Map<String, Value>, place: &Place) {
    let named = match place {
        Place::Extension(schema) => {
            shown.remove(*schema);
            return;
        }
        Place::Attribute(named) => named,
    };
    let name = named.attribute.name;
    if matches!(name, "schemas" | "id") {
        return;
    }
    let holder = match named.extension {
        None => Some(shown),
        Some(schema) => shown.get_mut(schema).and_then(Value::as_object_mut),
    };
    let Some(holder) = holder else { return };
    let Some(part) = named.part else {
        holder.remove(name);
        return;
    };
    match holder.get_mut(name) {
        Some(Value::Array(values)) => {
            for value in values.iter_mut().filter_map(Value::as_object_mut) {
                value.remove(part.name);
            }
        }
        Some(Value::Object(parts)) => drop(parts.remove(part.name)),
        Some(_) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people() -> impl Iterator<Item = Map<String, Value>> {
        (1..=5).map(|n| {
            let value = json!({
                "schemas": ["s"], "id": format!("u-{n}"), "userName": format!("user-{n}"),
                "title": "Dr", "name": {"givenName": "G", "familyName": "F"},
                "emails": [{"value": "a", "type": "work"}],
            });
            value.as_object().cloned().unwrap_or_default()
        })
    }

    fn asked(pairs: &[(&str, &str)]) -> Result<Value, ScimError> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let pairs: Vec<(String, String)> = pairs.iter().map(owned).collect();
        Ok(ListQuery::of_url(ResourceKind::User, &pairs)?.page(people()).body())
    }

    #[test]
    fn a_page_starts_at_its_index_and_tells_the_total() {
        let check = |start: &str, count: &str, expect: &[&str], total: u64| {
            let page = asked(&[("startIndex", start), ("count", count)]).expect("is a query");
            let resources = page["Resources"].as_array().cloned().unwrap_or_default();
            let ids: Vec<&str> =
                resources.iter().filter_map(|found| found["id"].as_str()).collect();
            assert_eq!(ids, expect, "{start} {count}");
            assert_eq!(page["totalResults"], total);
            assert_eq!(page["itemsPerPage"], expect.len());
        };
        check("1", "2", &["u-1", "u-2"], 5);
        check("4", "10", &["u-4", "u-5"], 5);
        check("0", "1", &["u-1"], 5);
        check("-7", "1", &["u-1"], 5);
        check("9", "1", &[], 5);
        check("1", "0", &[], 5);
        check("1", "-1", &[], 5);
        let page = asked(&[("filter", "userName ew \"-3\"")]).expect("is a query");
        assert_eq!(
            (&page["totalResults"], &page["Resources"][0]["id"]),
            (&json!(1), &json!("u-3"))
        );
    }

    #[test]
    fn only_what_is_asked_for_is_shown() {
        let first =
            |pairs: &[(&str, &str)]| asked(pairs).expect("is a query")["Resources"][0].clone();
        let shown = first(&[("attributes", "userName, name.givenName,nonsense")]);
        let expect = json!({
            "schemas": ["s"], "id": "u-1", "userName": "user-1", "name": {"givenName": "G"},
        });
        assert_eq!(shown, expect);
        let shown = first(&[("attributes", "emails.type")]);
        assert_eq!(shown["emails"], json!([{"type": "work"}]));
        let shown = first(&[("excludedAttributes", "id,TITLE,name.givenName,emails,userName")]);
        let expect = json!({"schemas": ["s"], "id": "u-1", "name": {"familyName": "F"}});
        assert_eq!(shown, expect);
    }

    #[test]
    fn what_is_no_query_is_refused() {
        assert!(asked(&[("count", "many")]).is_err());
        assert!(asked(&[("filter", "x")]).is_err());
        assert!(asked(&[("attributes", "id"), ("excludedAttributes", "id")]).is_err());
        let many = vec!["title"; bounds::PROJECTION_LEN_MAX + 1].join(",");
        assert!(asked(&[("attributes", many.as_str())]).is_err());
        assert!(ListQuery::of_search(ResourceKind::User, &json!({})).is_err());
        let fits = |filter: &str| {
            let body = json!({"schemas": [SEARCH], "filter": filter});
            let queries = ListQuery::of_search_in_all(&body).ok()?;
            Some(queries.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>())
        };
        assert_eq!(fits("displayName pr"), Some(ResourceKind::ALL.to_vec()));
        assert_eq!(fits("userName pr"), Some(vec![ResourceKind::User]));
        assert_eq!(fits("nonsense pr"), None);
        let body = json!({"schemas": [SEARCH], "filter": "title pr", "count": 1});
        let page = ListQuery::of_search(ResourceKind::User, &body).expect("is a search");
        assert_eq!(page.page(people()).body()["itemsPerPage"], 1);
    }
}
