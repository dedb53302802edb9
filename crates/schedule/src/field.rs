//! One field of a cron expression as a set of bits, read as robfig v3 reads it.

/// The five fields. Bit n stands for the value n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) minute: u64,
    pub(crate) hour: u64,
    pub(crate) day_of_month: u64,
    pub(crate) month: u64,
    pub(crate) day_of_week: u64,
}

/// Set beside the values when a field holds a star whose step is 1: such a day field restricts nothing, and then the
/// other day field alone decides.
pub(crate) const STAR: u64 = 1 << 63;

/// What a field may hold.
pub(crate) struct Bounds {
    /// What messages call the field.
    pub(crate) name: &'static str,
    min: u64,
    max: u64,
    /// Names of values, the first of which is `min`.
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

pub(crate) const MINUTE: Bounds = Bounds {
    name: "minute",
    min: 0,
    max: 59,
    names: &[],
};
pub(crate) const HOUR: Bounds = Bounds {
    name: "hour",
    min: 0,
    max: 23,
    names: &[],
};
pub(crate) const DAY_OF_MONTH: Bounds = Bounds {
    name: "day of month",
    min: 1,
    max: 31,
    names: &[],
};
pub(crate) const MONTH: Bounds = Bounds {
    name: "month",
    min: 1,
    max: 12,
    names: &MONTHS,
};
pub(crate) const DAY_OF_WEEK: Bounds = Bounds {
    name: "day of week",
    min: 0,
    max: 6,
    names: &DAYS,
};

impl Bounds {
    /// The set of only the smallest value.
    pub(crate) const fn first(&self) -> u64 {
        1 << self.min
    }

    /// What messages call its values: minutes, days of week.
    fn plural(&self) -> String {
        match self.name.split_once(' ') {
            Some((noun, rest)) => format!("{noun}s {rest}"),
            None => format!("{}s", self.name),
        }
    }

    /// The set of every value, as a star gives it.
    pub(crate) fn all(&self) -> u64 {
        bits(self.min, self.max, 1) | STAR
    }

    /// Reads a field: ranges, separated by commas. Nothing between two commas is nothing.
    pub(crate) fn read(&self, text: &str) -> Result<u64, String> {
        text.split(',')
            .filter(|range| !range.is_empty())
            .try_fold(0, |set, range| Ok(set | self.range(range)?))
    }

    /// Reads `value`, `low-high` or a star, each with a `/step` or without. `value/step` reaches to the maximum.
    fn range(&self, text: &str) -> Result<u64, String> {
        let mut halves = text.split('/');
        let range = halves.next().unwrap_or_default();
        let step = halves.next();
        if halves.next().is_some() {
            return Err(format!("{text:?} has too many slashes"));
        }
        let mut ends = range.split('-');
        let low = ends.next().unwrap_or_default();
        let high = ends.next();
        let star = low == "*" || low == "?";
        // What follows a star and a hyphen is not even looked at; robfig does not either.
        let (start, mut end) = match (star, high) {
            (true, _) => (self.min, self.max),
            (false, None) => {
                let value = self.value(low)?;
                (value, value)
            }
            (false, Some(high)) => (self.value(low)?, self.value(high)?),
        };
        if !star && ends.next().is_some() {
            return Err(format!("{text:?} has too many hyphens"));
        }
        let mut width = 1;
        if let Some(step) = step {
            width = number(step)?;
            if high.is_none() {
                end = self.max;
            }
        }
        self.check(start, end, width, text)?;
        let extra = if star && width == 1 { STAR } else { 0 };
        Ok(bits(start, end, width) | extra)
    }

    fn check(&self, start: u64, end: u64, step: u64, text: &str) -> Result<(), String> {
        let Self { min, max, .. } = self;
        let span = format!("{} go from {min} to {max}", self.plural());
        if start < *min {
            return Err(format!("{text:?} begins at {start}; {span}"));
        }
        if end > *max {
            return Err(format!("{text:?} reaches {end}; {span}"));
        }
        if start > end {
            return Err(format!(
                "{text:?} begins at {start}, after its end at {end}"
            ));
        }
        if step == 0 {
            return Err(format!("{text:?} has a step of 0"));
        }
        Ok(())
    }

    fn value(&self, text: &str) -> Result<u64, String> {
        let named = (self.min..)
            .zip(self.names)
            .find(|(_, name)| name.eq_ignore_ascii_case(text));
        named.map_or_else(|| number(text), |(value, _)| Ok(value))
    }
}

/// Reads a number as Go's `Atoi` does: a sign is allowed, and below zero is refused.
fn number(text: &str) -> Result<u64, String> {
    let number: i64 = text
        .parse()
        .map_err(|_| format!("{text:?} is not a number"))?;
    u64::try_from(number).map_err(|_| format!("{text:?} is below zero"))
}

fn bits(start: u64, end: u64, step: u64) -> u64 {
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    (start..=end)
        .step_by(step)
        .fold(0, |set, value| set | 1 << value)
}
