//! Documents: their links lead somewhere, and the architecture fits in one sitting.

use std::path::Path;

use anyhow::Context;

use super::Violation;
use super::source::line_of;

const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";
const ARCHITECTURE_LINES_MAX: usize = 200;

/// One Markdown file.
#[derive(Debug)]
pub(crate) struct Document {
    /// Relative to the workspace.
    path: String,
    text: String,
}

/// The documents of the workspace: those in its root, in `docs/` and in its crates.
///
/// # Errors
/// When a folder or file cannot be read.
pub(crate) fn read_all(root: &Path) -> anyhow::Result<Vec<Document>> {
    let mut paths: Vec<String> = Vec::new();
    collect(root, "", false, &mut paths)?;
    for folder in ["docs", "crates", "tests", "demo", "bench"] {
        collect(root, folder, true, &mut paths)?;
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(root.join(&path))
                .with_context(|| format!("reading {path}"))?;
            Ok(Document { path, text })
        })
        .collect()
}

fn collect(
    root: &Path,
    folder: &str,
    is_deep: bool,
    paths: &mut Vec<String>,
) -> anyhow::Result<()> {
    let here = root.join(folder);
    if !here.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(&here).with_context(|| format!("listing {folder}"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if entry.file_type()?.is_dir() {
            if is_deep && name != "target" && !name.starts_with('.') {
                collect(root, &path, is_deep, paths)?;
            }
        } else if name.ends_with(".md") {
            paths.push(path);
        }
    }
    Ok(())
}

/// A link to a file of ours names one that exists.
pub(crate) fn links_lead_somewhere(root: &Path, document: &Document) -> Vec<Violation> {
    let folder = Path::new(&document.path).parent().unwrap_or(Path::new(""));
    links(&document.text)
        .into_iter()
        .filter(|(_, link)| !link.contains("://") && !link.starts_with(['#', '/']))
        .filter_map(|(at, link)| {
            let file = link.split('#').next().unwrap_or_default();
            let is_there = root.join(folder).join(file).exists();
            (!is_there).then(|| Violation {
                rule: "links",
                path: document.path.clone(),
                line: line_of(&document.text, at),
                text: format!("there is no {file}"),
            })
        })
        .collect()
}

/// The targets of `[text](target)`, with their offsets.
fn links(text: &str) -> Vec<(usize, &str)> {
    text.match_indices("](")
        .filter_map(|(at, mark)| {
            let rest = text.get(at + mark.len()..)?;
            let end = rest.find([')', '\n'])?;
            rest.get(..end).map(|link| (at, link))
        })
        .collect()
}

/// The architecture can be read in one sitting.
pub(crate) fn architecture_stays_short(document: &Document) -> Vec<Violation> {
    let lines = document.text.lines().count();
    if document.path != ARCHITECTURE || lines < ARCHITECTURE_LINES_MAX {
        return vec![];
    }
    let text = format!("{lines} lines; it stays under {ARCHITECTURE_LINES_MAX}");
    vec![Violation { rule: "architecture", path: document.path.clone(), line: 0, text }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(path: &str, text: &str) -> Document {
        Document { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_link_to_nothing_is_refused() {
        let root = crate::workspace_root();
        let check = |text: &str, expect: &[usize]| {
            let found = links_lead_somewhere(&root, &document("docs/x.md", text));
            let lines: Vec<usize> = found.iter().map(|violation| violation.line).collect();
            assert_eq!(lines, expect, "{text}");
        };
        check("see [it](../README.md#five-minutes)", &[]);
        check("see [it](https://example.com/x) and [that](#there)", &[]);
        check("one\nsee [it](nowhere.md)", &[2]);
    }

    #[test]
    fn a_long_architecture_is_refused() {
        let long = "line\n".repeat(ARCHITECTURE_LINES_MAX);
        assert_eq!(architecture_stays_short(&document(ARCHITECTURE, &long)).len(), 1);
        assert!(architecture_stays_short(&document(ARCHITECTURE, "line\n")).is_empty());
        assert!(architecture_stays_short(&document("docs/x.md", &long)).is_empty());
    }
}
