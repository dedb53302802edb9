//! How large a manifest may be that is read into this pod's memory.

use super::LARGEST;

/// What an entry takes in memory at least, in bytes.
const ENTRY: u64 = 200;
/// Files that hold the pod's limit, in bytes, by the version of Linux's control groups.
const PLACES: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// The largest manifest that can fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) entries: u64,
    /// When decompressed. Of long names and attributes memory takes about as much as the text.
    pub(super) bytes: u64,
}

impl Limit {
    /// That of this pod.
    pub(super) fn of_this_pod() -> Self {
        let read = PLACES
            .iter()
            .find_map(|place| std::fs::read_to_string(place).ok());
        Self::of(read.as_deref().unwrap_or_default())
    }

    /// That of a pod for which Linux says `memory`: a number, or a word where there is no limit.
    pub(super) fn of(memory: &str) -> Self {
        match memory.trim().parse::<u64>() {
            Ok(memory) => Self {
                entries: memory / ENTRY,
                bytes: memory.saturating_mul(2).min(LARGEST),
            },
            Err(_) => Self {
                entries: u64::MAX,
                bytes: LARGEST,
            },
        }
    }
}
