//! POSIX ACLs as the kernel keeps them in extended attributes: version 2, then records of tag, permissions and id, all
//! little-endian (`linux/posix_acl_xattr.h`).

/// The only version.
const VERSION: [u8; 4] = [2, 0, 0, 0];
/// The id of records that have none.
const NO_ID: u32 = u32::MAX;

/// Whom a record concerns. The order is that of records in an ACL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tag {
    /// The owner.
    Owner,
    /// A user.
    User,
    /// The group of the entry.
    OwningGroup,
    /// Another group.
    Group,
    /// What users and groups can have at most, the owner and others apart.
    Mask,
    /// Everybody else.
    Other,
}

impl Tag {
    const ALL: [(Self, u16); 6] = [
        (Self::Owner, 0x01),
        (Self::User, 0x02),
        (Self::OwningGroup, 0x04),
        (Self::Group, 0x08),
        (Self::Mask, 0x10),
        (Self::Other, 0x20),
    ];

    fn from_number(number: u16) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| *known == number);
        found.map(|(tag, _)| *tag)
    }

    fn number(self) -> u16 {
        let found = Self::ALL.iter().find(|(tag, _)| *tag == self);
        found.map_or(0, |(_, number)| *number)
    }

    fn has_id(self) -> bool {
        matches!(self, Self::User | Self::Group)
    }
}

/// One line of an ACL. The order of the fields is that of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    pub(super) tag: Tag,
    /// A user's or group's number; without meaning for other tags.
    pub(super) id: u32,
    /// 4 to read, 2 to write, 1 to execute.
    pub(super) permissions: u16,
}

/// An ACL, its records in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acl {
    records: Vec<Record>,
}

impl Acl {
    /// An ACL of these records in whatever order; `None` when they make none: the owner, the group and others each once,
    /// at most one mask, nobody named twice. A mask that is missing though somebody is named becomes what all of them have.
    pub(super) fn new(mut records: Vec<Record>) -> Option<Self> {
        for record in &mut records {
            record.permissions &= 7;
            if !record.tag.has_id() {
                record.id = NO_ID;
            }
        }
        let count = |tag| records.iter().filter(|record| record.tag == tag).count();
        let is_complete = [Tag::Owner, Tag::OwningGroup, Tag::Other]
            .iter()
            .all(|tag| count(*tag) == 1);
        let is_named = count(Tag::User) + count(Tag::Group) > 0;
        if !is_complete || count(Tag::Mask) > 1 {
            return None;
        }
        if is_named && count(Tag::Mask) == 0 {
            let permissions = records
                .iter()
                .filter(|record| record.tag.has_id() || record.tag == Tag::OwningGroup)
                .fold(0, |sum, record| sum | record.permissions);
            records.push(Record {
                tag: Tag::Mask,
                id: NO_ID,
                permissions,
            });
        }
        records.sort_unstable();
        let is_twice = records
            .windows(2)
            .any(|pair| matches!(pair, [one, other] if (one.tag, one.id) == (other.tag, other.id)));
        (!is_twice).then_some(Self { records })
    }

    /// The ACL that a mode stands for.
    pub(super) fn from_mode(mode: u32) -> Self {
        let record = |tag, shift: u32| Record {
            tag,
            id: NO_ID,
            permissions: u16::try_from(mode >> shift & 7).unwrap_or_default(),
        };
        Self {
            records: vec![
                record(Tag::Owner, 6),
                record(Tag::OwningGroup, 3),
                record(Tag::Other, 0),
            ],
        }
    }

    /// Reads an attribute's value; `None` when it is no ACL.
    pub(super) fn from_kernel(value: &[u8]) -> Option<Self> {
        let records = value.strip_prefix(&VERSION)?;
        let (records, rest) = records.as_chunks::<8>();
        if !rest.is_empty() {
            return None;
        }
        let records: Option<Vec<Record>> = records
            .iter()
            .map(|&[t0, t1, p0, p1, i0, i1, i2, i3]| {
                Some(Record {
                    tag: Tag::from_number(u16::from_le_bytes([t0, t1]))?,
                    permissions: u16::from_le_bytes([p0, p1]),
                    id: u32::from_le_bytes([i0, i1, i2, i3]),
                })
            })
            .collect();
        Self::new(records?)
    }

    /// The value of an attribute.
    pub(super) fn to_kernel(&self) -> Vec<u8> {
        let mut value = VERSION.to_vec();
        for record in &self.records {
            value.extend_from_slice(&record.tag.number().to_le_bytes());
            value.extend_from_slice(&record.permissions.to_le_bytes());
            value.extend_from_slice(&record.id.to_le_bytes());
        }
        value
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    /// What users and groups can have at most, if that is limited.
    pub(super) fn mask(&self) -> Option<u16> {
        self.permissions(Tag::Mask)
    }

    /// Does a mode say as much?
    pub(super) fn is_mode(&self) -> bool {
        self.records.len() == 3
    }

    /// The permission bits that the kernel shows for it: the group's are the mask's.
    pub(super) fn mode(&self) -> u32 {
        let bits = |tag| u32::from(self.permissions(tag).unwrap_or_default());
        let group = self
            .mask()
            .map_or_else(|| bits(Tag::OwningGroup), u32::from);
        bits(Tag::Owner) << 6 | group << 3 | bits(Tag::Other)
    }

    /// The permission bits that come closest where there are no ACLs: nobody gains.
    pub(super) fn mode_without_acls(&self) -> u32 {
        let group = self.permissions(Tag::OwningGroup).unwrap_or_default();
        let group = group & self.mask().unwrap_or(group);
        self.mode() & !0o070 | u32::from(group) << 3
    }

    fn permissions(&self, tag: Tag) -> Option<u16> {
        let found = self.records.iter().find(|record| record.tag == tag);
        found.map(|record| record.permissions)
    }
}
