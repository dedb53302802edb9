//! What could not be given back to a tree, in a few sentences.

use std::collections::BTreeMap;

use syncline_api::report::MOST_UNPRESERVED;

use super::shown;

/// Longest path that a sentence shows, in bytes; a sentence in a report has room for little more.
const LONGEST_PATH: usize = 32;

/// A kind of loss. There are as many as a report lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loss {
    /// Owner or group.
    Owner,
    /// Permission bits.
    Mode,
    /// A POSIX ACL.
    Acl,
    /// An extended attribute that is none.
    Attribute,
    /// Time of last change.
    Time,
    /// A hard link became a copy.
    HardLink,
    /// A device file, a socket or a pipe.
    Special,
    /// Named in `permissions.facl`, and not there or not understood.
    Permissions,
}

impl Loss {
    fn words(self) -> &'static str {
        match self {
            Self::Owner => "owners",
            Self::Mode => "permissions",
            Self::Acl => "ACLs",
            Self::Attribute => "extended attributes",
            Self::Time => "times",
            Self::HardLink => "hard links",
            Self::Special => "devices, sockets or pipes",
            Self::Permissions => "lines of permissions.facl",
        }
    }

    /// Is it what a user without rights may not give back? Rights may not suffice either, as on a file system that lacks it.
    fn is_for_want_of_rights(self) -> bool {
        match self {
            Self::Owner | Self::Mode | Self::Acl | Self::Attribute | Self::Time | Self::Special => {
                true
            }
            Self::HardLink | Self::Permissions => false,
        }
    }
}

/// What was not preserved: of each kind how often, and where first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpreserved {
    losses: BTreeMap<Loss, (u64, String)>,
}

impl Unpreserved {
    /// Notes that `loss` befell the entry at `path`.
    pub(crate) fn note(&mut self, loss: Loss, path: &[u8]) {
        let (count, _) = self.losses.entry(loss).or_insert_with(|| (0, named(path)));
        *count += 1;
    }

    /// Would rights have helped with some of it, as far as the kinds of loss tell?
    pub(crate) fn is_for_want_of_rights(&self) -> bool {
        self.losses.keys().any(|loss| loss.is_for_want_of_rights())
    }

    /// One sentence a kind, as a report lists them.
    pub(crate) fn sentences(&self) -> Vec<String> {
        self.losses
            .iter()
            .take(MOST_UNPRESERVED)
            .map(|(loss, (count, first))| format!("{} ({count}, first: {first})", loss.words()))
            .collect()
    }
}

#[cfg(test)]
impl Unpreserved {
    /// Was everything preserved?
    pub(crate) fn is_empty(&self) -> bool {
        self.losses.is_empty()
    }

    /// How often a kind of loss befell an entry.
    pub(crate) fn count(&self, loss: Loss) -> u64 {
        self.losses.get(&loss).map_or(0, |(count, _)| *count)
    }
}

/// An entry as a sentence names it: whoever reads of a `.` does not think of a volume.
fn named(path: &[u8]) -> String {
    if path.is_empty() {
        "the volume's root folder".to_owned()
    } else {
        shortened(&shown(path))
    }
}

/// The end of a path says more than its beginning.
fn shortened(path: &str) -> String {
    if path.len() <= LONGEST_PATH {
        return path.to_owned();
    }
    let mut from = path.len() - LONGEST_PATH;
    while !path.is_char_boundary(from) {
        from += 1;
    }
    format!("…{}", path.get(from..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_loss_is_one_sentence_with_a_count_and_an_example() {
        let mut lost = Unpreserved::default();
        lost.note(Loss::Time, b"c");
        lost.note(Loss::Owner, b"a");
        lost.note(Loss::Owner, b"b");
        assert_eq!(
            lost.sentences(),
            ["owners (2, first: a)", "times (1, first: c)"]
        );
    }

    #[test]
    fn the_root_is_named_in_words() {
        let mut lost = Unpreserved::default();
        lost.note(Loss::Mode, b"");
        assert_eq!(
            lost.sentences(),
            ["permissions (1, first: the volume's root folder)"]
        );
    }

    #[test]
    fn only_what_a_user_without_rights_may_not_give_is_for_want_of_rights() {
        for (loss, is_so) in [
            (Loss::Owner, true),
            (Loss::Mode, true),
            (Loss::Special, true),
            (Loss::HardLink, false),
            (Loss::Permissions, false),
        ] {
            let mut lost = Unpreserved::default();
            lost.note(loss, b"a");
            assert_eq!(lost.is_for_want_of_rights(), is_so, "{loss:?}");
        }
    }

    #[test]
    fn no_sentence_outgrows_a_report() {
        let mut lost = Unpreserved::default();
        let path = "größe/".repeat(100);
        for loss in [
            Loss::Owner,
            Loss::Mode,
            Loss::Acl,
            Loss::Attribute,
            Loss::Time,
            Loss::HardLink,
            Loss::Special,
            Loss::Permissions,
        ] {
            lost.note(loss, path.as_bytes());
            lost.note(loss, b"\n\xff");
        }
        assert_eq!(lost.sentences().len(), MOST_UNPRESERVED);
        for sentence in lost.sentences() {
            assert!(sentence.len() <= 96, "{sentence}");
        }
    }
}
