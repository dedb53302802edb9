//! Bytes in JSON: a string where they are UTF-8, else a list with one string of base64.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes bytes.
pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return to.serialize_str(text);
    }
    let mut list = to.serialize_seq(Some(1))?;
    list.serialize_element(&STANDARD.encode(bytes))?;
    list.end()
}

/// Reads bytes.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    from.deserialize_any(Bytes)
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, or a list with one string of base64")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        Ok(text.as_bytes().to_vec())
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Vec<u8>, E> {
        Ok(text.into_bytes())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
        let encoded: std::borrow::Cow<'de, str> = list
            .next_element()?
            .ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let bytes = STANDARD
            .decode(encoded.as_bytes())
            .map_err(A::Error::custom)?;
        if list.next_element::<serde::de::IgnoredAny>()?.is_some() {
            return Err(A::Error::invalid_length(2, &self));
        }
        Ok(bytes)
    }
}

/// Bytes that know their form in JSON.
struct Word(Vec<u8>);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        deserialize(from).map(Self)
    }
}

/// Borrowed bytes that know their form in JSON.
struct WordRef<'a>(&'a [u8]);

impl Serialize for WordRef<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        serialize(self.0, to)
    }
}

/// Pairs of bytes.
pub(crate) mod pairs {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::{Word, WordRef};

    type Pair = (Vec<u8>, Vec<u8>);

    /// Writes pairs.
    pub(crate) fn serialize<S: Serializer>(pairs: &[Pair], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(
            pairs
                .iter()
                .map(|(name, value)| (WordRef(name), WordRef(value))),
        )
    }

    /// Reads pairs.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Pair>, D::Error> {
        let words: Vec<(Word, Word)> = Vec::deserialize(from)?;
        Ok(words
            .into_iter()
            .map(|(name, value)| (name.0, value.0))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        #[serde(with = "super")]
        name: Vec<u8>,
        #[serde(with = "super::pairs")]
        pairs: Vec<(Vec<u8>, Vec<u8>)>,
    }

    #[test]
    fn text_stays_readable_and_other_bytes_become_base64() {
        let sample = Sample {
            name: "größe\n".into(),
            pairs: vec![(b"user.a".to_vec(), b"\xff\x00".to_vec())],
        };
        assert_eq!(
            serde_json::to_string(&sample).unwrap(),
            r#"{"name":"größe\n","pairs":[["user.a",["/wA="]]]}"#
        );
    }

    #[test]
    fn what_is_neither_is_refused() {
        for bad in [
            r#"{"name":7,"pairs":[]}"#,
            r#"{"name":[],"pairs":[]}"#,
            r#"{"name":["!"],"pairs":[]}"#,
            r#"{"name":["/wA=","/wA="],"pairs":[]}"#,
            r#"{"name":"a","pairs":[["a"]]}"#,
        ] {
            assert!(serde_json::from_str::<Sample>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_byte_string_survives(name: Vec<u8>, pairs: Vec<(Vec<u8>, Vec<u8>)>) {
            let sample = Sample { name, pairs };
            let text = serde_json::to_vec(&sample).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Sample>(&text).unwrap(), sample);
        }
    }
}
