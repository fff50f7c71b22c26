//! docs/policy.md says what the code does: its tables of verbs and fields and its schema are
//! written from the code of every protocol, its examples are valid.
//!
//! With `CORRAL_WRITE_DOCS=1` in the environment the generated parts are written anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use corral_gate::policy::{PolicySource, check_sources, schema_text};
use corral_gateway::protocol_verbs;
use corral_model::Effect;
use corral_model::ids::ResourceName;
use corral_model::statement::AttributeKind;

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/policy.md")
}

fn verbs_tables() -> String {
    let mut text = String::from("| protocol | in | verbs |\n| --- | --- | --- |\n");
    for protocol in protocol_verbs() {
        let mut by_effect: BTreeMap<Option<Effect>, Vec<&str>> = BTreeMap::new();
        for verb in protocol.verbs {
            by_effect.entry(verb.effect).or_default().push(verb.name);
        }
        for (effect, verbs) in by_effect {
            let group = effect.map_or("connect", Effect::name);
            let verbs: Vec<String> = verbs.iter().map(|verb| format!("`{verb}`")).collect();
            let verbs = verbs.join(", ");
            writeln!(text, "| {} | `{group}` | {verbs} |", protocol.protocol)
                .expect("a String takes all");
        }
    }
    text
}

fn fields_table() -> String {
    let mut text = String::from("| protocol | field | type | |\n| --- | --- | --- | --- |\n");
    for protocol in protocol_verbs() {
        for field in protocol.attributes {
            let kind = match field.kind {
                AttributeKind::Flag => "boolean",
                AttributeKind::Number => "number",
                AttributeKind::Text => "string",
                AttributeKind::Set => "set of strings",
            };
            let (name, meaning) = (field.name, field.meaning.replace('|', "\\|"));
            writeln!(text, "| {} | `{name}` | {kind} | {meaning} |", protocol.protocol)
                .expect("a String takes all");
        }
    }
    text
}

fn schema_block() -> String {
    format!("```\n{}```\n", schema_text(&protocol_verbs()))
}

/// The page with what stands between the two marks of `name` replaced.
fn with_part(page: &str, name: &str, part: &str) -> String {
    let (start, end) = (format!("<!-- {name}: "), format!("<!-- end of {name} -->"));
    let (before, rest) = page.split_once(&start).expect("the page has the mark");
    let (mark, rest) = rest.split_once("-->\n").expect("the mark ends");
    let (_, after) = rest.split_once(&end).expect("the page has the second mark");
    format!("{before}{start}{mark}-->\n{part}{end}{after}")
}

#[test]
fn the_page_lists_the_verbs_the_fields_and_the_schema_of_the_code() {
    let found = std::fs::read_to_string(page()).expect("the page is part of the repository");
    let expect = with_part(&found, "verbs", &verbs_tables());
    let expect = with_part(&expect, "fields", &fields_table());
    let expect = with_part(&expect, "schema", &schema_block());
    if std::env::var_os("CORRAL_WRITE_DOCS").is_some() {
        std::fs::write(page(), &expect).expect("the page can be written");
        return;
    }
    assert_eq!(found, expect, "run this test once with CORRAL_WRITE_DOCS=1 and commit the page");
}

#[test]
fn the_pages_examples_are_valid_together() {
    let text = std::fs::read_to_string(page()).expect("the page is part of the repository");
    let blocks: Vec<&str> = text
        .split("```cedar\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(block, _)| block))
        .collect();
    assert!(blocks.len() >= 4);
    let sources: Vec<PolicySource> = blocks
        .iter()
        .enumerate()
        .map(|(index, cedar)| PolicySource {
            name: ResourceName::new(format!("example-{index}")).expect("a name"),
            cedar: (*cedar).to_owned(),
        })
        .collect();
    assert_eq!(check_sources(&sources, &protocol_verbs()), []);
}
