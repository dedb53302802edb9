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
    let value: f64 = digits.parse().ok()?;
    format!("{:.0}", value * scale).parse().ok()
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
}
