//! Links between pages, and into the tree.

use std::path::{Component, Path, PathBuf};

use super::Page;

/// What is wrong with the links of the pages.
pub(super) fn check(root: &Path, pages: &[Page]) -> Vec<String> {
    pages
        .iter()
        .flat_map(|page| {
            targets(&page.text)
                .filter_map(|target| complaint(root, pages, page, target))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Pages of the book that its table of contents lacks.
pub(super) fn unlisted(pages: &[Page]) -> Vec<String> {
    let summary = pages
        .iter()
        .find(|page| page.path == Path::new("docs/SUMMARY.md"));
    let Some(summary) = summary else {
        return vec!["docs/SUMMARY.md is missing".to_owned()];
    };
    let listed: Vec<_> = targets(&summary.text)
        .map(|target| Path::new("docs").join(target))
        .collect();
    pages
        .iter()
        .filter(|page| page.path.starts_with("docs") && page.path != summary.path)
        .filter(|page| !listed.contains(&page.path))
        .map(|page| format!("{} is not in docs/SUMMARY.md", page.path.display()))
        .collect()
}

/// Where the links of a text lead that stay in the tree, code blocks apart.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines()
        .filter(move |line| {
            if line.starts_with("```") {
                fenced = !fenced;
            }
            !fenced
        })
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .filter(|target| !target.contains("://"))
}

fn complaint(root: &Path, pages: &[Page], page: &Page, target: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() {
        page.path.clone()
    } else {
        plain(&page.path.with_file_name(file))
    };
    if !root.join(&path).exists() {
        return Some(format!("{}: {target} does not exist", page.path.display()));
    }
    let there = pages.iter().find(|other| other.path == path)?;
    let known = anchor.is_empty() || anchors(&there.text).any(|known| known == anchor);
    (!known).then(|| format!("{}: {target} names no heading", page.path.display()))
}

/// The path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

/// The anchors of a text's headings, as mdBook and code hosts make them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .chars()
                .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'))
                .map(|letter| if letter == ' ' { '-' } else { letter })
                .flat_map(char::to_lowercase)
                .collect()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(path: &str, text: &str) -> Page {
        Page {
            path: path.into(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_link_into_nothing_and_one_to_no_heading_are_told() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("docs")).expect("a folder");
        std::fs::write(root.path().join("docs/b.md"), "").expect("a file");
        let pages = [
            page(
                "docs/a.md",
                "[b](b.md#what-it-is) [b](b.md#not) [c](c.md) [web](https://x.org)",
            ),
            page("docs/b.md", "## What it is"),
        ];
        assert_eq!(
            check(root.path(), &pages),
            [
                "docs/a.md: b.md#not names no heading",
                "docs/a.md: c.md does not exist"
            ]
        );
    }

    #[test]
    fn a_page_that_the_book_does_not_list_is_told() {
        let pages = [
            page("docs/SUMMARY.md", "- [a](a.md)"),
            page("docs/a.md", ""),
            page("docs/adr/0001.md", ""),
            page("README.md", ""),
        ];
        assert_eq!(
            unlisted(&pages),
            ["docs/adr/0001.md is not in docs/SUMMARY.md"]
        );
    }
}
