//! PostgreSQL's own text of a stored expression or query, as `outfuncs.c` writes it:
//!
//! ```text
//! {FUNCEXPR :funcid 16384 :funcresulttype 25 :args ({VAR :varno 1 :varattno 2 :vartype 25}) …}
//! ```

use std::collections::BTreeSet;

use super::FIRST_USER_OID;

/// What the text names, each once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) relations: BTreeSet<u32>,
    /// PostgreSQL's own, too.
    pub(super) functions: BTreeSet<u32>,
    /// Users' types that something has, is converted to, or is made of.
    pub(super) types: BTreeSet<u32>,
    /// Users' operators.
    pub(super) operators: BTreeSet<u32>,
    /// Attribute numbers, of whatever relation; 0 is a whole row. Not those of system columns.
    pub(super) attributes: BTreeSet<i16>,
}

/// Reads a text. Names in it cannot be taken for numbers: a digit in front has a backslash.
pub(super) fn named(text: &str) -> Named {
    let mut found = Named::default();
    let mut field = "";
    for token in Tokens(text) {
        let is_number = token.as_bytes().first().is_some_and(u8::is_ascii_digit);
        if is_number {
            found.add(field, token);
        } else if token != "o" {
            // `o` opens a list of OIDs, which are the field's.
            field = token;
        }
    }
    found
}

impl Named {
    fn add(&mut self, field: &str, number: &str) {
        match field {
            ":relid" => add(&mut self.relations, number, 1),
            ":funcid" | ":opfuncid" | ":aggfnoid" | ":winfnoid" => {
                add(&mut self.functions, number, 1);
            }
            ":varattno" => self.attributes.extend(number.parse::<i16>()),
            _ if field.ends_with("opno") || field.ends_with("opnos") => {
                add(&mut self.operators, number, FIRST_USER_OID);
            }
            _ if ["type", "types", "typeid", "typid", "typeId"]
                .iter()
                .any(|end| field.ends_with(end)) =>
            {
                add(&mut self.types, number, FIRST_USER_OID);
            }
            _ => {}
        }
    }
}

fn add(oids: &mut BTreeSet<u32>, number: &str, least: u32) {
    oids.extend(number.parse::<u32>().ok().filter(|oid| *oid >= least));
}

/// `{NAME`, `}` and words. Lists' parentheses are left out; a backslash hides the sign behind it.
pub(super) struct Tokens<'t>(pub(super) &'t str);

impl<'t> Iterator for Tokens<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let is_gap = |byte: u8| matches!(byte, b' ' | b'\n' | b'\t' | b'(' | b')');
        let start = self.0.bytes().position(|byte| !is_gap(byte))?;
        let text = self.0.get(start..)?;
        let mut is_hidden = false;
        let end = text.bytes().enumerate().find_map(|(at, byte)| {
            if std::mem::replace(&mut is_hidden, false) {
                return None;
            }
            is_hidden = byte == b'\\';
            match (at, byte) {
                (0, b'}') => Some(1),
                _ => (is_gap(byte) || at > 0 && matches!(byte, b'{' | b'}')).then_some(at),
            }
        });
        // Each end is beside a sign of ASCII.
        let (token, rest) = text.split_at_checked(end.unwrap_or(text.len()))?;
        self.0 = rest;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_text_names_is_found() {
        let text = "({QUERY :rtable ({RTE :alias {ALIAS :aliasname \\16500 :colnames (\"16501\")} \
            :rtekind 0 :relid 16402} {RTE :relid 0 :coltypes (o 23 16410) :coltypmods (i 16502)}) \
            :args ({FUNCEXPR :funcid 16384 :funcresulttype 16411 :args ({VAR :varattno 2 \
            :vartype 23} {VAR :varattno 0 :vartype 16402} {VAR :varattno -1 :vartype 26})} \
            {OPEXPR :opno 16390 :opfuncid 16391} {ROWCOMPAREEXPR :opnos (o 97 16392)} \
            {ARRAYEXPR :array_typeid 16412 :element_typeid 0} {X :typeId 16413 :name é\\ 1})}) <>";
        let expected = Named {
            relations: [16_402].into(),
            functions: [16_384, 16_391].into(),
            types: [16_402, 16_410, 16_411, 16_412, 16_413].into(),
            operators: [16_390, 16_392].into(),
            attributes: [0, 2].into(),
        };
        assert_eq!(named(text), expected);
    }
}
