//! Figures: several measurements of one thing, shown as least, middle and greatest.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;

/// In place of a figure that the audit log would give.
pub(crate) const NOT_COUNTED: &str = "not counted";

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

/// The head of a Markdown table: what its rows are about, and its columns of figures.
pub(crate) fn table(title: &str, columns: &[&str]) -> Result<()> {
    say(&format!("\n| {title} | {} |", columns.join(" | ")))?;
    say(&format!("| --- |{}", " ---: |".repeat(columns.len())))
}

/// One row of a Markdown table.
pub(crate) fn entry(what: &str, values: &[String]) -> Result<()> {
    say(&format!("| {what} | {} |", values.join(" | ")))
}

/// The head of a table of times.
pub(crate) fn head(title: &str) -> Result<()> {
    table(title, &["least", "median", "greatest"])
}

/// What was measured, and its least, middle and greatest value.
pub(crate) fn row(what: &str, figures: &Figures) -> Result<()> {
    let values = [0.0, 0.5, 1.0].map(|share| format!("{:.2} s", figures.quantile(share)));
    entry(what, &values)
}
