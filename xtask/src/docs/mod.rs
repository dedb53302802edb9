//! `xtask check-docs`: links lead somewhere, examples are what the API takes, and every field is told of.

mod examples;
mod links;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// A page of Markdown.
struct Page {
    /// Where it is, seen from the workspace.
    path: PathBuf,
    text: String,
}

pub(crate) fn run(root: &Path) -> Result<()> {
    let mut pages = Vec::new();
    for folder in ["", "bench", "docs", "docs/adr", "tests", "deploy"] {
        collect(root, Path::new(folder), &mut pages)?;
    }
    pages.sort_by(|one, other| one.path.cmp(&other.path));
    let mut wrong = links::check(root, &pages);
    wrong.extend(links::unlisted(&pages));
    wrong.extend(examples::check(&pages)?);
    if !wrong.is_empty() {
        bail!(
            "the documentation is wrong in places:\n  {}",
            wrong.join("\n  ")
        );
    }
    Ok(())
}

/// The pages of a folder, below it only where no other entry of the list says so: `tests` and `deploy` are deep.
fn collect(root: &Path, folder: &Path, pages: &mut Vec<Page>) -> Result<()> {
    let deep = folder.starts_with("tests") || folder.starts_with("deploy");
    let entries = fs::read_dir(root.join(folder))
        .with_context(|| format!("{} cannot be listed", folder.display()))?;
    for entry in entries {
        let path = folder.join(entry?.file_name());
        let full = root.join(&path);
        if full.is_dir() && deep {
            collect(root, &path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&full)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            pages.push(Page { path, text });
        }
    }
    Ok(())
}
