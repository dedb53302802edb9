//! The only place that writes to the terminal: data to standard output, everything else to standard error.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use crate::failure::Failure;

/// Space between two columns, as kubectl has it.
const GAP: usize = 3;

/// Where output goes.
pub(crate) struct Printer {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
}

impl Printer {
    /// The process's streams; colour only where standard error is a terminal and `NO_COLOR` is not set.
    pub(crate) fn of_process() -> Self {
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(anstream::stderr()),
        }
    }

    /// A line of data.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Data as it is.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// Rows in columns, each as wide as its widest cell.
    pub(crate) fn columns(&mut self, rows: &[Vec<String>]) -> io::Result<()> {
        for line in aligned(rows, &mut Widths::default()) {
            self.line(&line)?;
        }
        Ok(())
    }

    /// Something for the person, not for the next program. Nobody is harmed when it cannot be written.
    pub(crate) fn note(&mut self, text: &str) {
        let _ = writeln!(self.err, "{text}");
    }

    /// What went wrong, why, and what to do about it.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        let _ = write!(self.err, "{}", account(failure));
    }
}

/// A failure as text with colour codes, which `anstream` removes where they are not wanted.
fn account(failure: &Failure) -> String {
    let red = AnsiColor::Red.on_default().bold();
    let cyan = AnsiColor::Cyan.on_default().bold();
    let mut text = String::new();
    for (index, cause) in failure.causes().iter().enumerate() {
        let (style, label) = if index == 0 {
            (red, "error")
        } else {
            (Style::new(), "caused by")
        };
        text.push_str(&labelled(style, label, cause));
    }
    if let Some(hint) = failure.hint_text() {
        text.push_str(&labelled(cyan, "hint", hint));
    }
    text
}

fn labelled(style: Style, label: &str, text: &str) -> String {
    format!("{style}{label}:{style:#} {text}\n")
}

/// Column widths that only grow, so that a table that is watched stays aligned.
#[derive(Default)]
pub(crate) struct Widths(Vec<usize>);

/// Lays rows out in columns. The last column is not padded.
pub(crate) fn aligned(rows: &[Vec<String>], widths: &mut Widths) -> Vec<String> {
    for row in rows {
        widths.0.resize(widths.0.len().max(row.len()), 0);
        for (width, cell) in widths.0.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    rows.iter()
        .map(|row| {
            let cells = row
                .iter()
                .zip(&widths.0)
                .map(|(cell, width)| format!("{cell:<width$}", width = width + GAP));
            cells.collect::<String>().trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["NAME".to_owned(), "AGE".to_owned()],
            vec!["größer".to_owned(), "1s".to_owned()],
        ];
        assert_eq!(
            aligned(&rows, &mut Widths::default()),
            ["NAME     AGE", "größer   1s"]
        );
    }

    #[test]
    fn a_failure_names_error_cause_and_cure() {
        let failure = Failure::from(anyhow::anyhow!("no such file").context("cannot read x.yaml"))
            .hint("name a file that exists");
        let plain = anstream::adapter::strip_str(&account(&failure)).to_string();
        assert_eq!(
            plain,
            "error: cannot read x.yaml\ncaused by: no such file\nhint: name a file that exists\n"
        );
    }
}
