//! Attributes of spans, each bounded.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};

use crate::bounds;

pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Value::StringValue(short(value)))
}

pub(crate) fn number(key: &str, value: u64) -> KeyValue {
    pair(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

pub(crate) fn flag(key: &str, value: bool) -> KeyValue {
    pair(key, Value::BoolValue(value))
}

/// None for a list without items.
pub(crate) fn list<S: AsRef<str>>(key: &str, items: &[S]) -> Option<KeyValue> {
    let value = |item: &S| AnyValue { value: Some(Value::StringValue(short(item.as_ref()))) };
    let values: Vec<AnyValue> = items.iter().take(bounds::LIST_LEN_MAX).map(value).collect();
    (!values.is_empty()).then(|| pair(key, Value::ArrayValue(ArrayValue { values })))
}

/// At most [`bounds::TEXT_BYTES_MAX`] bytes of it.
pub(crate) fn short(text: &str) -> String {
    let end = text.floor_char_boundary(bounds::TEXT_BYTES_MAX);
    text.get(..end).unwrap_or_default().to_owned()
}

fn pair(key: &str, value: Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_lists_are_cut() {
        let long = "ä".repeat(bounds::TEXT_BYTES_MAX);
        assert_eq!(short(&long).len(), bounds::TEXT_BYTES_MAX);
        let odd = format!("x{long}");
        assert_eq!(short(&odd).len(), bounds::TEXT_BYTES_MAX - 1);
        let items = vec!["a"; bounds::LIST_LEN_MAX + 1];
        let value = list("k", &items).and_then(|pair| pair.value).and_then(|value| value.value);
        let Some(Value::ArrayValue(array)) = value else { panic!("a list") };
        assert_eq!(array.values.len(), bounds::LIST_LEN_MAX);
        assert_eq!(list::<&str>("k", &[]), None);
    }
}
