//! The users that a pod's root knows.
//!
//! sshd wants a passwd entry for its uid and a readable shadow entry; ssh wants a passwd entry for its own.

use std::fmt::Write as _;
use std::path::Path;

/// `/etc/passwd`, `/etc/group` and `/etc/shadow`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accounts {
    /// Every login name has the container's uid and the home `/root`.
    pub(super) passwd: String,
    /// The container's group under the same names.
    pub(super) group: String,
    /// No password that fits; `*` is what sshd does not take for a locked account.
    pub(super) shadow: String,
}

/// The overflow user and group of Linux.
const NOBODY: u32 = 65534;
/// sshd's user for its unprivileged part; any number that nothing else has.
const SSHD: u32 = 74;
/// Debian's number of the group that owns terminals.
const TTY: u32 = 5;

/// Accounts for a container that runs as `uid` and `gid`. Its own program is the login shell, as in Syncline's image, so
/// that pods need no other.
pub(super) fn accounts(login_names: &[String], (uid, gid): (u32, u32), shell: &Path) -> Accounts {
    let mut made = Accounts {
        passwd: String::new(),
        group: String::new(),
        shadow: String::new(),
    };
    let shell = shell.display().to_string();
    let mut known: Vec<&str> = Vec::new();
    for name in login_names
        .iter()
        .map(String::as_str)
        .filter(|name| is_login_name(name))
    {
        if !known.contains(&name) {
            known.push(name);
            made.add(name, (uid, gid), "/root", &shell);
        }
    }
    for (name, id, home) in [
        ("sshd", SSHD, "/run/sshd"),
        ("nobody", NOBODY, "/nonexistent"),
    ] {
        if !known.contains(&name) {
            made.add(name, (id, id), home, "/usr/sbin/nologin");
        }
    }
    made.add_group("nogroup", NOBODY);
    made.add_group("tty", TTY);
    made
}

impl Accounts {
    fn add(&mut self, name: &str, (uid, gid): (u32, u32), home: &str, shell: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.passwd, "{name}:x:{uid}:{gid}:{name}:{home}:{shell}");
        let _ = writeln!(self.shadow, "{name}:*:19000:0:99999:7:::");
        self.add_group(name, gid);
    }

    fn add_group(&mut self, name: &str, gid: u32) {
        let _ = writeln!(self.group, "{name}:x:{gid}:");
    }
}

/// What useradd(8) takes for a name; anything else would break the files' lines.
fn is_login_name(name: &str) -> bool {
    let mut letters = name.chars();
    let first = letters
        .next()
        .is_some_and(|letter| letter.is_ascii_alphabetic() || letter == '_');
    first
        && name.len() <= 32
        && letters.all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_login_name_has_the_uid_of_the_container_and_sshd_its_own() {
        let made = accounts(
            &["root".to_owned(), "alice".to_owned(), "root".to_owned()],
            (1000, 1001),
            Path::new("/syncline"),
        );
        insta::assert_snapshot!(made.passwd, @r"
        root:x:1000:1001:root:/root:/syncline
        alice:x:1000:1001:alice:/root:/syncline
        sshd:x:74:74:sshd:/run/sshd:/usr/sbin/nologin
        nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
        ");
        assert!(made.shadow.contains("alice:*:"));
    }

    #[test]
    fn a_name_that_would_break_the_files_is_left_out() {
        let made = accounts(
            &["a:0:0".to_owned(), "x\ny".to_owned(), String::new()],
            (0, 0),
            Path::new("/syncline"),
        );
        assert_eq!(made.passwd.lines().count(), 2);
    }
}
