//! Quantities in the one form that Kubernetes keeps: `1024Mi` is `1Gi`, `1000m` is `1`.
//! (Rules: apimachinery's `resource.Quantity`, "canonical form".)

/// Decimal suffixes by their power of ten, from nano.
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
/// Binary suffixes by their power of 1024.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const NANO: i128 = 1_000_000_000;

/// How a quantity was written, which its canonical form keeps.
#[derive(Clone, Copy)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

/// The canonical form; `None` when the text is no quantity or has more digits than are kept.
pub(crate) fn canonical(text: &str) -> Option<String> {
    let end = text
        .find(|letter: char| !matches!(letter, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = u32::try_from(fraction.len()).ok()?;
    let (format, nano) = if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix)
    {
        (Format::Decimal, decimal(digits, *power, scale)?)
    } else if let Some(power) = BINARY.iter().position(|name| *name == suffix) {
        let factor = 1024_i128.checked_pow(u32::try_from(power).ok()?)?;
        let all = digits.checked_mul(factor)?.checked_mul(NANO)?;
        (Format::Binary, up(all, 10_i128.checked_pow(scale)?))
    } else {
        let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
        (Format::Exponent, decimal(digits, power, scale)?)
    };
    Some(write(format, nano))
}

/// `digits · 10^power / 10^scale` in billionths, rounded away from zero.
fn decimal(digits: i128, power: i32, scale: u32) -> Option<i128> {
    let power = power + 9 - i32::try_from(scale).ok()?;
    let factor = 10_i128.checked_pow(power.unsigned_abs())?;
    if power < 0 {
        Some(up(digits, factor))
    } else {
        digits.checked_mul(factor)
    }
}

/// A quotient rounded away from zero.
fn up(value: i128, by: i128) -> i128 {
    let rest = value % by;
    value / by + rest.signum()
}

fn write(format: Format, nano: i128) -> String {
    if matches!(format, Format::Binary) && nano.abs() >= 1024 * NANO {
        let mut value = up(nano, NANO);
        let mut power = 0;
        while value % 1024 == 0 && power + 1 < BINARY.len() {
            value /= 1024;
            power += 1;
        }
        return format!("{value}{}", BINARY.get(power).copied().unwrap_or_default());
    }
    let (mut value, mut power) = (nano, -9);
    if value == 0 {
        return "0".to_owned();
    }
    while value % 1000 == 0 && power < 18 {
        value /= 1000;
        power += 3;
    }
    match format {
        Format::Exponent if power == 0 => value.to_string(),
        Format::Exponent => format!("{value}e{power}"),
        _ => {
            let suffix = DECIMAL.iter().find(|(_, other)| *other == power);
            format!("{value}{}", suffix.map_or("", |(name, _)| name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("1024Mi", "1Gi")]
    #[case("1000m", "1")]
    #[case("1500m", "1500m")]
    #[case("0.5Gi", "512Mi")]
    #[case("1.5Gi", "1536Mi")]
    #[case("1000", "1k")]
    #[case("67108864", "67108864")]
    #[case("512", "512")]
    #[case("512Ki", "512Ki")]
    #[case("0.5Ki", "512")]
    #[case("1e3", "1e3")]
    #[case("100E3", "100e3")]
    #[case("0Gi", "0")]
    #[case("-1024Ki", "-1Mi")]
    #[case("0.1", "100m")]
    fn a_quantity_has_one_form(#[case] written: &str, #[case] kept: &str) {
        assert_eq!(canonical(written).as_deref(), Some(kept));
    }

    #[test]
    fn what_is_no_quantity_has_none() {
        for wrong in ["", "Gi", "1Xi", "1e", "a"] {
            assert_eq!(canonical(wrong), None, "{wrong}");
        }
    }
}
