//! `WebDAV`: Apache with its `mod_dav`, as Debian has it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::super::door::Way;
use super::{Login, Server, folder, listening, obscured, said, secret};

/// Debian's package `apache2-bin` has the program without a service that would be started.
const APACHE: &str = "/usr/sbin/apache2";
const MODULES: [&str; 8] = [
    "auth_basic",
    "authn_core",
    "authn_file",
    "authz_core",
    "authz_user",
    "dav",
    "dav_fs",
    "mpm_event",
];
/// Who may come in.
const USER: &str = "store";
/// Who serves the files when the tests run as root, and their group, by number: Apache refuses to do it as root.
const NOBODY: u32 = 65534;

pub(super) async fn start() -> Result<Server> {
    let folder = folder()?;
    let home = folder.path();
    fs::set_permissions(home, Permissions::from_mode(0o755))?;
    for name in ["data", "locks"] {
        let made = home.join(name);
        fs::create_dir(&made)?;
        if rustix::process::geteuid().is_root() {
            chown(&made, Some(NOBODY), Some(NOBODY))?;
        }
    }
    let password = secret();
    let hash = said(Command::new("openssl").args(["passwd", "-apr1", &password]))?;
    fs::write(home.join("users"), format!("{USER}:{hash}\n"))?;
    let address = own_address()?;
    fs::write(
        home.join("config"),
        config(&home.display().to_string(), address)?,
    )?;
    let line = ["-D", "FOREGROUND", "-f"].map(OsString::from);
    let line = [
        vec![APACHE.into()],
        line.into(),
        vec![home.join("config").into()],
    ]
    .concat();
    let way = Way::Address(address);
    let process = listening(&line, home, &[], &way)
        .await
        .context("apache2-bin is needed")?;
    Ok(Server {
        way,
        login: Login::WebDav {
            user: USER.to_owned(),
            password: obscured(&password)?,
            wrong: obscured("not this one")?,
        },
        _process: Some(process),
        _folder: folder,
    })
}

/// Apache does not listen on sockets of files. An address that nobody else has keeps its free port free.
fn own_address() -> Result<SocketAddr> {
    let [one, two, three] = rand::random::<[u8; 3]>();
    let address = Ipv4Addr::new(127, one, two, three | 2);
    Ok(TcpListener::bind((address, 0))?.local_addr()?)
}

fn config(home: &str, address: SocketAddr) -> Result<String> {
    let mut text = String::new();
    for name in MODULES {
        writeln!(
            text,
            "LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
        )?;
    }
    writeln!(
        text,
        "ServerRoot {home}\nServerName localhost\nListen {address}\nPidFile {home}/pid\nErrorLog {home}/log\n\
         DefaultRuntimeDir {home}\nUser nobody\nGroup nogroup\nDavLockDB {home}/locks/db\nDocumentRoot {home}/data\n\
         <Directory {home}/data>\nDav On\nAuthType Basic\nAuthName store\nAuthUserFile {home}/users\n\
         Require valid-user\n</Directory>"
    )?;
    Ok(text)
}
