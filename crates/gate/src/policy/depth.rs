//! How deep a policy text nests, found before it is parsed: Cedar's parser recurses, and a text
//! that nests without end would overflow any stack.

use corral_model::limits;

/// The first place where a text nests too deep, and what nests there.
pub(crate) fn too_deep(text: &str) -> Option<(usize, &'static str)> {
    first_place(text, limits::POLICY_OPERATORS_MAX)
}

/// Whether some policy is too long to be evaluated on any thread's stack.
pub(crate) fn needs_stack(text: &str) -> bool {
    first_place(text, limits::POLICY_OPERATORS_PLAIN).is_some()
}

fn first_place(text: &str, operators_max: usize) -> Option<(usize, &'static str)> {
    let mut scan = Scan::default();
    let mut characters = text.char_indices().peekable();
    while let Some((offset, character)) = characters.next() {
        match character {
            '"' => skip_string(&mut characters),
            '/' if characters.peek().is_some_and(|(_, next)| *next == '/') => {
                characters.by_ref().find(|(_, character)| *character == '\n');
            }
            _ if character.is_alphanumeric() || character == '_' => {
                let end = offset + character.len_utf8();
                let rest = text.get(end..).unwrap_or("");
                let is_word = |c: char| c.is_alphanumeric() || c == '_';
                let len = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
                while characters.next_if(|(at, _)| *at < end + len).is_some() {}
                scan.word(text.get(offset..end + len).unwrap_or(""));
            }
            _ => scan.sign(character),
        }
        if scan.brackets > limits::POLICY_DEPTH_MAX {
            return Some((offset, "brackets"));
        }
        if scan.conditionals > limits::POLICY_DEPTH_MAX {
            return Some((offset, "`if`s"));
        }
        if scan.operators > operators_max {
            return Some((offset, "operators"));
        }
    }
    None
}

fn skip_string(characters: &mut impl Iterator<Item = (usize, char)>) {
    while let Some((_, character)) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            '"' => return,
            _ => {}
        }
    }
}

/// Counts of one policy.
#[derive(Debug, Default)]
struct Scan {
    brackets: usize,
    conditionals: usize,
    operators: usize,
}

impl Scan {
    fn sign(&mut self, sign: char) {
        match sign {
            '(' | '[' | '{' => self.brackets += 1,
            ')' | ']' | '}' => self.brackets = self.brackets.saturating_sub(1),
            // A policy ends.
            ';' => *self = Self::default(),
            // `&&`, `||` and `==` count twice, which only makes the limit stricter.
            '&' | '|' | '!' | '-' | '+' | '*' | '.' | '=' | '<' | '>' | '@' | '?' => {
                self.operators += 1;
            }
            _ => {}
        }
    }

    fn word(&mut self, word: &str) {
        match word {
            "if" => self.conditionals += 1,
            "in" | "has" | "like" | "is" | "when" | "unless" => self.operators += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nests_is_counted() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(too_deep(text).map(|(_, what)| what), expect, "{:.60}", text);
        };
        let (depth, operators) = (limits::POLICY_DEPTH_MAX, limits::POLICY_OPERATORS_MAX);
        let nested = |open: &str, count: usize| open.repeat(count);
        check("permit (principal, action, resource);", None);
        check(&"permit (principal, action, resource) when { a && (b) };\n".repeat(5_000), None);
        check(&nested("(", depth), None);
        check(&nested("(", depth + 1), Some("brackets"));
        check(&nested("[{(", depth), Some("brackets"));
        check(&format!("\"{}\\\"{}\"", nested("(", 100), nested("(", 100)), None);
        check(&format!("// {}\n()", nested("(", 100)), None);
        check(&format!("{}(", nested("()", 100)), None);
        check(&nested("if true then ", depth + 1), Some("`if`s"));
        check(&nested("iffy ", 1_000), None);
        check(&nested("!", operators + 1), Some("operators"));
        check(&nested("true && ", operators), Some("operators"));
        check(&nested("a.b.c", operators), Some("operators"));
        check(&nested("when {} ", operators + 1), Some("operators"));
        check(&format!("[{}]", nested("\"x\", ", 10_000)), None);
    }
}
