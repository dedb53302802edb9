//! Reading what movers print.

/// Bytes sent, from rsync's line `sent 1.23M bytes  received …`, as it prints it with and without `-h`.
pub fn bytes_sent(log: &str) -> Option<u64> {
    let line = log
        .lines()
        .rev()
        .find(|line| line.starts_with("sent ") && line.contains(" bytes"))?;
    let number = line.split_whitespace().nth(1)?.replace(',', "");
    let (digits, unit) = match number.strip_suffix(['K', 'M', 'G']) {
        Some(digits) => (digits, number.chars().last()),
        None => (number.as_str(), None),
    };
    let scale = match unit {
        Some('K') => 1e3,
        Some('M') => 1e6,
        Some('G') => 1e9,
        _ => 1.0,
    };
    whole(digits.parse().ok()?, scale)
}

/// Bytes sent, from the line `Transferred: 98.112 KiB / 98.112 KiB, 100%, …` of a run of rclone's: to the thousandth part
/// of the unit in it. The line of the same name with numbers of files has no unit.
pub fn bytes_transferred(log: &str) -> Option<u64> {
    log.lines().rev().find_map(|line| {
        let mut words = line.strip_prefix("Transferred:")?.split_whitespace();
        let (number, unit) = (words.next()?, words.next()?);
        let scale = match unit {
            "B" => 1.0,
            "KiB" => 1024.0,
            "MiB" => 1024.0 * 1024.0,
            "GiB" => 1024.0 * 1024.0 * 1024.0,
            _ => return None,
        };
        whole(number.parse().ok()?, scale)
    })
}

/// So many units of this size, rounded.
fn whole(number: f64, scale: f64) -> Option<u64> {
    format!("{:.0}", number * scale).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_sent_are_read_with_and_without_units() {
        let line = |number: &str| {
            format!(
                "noise\nsent {number} bytes  received 35 bytes  12.00 bytes/sec\ntotal size is 9"
            )
        };
        assert_eq!(bytes_sent(&line("1,234")), Some(1234));
        assert_eq!(bytes_sent(&line("1.23M")), Some(1_230_000));
        assert_eq!(bytes_sent("nothing"), None);
    }

    #[test]
    fn bytes_transferred_are_read_from_the_line_that_has_a_unit() {
        let log = |amount: &str| {
            format!(
                "Transferred:   \t{amount} / {amount}, 100%, 5 B/s, ETA -\nTransferred:   \t3 / 3, 100%\nRclone completed in 0s"
            )
        };
        assert_eq!(bytes_transferred(&log("0 B")), Some(0));
        assert_eq!(bytes_transferred(&log("19.533 KiB")), Some(20_002));
        assert_eq!(bytes_transferred(&log("1.500 MiB")), Some(1_572_864));
        assert_eq!(
            bytes_transferred("Transferred:   \t3 / 3, 100%\nsent 5 bytes"),
            None
        );
    }
}
