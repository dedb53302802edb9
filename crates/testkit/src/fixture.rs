//! Manifests for tests.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// A claim on the default storage class.
pub fn claim(name: &str, size: &str, data_source: Option<Value>) -> Value {
    let mut claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
    });
    if let (Some(source), Some(spec)) = (
        data_source,
        claim.get_mut("spec").and_then(Value::as_object_mut),
    ) {
        spec.insert("dataSource".to_owned(), source);
    }
    claim
}

/// The documents of a YAML text as JSON. Meant for our own manifests, which hold nothing that YAML 1.1 reads oddly.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    split(text)
        .into_iter()
        .map(|document| {
            serde_saphyr::from_str(&document).with_context(|| format!("in\n{document}"))
        })
        .collect()
}

/// Splits a YAML text at its document markers; documents of comments only are left out.
fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            documents.push(String::new());
        } else if let Some(last) = documents.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    documents.retain(|document| {
        document
            .lines()
            .any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    });
    documents
}
