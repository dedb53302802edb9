//! Ages as kubectl shows them.

use jiff::Timestamp;
use serde_json::Value;

/// The time since `from`, an RFC 3339 text, in at most two units.
pub(super) fn since(from: Option<&Value>, now: Timestamp) -> String {
    let Some(moment) = from
        .and_then(Value::as_str)
        .and_then(|text| text.parse::<Timestamp>().ok())
    else {
        return "<unknown>".to_owned();
    };
    human(now.as_second() - moment.as_second())
}

/// Seconds in words: `45s`, `3m10s`, `5h2m`, `3d4h`, `324d`, `2y30d`.
pub(super) fn human(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |whole: i64, unit: &str, rest: i64, small: &str| {
        if rest == 0 {
            format!("{whole}{unit}")
        } else {
            format!("{whole}{unit}{rest}{small}")
        }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => two(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn ages_are_told_in_at_most_two_units() {
        let told = [
            (0, "0s"),
            (119, "119s"),
            (190, "3m10s"),
            (120, "2m"),
            (700, "11m"),
            (18_120, "5h2m"),
            (86_400, "24h"),
            (273_600, "3d4h"),
            (28_000_000, "324d"),
        ];
        for (seconds, text) in told {
            assert_eq!(human(seconds), text);
        }
    }
}
