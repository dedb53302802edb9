//! Owners' names in `permissions.facl`, and the numbers they stood for where it was written.

use std::collections::HashMap;
use std::path::Path;

/// Users of fixed numbers in Red Hat's UBI images (package setup), from one of which VolSync's movers are made.
/// Debian's programs give some of the same names to other numbers.
const USERS: [(&str, u32); 14] = [
    ("root", 0),
    ("bin", 1),
    ("daemon", 2),
    ("adm", 3),
    ("lp", 4),
    ("sync", 5),
    ("shutdown", 6),
    ("halt", 7),
    ("mail", 8),
    ("operator", 11),
    ("games", 12),
    ("ftp", 14),
    ("dbus", 81),
    ("nobody", 65_534),
];

/// Groups of fixed numbers there.
const GROUPS: [(&str, u32); 28] = [
    ("root", 0),
    ("bin", 1),
    ("daemon", 2),
    ("sys", 3),
    ("adm", 4),
    ("tty", 5),
    ("disk", 6),
    ("lp", 7),
    ("mem", 8),
    ("kmem", 9),
    ("wheel", 10),
    ("cdrom", 11),
    ("mail", 12),
    ("man", 15),
    ("dialout", 18),
    ("floppy", 19),
    ("games", 20),
    ("utmp", 22),
    ("tape", 33),
    ("kvm", 36),
    ("video", 39),
    ("ftp", 50),
    ("lock", 54),
    ("audio", 63),
    ("dbus", 81),
    ("users", 100),
    ("systemd-journal", 190),
    ("nobody", 65_534),
];

/// What names mean.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    users: HashMap<Vec<u8>, u32>,
    groups: HashMap<Vec<u8>, u32>,
}

impl Names {
    /// As in VolSync's mover; a name that has no fixed number there means what it means here.
    pub(crate) fn of_volsync() -> Self {
        let mut names = Self::of_here();
        let fixed = |table: &[(&str, u32)]| -> Vec<(Vec<u8>, u32)> {
            let entries = table.iter();
            entries
                .map(|(name, id)| (name.as_bytes().to_vec(), *id))
                .collect()
        };
        names.users.extend(fixed(&USERS));
        names.groups.extend(fixed(&GROUPS));
        names
    }

    /// As in this pod's `/etc/passwd` and `/etc/group`.
    pub(crate) fn of_here() -> Self {
        Self {
            users: read(Path::new("/etc/passwd")),
            groups: read(Path::new("/etc/group")),
        }
    }

    pub(super) fn user(&self, name: &[u8]) -> Option<u32> {
        self.users.get(name).copied()
    }

    pub(super) fn group(&self, name: &[u8]) -> Option<u32> {
        self.groups.get(name).copied()
    }
}

/// Both files have the name in the first field and the number in the third. A file that is missing names nobody.
fn read(path: &Path) -> HashMap<Vec<u8>, u32> {
    let content = std::fs::read(path).unwrap_or_default();
    content
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let id = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
            Some((name.to_vec(), id))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_what_it_means_in_volsyncs_image() {
        let names = Names::of_volsync();
        assert_eq!(names.user(b"root"), Some(0));
        // Debian's daemon is 1, and its tape is 26.
        assert_eq!(names.user(b"daemon"), Some(2));
        assert_eq!(names.group(b"tape"), Some(33));
        assert_eq!(names.user(b"no such user"), None);
    }

    #[test]
    fn a_name_that_is_not_fixed_is_looked_up_here() {
        let here = Names::of_here();
        assert_eq!(here.user(b"root"), Some(0));
        for (name, id) in &here.users {
            if !USERS.iter().any(|(fixed, _)| fixed.as_bytes() == name) {
                assert_eq!(Names::of_volsync().user(name), Some(*id));
            }
        }
    }
}
