//! What the demo prints.

#![expect(clippy::print_stdout, reason = "a demo is there to be watched")]

use std::io::BufRead;
use std::path::Path;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};

/// One run, for the table at the end.
pub(crate) struct Row {
    /// What kind of run it was.
    pub(crate) what: String,
    /// From the trigger until every destination's image was published, or there was nothing to send, in seconds.
    pub(crate) seconds: f64,
    /// Entries in the volume.
    pub(crate) files: usize,
    /// Bytes in the volume.
    pub(crate) bytes: u64,
    /// Bytes that went over the wire, when a transfer belongs to the row.
    pub(crate) sent: Option<u64>,
    /// Whether the copy equals what was sent.
    pub(crate) verified: bool,
}

/// A heading.
pub(crate) fn step(title: &str) {
    println!("\n== {title}");
}

/// A line of text.
pub(crate) fn say(text: &str) {
    for line in text.lines() {
        println!("   {line}");
    }
}

/// A command that a person would type, and what it printed.
pub(crate) fn command(line: &str, output: &str) {
    println!("   $ {line}");
    say(output);
}

/// The table at the end.
pub(crate) fn table(rows: &[Row]) {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["", "time", "entries", "in the volume", "sent", "verified"]);
    for row in rows {
        table.add_row([
            row.what.clone(),
            format!("{:.1} s", row.seconds),
            grouped(row.files),
            human(row.bytes),
            row.sent.map_or_else(|| "–".to_owned(), human),
            if row.verified { "equal" } else { "DIFFERENT" }.to_owned(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("\n{table}");
}

/// Tells how to look around, and waits until the person is done.
pub(crate) fn wait_for_enter(kubeconfig: &Path) {
    step("Left running");
    say(&format!("export KUBECONFIG={}", kubeconfig.display()));
    say("kubectl get replicationsources,replicationdestinations,volumesnapshots,pvc -A");
    say("Press Enter to stop everything and clean up.");
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}

/// Bytes for people.
pub(crate) fn human(bytes: u64) -> String {
    let (unit, scale) = match bytes {
        0..1_000 => return format!("{bytes} B"),
        1_000..1_000_000 => ("kB", 1_000),
        1_000_000..1_000_000_000 => ("MB", 1_000_000),
        _ => ("GB", 1_000_000_000),
    };
    format!("{}.{} {unit}", bytes / scale, bytes % scale * 10 / scale)
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
