//! What rclone said last, and what of it tells of a cause: names that people chose are none. Pure.
//!
//! A bucket may be called `nosuchbucket`, and a file `x509: certificate`. What a line is about is known beforehand; in what is
//! said of it addresses, paths and the store's own names are known by how they stand there.

use std::borrow::Cow;
use std::collections::VecDeque;

use syncline_api::report::{head, tail};

use crate::rclone::settings::names_of;
use crate::rclone::stats::OMISSIONS;

/// Words of which so many are kept, newest last.
pub(super) const LINES_KEPT: usize = 40;
/// How much of rclone's words a message quotes, in bytes.
const LONGEST_QUOTE: usize = 320;
/// The same of what went before a cause, where that is told apart.
pub(super) const LONGEST_BEFORE: usize = 160;
/// What follows the address of a request in Go's chains of errors.
const ADDRESS: (&str, &str) = ("\"http", "\": ");
/// What a cause follows, or begins with, in other chains of rclone's libraries: the words, and whether they are part of it.
const CAUSES: [(&str, bool); 2] = [("api error ", true), ("couldn't connect SSH: ", false)];

/// How addresses begin.
const SCHEMES: [&str; 2] = ["http://", "https://"];
/// Words after which a name stands in quotes.
const BEFORE_QUOTES: [&str; 7] = [
    "bucket",
    "directory",
    "file",
    "folder",
    "for",
    "listing",
    "path",
];
/// Words after which a name of the store stands as it is.
const BEFORE_NAMES: [&str; 4] = ["bucket", "container", "path", "root"];
/// A word after which the name of a host stands.
const BEFORE_HOSTS: &str = "lookup";
/// What the system was asked for, in its errors: a path follows, and after that nothing but why it was refused.
const CALLS: [&str; 22] = [
    "chmod",
    "chown",
    "chtimes",
    "close",
    "fdopendir",
    "fsync",
    "lchown",
    "link",
    "lstat",
    "mkdir",
    "open",
    "openat",
    "read",
    "readdirent",
    "readlink",
    "remove",
    "rename",
    "stat",
    "symlink",
    "truncate",
    "unlinkat",
    "write",
];
/// Words with a slash that are no paths.
const NO_PATHS: [&str; 2] = ["i/o", "input/output"];

/// The last errors that rclone told, secrets hidden.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastWords {
    lines: VecDeque<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    text: String,
    /// So much of it, in bytes, says only what the rest is about.
    subject: usize,
}

impl LastWords {
    /// Takes a line of which nobody knows what it is about.
    pub(crate) fn hear(&mut self, text: &str) {
        self.hear_of(0, text);
    }

    /// Takes a line that says in its first `subject` bytes what it is about.
    pub(crate) fn hear_of(&mut self, subject: usize, text: &str) {
        if self.lines.len() == LINES_KEPT {
            // The first errors tell more than those in the middle.
            self.lines.remove(LINES_KEPT / 2);
        }
        let text = text.to_owned();
        self.lines.push_back(Line { text, subject });
    }

    /// What they tell of causes, at the store `section:path`.
    pub(super) fn told(&self, store: &str) -> Vec<Told<'_>> {
        let told = |line| Told::of(line, store);
        self.lines.iter().map(told).collect()
    }

    /// Is `word` among them?
    pub(crate) fn has(&self, word: &str) -> bool {
        self.lines.iter().any(|line| line.text.contains(word))
    }

    /// The line about an entry that a listing leaves out.
    pub(crate) fn omission(&self) -> Option<&str> {
        let mut lines = self.lines.iter().map(|line| line.text.as_str());
        lines.find(|text| OMISSIONS.iter().any(|words| text.contains(words)))
    }

    /// The last line.
    pub(super) fn last(&self) -> Option<&str> {
        self.lines.back().map(|line| line.text.as_str())
    }
}

/// A line, and what of it tells of a cause.
#[derive(Clone, Debug)]
pub(super) struct Told<'a> {
    /// All of it.
    pub(super) line: &'a str,
    /// Without names, in lower case.
    causes: String,
}

impl<'a> Told<'a> {
    fn of(line: &'a Line, store: &str) -> Self {
        let said = line.text.get(line.subject..).unwrap_or(&line.text);
        let said = said.lines().map(|said| causes(said, store));
        Self {
            line: &line.text,
            causes: said.collect::<Vec<_>>().join("\n"),
        }
    }

    /// Does it tell of one of these causes? They are in lower case.
    pub(super) fn has(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.causes.contains(word))
    }
}

/// What is said in a line, but for names, in lower case.
fn causes(said: &str, store: &str) -> String {
    let said = without_quoted_names(said, store);
    let said = without_path_of_call(&said);
    without_bare_names(&said, store).to_ascii_lowercase()
}

/// `said` without what stands in quotes and is an address or a name.
fn without_quoted_names(said: &str, store: &str) -> String {
    let section = store.split_inclusive(':').next().unwrap_or_default();
    let is_name = |before: &str, quoted: &str| {
        let label = before.trim_end().rsplit(' ').next().unwrap_or_default();
        let within = quoted.strip_prefix(section);
        BEFORE_QUOTES.contains(&label)
            || within.is_some_and(|path| !path.starts_with(' '))
            || SCHEMES.iter().any(|scheme| quoted.starts_with(scheme))
    };
    let mut left = String::with_capacity(said.len());
    let mut rest = said;
    while let Some((before, after)) = rest.split_once('"') {
        let Some((quoted, after)) = end_of_quote(after).and_then(|end| after.split_at_checked(end))
        else {
            break;
        };
        left.push_str(before);
        left.push('"');
        if !is_name(before, quoted) {
            left.push_str(quoted);
        }
        left.push('"');
        rest = after.get(1..).unwrap_or_default();
    }
    left.push_str(rest);
    left
}

/// Where a quoted text ends, as Go writes it.
fn end_of_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

/// `said` without the path, or both, of a call to the system. A path may hold anything, but what comes last is the error.
fn without_path_of_call(said: &str) -> Cow<'_, str> {
    let mut paths = said.match_indices(" /").map(|(at, _)| at + 1);
    let start = paths.find(|at| {
        let before = said.get(..*at).unwrap_or_default().trim_end();
        let call = before.rsplit([' ', ':']).next().unwrap_or_default();
        CALLS.contains(&call)
    });
    let parts = start
        .and_then(|start| said.split_at_checked(start))
        .and_then(|(before, rest)| Some((before, rest.rsplit_once(": ")?.1)));
    match parts {
        Some((before, error)) => Cow::Owned(format!("{before}: {error}")),
        None => Cow::Borrowed(said),
    }
}

/// `said` without what looks like a path, and without names of the store and of hosts.
fn without_bare_names(said: &str, store: &str) -> String {
    let ends_word =
        |character: char| character.is_whitespace() || "\"'`()[]{}<>,;".contains(character);
    let mut left = String::with_capacity(said.len());
    let mut before = "";
    for piece in said.split_inclusive(ends_word) {
        let word = piece.trim_end_matches(ends_word);
        let bare = word.trim_matches([':', '.']);
        if is_name(before, bare, store) {
            left.push_str(piece.get(word.len()..).unwrap_or_default());
        } else {
            left.push_str(piece);
        }
        if !bare.is_empty() {
            before = bare;
        }
    }
    left
}

/// Is `word`, which follows `before`, a path, a name of the store's, or a host's?
fn is_name(before: &str, word: &str, store: &str) -> bool {
    let Some((section, path)) = store.split_once(':') else {
        return false;
    };
    let names = names_of(path);
    let within = |outer: &str, sign: char| {
        let rest = word.strip_prefix(outer);
        rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with(sign))
    };
    let is_path = word.contains('/') && !NO_PATHS.contains(&word.to_ascii_lowercase().as_str());
    let of_store = BEFORE_NAMES.contains(&before) && names.contains(&word);
    // A bucket's name is the first part of a host's in many stores.
    let is_host = names.first().is_some_and(|bucket| within(bucket, '.'));
    is_path || of_store || is_host || within(section, ':') || before == BEFORE_HOSTS
}

/// A line in two: what was done, and the cause, where it can be told apart. rclone's libraries write it last.
pub(super) fn parted(line: &str) -> (&str, Option<&str>) {
    let after_address = || {
        let (open, close) = ADDRESS;
        let from = line.find(open)?;
        Some(from + line.get(from..)?.find(close)? + close.len())
    };
    let others = CAUSES.iter().find_map(|(words, is_part)| {
        let at = line.find(words)?;
        Some(if *is_part { at } else { at + words.len() })
    });
    let parts = others
        .or_else(after_address)
        .and_then(|at| line.split_at_checked(at));
    match parts {
        Some((before, cause)) if !before.is_empty() && !cause.trim().is_empty() => {
            (before.trim_end_matches([',', ':', ' ']), Some(cause))
        }
        _ => (line, None),
    }
}

/// A line as it stands in a message.
pub(super) fn quote(line: &str) -> Cow<'_, str> {
    shortened(line, LONGEST_QUOTE)
}

/// Of a line that is longer than `most` both ends, where the operation and the cause are.
pub(super) fn shortened(line: &str, most: usize) -> Cow<'_, str> {
    let line = line.trim();
    if line.len() <= most {
        return Cow::Borrowed(line);
    }
    let (start, end) = (most / 3, most / 3 * 2);
    Cow::Owned(format!("{} … {}", head(line, start), tail(line, end)))
}
