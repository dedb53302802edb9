//! The command line that a client sent, taken apart into words as rsync's clients quote them.
//!
//! No shell ever sees the line. What would mean something to a shell and is not quoted by a backslash (which is how
//! rsync since 3.2.4 quotes) is refused, so that no two readers of the line can disagree about it.

use super::Refusal;

/// The longest command line that is looked at, in bytes. The longest that stock clients send stay far below.
const LONGEST_LINE: usize = 8192;

/// What a shell would not take for itself, outside of quotes.
const SHELL_CHARACTERS: &[u8] = b"!#$&;|<>(){}\"'`*?[]";

/// Splits `line` at spaces and removes backslash quotes.
pub(super) fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    if line.len() > LONGEST_LINE {
        return Err(Refusal::TooLong);
    }
    let mut words = Vec::new();
    let mut word = Vec::new();
    let mut in_word = false;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte.is_ascii_control() {
            return Err(Refusal::ControlCharacter);
        }
        match byte {
            b' ' => {
                if in_word {
                    words.push(std::mem::take(&mut word));
                }
                in_word = false;
                continue;
            }
            b'\\' => {
                let quoted = bytes.next().ok_or(Refusal::DanglingBackslash)?;
                if quoted.is_ascii_control() {
                    return Err(Refusal::ControlCharacter);
                }
                word.push(quoted);
            }
            b'~' if !in_word => return Err(Refusal::ShellCharacter('~')),
            other if SHELL_CHARACTERS.contains(&other) => {
                return Err(Refusal::ShellCharacter(char::from(other)));
            }
            other => word.push(other),
        }
        in_word = true;
    }
    if in_word {
        words.push(word);
    }
    Ok(words)
}
