//! Figures: several measurements of one thing, shown as least, middle and greatest.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;

/// The measurements of one thing, in seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    values: Vec<f64>,
}

impl Figures {
    pub(crate) fn add(&mut self, value: Duration) {
        self.values.push(value.as_secs_f64());
    }

    /// The value below which this share of all lies; zero when there are none.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank among a few hundred values"
        )]
        let rank = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
        sorted.get(rank).copied().unwrap_or_default()
    }

    /// The middle one.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// A line of text on standard output.
pub(crate) fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// One row: what was measured, and its least, middle and greatest value.
pub(crate) fn row(what: &str, figures: &Figures) -> Result<()> {
    say(&format!(
        "  {what:<58} {:>7.2} {:>7.2} {:>7.2} s",
        figures.quantile(0.0),
        figures.median(),
        figures.quantile(1.0)
    ))
}

/// The head of a table of rows.
pub(crate) fn head(title: &str) -> Result<()> {
    say(&format!(
        "\n{title:<60} {:>7} {:>7} {:>7}",
        "min", "median", "max"
    ))
}
