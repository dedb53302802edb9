//! What an rsync without rights cannot preserve.
//!
//! rsync says nothing when it receives owners and devices as an ordinary user: it leaves them out, and calls that success.
//! Whoever starts from such a copy has to know.

use rustix::process::{getegid, geteuid, getgroups};

/// How the gate tells a source what its end cannot preserve, in a line of its own before the list.
const PREFIX: &str = "not preserved here: ";
/// Between two entries of that line.
const SEPARATOR: &str = "; ";

/// What this end cannot preserve of what it receives; nothing for root.
pub(crate) fn at_destination() -> Vec<String> {
    if geteuid().is_root() {
        return Vec::new();
    }
    let mut groups: Vec<u32> = getgroups()
        .unwrap_or_default()
        .into_iter()
        .chain([getegid()])
        .map(rustix::process::Gid::as_raw)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    vec![
        format!("owners (all is uid {}'s)", geteuid().as_raw()),
        format!("groups other than {}", groups.join(", ")),
        "device files".to_owned(),
        "extended attributes other than users' (security.*, trusted.*)".to_owned(),
    ]
}

/// What this end cannot read of what it sends, without a word of rsync; nothing for root. A file that it cannot read at
/// all is a failure.
pub(crate) fn at_source() -> Vec<String> {
    if geteuid().is_root() {
        return Vec::new();
    }
    vec!["extended attributes other than users' (security.*, trusted.*)".to_owned()]
}

/// The line for the source; `None` when all is preserved.
pub(crate) fn line() -> Option<String> {
    let entries = at_destination();
    (!entries.is_empty()).then(|| format!("{PREFIX}{}", entries.join(SEPARATOR)))
}

/// Reads that line, at the source. Its words are the peer's.
pub(crate) fn heard(line: &str) -> Option<Vec<String>> {
    let entries = line.trim().strip_prefix(PREFIX)?.split(SEPARATOR);
    Some(entries.map(str::to_owned).collect())
}

/// Both ends' words, each once.
pub(crate) fn merged(own: Vec<String>, peers: Vec<String>) -> Vec<String> {
    let mut all = peers;
    all.extend(own);
    let mut seen = std::collections::HashSet::new();
    all.retain(|entry| seen.insert(entry.clone()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_reads_what_its_destination_says() {
        let line = format!("{PREFIX}owners{SEPARATOR}device files");
        assert_eq!(
            heard(&line),
            Some(vec!["owners".to_owned(), "device files".to_owned()])
        );
        assert_eq!(heard("shutdown 0 acknowledged"), None);
    }

    #[test]
    fn what_both_ends_lack_is_named_once() {
        let both = merged(vec!["a".to_owned()], vec!["b".to_owned(), "a".to_owned()]);
        assert_eq!(both, ["b", "a"]);
    }
}
