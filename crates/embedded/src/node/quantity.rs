//! Quantities of Kubernetes: a number with a decimal or binary suffix.

/// The suffixes and what they stand for.
const SUFFIXES: [(&str, f64); 15] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

/// Reads a quantity; precise to a float's 53 bits, which is enough for sizes of memory and disks.
pub(crate) fn parse(text: &str) -> Option<f64> {
    if let Ok(plain) = text.parse::<f64>() {
        return plain.is_finite().then_some(plain);
    }
    SUFFIXES.iter().find_map(|(suffix, factor)| {
        let number: f64 = text.strip_suffix(suffix)?.parse().ok()?;
        number.is_finite().then_some(number * factor)
    })
}

/// A quantity as a number of bytes, rounded up.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let value = parse(text)?.ceil();
    format!("{value:.0}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_with_their_suffixes() {
        assert_eq!(bytes("64Mi"), Some(67_108_864));
        assert_eq!(bytes("1k"), Some(1000));
        assert_eq!(bytes("1e3"), Some(1000));
        assert_eq!(bytes("1500m"), Some(2));
        assert_eq!(bytes("12"), Some(12));
        assert_eq!(bytes("-1"), None);
        assert_eq!(bytes("x"), None);
    }
}
