//! SFTP: OpenSSH's sshd with its internal-sftp, one process a connection, on no port of its own.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::super::door::Way;
use super::{Login, Server, folder, said};

/// Where sshd is.
const SSHD: &str = "/usr/sbin/sshd";
/// As root, sshd wants a folder that the machine may lack, and an account of root that is not locked; it sees its own.
const AS_ROOT: &str = "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && \
                       mount --bind \"$0/shadow\" /etc/shadow && exec \"$@\"";

pub(super) fn prepare() -> Result<Server> {
    let folder = folder()?;
    let home = folder.path();
    for name in ["host", "user", "another"] {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]);
        said(command.arg(home.join(name))).context("openssh-client is needed")?;
    }
    let data = home.join("data");
    fs::create_dir(&data)?;
    let user = said(Command::new("id").arg("-un"))?;
    let config = format!(
        "HostKey {host}\nAuthorizedKeysFile {authorized}\nStrictModes no\nUsePAM no\nPidFile none\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
         Subsystem sftp internal-sftp\nForceCommand internal-sftp -d {data}\nMaxSessions 100\n",
        host = home.join("host").display(),
        authorized = home.join("user.pub").display(),
        data = data.display(),
    );
    fs::write(home.join("config"), config)?;
    let shadow = home.join("shadow");
    fs::write(&shadow, "root:*:20000::::::\n")?;
    fs::set_permissions(&shadow, Permissions::from_mode(0o600))?;
    Ok(Server {
        way: Way::Program(line(home)),
        login: Login::Sftp {
            key: one_line(&home.join("user"))?,
            wrong: one_line(&home.join("another"))?,
            user,
        },
        _process: None,
        _folder: folder,
    })
}

/// sshd for the connection that it finds at its standard input.
fn line(home: &Path) -> Vec<OsString> {
    let mut line: Vec<OsString> = Vec::new();
    if rustix::process::geteuid().is_root() {
        line.extend(["unshare", "--mount", "sh", "-c", AS_ROOT].map(OsString::from));
        line.push(home.into());
    }
    line.extend([SSHD, "-i", "-f"].map(OsString::from));
    line.push(home.join("config").into());
    line
}

/// A key as `key_pem` has it.
fn one_line(path: &Path) -> Result<String> {
    Ok(fs::read_to_string(path)?.trim().replace('\n', "\\n"))
}
