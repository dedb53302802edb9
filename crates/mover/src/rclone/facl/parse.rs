//! Reading `permissions.facl`. It may have come from anywhere: a block that is not understood is left out and counted, and
//! so is one whose path leads outside the volume.

use std::io::{self, BufRead, Read as _};

use crate::tree::check_path;

use super::acl::Tag;
use super::{FLAGS, MOUNT, quote};

/// Longest line, in bytes: the longest path with every byte quoted, and some.
const LONGEST_LINE: u64 = 32 * 1024;

/// What a file of permissions says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facl {
    pub(super) blocks: Vec<Block>,
    /// Blocks that were left out.
    pub(super) ignored: Vec<Vec<u8>>,
    pub(super) ignored_count: u64,
}

/// An owner, by name or by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Id(u32),
    Name(Vec<u8>),
}

/// A line of an ACL, its names not looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) tag: Tag,
    /// `None` for tags that have nobody.
    pub(super) who: Option<Who>,
    pub(super) permissions: u16,
}

/// One entry's block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// Below the root of the volume.
    pub(super) path: Vec<u8>,
    pub(super) owner: Option<Who>,
    pub(super) group: Option<Who>,
    /// Set-id and sticky bits.
    pub(super) flags: u32,
    pub(super) access: Vec<Line>,
    pub(super) default: Vec<Line>,
}

impl Facl {
    /// The paths of which it tells.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.blocks.iter().map(|block| block.path.as_slice())
    }
}

/// Reads all of it.
pub(crate) fn parse(mut from: impl BufRead) -> io::Result<Facl> {
    let mut facl = Facl::default();
    let mut reading = Reading::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = (&mut from)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        if line.pop_if(|last| *last == b'\n').is_none() && length as u64 == LONGEST_LINE {
            skip_line(&mut from)?;
            reading.is_bad = true;
            continue;
        }
        if line.is_empty() {
            reading.finish(&mut facl);
        } else if reading.line(&line).is_none() {
            reading.is_bad = true;
        }
    }
    reading.finish(&mut facl);
    Ok(facl)
}

fn skip_line(from: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = from.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(buffer.len(), |at| at + 1);
        from.consume(length);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// A block being read.
#[derive(Default)]
struct Reading {
    block: Block,
    has_path: bool,
    has_lines: bool,
    is_bad: bool,
}

impl Reading {
    /// Takes a line; `None` when it does not belong here.
    fn line(&mut self, line: &[u8]) -> Option<()> {
        self.has_lines = true;
        let Some(comment) = line.strip_prefix(b"#") else {
            let (line, is_default) = acl_line(line)?;
            let lines = if is_default {
                &mut self.block.default
            } else {
                &mut self.block.access
            };
            lines.push(line);
            return Some(());
        };
        let comment = comment.trim_ascii_start();
        let value = |key: &[u8]| comment.strip_prefix(key)?.strip_prefix(b": ");
        if let Some(path) = value(b"file") {
            if std::mem::replace(&mut self.has_path, true) {
                return None;
            }
            self.block.path = below_mount(&quote::read(path))?.to_vec();
        } else if let Some(owner) = value(b"owner") {
            self.block.owner = Some(who(owner));
        } else if let Some(group) = value(b"group") {
            self.block.group = Some(who(group));
        } else if let Some(flags) = value(b"flags") {
            self.block.flags = flag_bits(flags)?;
        }
        // Other comments mean nothing.
        Some(())
    }

    fn finish(&mut self, to: &mut Facl) {
        let Self {
            block,
            has_path,
            has_lines,
            is_bad,
        } = std::mem::take(self);
        if !has_lines && !is_bad {
            return;
        }
        if has_path && !is_bad {
            to.blocks.push(block);
            return;
        }
        to.ignored_count += 1;
        if to.ignored.is_empty() {
            to.ignored.push(block.path);
        }
    }
}

/// A path as getfacl prints it, below the volume's root; `None` when it leads elsewhere.
fn below_mount(path: &[u8]) -> Option<&[u8]> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let path = match path {
        b"." => b"",
        _ => match path.strip_prefix(b"./") {
            Some(below) => below,
            None => match path.strip_prefix(MOUNT)? {
                b"" => b"",
                below => below.strip_prefix(b"/")?,
            },
        },
    };
    check_path(path).is_ok().then_some(path)
}

fn who(text: &[u8]) -> Who {
    let number = std::str::from_utf8(text).ok().and_then(|text| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|id| is_number && *id != u32::MAX)
    });
    number.map_or_else(|| Who::Name(quote::read(text)), Who::Id)
}

fn flag_bits(text: &[u8]) -> Option<u32> {
    let mut bits = 0;
    for ((bit, letter), found) in FLAGS.iter().zip(text) {
        if found == letter {
            bits |= bit;
        } else if *found != b'-' {
            return None;
        }
    }
    (text.len() == FLAGS.len()).then_some(bits)
}

/// `[default:]TAG:[WHO]:PERMISSIONS`, the tag by its word or its first letter.
fn acl_line(line: &[u8]) -> Option<(Line, bool)> {
    let line = line.split(|byte| *byte == b'#').next()?.trim_ascii();
    let default = [&b"default:"[..], b"d:"]
        .iter()
        .find_map(|prefix| line.strip_prefix(*prefix));
    let (line, is_default) = default.map_or((line, false), |line| (line, true));
    let mut fields = line.split(|byte| *byte == b':');
    let (tag, name, permissions) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() {
        return None;
    }
    let tag = match (tag, name) {
        (b"user" | b"u", b"") => Tag::Owner,
        (b"user" | b"u", _) => Tag::User,
        (b"group" | b"g", b"") => Tag::OwningGroup,
        (b"group" | b"g", _) => Tag::Group,
        (b"mask" | b"m", b"") => Tag::Mask,
        (b"other" | b"o", b"") => Tag::Other,
        _ => return None,
    };
    let line = Line {
        tag,
        who: (!name.is_empty()).then(|| who(name)),
        permissions: permission_bits(permissions)?,
    };
    Some((line, is_default))
}

fn permission_bits(text: &[u8]) -> Option<u16> {
    let bits = text.iter().try_fold(0, |bits, letter| {
        Some(
            bits | match letter {
                b'r' => 4,
                b'w' => 2,
                b'x' => 1,
                b'-' => 0,
                _ => return None,
            },
        )
    })?;
    (text.len() == 3).then_some(bits)
}
