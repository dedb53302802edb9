//! The operator's requests, counted in the API server's audit log.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::Value;

const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// The audit log, and whose requests count.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    log: PathBuf,
    user: String,
}

impl Requests {
    /// Those of the service account `NAMESPACE/NAME`.
    pub(crate) fn of(log: &Path, account: &str) -> Self {
        Self {
            log: log.to_owned(),
            user: format!("system:serviceaccount:{}", account.replace('/', ":")),
        }
    }

    /// How many writes between two moments concern this namespace (every one when absent), the leader's lease apart.
    pub(crate) fn writes(
        &self,
        from: Timestamp,
        to: Timestamp,
        namespace: Option<&str>,
    ) -> Result<usize> {
        let text = fs::read_to_string(&self.log)
            .with_context(|| format!("the audit log {} cannot be read", self.log.display()))?;
        let counts = |line: &&str| -> bool {
            // Most lines are others' requests, and reading each of them as JSON takes its time.
            line.contains(&self.user)
                && serde_json::from_str::<Value>(line)
                    .is_ok_and(|entry| self.is_write(&entry, (from, to), namespace))
        };
        Ok(text.lines().filter(counts).count())
    }

    fn is_write(
        &self,
        entry: &Value,
        (from, to): (Timestamp, Timestamp),
        namespace: Option<&str>,
    ) -> bool {
        let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str);
        let Some(at) =
            text("/requestReceivedTimestamp").and_then(|text| text.parse::<Timestamp>().ok())
        else {
            return false;
        };
        text("/user/username") == Some(&self.user)
            && text("/verb").is_some_and(|verb| WRITES.contains(&verb))
            && text("/objectRef/resource") != Some("leases")
            && at >= from
            && at <= to
            && namespace.is_none_or(|wanted| text("/objectRef/namespace") == Some(wanted))
    }
}
