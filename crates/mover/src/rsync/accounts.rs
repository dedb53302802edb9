//! Users for a pod of any uid. ssh and sshd want an entry for their own, and a source logs in as `root` whoever the
//! destination runs as.
//!
//! Where the pod's `/etc/passwd` has no such entry, the mover writes files of its own and has them read through
//! `libnss_wrapper`, which the image contains: nobody can know beforehand which uid a pod gets. The login shell in them is
//! this program itself (`gate::log_in`), so that no other is needed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};

use crate::fs::write_private;
use crate::report::{Fault, reason};
use crate::rsync::keys::PrivateFolder;

/// The library that makes programs read other files than `/etc/passwd` and its kin.
const LIBRARY: &str = "libnss_wrapper.so";
/// Where distributions keep it, for the two machines that images are made for.
const FOLDERS: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
];
/// The name of a user that has no other.
const NAME: &str = "syncline";

/// The names of the mover's own user, and how ssh and sshd come to know them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    names: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Accounts {
    /// The accounts of this process. With `wanted`, that is a name of its user, too; without, any name will do.
    pub(crate) fn of_process(wanted: Option<&str>, folder: &PrivateFolder) -> Result<Self, Fault> {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let names = names_of(uid, &passwd);
        let enough = match wanted {
            Some(wanted) => names.iter().any(|name| name == wanted),
            None => !names.is_empty(),
        };
        if enough {
            return Ok(Self {
                names,
                environment: Vec::new(),
            });
        }
        let Some(library) = library() else {
            return Err(incomplete(uid, wanted));
        };
        let name = wanted.unwrap_or(NAME);
        let shell = std::env::current_exe().unwrap_or_default();
        let files = Files::new(name, (uid, gid), &shell, &passwd);
        let mut environment = vec![("LD_PRELOAD", library)];
        for (variable, file, content) in [
            ("NSS_WRAPPER_PASSWD", "passwd", &files.passwd),
            ("NSS_WRAPPER_GROUP", "group", &files.group),
            ("NSS_WRAPPER_SHADOW", "shadow", &files.shadow),
        ] {
            let path = folder.file(file);
            write_private(&path, content.as_bytes()).map_err(|error| {
                Fault::new(
                    reason::POD_INCOMPLETE,
                    format!("{} cannot be written: {error}", path.display()),
                )
            })?;
            environment.push((variable, path));
        }
        Ok(Self {
            names: names_of(uid, &files.passwd),
            environment,
        })
    }

    /// The names of the mover's own user.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Variables for ssh and sshd; none where the pod's own files will do.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.environment
            .iter()
            .map(|(name, value)| (*name, value.as_path()))
    }
}

fn library() -> Option<PathBuf> {
    FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(LIBRARY))
        .find(|path| path.exists())
}

fn incomplete(uid: u32, wanted: Option<&str>) -> Fault {
    let entry = wanted.map_or_else(String::new, |name| format!(" by the name `{name}`"));
    Fault::new(
        reason::POD_INCOMPLETE,
        format!(
            "ssh needs an entry in /etc/passwd for uid {uid}{entry}, which this pod runs as, or {LIBRARY} in the image; \
             use Syncline's image, or add one of them"
        ),
    )
}

/// The login names of a uid.
fn names_of(uid: u32, passwd: &str) -> Vec<String> {
    passwd
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let number: u32 = fields.nth(1)?.parse().ok()?;
            let is_plain = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
            (number == uid && is_plain && !name.is_empty()).then(|| name.to_owned())
        })
        .collect()
}

/// What is read instead of the pod's own files.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    passwd: String,
    group: String,
    shadow: String,
}

impl Files {
    /// The name as a user of `uid` and `gid`, and what the pod's own `passwd` says of other names.
    fn new(name: &str, (uid, gid): (u32, u32), shell: &Path, passwd: &str) -> Self {
        let own = format!("{name}:x:{uid}:{gid}:{name}:/tmp:{}", shell.display());
        let others = passwd
            .lines()
            .filter(|line| line.contains(':') && line.split(':').next() != Some(name));
        let mut files = Self {
            passwd: String::new(),
            group: format!("{name}:x:{gid}:\n"),
            shadow: String::new(),
        };
        for line in [own.as_str()].into_iter().chain(others) {
            let name = line.split(':').next().unwrap_or_default();
            // Writing to a String cannot fail. `*` is what sshd does not take for a locked account.
            let _ = writeln!(files.passwd, "{line}");
            let _ = writeln!(files.shadow, "{name}:*:19000:0:99999:7:::");
        }
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_own_user_are_let_in() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nbroken\n";
        assert_eq!(names_of(0, accounts), ["root", "toor"]);
        assert_eq!(names_of(1000, accounts), ["alice"]);
        assert!(names_of(7, accounts).is_empty());
    }

    #[test]
    fn the_name_is_the_pods_own_user_whoever_bore_it_before() {
        let known =
            "root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n";
        let files = Files::new("root", (1234, 5678), Path::new("/syncline"), known);
        assert_eq!(
            files.passwd,
            "root:x:1234:5678:root:/tmp:/syncline\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
        );
        assert_eq!(files.shadow.lines().count(), 2);
        assert_eq!(files.group, "root:x:5678:\n");
        assert_eq!(names_of(1234, &files.passwd), ["root"]);
    }
}
