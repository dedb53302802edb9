//! Names as rclone has them in lists and listings, which are not always the bytes of the local file.
//!
//! rclone keeps names in a form of its own, in which control characters are shown as pictures (`\n` as `␊`), and these
//! pictures, where they are meant, have a quote `‛` before them. A list of names must have this form, or rclone passes
//! over the file without a word.
//!
//! Its local backend takes a quote in a file's own name for one of its own and does not find the file; told to translate
//! nothing (`encoding=Raw`) it does. Other signs have another form then, so only paths with a quote go this way: all else
//! lies in the store as stock rclone puts it there.

/// rclone's quote (U+201B).
const QUOTE: char = '\u{201b}';

/// Must rclone be told to translate nothing, to find the local file `path`?
pub(crate) fn is_raw(path: &[u8]) -> bool {
    path.utf8_chunks()
        .any(|chunk| chunk.valid().contains(QUOTE))
}

/// The name of the local file `path` in a list for `--files-from0`, and of its object in any list.
pub(crate) fn for_list(path: &[u8]) -> Vec<u8> {
    formed(path, is_raw(path), &|name, bytes| {
        name.extend_from_slice(bytes);
    })
}

/// The name under which the object of the local file `path` stands in a listing ([`super::store`]). Bytes that are not
/// UTF-8 stand as U+FFFD there, so that two files may have the same.
pub(crate) fn listed(path: &[u8]) -> Vec<u8> {
    formed(path, is_raw(path), &replaced)
}

/// The same for files that stock rclone wrote here: it leaves its quotes in their names.
pub(crate) fn listed_by_stock(path: &[u8]) -> Vec<u8> {
    let pictured = |character| match character {
        QUOTE => (None, QUOTE),
        other => standard(other),
    };
    let mut name = Vec::with_capacity(path.len());
    let mut is_quoted = false;
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            // What has its quote already needs no other.
            let (quote, character) = pictured(character);
            push(&mut name, (quote.filter(|_| !is_quoted), character));
            is_quoted = character == QUOTE && !is_quoted;
        }
        replaced(&mut name, chunk.invalid());
    }
    name
}

/// The name of the local file that stock rclone makes of an object that stands as `name` in a listing: the inverse of
/// [`listed_by_stock`], but for bytes that it lost.
pub(crate) fn local_by_stock(name: &[u8]) -> Vec<u8> {
    let mut local = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        let mut characters = chunk.valid().chars();
        while let Some(character) = characters.next() {
            let meant = match character {
                QUOTE => match characters.next() {
                    Some(next @ (QUOTE | '\u{2400}' | '\u{ff0f}' | '\u{ff0e}')) => {
                        push(&mut local, (None, QUOTE));
                        next
                    }
                    next => next.unwrap_or(QUOTE),
                },
                '\u{2401}'..='\u{241f}' => {
                    char::from_u32(u32::from(character) - 0x2400).unwrap_or(character)
                }
                '\u{2421}' => '\u{7f}',
                other => other,
            };
            push(&mut local, (None, meant));
        }
        local.extend_from_slice(chunk.invalid());
    }
    local
}

/// Does a listing leave open which bytes `name` has?
pub(crate) fn is_unnameable(name: &[u8]) -> bool {
    String::from_utf8_lossy(name).contains(char::REPLACEMENT_CHARACTER)
}

/// A path in rclone's form, its names one by one.
fn formed(path: &[u8], is_raw: bool, invalid: &dyn Fn(&mut Vec<u8>, &[u8])) -> Vec<u8> {
    let mut name = Vec::with_capacity(path.len());
    for (number, part) in path.split(|byte| *byte == b'/').enumerate() {
        if number > 0 {
            name.push(b'/');
        }
        let is_dots = is_raw && matches!(part, DOT | DOTS);
        for chunk in part.utf8_chunks() {
            for character in chunk.valid().chars() {
                let form = if is_raw
                    && (is_dots || matches!(character, QUOTE | '\u{2400}' | '\u{ff0f}'))
                {
                    (Some(QUOTE), character)
                } else {
                    standard(character)
                };
                push(&mut name, form);
            }
            invalid(&mut name, chunk.invalid());
        }
    }
    name
}

/// What stands for `.` and `..` in rclone's form.
const DOT: &[u8] = "\u{ff0e}".as_bytes();
const DOTS: &[u8] = "\u{ff0e}\u{ff0e}".as_bytes();

fn replaced(name: &mut Vec<u8>, invalid: &[u8]) {
    for _ in invalid {
        push(name, (None, char::REPLACEMENT_CHARACTER));
    }
}

/// A character in rclone's form, with what comes before it.
fn standard(character: char) -> (Option<char>, char) {
    match character {
        '\u{1}'..='\u{1f}' => {
            let picture = char::from_u32(0x2400 + u32::from(character)).unwrap_or(character);
            (None, picture)
        }
        '\u{7f}' => (None, '\u{2421}'),
        '\u{2401}'..='\u{241f}' | '\u{2421}' => (Some(QUOTE), character),
        other => (None, other),
    }
}

fn push(name: &mut Vec<u8>, (quote, character): (Option<char>, char)) {
    let mut buffer = [0_u8; 4];
    for part in quote.into_iter().chain([character]) {
        name.extend_from_slice(part.encode_utf8(&mut buffer).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(b"a/plain name", b"a/plain name")]
    #[case(b"#;*[x]{y}\\-", b"#;*[x]{y}\\-")]
    #[case("é/日本/😀".as_bytes(), "é/日本/😀".as_bytes())]
    #[case(b"new\nline", "new␊line".as_bytes())]
    #[case(b"\x1b[31m\x7f", "␛[31m␡".as_bytes())]
    #[case("x␊y".as_bytes(), "x‛␊y".as_bytes())]
    #[case("␀／．".as_bytes(), "␀／．".as_bytes())]
    #[case(b"bad\xff\xfe", b"bad\xff\xfe")]
    fn names_in_a_list_have_rclones_form(#[case] local: &[u8], #[case] name: &[u8]) {
        assert_eq!(for_list(local), name);
        assert!(!is_raw(local));
    }

    // As rclone 1.75.2 listed them.
    #[rstest]
    #[case("q‛q/in‛ner/g‛h", "q‛‛q/in‛‛ner/g‛‛h")]
    #[case("q‛q/／", "q‛‛q/‛／")]
    #[case("q‛q/．", "q‛‛q/‛．")]
    #[case("‛␊", "‛‛‛␊")]
    #[case("n‛\nl␀", "n‛‛␊l‛␀")]
    fn all_signs_of_a_path_with_a_quote_are_quoted(#[case] local: &str, #[case] name: &str) {
        assert!(is_raw(local.as_bytes()));
        assert_eq!(for_list(local.as_bytes()), name.as_bytes());
        assert_eq!(listed(local.as_bytes()), name.as_bytes());
    }

    #[rstest]
    #[case("plain")]
    #[case("new␊line␡")]
    #[case("x‛␊y q‛‛q ␀")]
    fn a_name_listed_leads_to_the_file_that_stock_rclone_makes_and_back(#[case] name: &str) {
        let local = local_by_stock(name.as_bytes());
        assert_eq!(listed_by_stock(&local), name.as_bytes());
    }

    #[test]
    fn each_foreign_byte_is_one_replacement_in_a_listing() {
        assert_eq!(
            listed(b"bad\xff\xe2\x82."),
            "bad\u{fffd}\u{fffd}\u{fffd}.".as_bytes()
        );
        assert_eq!(listed(b"new\nline"), "new␊line".as_bytes());
    }
}
