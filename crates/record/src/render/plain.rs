//! Texts that cannot do anything to the terminal that shows them.

use std::fmt::Write as _;

/// Control characters and marks that turn the direction of writing or have no shape become
/// escapes; line ends stay.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.replace("\r\n", "\n").chars() {
        match character {
            '\n' => plain.push('\n'),
            '\t' => plain.push_str("    "),
            _ if is_hidden(character) && !character.is_control() => {
                plain.extend(character.escape_unicode());
            }
            _ if character.is_control() => plain.extend(character.escape_default()),
            _ => plain.push(character),
        }
    }
    plain
}

/// Control characters, and those of Unicode that have no shape or turn the reading direction.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The same JSON with hidden characters written as `\uXXXX`: they stand inside of its strings
/// only. Line breaks between its parts stay.
#[must_use]
pub fn plain_json(json: &str) -> String {
    if !json.chars().any(|c| is_hidden(c) && c != '\n') {
        return json.to_owned();
    }
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hidden(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(plain, "\\u{unit:04x}");
            }
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_texts_cannot_drive_a_terminal() {
        let cases = [
            ("SELECT 1", "SELECT 1"),
            ("a\nb", "a\nb"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\rb", "a\\rb"),
            ("a\r\nb", "a\nb"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{202e}drop", "\\u{202e}drop"),
            ("\u{7}\u{8}\u{7f}\0", "\\u{7}\\u{8}\\u{7f}\\u{0}"),
            ("a\u{200b}b\u{e0041}", "a\\u{200b}b\\u{e0041}"),
            ("grüße ☃", "grüße ☃"),
        ];
        for (text, expect) in cases {
            assert_eq!(plain(text), expect, "{text:?}");
        }
    }

    #[test]
    fn json_says_the_same_without_hidden_characters() {
        for text in ["plain", "\u{9b}31m\u{1b}[2J\u{7f}", "\u{202e}x\u{e0041}", "\n\t\"\\☃"] {
            let json = serde_json::to_string(text).expect("text");
            let plain = plain_json(&json);
            assert!(!plain.chars().any(is_hidden), "{plain:?}");
            assert_eq!(serde_json::from_str::<String>(&plain).expect("JSON"), text);
        }
        assert_eq!(plain_json("{\n  \"a\": 1\n}"), "{\n  \"a\": 1\n}");
    }
}
