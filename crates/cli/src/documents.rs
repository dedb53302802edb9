//! Manifests: files, folders and standard input, cut into documents.
//!
//! A document is sent to the server as it was written: the server's own reading of YAML is the one that counts.
//! Here only its head is read, to know where it belongs.

use std::fmt::Display;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

/// The endings of files that are read from a folder, as kubectl has them.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    /// The text, YAML or JSON.
    pub(crate) text: String,
    /// `apiVersion`.
    pub(crate) api_version: String,
    /// `kind`.
    pub(crate) kind: String,
    /// `metadata.name`.
    pub(crate) name: String,
    /// `metadata.namespace`.
    pub(crate) namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
}

/// Reads everything that `-f` names: files, folders (not what lies below their subfolders), or `-`.
pub(crate) fn read_all(names: &[PathBuf]) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for name in names {
        for (label, text) in texts(name)? {
            documents
                .extend(parse(&text, &label).with_context(|| format!("{label} is no manifest"))?);
        }
    }
    if documents.is_empty() {
        bail!(
            "there is no object in {}",
            names
                .iter()
                .map(|name| name.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    Ok(documents)
}

fn texts(name: &Path) -> Result<Vec<(String, String)>> {
    if name == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        return Ok(vec![("standard input".to_owned(), text)]);
    }
    let mut files = if name.is_dir() {
        manifests_in(name)?
    } else {
        vec![name.to_owned()]
    };
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let label = file.display().to_string();
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read {label}"))?;
            Ok((label, text))
        })
        .collect()
}

fn manifests_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        if path
            .extension()
            .and_then(|ending| ending.to_str())
            .is_some_and(|ending| ENDINGS.contains(&ending))
        {
            files.push(path);
        }
    }
    Ok(files)
}

/// Cuts a text into documents and reads the head of each; documents without content are left out. The label says
/// where the text is from.
fn parse(text: &str, label: &str) -> Result<Vec<Document>> {
    split(text)
        .into_iter()
        .map(|(line, text)| {
            head(text, (line, label)).with_context(|| format!("in the document at line {line}"))
        })
        .collect()
}

fn head(text: String, (line, label): (usize, &str)) -> Result<Document> {
    let head: Head = serde_saphyr::from_str(&text).or_else(|_| {
        // Read again below as many empty lines as stand before it, so that the complaint has the file's own lines.
        let placed = "\n".repeat(line.saturating_sub(1)) + &text;
        serde_saphyr::from_str(&placed).map_err(|error| anyhow!(complaint(&error, label)))
    })?;
    let kind = head.kind.context("the field kind is missing")?;
    let api_version = head
        .api_version
        .context("the field apiVersion is missing")?;
    if kind == "List" {
        bail!(
            "a List cannot be applied as one object: write its items as documents, separated by ---"
        );
    }
    let metadata = head
        .metadata
        .with_context(|| format!("the {kind} has no metadata"))?;
    let name = metadata
        .name
        .with_context(|| format!("the {kind} has no metadata.name"))?;
    Ok(Document {
        text,
        api_version,
        kind,
        name,
        namespace: metadata.namespace,
    })
}

/// What is wrong with a YAML text, with its name for the library's `<input>`.
pub(crate) fn complaint(error: &impl Display, label: &str) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    text.replace("--> <input>:", &format!("--> {label}:"))
}

/// The documents with the number of their first line.
fn split(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![(1, String::new())];
    for (index, line) in text.lines().enumerate() {
        if line == "---" || line.starts_with("--- ") {
            documents.push((index + 2, String::new()));
        } else if line != "..."
            && let Some((_, last)) = documents.last_mut()
        {
            last.push_str(line);
            last.push('\n');
        }
    }
    documents.retain(|(_, text)| {
        text.lines()
            .map(str::trim)
            .any(|line| !line.is_empty() && !line.starts_with('#'))
    });
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_cut_at_their_markers_and_kept_as_written() {
        let text = "# first\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: n}\ndata: {mode: 0400}\n---\n# nothing\n---\n{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"b\"}}\n";
        let documents = parse(text, "a.yaml").unwrap();
        let [secret, pod] = documents.as_slice() else {
            panic!("{documents:?}")
        };
        assert_eq!(
            (
                secret.kind.as_str(),
                secret.name.as_str(),
                secret.namespace.as_deref()
            ),
            ("Secret", "a", Some("n"))
        );
        assert!(secret.text.contains("mode: 0400"));
        assert_eq!(
            (
                pod.kind.as_str(),
                pod.name.as_str(),
                pod.namespace.as_deref()
            ),
            ("Pod", "b", None)
        );
    }

    #[test]
    fn what_is_missing_is_named_with_its_line() {
        let text =
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nkind: Pod\nmetadata: {name: b}\n";
        assert_eq!(
            format!("{:#}", parse(text, "a.yaml").unwrap_err()),
            "in the document at line 5: the field apiVersion is missing"
        );
        assert_eq!(
            format!(
                "{:#}",
                parse("apiVersion: v1\nkind: Pod\nmetadata: {}\n", "a.yaml").unwrap_err()
            ),
            "in the document at line 1: the Pod has no metadata.name"
        );
    }

    #[test]
    fn bad_yaml_is_told_with_the_files_name_and_line() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nkind: [b\n c: {{\n";
        let told = format!("{:#}", parse(text, "a.yaml").unwrap_err());
        assert!(told.contains("--> a.yaml:5:"), "{told}");
        assert!(
            !told.contains("error:") && !told.contains("<input>"),
            "{told}"
        );
    }

    #[test]
    fn a_folder_gives_its_manifests_in_order_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for (name, object) in [("2.yaml", "b"), ("1.yml", "a"), ("3.json", "c")] {
            fs::write(folder.path().join(name), format!("{{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {{\"name\": \"{object}\"}}}}")).unwrap();
        }
        fs::write(folder.path().join("README.md"), "not: a manifest").unwrap();
        let names: Vec<String> = read_all(&[folder.path().to_owned()])
            .unwrap()
            .into_iter()
            .map(|document| document.name)
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn an_empty_manifest_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            read_all(&[folder.path().to_owned()])
                .unwrap_err()
                .to_string()
                .starts_with("there is no object in")
        );
    }
}
