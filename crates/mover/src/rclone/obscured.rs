//! Passwords as `rclone.conf` has them: encrypted with a key that is in rclone's source for all to see, so that nobody reads
//! them over somebody's shoulder. A server is told them in the clear, and logs may repeat that.

use aes::Aes256;
use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ctr::Ctr128BE;

/// The key of `rclone obscure` (rclone, `fs/config/obscure`).
const KEY: [u8; 32] = [
    0x9c, 0x93, 0x5b, 0x48, 0x73, 0x0a, 0x55, 0x4d, 0x6b, 0xfd, 0x7c, 0x63, 0xc8, 0x86, 0xa9, 0x2b,
    0xd3, 0x90, 0x19, 0x8e, 0xb8, 0x12, 0x8a, 0xfb, 0xf4, 0xde, 0x16, 0x2b, 0x8b, 0x95, 0xf6, 0x38,
];
/// The bytes before the password, from which its cipher begins.
const START: usize = 16;

/// What was obscured, if `value` is that: of other values it is by chance only that text comes out.
pub(crate) fn revealed(value: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
    let (start, sealed) = bytes.split_first_chunk::<START>()?;
    let mut clear = sealed.to_vec();
    Ctr128BE::<Aes256>::new(&KEY.into(), start.into()).apply_keystream(&mut clear);
    let clear = String::from_utf8(clear).ok()?;
    (!clear.is_empty() && !clear.contains(char::is_control)).then_some(clear)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rclone_obscured_is_revealed_and_other_values_are_not() {
        let of_rclone = [
            ("Xy-ttM9JMvbJnXA9QIYVudZGGjoJJDg3Fc7ccQ", "secret words"),
            (
                "DhomvLGnAD-0SPsT4GEH3bKB1jq16x0gc0ROKNKE2K_9QSrcERkIxQzgPCnecOVpCIMVZHsQnIuxWn5nUunX",
                "ü12345, a password that is longer than a block",
            ),
        ];
        for (obscured, clear) in of_rclone {
            assert_eq!(revealed(obscured).as_deref(), Some(clear));
        }
        for other in ["", "plain", "not base64!", "AKIAIOSFODNN7EXAMPLE"] {
            assert_eq!(revealed(other), None, "{other}");
        }
    }
}
