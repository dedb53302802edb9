//! How getfacl and setfacl write names that would break a line.

/// Appends `name` with line breaks as octal numbers and backslashes doubled.
pub(super) fn write(name: &[u8], to: &mut Vec<u8>) {
    for byte in name {
        match byte {
            b'\\' => to.extend_from_slice(b"\\\\"),
            b'\n' | b'\r' => {
                to.push(b'\\');
                to.extend([byte >> 6, byte >> 3 & 7, byte & 7].map(|digit| b'0' + digit));
            }
            _ => to.push(*byte),
        }
    }
}

/// The name that was written so. A backslash that begins nothing known stands for itself.
pub(super) fn read(text: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let (decoded, after) = match (byte, after) {
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (
                b'\\',
                [
                    high @ b'0'..=b'3',
                    middle @ b'0'..=b'7',
                    low @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => (
                (high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'),
                after,
            ),
            _ => (*byte, after),
        };
        name.push(decoded);
        rest = after;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn older_and_newer_forms_are_read() {
        assert_eq!(read(b"a\\134b\\\\c\\012d\\9e\\"), b"a\\b\\c\nd\\9e\\");
    }

    proptest! {
        #[test]
        fn every_name_survives(name: Vec<u8>) {
            let mut text = Vec::new();
            write(&name, &mut text);
            prop_assert!(!text.contains(&b'\n'));
            prop_assert_eq!(read(&text), name);
        }
    }
}
