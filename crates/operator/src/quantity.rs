//! Sizes as Kubernetes writes them.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Multipliers of the suffixes that a size may carry. `m` and smaller ones are no sizes.
const SUFFIXES: [(&str, i128); 12] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
];

/// The number of bytes that `quantity` stands for, rounded up; `None` when it is no size.
pub fn bytes(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let (number, multiplier) = split(text);
    decimal(number, multiplier)
}

fn split(text: &str) -> (&str, i128) {
    for (suffix, multiplier) in SUFFIXES {
        if let Some(number) = text.strip_suffix(suffix) {
            return (number, multiplier);
        }
    }
    match text.split_once(['e', 'E']) {
        Some((number, exponent)) => match exponent
            .parse::<u32>()
            .ok()
            .and_then(|power| 10_i128.checked_pow(power))
        {
            Some(multiplier) => (number, multiplier),
            None => ("", 1),
        },
        None => (text, 1),
    }
}

fn decimal(number: &str, multiplier: i128) -> Option<i128> {
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = mantissa.checked_mul(multiplier)?;
    let up = scaled.checked_add(scale - 1)? / scale;
    Some(if negative { -up } else { up })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("10Gi", Some(10 << 30))]
    #[case("1.5Ki", Some(1536))]
    #[case("2G", Some(2_000_000_000))]
    #[case("1e3", Some(1000))]
    #[case("1E", Some(1_000_000_000_000_000_000))]
    #[case("123", Some(123))]
    #[case("0.1", Some(1))]
    #[case("-1Mi", Some(-(1 << 20)))]
    #[case("", None)]
    #[case("Gi", None)]
    #[case("1 Gi", None)]
    #[case("100m", None)]
    #[case("12e99", None)]
    fn a_quantity_is_read_as_bytes(#[case] text: &str, #[case] expected: Option<i128>) {
        assert_eq!(bytes(&Quantity(text.to_owned())), expected);
    }
}
