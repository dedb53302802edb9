//! Durations as Go writes them, which is how `metav1.Duration` looks in JSON: `28.818695981s`, `1m2.5s`, `350ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SECOND: u64 = 1_000_000_000;

/// A span of time in nanoseconds with Go's text form. Like Go's, it ends at about 292 years and may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration {
    nanoseconds: i64,
}

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the duration {text:?} is not valid: {fault}; write it as in 1h30m, 2.5s or 350ms")]
pub struct ParseDurationError {
    /// The text as given.
    pub text: String,
    /// What is wrong with it.
    pub fault: &'static str,
}

impl GoDuration {
    /// A duration of so many nanoseconds.
    pub const fn from_nanoseconds(nanoseconds: i64) -> Self {
        Self { nanoseconds }
    }

    /// The nanoseconds of this duration.
    pub const fn nanoseconds(self) -> i64 {
        self.nanoseconds
    }

    /// The same as std's type, which has no negative durations: those become zero.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanoseconds).unwrap_or_default())
    }
}

/// Longer than Go can express becomes the longest it can.
impl From<Duration> for GoDuration {
    fn from(duration: Duration) -> Self {
        Self {
            nanoseconds: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX),
        }
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.nanoseconds.unsigned_abs();
        if self.nanoseconds < 0 {
            f.write_str("-")?;
        }
        match total {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{total}ns"),
            1_000..1_000_000 => write_decimal(f, total, 1_000, "µs"),
            1_000_000..SECOND => write_decimal(f, total, 1_000_000, "ms"),
            _ => {
                let minutes = total / (60 * SECOND);
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                write_decimal(f, total % (60 * SECOND), SECOND, "s")
            }
        }
    }
}

/// Writes `amount / unit` with as many decimals as it has, and the unit's name.
fn write_decimal(f: &mut fmt::Formatter<'_>, amount: u64, unit: u64, name: &str) -> fmt::Result {
    write!(f, "{}", amount / unit)?;
    let mut rest = amount % unit;
    if rest > 0 {
        f.write_str(".")?;
        let mut place = unit / 10;
        while rest > 0 && place > 0 {
            write!(f, "{}", rest / place)?;
            rest %= place;
            place /= 10;
        }
    }
    f.write_str(name)
}

impl FromStr for GoDuration {
    type Err = ParseDurationError;

    /// Reads what Go's `time.ParseDuration` reads.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |fault| ParseDurationError {
            text: text.to_owned(),
            fault,
        };
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self::default());
        }
        if rest.is_empty() {
            return Err(refuse("it is empty"));
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (nanoseconds, after) = take_part(rest).map_err(refuse)?;
            total = total
                .checked_add(nanoseconds)
                .ok_or_else(|| refuse(TOO_LONG))?;
            rest = after;
        }
        let signed = if negative {
            0_i64.checked_sub_unsigned(total)
        } else {
            0_i64.checked_add_unsigned(total)
        };
        signed
            .map(Self::from_nanoseconds)
            .ok_or_else(|| refuse(TOO_LONG))
    }
}

const TOO_LONG: &str = "it is too long";

/// Reads one number with its unit: its nanoseconds and what follows it.
fn take_part(text: &str) -> Result<(u64, &str), &'static str> {
    let split_digits = |text: &str| {
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len())
    };
    let (whole, mut rest) = text.split_at(split_digits(text));
    let mut decimals = "";
    if let Some(after_point) = rest.strip_prefix('.') {
        (decimals, rest) = after_point.split_at(split_digits(after_point));
    }
    if whole.is_empty() && decimals.is_empty() {
        return Err("a number is missing");
    }
    let (name, rest) = rest.split_at(
        rest.find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(rest.len()),
    );
    let unit: u64 = match name {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        "" => return Err("a unit is missing"),
        _ => return Err("a unit is unknown"),
    };
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| TOO_LONG)?
    };
    let mut nanoseconds = whole.checked_mul(unit).ok_or(TOO_LONG)?;
    let part = fraction_of(unit, decimals);
    nanoseconds = nanoseconds.checked_add(part).ok_or(TOO_LONG)?;
    Ok((nanoseconds, rest))
}

/// The nanoseconds that decimals make of a unit. Counted in floating point because Go does: a third of an hour with
/// enough decimals is exactly 20 minutes to both.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "Go rounds in the same places, and the result is less than one unit"
)]
fn fraction_of(unit: u64, decimals: &str) -> u64 {
    let mut fraction: u64 = 0;
    let mut scale = 1.0_f64;
    for digit in decimals.bytes() {
        let longer = fraction
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(u64::from(digit - b'0')));
        let Some(longer) = longer.filter(|longer| *longer <= 1 << 63) else {
            break;
        };
        fraction = longer;
        scale *= 10.0;
    }
    (fraction as f64 * (unit as f64 / scale)) as u64
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl JsonSchema for GoDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GoDuration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}
