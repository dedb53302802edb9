//! The options that stock rsync clients of 2.6 to 3.5 send to a receiving server, and what their values may look like.
//!
//! The list admits; what it does not name is refused. Left out on purpose are options that name further files or
//! folders at the server (`--log-file`, `--partial-dir`, `--temp-dir`, `--backup-dir`, `--compare-dest`, `--copy-dest`,
//! `--link-dest`, `--files-from`, `--write-batch` and its kin), that turn the server into something else (`--daemon`,
//! `--config`, `--rsync-path`), that write to devices, or that make the receiver walk through links (`-K`, `-R`).

use super::Refusal;

/// What the value of a long option may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// The option has none.
    None,
    /// A number, perhaps with a sign, a fraction and a unit.
    Number,
    /// Names and levels, separated by commas.
    Words,
    /// The suffix of backup files: any bytes but a slash.
    Suffix,
    /// User or group names, numbers, ranges and patterns.
    IdMap,
    /// One of the few formats with which clients ask for itemized changes.
    LogFormat,
}

/// Single letters without a value. `n` (dry run) is among them: the gate notes it.
const LETTERS: &[u8] = b"ACDEHIJNOSUWXbcdglmnopqrtuvxyz";

/// Long options.
const LONG: &[(&str, Value)] = &[
    ("append", Value::None),
    ("block-size", Value::Number),
    ("bwlimit", Value::Number),
    ("checksum-choice", Value::Words),
    ("checksum-seed", Value::Number),
    ("compress-choice", Value::Words),
    ("compress-level", Value::Number),
    ("compress-threads", Value::Number),
    ("copy-unsafe-links", Value::None),
    ("delete", Value::None),
    ("delete-after", Value::None),
    ("delete-before", Value::None),
    ("delete-delay", Value::None),
    ("delete-during", Value::None),
    ("delete-excluded", Value::None),
    ("delete-missing-args", Value::None),
    ("devices", Value::None),
    ("dirs", Value::None),
    ("existing", Value::None),
    ("fake-super", Value::None),
    ("force", Value::None),
    ("fsync", Value::None),
    ("fuzzy", Value::None),
    ("group", Value::None),
    ("groupmap", Value::IdMap),
    ("hard-links", Value::None),
    ("iconv", Value::Words),
    ("ignore-errors", Value::None),
    ("ignore-existing", Value::None),
    ("ignore-missing-args", Value::None),
    ("ignore-non-existing", Value::None),
    ("ignore-times", Value::None),
    ("info", Value::Words),
    ("inplace", Value::None),
    ("links", Value::None),
    ("log-format", Value::LogFormat),
    ("max-alloc", Value::Number),
    ("max-delete", Value::Number),
    ("max-size", Value::Number),
    ("min-size", Value::Number),
    ("mkpath", Value::None),
    ("modify-window", Value::Number),
    ("msgs2stderr", Value::None),
    ("munge-links", Value::None),
    ("new-compress", Value::None),
    ("no-D", Value::None),
    ("no-W", Value::None),
    ("no-devices", Value::None),
    ("no-g", Value::None),
    ("no-l", Value::None),
    ("no-msgs2stderr", Value::None),
    ("no-o", Value::None),
    ("no-p", Value::None),
    ("no-r", Value::None),
    ("no-relative", Value::None),
    ("no-specials", Value::None),
    ("no-super", Value::None),
    ("no-t", Value::None),
    ("numeric-ids", Value::None),
    ("old-compress", Value::None),
    ("omit-dir-times", Value::None),
    ("omit-link-times", Value::None),
    ("one-file-system", Value::None),
    ("open-noatime", Value::None),
    ("owner", Value::None),
    ("partial", Value::None),
    ("perms", Value::None),
    ("preallocate", Value::None),
    ("recursive", Value::None),
    ("remove-sent-files", Value::None),
    ("remove-source-files", Value::None),
    ("safe-links", Value::None),
    ("size-only", Value::None),
    ("specials", Value::None),
    ("stats", Value::None),
    ("stderr", Value::Words),
    ("suffix", Value::Suffix),
    ("super", Value::None),
    ("timeout", Value::Number),
    ("times", Value::None),
    ("use-qsort", Value::None),
    ("usermap", Value::IdMap),
];

/// What an admitted option means to the gate itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// `-n`: nothing will be written.
    pub(super) dry_run: bool,
    /// `--mkpath`: missing folders on the way to the path are to be made.
    pub(super) make_path: bool,
}

/// Checks one word that stands where options stand, and notes in `noted` what concerns the gate.
pub(super) fn check(word: &[u8], noted: &mut Noted) -> Result<(), Refusal> {
    match word {
        [b'-', b'-', long @ ..] => check_long(long, noted),
        [b'-', first, rest @ ..] => check_cluster(*first, rest, noted),
        _ => Err(Refusal::UnexpectedWord(text(word))),
    }
}

fn check_long(long: &[u8], noted: &mut Noted) -> Result<(), Refusal> {
    let (name, value) = match long.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            let (name, value) = long.split_at(at);
            (name, value.get(1..))
        }
        None => (long, None),
    };
    if name == b"sender" {
        return Err(Refusal::Pull);
    }
    let Some((_, kind)) = LONG.iter().find(|(known, _)| known.as_bytes() == name) else {
        return Err(Refusal::Option(format!("--{}", text(name))));
    };
    if !is_valid(*kind, value) {
        return Err(Refusal::Value(format!("--{}", text(name))));
    }
    noted.make_path |= name == b"mkpath";
    Ok(())
}

fn is_valid(kind: Value, value: Option<&[u8]>) -> bool {
    let Some(value) = value else {
        return kind == Value::None;
    };
    if value.is_empty() || value.len() > 256 {
        return false;
    }
    let each = |admitted: &[u8]| {
        value
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || admitted.contains(byte))
    };
    match kind {
        Value::None => false,
        Value::Number => each(b"-+.") && value.iter().any(u8::is_ascii_digit),
        Value::Words => each(b",._-"),
        Value::Suffix => !value.contains(&b'/'),
        Value::IdMap => each(b",:*?[]_.@$-"),
        Value::LogFormat => matches!(value, b"X" | b"%i" | b"%o" | b"%i%I" | b"%o%I" | b"X%I"),
    }
}

/// A cluster of letters such as `-lHogDtpAXrxSe.iLsfxCIvu`. `e`, `B` and `@` take the rest of it as their value.
fn check_cluster(first: u8, rest: &[u8], noted: &mut Noted) -> Result<(), Refusal> {
    let mut letter = first;
    let mut rest = rest;
    loop {
        match letter {
            b'e' => {
                return if is_capabilities(rest) {
                    Ok(())
                } else {
                    Err(Refusal::Value("-e".to_owned()))
                };
            }
            b'B' | b'@' => {
                let digits = rest.strip_prefix(b"-").unwrap_or(rest);
                let valid = !digits.is_empty()
                    && digits.len() <= 12
                    && digits.iter().all(u8::is_ascii_digit);
                return if valid {
                    Ok(())
                } else {
                    Err(Refusal::Value(format!("-{}", char::from(letter))))
                };
            }
            b's' => return Err(Refusal::SecludedArguments),
            b'n' => noted.dry_run = true,
            known if LETTERS.contains(&known) => {}
            other => return Err(Refusal::Option(format!("-{}", text(&[other])))),
        }
        match rest.split_first() {
            Some((next, further)) => {
                letter = *next;
                rest = further;
            }
            None => return Ok(()),
        }
    }
}

/// The client's capabilities behind `-e`: a protocol version or nothing, a dot, a sub-version or nothing, letters.
/// Anything else would name a remote shell.
fn is_capabilities(value: &[u8]) -> bool {
    let digits = |bytes: &[u8]| {
        bytes
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let version = value.get(digits(value)..).unwrap_or_default();
    let Some(after_dot) = version.strip_prefix(b".") else {
        return false;
    };
    let letters = after_dot.get(digits(after_dot)..).unwrap_or_default();
    value.len() <= 40 && letters.iter().all(u8::is_ascii_alphabetic)
}

/// Bytes of a refused word, harmless to print.
pub(super) fn text(bytes: &[u8]) -> String {
    let shown = bytes.get(..bytes.len().min(64)).unwrap_or(bytes);
    crate::console::printable(shown)
}
