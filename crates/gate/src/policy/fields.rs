//! What a policy looks at, found in its syntax tree: the fields of `context`, and whether it
//! tells runs or tables apart. Where that cannot be told, the answer is "everything".

use serde_json::Value;

/// The fields of `context` that vary between equal statements of equal subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fields {
    pub(crate) in_transaction: bool,
    pub(crate) time: bool,
    pub(crate) tls: bool,
    pub(crate) source_ip: bool,
    /// Fields that equal facts and subjects have equal: no part of a cache's key.
    pub(crate) facts: bool,
}

impl Fields {
    pub(crate) const ALL: Self =
        Self { in_transaction: true, time: true, tls: true, source_ip: true, facts: true };

    pub(crate) fn add(&mut self, other: Self) {
        self.in_transaction |= other.in_transaction;
        self.time |= other.time;
        self.tls |= other.tls;
        self.source_ip |= other.source_ip;
        self.facts |= other.facts;
    }

    fn add_name(&mut self, name: &str) {
        match name {
            "in_transaction" => self.in_transaction = true,
            "time" => self.time = true,
            "tls" => self.tls = true,
            "source_ip" => self.source_ip = true,
            "effects" | "objects" | "functions" | "statement_count" | "run_depth"
            | "attribution" => {
                self.facts = true;
            }
            // A protocol's own field, or the schema's check has refused the policy.
            _ => self.facts = true,
        }
    }
}

/// What the conditions of one policy look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Looks {
    pub(crate) fields: Fields,
    /// At more of `resource` than what a target and all below it share.
    pub(crate) at_objects: bool,
    pub(crate) at_principal: bool,
}

/// Looks through a policy in Cedar's JSON form.
pub(crate) fn of_policy(policy: &Value) -> Looks {
    let mut looks = Looks::default();
    if let Some(conditions) = policy.get("conditions") {
        walk(conditions, &mut looks);
    }
    looks
}

fn walk(value: &Value, looks: &mut Looks) {
    match value {
        Value::Object(map) => {
            if map.len() == 1 {
                match map.iter().next() {
                    Some((key, Value::String(name))) if key == "Var" => return whole(name, looks),
                    Some((operator, arguments)) if is_access(operator, arguments, looks) => return,
                    Some(_) | None => {}
                }
            }
            map.values().for_each(|inner| walk(inner, looks));
        }
        Value::Array(items) => items.iter().for_each(|inner| walk(inner, looks)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A variable used as a whole, not by one of its attributes.
fn whole(variable: &str, looks: &mut Looks) {
    match variable {
        "context" => looks.fields = Fields::ALL,
        "resource" => looks.at_objects = true,
        "principal" => looks.at_principal = true,
        "action" => {}
        _ => {
            looks.fields = Fields::ALL;
            looks.at_objects = true;
            looks.at_principal = true;
        }
    }
}

/// `context.field`, `context has field`, `resource.target`, `resource.getTag("label")`: true when
/// it was one of these and everything in it was looked at.
fn is_access(operator: &str, arguments: &Value, looks: &mut Looks) -> bool {
    let left = arguments.get("left").and_then(|left| left.get("Var")).and_then(Value::as_str);
    match (operator, left) {
        ("." | "has", Some("context")) => match arguments.get("attr").and_then(Value::as_str) {
            Some(field) => {
                looks.fields.add_name(field);
                true
            }
            None => false,
        },
        ("." | "has", Some("resource")) => {
            let field = arguments.get("attr").and_then(Value::as_str);
            matches!(field, Some("target" | "protocol"))
        }
        ("hasTag" | "getTag", Some("resource")) => {
            if let Some(tag) = arguments.get("right") {
                walk(tag, looks);
            }
            arguments.get("right").is_some()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use cedar_policy::Policy;

    use super::*;

    fn looks(condition: &str) -> Looks {
        let text = format!("forbid (principal, action, resource) when {{ {condition} }};");
        let policy = Policy::parse(None, &text).expect(condition);
        of_policy(&policy.to_json().expect(condition))
    }

    #[test]
    fn fields_of_context_are_found_wherever_they_stand() {
        let check = |condition: &str, expect: Fields| {
            assert_eq!(looks(condition).fields, expect, "{condition}");
        };
        let none = Fields::default();
        check("true", none);
        check("context.tls", Fields { tls: true, ..none });
        check("!(1 == 1 && context.tls)", Fields { tls: true, ..none });
        check(
            "if context.in_transaction then context.time < datetime(\"2026-01-01\") else false",
            Fields { in_transaction: true, time: true, ..none },
        );
        check(
            "context has source_ip && context.source_ip.isLoopback()",
            Fields { source_ip: true, ..none },
        );
        check(r#"context["tls"]"#, Fields { tls: true, ..none });
        check(r#"context.effects.contains("read")"#, Fields { facts: true, ..none });
        check(r#"context has path && context.path == "/""#, Fields { facts: true, ..none });
        check(
            "[context.tls, true].contains(context.in_transaction)",
            Fields { tls: true, in_transaction: true, ..none },
        );
        check(r#"{"Var": "context"} == {"Var": "context"}"#, none);
        check(r#"{"a": context.tls}.a"#, Fields { tls: true, ..none });
    }

    #[test]
    fn what_cannot_be_told_is_everything() {
        assert_eq!(looks("context == {tls: true}").fields, Fields::ALL);
        assert_eq!(looks("[context].contains({tls: true})").fields, Fields::ALL);
        assert_eq!(looks("(if true then context else context).tls").fields, Fields::ALL);
    }

    #[test]
    fn only_what_all_of_a_target_shares_leaves_tables_alike() {
        let check = |condition: &str, expect: bool| {
            assert_eq!(looks(condition).at_objects, expect, "{condition}");
        };
        check(r#"resource.target == "a" && resource.protocol like "post*""#, false);
        check(r#"resource.hasTag("env") && resource.getTag("env") == "prod""#, false);
        check(r#"resource has schema && resource.schema == "a""#, true);
        check(r#"resource in Corral::Target::"a""#, true);
        check("resource is Corral::Table", true);
        check("resource.getTag(resource.name) == \"x\"", true);
        assert!(looks("principal.name == \"x\"").at_principal);
        assert!(!looks("context.tls").at_principal);
    }
}
