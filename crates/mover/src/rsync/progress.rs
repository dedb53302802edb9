//! What rsync prints while it works, and what it prints at the end.

use syncline_api::report::Progress;

use crate::fs::Census;

/// One look at a running transfer, from a line of `--info=progress2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Glimpse {
    /// Bytes of the files dealt with so far.
    pub(crate) bytes: u64,
    /// Entries still to be checked, of those known so far.
    pub(crate) remaining: Option<u64>,
    /// Entries known so far.
    pub(crate) known: Option<u64>,
}

impl Glimpse {
    /// With the counts of an `earlier` one where this has none: rsync tells them at the end of a file only.
    pub(crate) fn counted_as(self, earlier: Option<Self>) -> Self {
        Self {
            remaining: self.remaining.or_else(|| earlier?.remaining),
            known: self.known.or_else(|| earlier?.known),
            ..self
        }
    }
}

/// Reads a line such as `  32,768 100%  1.00MB/s  0:00:00 (xfr#1, to-chk=0/2)`; `None` for every other line.
pub(crate) fn glimpse(line: &str) -> Option<Glimpse> {
    let mut words = line.split_ascii_whitespace();
    let bytes = number(words.next()?)?;
    words.next()?.strip_suffix('%')?.parse::<u8>().ok()?;
    words.next()?.strip_suffix("/s")?;
    let rest = line.split_once('(').map_or("", |(_, rest)| rest);
    let counts = ["to-chk=", "ir-chk="]
        .iter()
        .find_map(|name| rest.split_once(name))
        .and_then(|(_, counts)| {
            let (remaining, known) = counts.trim_end_matches(')').split_once('/')?;
            Some((remaining.parse().ok()?, known.parse().ok()?))
        });
    Some(Glimpse {
        bytes,
        remaining: counts.map(|(remaining, _)| remaining),
        known: counts.map(|(_, known)| known),
    })
}

/// The numbers at the end of a run (`--info=stats2`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Regular files whose content was transferred.
    pub(crate) files_transferred: Option<u64>,
    /// Bytes of all files of the source.
    pub(crate) total_size: Option<u64>,
    /// Bytes that went to the peer.
    pub(crate) sent: Option<u64>,
    /// Bytes that came from the peer.
    pub(crate) received: Option<u64>,
    /// What the source holds, where the transfer itself counts it: blocks of a device that are not zero.
    pub(crate) entries: Option<u64>,
}

impl Totals {
    /// Takes from `line` what it tells.
    pub(crate) fn read(&mut self, line: &str) {
        let Some((name, value)) = line.split_once(": ") else {
            return;
        };
        let value = value.split_ascii_whitespace().next().and_then(number);
        let place = match name {
            "Number of regular files transferred" => &mut self.files_transferred,
            "Total file size" => &mut self.total_size,
            "Total bytes sent" => &mut self.sent,
            "Total bytes received" => &mut self.received,
            _ => return,
        };
        *place = value.or(*place);
    }
}

/// A number as rsync prints it, with or without separators.
fn number(text: &str) -> Option<u64> {
    let digits: String = text
        .chars()
        .filter(|character| !matches!(character, ',' | '.'))
        .collect();
    if digits.is_empty() {
        None
    } else {
        digits.parse().ok()
    }
}

/// What is shown of a transfer: the glimpse against the census of the source, once that is known.
pub(crate) fn progress(glimpse: Glimpse, census: Option<Census>) -> Progress {
    // rsync counts the root as an entry, the census does not.
    let known = glimpse.known.map(|known| known.saturating_sub(1));
    let total = census.map(|census| census.entries).or(known);
    let done = match (known, glimpse.remaining) {
        (Some(known), Some(remaining)) => Some(known.saturating_sub(remaining)),
        _ => None,
    };
    let cap = |done: u64, total: Option<u64>| total.map_or(done, |total| done.min(total));
    Progress {
        phase: Some("Transferring".to_owned()),
        bytes_done: signed(cap(glimpse.bytes, census.map(|census| census.bytes))),
        bytes_total: census.and_then(|census| signed(census.bytes)),
        files_done: done.and_then(|done| signed(cap(done, total))),
        files_total: total.and_then(signed),
    }
}

/// A count for the API, whose integers are signed.
pub(crate) fn signed(count: u64) -> Option<i64> {
    i64::try_from(count).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[test]
    fn within_a_large_file_the_files_before_it_still_count() {
        let ended = glimpse("     32,768 100%   31.25MB/s    0:00:00 (xfr#1, to-chk=5/9)");
        let within = glimpse("     98,304  60%   31.25MB/s    0:00:00  ").unwrap();
        let counted = within.counted_as(ended);
        assert_eq!(counted.bytes, 98_304);
        assert_eq!((counted.remaining, counted.known), (Some(5), Some(9)));
        assert_eq!(within.counted_as(None), within);
    }

    #[rstest]
    #[case("              2 100%    0.00kB/s    0:00:00  ", 2, None, None)]
    #[case(
        "     32,768 100%   31.25MB/s    0:00:00 (xfr#1, to-chk=0/2)",
        32768,
        Some(0),
        Some(2)
    )]
    #[case(
        "  1234567  45%  120.05kB/s    0:01:02 (xfr#9, ir-chk=1001/2002)",
        1_234_567,
        Some(1001),
        Some(2002)
    )]
    fn progress_lines_are_read(
        #[case] line: &str,
        #[case] bytes: u64,
        #[case] remaining: Option<u64>,
        #[case] known: Option<u64>,
    ) {
        assert_eq!(
            glimpse(line),
            Some(Glimpse {
                bytes,
                remaining,
                known
            })
        );
    }

    #[rstest]
    #[case(">f+++++++++ 100%")]
    #[case("sent 160 bytes  received 36 bytes  392.00 bytes/sec")]
    #[case("12 files")]
    #[case("")]
    #[case("99999999999999999999999 100% 1kB/s 0:00:00")]
    fn other_lines_are_not_progress(#[case] line: &str) {
        assert_eq!(glimpse(line), None);
    }

    #[test]
    fn the_final_numbers_are_read() {
        let mut totals = Totals::default();
        for line in [
            "Number of files: 2 (reg: 1, dir: 1)",
            "Number of regular files transferred: 1,234",
            "Total file size: 2048 bytes",
            "Total transferred file size: 1 bytes",
            "Total bytes sent: 160",
            "Total bytes received: 36",
            ">f+++++++++ Total bytes sent: 7",
        ] {
            totals.read(line);
        }
        let expected = Totals {
            files_transferred: Some(1234),
            total_size: Some(2048),
            sent: Some(160),
            received: Some(36),
            entries: None,
        };
        assert_eq!(totals, expected);
    }

    #[test]
    fn shown_progress_never_exceeds_the_census() {
        let glimpse = Glimpse {
            bytes: 500,
            remaining: Some(1),
            known: Some(12),
        };
        let shown = progress(
            glimpse,
            Some(Census {
                entries: 9,
                bytes: 400,
            }),
        );
        assert_eq!(
            (shown.bytes_done, shown.bytes_total),
            (Some(400), Some(400))
        );
        assert_eq!((shown.files_done, shown.files_total), (Some(9), Some(9)));
        let shown = progress(glimpse, None);
        assert_eq!(
            (shown.files_done, shown.files_total, shown.bytes_total),
            (Some(10), Some(11), None)
        );
    }

    proptest! {
        #[test]
        fn no_line_makes_the_readers_panic(line in "\\PC{0,80}") {
            let _ = glimpse(&line);
            Totals::default().read(&line);
        }
    }
}
