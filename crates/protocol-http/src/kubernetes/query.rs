//! The query of a request: its parameters, decoded and bounded, those that decide at most once.
//! Pure.

use super::path::hex;

/// One query, in bytes: an exec with a long script still fits.
const QUERY_BYTES_MAX: usize = 48 * 1024;
/// Parameters of one request.
const PARAMETERS_MAX: usize = 1_024;
/// Parameters that may stand several times: arguments of a command, ports of a forward.
const LISTS: [&str; 2] = ["command", "ports"];

/// Decoded parameters, in the order of the query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Query(Vec<(String, String)>);

/// Why a query is not one that the gateway judges. The client is to blame; texts go to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    #[error("the query is longer than {QUERY_BYTES_MAX} bytes or {PARAMETERS_MAX} parameters")]
    TooLong,
    #[error("the query has a semicolon, which some servers take for a separator; encode it as %3B")]
    Semicolon,
    #[error("the query has a percent sign without two hexadecimal digits")]
    Percent,
    #[error("the query is not text in UTF-8, or has a NUL byte")]
    Bytes,
    #[error("the parameter '{0}' stands more than once")]
    Twice(String),
}

impl Query {
    /// Reads a query as it came.
    ///
    /// # Errors
    /// [`QueryError`]: the client is to blame.
    pub(crate) fn parse(raw: &str) -> Result<Self, QueryError> {
        if raw.len() > QUERY_BYTES_MAX {
            return Err(QueryError::TooLong);
        }
        if raw.contains(';') {
            return Err(QueryError::Semicolon);
        }
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name)?, decode(value)?));
            if pairs.len() > PARAMETERS_MAX {
                return Err(QueryError::TooLong);
            }
        }
        Ok(Self(pairs))
    }

    /// Whether a parameter that can have one value only has several.
    ///
    /// # Errors
    /// [`QueryError::Twice`]: readers differ in which of the two they take.
    pub(crate) fn check_single(&self) -> Result<(), QueryError> {
        for (index, (name, _)) in self.0.iter().enumerate() {
            let is_list = LISTS.contains(&name.as_str());
            let mut before = self.0.iter().take(index);
            if !is_list && before.any(|(earlier, _)| earlier == name) {
                return Err(QueryError::Twice(name.chars().take(64).collect()));
            }
        }
        Ok(())
    }

    /// The first value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A flag as the API server reads it: absent, `false` and `0` are false, the rest is true
    /// (`runtime.Convert_Slice_string_To_bool`).
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// The name that a field selector asks for exactly. None when it asks for none, or says it in
    /// a way that needs more than splitting at commas.
    pub(crate) fn selected_name(&self) -> Option<&str> {
        let selector = self.get("fieldSelector")?;
        if selector.contains('\\') {
            return None;
        }
        selector.split(',').find_map(|term| {
            let value = term.strip_prefix("metadata.name=")?;
            Some(value.strip_prefix('=').unwrap_or(value))
        })
    }
}

fn decode(raw: &str) -> Result<String, QueryError> {
    let mut decoded: Vec<u8> = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next(), bytes.next()];
                let [Some(high), Some(low)] = digits.map(|digit| digit.and_then(hex)) else {
                    return Err(QueryError::Percent);
                };
                high * 16 + low
            }
            plain => plain,
        });
    }
    if decoded.contains(&0) {
        return Err(QueryError::Bytes);
    }
    String::from_utf8(decoded).map_err(|_| QueryError::Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(raw: &str) -> Query {
        Query::parse(raw).expect(raw)
    }

    #[test]
    fn parameters_are_decoded() {
        let found = query("labelSelector=app%3Dweb&x=a+b&flag&&y=1=2");
        assert_eq!(found.get("labelSelector"), Some("app=web"));
        assert_eq!(found.get("x"), Some("a b"));
        assert_eq!(found.get("flag"), Some(""));
        assert_eq!(found.get("y"), Some("1=2"));
        assert_eq!(found.get("z"), None);
        let command: Vec<String> =
            query("command=sh&command=-c&command=a%26b").all("command").map(Into::into).collect();
        assert_eq!(command, ["sh", "-c", "a&b"]);
    }

    #[test]
    fn flags_are_true_as_the_api_server_has_it() {
        let check = |raw: &str, expect: bool| assert_eq!(query(raw).flag("watch"), expect, "{raw}");
        check("", false);
        check("watch=false", false);
        check("watch=False", false);
        check("watch=0", false);
        check("watch", true);
        check("watch=", true);
        check("watch=true", true);
        check("watch=1", true);
        check("watch=no", true);
        check("Watch=true", false);
    }

    #[test]
    fn a_selected_name_is_found_where_it_is_plain() {
        let check = |selector: &str, expect: Option<&str>| {
            let query = Query(vec![("fieldSelector".into(), selector.into())]);
            assert_eq!(query.selected_name(), expect, "{selector}");
        };
        check("metadata.name=a", Some("a"));
        check("metadata.name==a", Some("a"));
        check("spec.nodeName=n,metadata.name=a", Some("a"));
        check("metadata.name!=a", None);
        check("metadata.namespace=a", None);
        check("spec.x=\\,metadata.name=a", None);
    }

    #[test]
    fn queries_that_two_readers_read_in_two_ways_are_refused() {
        let check = |raw: &str, expect: QueryError| {
            let found = Query::parse(raw).and_then(|query| query.check_single());
            assert_eq!(found, Err(expect), "{raw}");
        };
        check("watch=1&watch=0", QueryError::Twice("watch".into()));
        check("%77atch=1&watch=0", QueryError::Twice("watch".into()));
        check("a=1;watch=1", QueryError::Semicolon);
        check("a=%", QueryError::Percent);
        check("a=%4", QueryError::Percent);
        check("a=%ff", QueryError::Bytes);
        check("a=%00", QueryError::Bytes);
        check(&"a".repeat(QUERY_BYTES_MAX + 1), QueryError::TooLong);
        check(&"a&".repeat(PARAMETERS_MAX + 1), QueryError::TooLong);
        assert_eq!(query("command=a&command=b&ports=1&ports=2").check_single(), Ok(()));
    }
}
