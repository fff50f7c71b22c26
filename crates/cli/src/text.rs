//! Texts as a person reads them: nothing hidden, times and durations short.

use std::fmt::Write as _;

use corral_model::resource::HumanDuration;
use corral_record::render::is_hidden;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `text` on one line. Characters that would move the cursor, change the order of what is read,
/// or not be seen at all are written as escapes: what an approver reads is what runs.
#[must_use]
pub(crate) fn visible(text: &str) -> String {
    escaped(text, |_| false)
}

/// As [`visible`], with line breaks and tabs kept.
#[must_use]
pub(crate) fn visible_lines(text: &str) -> String {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, is_kept: fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if is_kept(c) => shown.push(c),
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            '\r' => shown.push_str("\\r"),
            _ if is_hidden(c) => {
                // Writing to a String cannot fail.
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            _ => shown.push(c),
        }
    }
    shown
}

/// A duration as people write it.
pub(crate) fn read_duration(text: &str) -> Result<std::time::Duration, String> {
    let read = HumanDuration::parse(text).map(|duration| duration.0);
    read.ok_or_else(|| "write a duration such as 30m, 1h or 2d".to_owned())
}

/// `visible`, cut to `chars_max` characters with an ellipsis.
#[must_use]
pub(crate) fn short(text: &str, chars_max: usize) -> String {
    let shown = visible(text);
    if shown.chars().count() <= chars_max {
        return shown;
    }
    let mut cut: String = shown.chars().take(chars_max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// RFC 3339 in UTC, to the second.
#[must_use]
pub(crate) fn timestamp(at: OffsetDateTime) -> String {
    let whole = at.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).unwrap_or(at);
    whole.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// The two largest units of a duration: `1h 5m`, `12s`. Negative durations are `0s`.
#[must_use]
pub(crate) fn duration(of: time::Duration) -> String {
    let seconds = of.whole_seconds().max(0);
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds;
    let mut parts: Vec<String> = Vec::new();
    for (unit_s, name) in units {
        let count = rest / unit_s;
        rest %= unit_s;
        if count > 0 {
            parts.push(format!("{count}{name}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// Reads `7d`, `1h 30m` (that long before `now`) or an RFC 3339 time.
///
/// # Errors
/// What would be right, when it is neither.
pub(crate) fn parse_since(text: &str, now: OffsetDateTime) -> Result<OffsetDateTime, String> {
    if let Some(ago) = corral_model::resource::HumanDuration::parse(text) {
        return now
            .checked_sub(time::Duration::try_from(ago.0).unwrap_or(time::Duration::MAX))
            .ok_or_else(|| format!("'{text}' is too long ago"));
    }
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        format!("'{text}' is no time; write how long ago (10m, 7d) or 2026-01-31T12:00:00Z")
    })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn nothing_is_hidden_from_a_reader() {
        let check = |text: &str, expect: &str| assert_eq!(visible(text), expect);
        check("select 1", "select 1");
        check("a\nb", "a\\nb");
        check("drop\u{202e}x", "drop\\u{202e}x");
        check("a\u{1b}[31mb", "a\\u{1b}[31mb");
        check("zero\u{200b}width", "zero\\u{200b}width");
        check("grüße", "grüße");
        assert_eq!(visible_lines("a\n\tb\r"), "a\n\tb\\r");
    }

    #[test]
    fn durations_show_their_two_largest_units() {
        let check = |seconds: i64, expect: &str| {
            assert_eq!(duration(time::Duration::seconds(seconds)), expect);
        };
        check(0, "0s");
        check(-5, "0s");
        check(59, "59s");
        check(60, "1m");
        check(3_905, "1h 5m");
        check(3_605, "1h");
        check(90_061, "1d 1h");
    }

    #[test]
    fn since_is_a_duration_or_a_time() {
        let now = datetime!(2026-01-08 00:00 UTC);
        assert_eq!(parse_since("7d", now), Ok(datetime!(2026-01-01 00:00 UTC)));
        assert_eq!(
            parse_since("2026-01-02T03:04:05Z", now),
            Ok(datetime!(2026-01-02 03:04:05 UTC))
        );
        assert!(parse_since("yesterday", now).is_err_and(|text| text.contains("10m")));
    }

    #[test]
    fn short_texts_are_cut_between_characters() {
        assert_eq!(short("äöüß", 3), "äö…");
        assert_eq!(short("abc", 3), "abc");
    }
}
