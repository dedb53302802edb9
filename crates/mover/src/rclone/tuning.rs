//! How many transfers at once, and in which pieces: set as rclone's environment, where the user's own settings win.

use crate::rclone::program::Command;
use crate::rclone::store::Features;

/// Files smaller than this cost requests, not bandwidth.
const SMALL: u64 = 1 << 20;
/// Most parts that S3 takes for one object, with some to spare.
const MOST_PARTS: u64 = 9_000;
/// Smallest part that is worth a request of its own, in MiB.
const SMALLEST_PART: u64 = 16;
/// Files from this size on go with few others beside them, in bytes.
const LARGE: u64 = SMALL * SMALLEST_PART;
/// Smaller objects than this come in one piece, in MiB: their checksum is then one that a listing shows.
const SMALLEST_IN_PARTS: u64 = 64;
/// How many parts of a file rclone holds in memory.
const PARTS_AT_ONCE: u64 = 4;
/// What parts of all files that are under way may take of it, in MiB.
const ROOM_FOR_PARTS: u64 = 256;
/// So many small files go side by side where a store answers any number of requests at once.
const MANY: u64 = 64;
/// What is read ahead of each of those: they are small on average, and of the larger among them as many may come together.
const READ_AHEAD: &str = "4Mi";

/// Of so many files at most rclone is told the names in one call, and of stores with no more it lists all at once: it keeps
/// more than a KiB of memory for each of either.
pub(crate) const MOST_AT_ONCE: usize = 100_000;

/// Up to so many small files rclone collects its garbage rarely. Sending or fetching 10,000 then takes a tenth to a sixth less of
/// the processor's time, and some 50 MiB more.
const MOST_WITH_GARBAGE: u64 = 50_000;
/// The same where it lists so many first: what is listed stays in memory, and leaves little of it to garbage.
const MOST_LISTED_WITH_GARBAGE: u64 = 20_000;
/// Files are so small on average, in bytes: each that is under way has a buffer of its size.
const TINY: u64 = 64 << 10;

/// What a transfer will carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// The size of the largest file.
    pub(crate) largest: u64,
}

impl Load {
    /// That of files with these sizes.
    pub(crate) fn of(sizes: impl Iterator<Item = u64>) -> Self {
        sizes.fold(Self::default(), |load, size| Self {
            files: load.files + 1,
            bytes: load.bytes.saturating_add(size),
            largest: load.largest.max(size),
        })
    }

    fn is_of_small_files(self) -> bool {
        self.bytes / self.files.max(1) < SMALL
    }
}

/// The files in groups that go one after the other: beside as many as small ones may be, large ones would take all memory,
/// and so would the names of very many. `size` is that of a file.
pub(crate) fn groups<F: Copy>(
    files: &[F],
    size: impl Fn(F) -> u64,
    features: Features,
) -> Vec<Vec<F>> {
    let (small, large): (Vec<F>, Vec<F>) =
        files.iter().copied().partition(|file| size(*file) < LARGE);
    let are_many = u64::try_from(small.len()).is_ok_and(|count| count > MANY);
    let by_size = if features.bucket_based && are_many && !large.is_empty() {
        vec![small, large]
    } else {
        vec![files.to_vec()]
    };
    let pieces = by_size.iter().flat_map(|group| group.chunks(MOST_AT_ONCE));
    pieces.map(<[F]>::to_vec).collect()
}

/// `command`, which lists a store of about `of` files: by pages of all of it instead of a request for each folder, as long as
/// that is no matter of memory.
pub(crate) fn listed_at_once(command: Command, of: u64, features: Features) -> Command {
    if features.bucket_based && of <= MOST_AT_ONCE as u64 {
        command.tune("RCLONE_FAST_LIST", "true")
    } else {
        command
    }
}

/// Variables for a transfer of `load`.
pub(crate) fn variables(load: Load, features: Features) -> Vec<(&'static str, String)> {
    let part = (load.largest / MOST_PARTS)
        .div_ceil(SMALL)
        .max(SMALLEST_PART);
    // Stores with buckets answer any number of requests at once. Others (SFTP, WebDAV) are one server each, which
    // refuses more than a few connections.
    let transfers = match (features.bucket_based, load.is_of_small_files()) {
        (true, _) if load.largest >= LARGE => (ROOM_FOR_PARTS / (PARTS_AT_ONCE * part)).max(1),
        (true, true) => MANY,
        (true, false) | (false, true) if load.largest < LARGE => 8,
        _ => 4,
    };
    let mut variables = vec![
        (
            "RCLONE_TRANSFERS",
            transfers.min(load.files.max(1)).to_string(),
        ),
        (
            "RCLONE_CHECKERS",
            if features.bucket_based { 64 } else { 8 }.to_string(),
        ),
    ];
    if features.bucket_based {
        // The store's answer to an upload holds its checksum; asking for it once more doubles the requests.
        variables.push(("RCLONE_S3_NO_HEAD", "true".to_owned()));
    }
    if transfers == MANY {
        variables.push(("RCLONE_BUFFER_SIZE", READ_AHEAD.to_owned()));
    }
    if load.largest >= LARGE {
        variables.push(("RCLONE_S3_CHUNK_SIZE", format!("{part}Mi")));
        variables.push(("RCLONE_S3_UPLOAD_CUTOFF", format!("{SMALLEST_IN_PARTS}Mi")));
        // Of a file whose parts are so large that even alone it would take too much, fewer go at once.
        let at_once = (ROOM_FOR_PARTS / part).clamp(1, PARTS_AT_ONCE);
        variables.push(("RCLONE_S3_UPLOAD_CONCURRENCY", at_once.to_string()));
    }
    variables
}

/// `command`, which moves `load` and holds the listing of `listed` files meanwhile.
pub(crate) fn with_garbage_if_small(command: Command, load: Load, listed: u64) -> Command {
    let is_tiny = load.bytes / load.files.max(1) <= TINY && load.largest < LARGE;
    if !is_tiny || load.files > MOST_WITH_GARBAGE || listed > MOST_LISTED_WITH_GARBAGE {
        return command;
    }
    command.with_garbage()
}

/// `command`, tuned for `load`.
pub(crate) fn tuned(command: Command, load: Load, features: Features) -> Command {
    variables(load, features).into_iter().fold(
        command.expect(load.files, load.bytes),
        |command, (name, value)| command.tune(name, &value),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(bucket_based: bool) -> Features {
        Features {
            hashes: true,
            keeps_folders: !bucket_based,
            bucket_based,
            keeps_times: true,
            ..Features::default()
        }
    }

    fn value(load: Load, bucket_based: bool, name: &str) -> Option<String> {
        let variables = variables(load, features(bucket_based));
        variables
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    #[test]
    fn many_small_files_go_side_by_side_and_big_ones_in_parts() {
        let small = Load::of(std::iter::repeat_n(1000, 10_000));
        assert_eq!(
            value(small, true, "RCLONE_TRANSFERS").as_deref(),
            Some("64")
        );
        assert_eq!(
            value(small, false, "RCLONE_TRANSFERS").as_deref(),
            Some("8")
        );
        assert_eq!(
            value(small, true, "RCLONE_S3_NO_HEAD").as_deref(),
            Some("true")
        );
        assert_eq!(value(small, true, "RCLONE_S3_CHUNK_SIZE"), None);
        let big = Load::of([1 << 30, 1 << 40].into_iter());
        assert_eq!(value(big, true, "RCLONE_TRANSFERS").as_deref(), Some("1"));
        assert_eq!(
            value(big, true, "RCLONE_S3_CHUNK_SIZE").as_deref(),
            Some("117Mi")
        );
        assert_eq!(
            value(big, true, "RCLONE_S3_UPLOAD_CUTOFF").as_deref(),
            Some("64Mi")
        );
    }

    /// What the parts and the buffers of all files that are under way take at most, in MiB.
    fn memory(load: Load) -> u64 {
        let number = |name: &str, default: u64| {
            let value = value(load, true, name);
            value.map_or(default, |value| {
                value.trim_end_matches("Mi").parse().unwrap()
            })
        };
        // What rclone itself reads ahead; it sends in parts what is large.
        let ahead = number("RCLONE_BUFFER_SIZE", 16);
        let parts = number("RCLONE_S3_CHUNK_SIZE", 0) * number("RCLONE_S3_UPLOAD_CONCURRENCY", 4);
        number("RCLONE_TRANSFERS", 4) * (parts + ahead.min(load.largest.div_ceil(SMALL)))
    }

    #[test]
    fn no_mixture_of_sizes_takes_all_memory_and_small_files_among_large_ones_go_side_by_side() {
        const GIB: u64 = 1 << 30;
        let mixtures = [
            (150_000, 4096, 100, GIB),
            (150_000, 4096, 1, 1 << 42),
            (20, 4096, 30, GIB),
            (150_000, 4096, 1000, (16 << 20) - 1),
            (1000, 12 << 20, 1000, 16 << 20),
            (0, 0, 1000, 1 << 42),
        ];
        for (small, size, large, large_size) in mixtures {
            let sizes: Vec<u64> = std::iter::repeat_n(size, small)
                .chain(std::iter::repeat_n(large_size, large))
                .collect();
            let loads = groups(&sizes, |size| size, features(true))
                .into_iter()
                .map(|group| Load::of(group.into_iter()));
            let loads: Vec<Load> = loads.collect();
            assert_eq!(
                loads.iter().map(|load| load.files).sum::<u64>(),
                sizes.len() as u64
            );
            for load in &loads {
                assert!(memory(*load) <= 512, "{load:?}: {}", memory(*load));
            }
            if (small, size) == (150_000, 4096) {
                let of_small = value(loads[0], true, "RCLONE_TRANSFERS");
                assert_eq!(of_small.as_deref(), Some("64"));
            }
        }
        // One server is asked once.
        let sizes: Vec<u64> = std::iter::repeat_n(1, 1000).chain([GIB]).collect();
        assert_eq!(groups(&sizes, |size| size, features(false)).len(), 1);
    }

    #[test]
    fn garbage_lies_about_only_where_files_are_small_and_not_too_many() {
        let is_tuned_with = |load: Load, listed: u64| {
            let command = with_garbage_if_small(Command::new("copy"), load, listed);
            format!("{command:?}").contains("GOGC")
        };
        let is_tuned = |load: Load| is_tuned_with(load, 0);
        assert!(is_tuned(Load::of(std::iter::repeat_n(1000, 50_000))));
        assert!(!is_tuned(Load::of(std::iter::repeat_n(1000, 50_001))));
        assert!(!is_tuned(Load::of([1000, 1 << 24].into_iter())));
        assert!(!is_tuned(Load::of(std::iter::repeat_n(12 << 20, 100))));
        let thousand = Load::of(std::iter::repeat_n(1000, 1000));
        assert!(is_tuned_with(thousand, 20_000) && !is_tuned_with(thousand, 20_001));
    }

    #[test]
    fn the_parts_of_any_object_are_few_enough() {
        for exponent in 24..=42 {
            let size = 1_u64 << exponent;
            let part = value(Load::of([size].into_iter()), true, "RCLONE_S3_CHUNK_SIZE").unwrap();
            let part: u64 = part.strip_suffix("Mi").unwrap().parse().unwrap();
            assert!(size.div_ceil(part << 20) <= 10_000);
        }
    }
}
