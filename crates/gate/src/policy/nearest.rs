//! The name that somebody probably meant.

/// Letters that may be wrong.
const DISTANCE_MAX: usize = 3;

/// The one of `names` that is closest to `text`, when it is close.
pub(crate) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let max = DISTANCE_MAX.min(text.chars().count() / 2);
    names
        .map(|name| (distance(text, name), name))
        .filter(|(distance, _)| *distance <= max)
        .min()
        .map(|(_, name)| name)
}

/// Letters to insert, remove or replace (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, a) in from.chars().enumerate() {
        let mut next: Vec<usize> = vec![index + 1];
        for ((b, above), above_left) in to.chars().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or(0);
            let replaced = above_left + usize::from(a != b);
            next.push(replaced.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_close_names_are_meant() {
        let names = ["select", "select_for_update", "delete", "do", "define"];
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(nearest(text, names.into_iter()), expect, "{text}");
        };
        check("selct", Some("select"));
        check("SELECT", None);
        check("delte", Some("delete"));
        check("defin", Some("define"));
        check("x", None);
        check("", None);
        check("teleport", None);
    }
}
