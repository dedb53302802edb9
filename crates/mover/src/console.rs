//! What a mover says: lines on standard output for people, and the tail of them for the report.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The longest line that is printed or kept, in bytes. A peer decides what some lines say.
const LINE_CAP: usize = 4096;

/// How much of the newest output is kept for the report, in bytes; a report carries less.
const TAIL_CAP: usize = 4096;

/// Takes secrets out of a text.
type Hiding = Box<dyn Fn(&str) -> String + Send + Sync>;

/// Prints to standard output and remembers the tail. Clones share one memory.
#[derive(Clone)]
pub(crate) struct Console {
    kept: Arc<Mutex<Kept>>,
    /// Whether a line belongs to the summary.
    is_summary: fn(&str) -> bool,
    hiding: Arc<OnceLock<Hiding>>,
}

impl Default for Console {
    fn default() -> Self {
        Self::with_summary(is_summary)
    }
}

/// How many of the newest lines of the summary are kept: a run has three, and a peer can make up more.
const SUMMARY_CAP: usize = 8;

#[derive(Default)]
struct Kept {
    tail: VecDeque<String>,
    tail_bytes: usize,
    summary: VecDeque<String>,
}

impl Console {
    /// A console that keeps the lines for the summary that `is_summary` knows.
    pub(crate) fn with_summary(is_summary: fn(&str) -> bool) -> Self {
        Self {
            kept: Arc::default(),
            is_summary,
            hiding: Arc::default(),
        }
    }

    /// A console for the rclone mover.
    pub(crate) fn for_rclone() -> Self {
        Self::with_summary(is_rclone_summary)
    }

    /// Lets `hiding` take secrets out of everything that is said from now on. The first one stays.
    pub(crate) fn hide(&self, hiding: impl Fn(&str) -> String + Send + Sync + 'static) {
        // A second configuration in one mover does not exist.
        let _ = self.hiding.set(Box::new(hiding));
    }

    /// `text` without secrets.
    pub(crate) fn without_secrets(&self, text: &str) -> String {
        self.hiding
            .get()
            .map_or_else(|| text.to_owned(), |hiding| hiding(text))
    }

    /// Prints one line, with whatever a terminal or a log reader could take for a command made visible.
    pub(crate) fn say(&self, line: &str) {
        let line = self.without_secrets(line);
        let line = for_people(printable(line.as_bytes()));
        self.keep(&line);
        raw_line(&line);
    }

    /// Prints a line of bytes that a child program wrote.
    pub(crate) fn relay(&self, line: &[u8]) {
        self.say(&printable(line));
    }

    /// Prints a line for machines, which the report's tail does not need.
    #[expect(
        clippy::unused_self,
        reason = "printing goes through the console, wherever the line ends up"
    )]
    pub(crate) fn machine(&self, line: &str) {
        raw_line(line);
    }

    /// The lines that users look for after a successful run, as VolSync keeps them.
    pub(crate) fn summary(&self) -> String {
        let kept = self.lock();
        let lines: Vec<&str> = kept.summary.iter().map(String::as_str).collect();
        lines.join("\n")
    }

    /// The newest lines.
    pub(crate) fn tail(&self) -> String {
        let kept = self.lock();
        let lines: Vec<&str> = kept.tail.iter().map(String::as_str).collect();
        lines.join("\n")
    }

    fn keep(&self, line: &str) {
        let mut kept = self.lock();
        if (self.is_summary)(line) {
            kept.summary.push_back(line.to_owned());
            if kept.summary.len() > SUMMARY_CAP {
                kept.summary.pop_front();
            }
        }
        kept.tail_bytes += line.len() + 1;
        kept.tail.push_back(line.to_owned());
        while kept.tail_bytes > TAIL_CAP && kept.tail.len() > 1 {
            if let Some(oldest) = kept.tail.pop_front() {
                kept.tail_bytes = kept.tail_bytes.saturating_sub(oldest.len() + 1);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Is this one of the lines that `status.latestMoverStatus.logs` shows after success (VolSync's filter for rsync)?
fn is_summary(line: &str) -> bool {
    let sent = line.starts_with("sent ") && line.contains(" bytes  received ");
    sent || line.starts_with("total size is ") || line.starts_with("Rsync completed in")
}

/// The same for rclone.
pub(crate) fn is_rclone_summary(line: &str) -> bool {
    [
        "Transferred:",
        "Checks:",
        "Deleted:",
        "Elapsed time:",
        "Rclone completed in",
    ]
    .iter()
    .any(|start| line.starts_with(start))
}

/// The line, marked when it looks like one for machines: the words may be the peer's.
fn for_people(line: String) -> String {
    if line.trim_start().starts_with('{') {
        format!("| {line}")
    } else {
        line
    }
}

/// One line on standard error, for programs that have no console yet.
pub(crate) fn complain(line: &str) {
    // Nobody is left to be told when standard error is gone.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn raw_line(line: &str) {
    // A reader that closed the log must not end a transfer.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// `bytes` as one line of harmless text: control characters become `\xNN`, bytes that are not UTF-8 likewise, and what
/// is longer than the cap is cut.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\t' || !character.is_control() {
                text.push(character);
            } else {
                escape(&mut text, character);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
        if text.len() > LINE_CAP {
            break;
        }
    }
    if text.len() > LINE_CAP {
        text.truncate(syncline_api::report::head(&text, LINE_CAP).len());
        text.push('…');
    }
    text
}

fn escape(text: &mut String, character: char) {
    let mut buffer = [0_u8; 4];
    for byte in character.encode_utf8(&mut buffer).bytes() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_foreign_bytes_become_visible() {
        assert_eq!(
            printable(b"a\x1b[31mb\nc\xff\x00"),
            "a\\x1b[31mb\\x0ac\\xff\\x00"
        );
        assert_eq!(printable("\u{9b}31m".as_bytes()), "\\xc2\\x9b31m");
        assert_eq!(printable("grün\tok".as_bytes()), "grün\tok");
    }

    #[test]
    fn long_lines_are_cut() {
        let long = printable(&vec![b'x'; 10 * LINE_CAP]);
        assert_eq!(long.chars().count(), LINE_CAP + 1);
    }

    #[test]
    fn the_summary_holds_what_volsync_users_look_for() {
        let console = Console::default();
        for line in [
            ">f+++++++++ etc/passwd",
            "sent 160 bytes  received 36 bytes  392.00 bytes/sec",
            "total size is 2  speedup is 0.01",
            "Rsync completed in 3s",
        ] {
            console.keep(line);
        }
        let summary = console.summary();
        assert_eq!(summary.lines().count(), 3);
        assert!(!summary.contains("passwd"));
    }

    #[test]
    fn a_peers_words_pass_neither_for_progress_nor_for_an_endless_summary() {
        let forged = r#" {"syncline":"progress","phase":"Transferring","bytesDone":9}"#;
        assert!(syncline_api::report::parse_line(forged).is_some());
        assert!(syncline_api::report::parse_line(&for_people(forged.to_owned())).is_none());
        assert_eq!(for_people("plain".to_owned()), "plain");
        let console = Console::default();
        for _ in 0..100_000 {
            console.keep("Rsync completed in 1s");
        }
        console.keep("Rsync completed in 2s");
        let summary = console.summary();
        assert_eq!(summary.lines().count(), SUMMARY_CAP);
        assert!(summary.ends_with("Rsync completed in 2s"));
    }

    #[test]
    fn what_is_hidden_is_neither_said_nor_kept() {
        let console = Console::with_summary(|line| line.starts_with("sum"));
        let other = console.clone();
        console.hide(|text| text.replace("CANARY", "[hidden]"));
        other.say("sum CANARY");
        assert_eq!(console.tail(), "sum [hidden]");
        assert_eq!(console.summary(), "sum [hidden]");
        assert_eq!(other.without_secrets("x CANARY"), "x [hidden]");
    }

    #[test]
    fn the_tail_keeps_the_newest_lines_only() {
        let console = Console::default();
        for number in 0..10_000 {
            console.keep(&format!("line {number}"));
        }
        let tail = console.tail();
        assert!(tail.ends_with("line 9999"));
        assert!(tail.len() <= TAIL_CAP);
    }
}
