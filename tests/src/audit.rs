//! What the API server of the cluster of `tests/cluster` wrote down: who asked it for what.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use syncline_testkit::cluster::Real;

use crate::parts::text;

/// The requests whose record holds `word`, oldest first.
pub fn requests(real: &Real, word: &str) -> Result<Vec<Value>> {
    requests_in(&real.audit_log()?, word)
}

/// The same of a log that was kept of a cluster.
pub fn requests_in(path: &Path, word: &str) -> Result<Vec<Value>> {
    let log =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(log
        .lines()
        .filter(|line| line.contains(word))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// A verb, a group, and a resource with its subresource.
pub type Use = (String, String, String);

/// What these requests used, if they were granted.
pub fn uses<'a>(requests: impl IntoIterator<Item = &'a Value>) -> BTreeSet<Use> {
    requests.into_iter().flat_map(uses_of).collect()
}

fn uses_of(request: &Value) -> Vec<Use> {
    let word = |pointer| text(request, pointer).unwrap_or_default();
    let code = request
        .pointer("/responseStatus/code")
        .and_then(Value::as_u64);
    if code == Some(403) {
        return Vec::new();
    }
    let resource = match word("/objectRef/subresource") {
        "" => word("/objectRef/resource").to_owned(),
        sub => format!("{}/{sub}", word("/objectRef/resource")),
    };
    let group = word("/objectRef/apiGroup").to_owned();
    let mut all = vec![(word("/verb").to_owned(), group.clone(), resource.clone())];
    // Applying what is not there takes `create` as well.
    if word("/verb") == "patch" && code == Some(201) {
        all.push(("create".to_owned(), group, resource));
    }
    all
}
