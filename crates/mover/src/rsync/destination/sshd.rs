//! sshd, confined to one key and one command.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use syncline_api::keys as secret;
use tokio::process::{Child, Command};

use crate::fs::write_private;
use crate::programs;
use crate::report::{Fault, reason};
use crate::rsync::accounts::Accounts;
use crate::rsync::cpu;
use crate::rsync::gate;
use crate::rsync::keys::{self, PrivateFolder};
use crate::rsync::settings::{DEFAULT_USER, DestinationSettings};

/// Where sshd, started by root, wants an empty folder for its unprivileged part.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// Writes sshd's keys and configuration to `folder` and starts it. Its log comes on standard error.
pub(super) fn start(
    settings: &DestinationSettings,
    folder: &PrivateFolder,
) -> Result<Child, Fault> {
    let program = programs::find("sshd")?;
    let wanted = settings.user.as_deref().unwrap_or(DEFAULT_USER);
    let accounts = Accounts::of_process(Some(wanted), folder)?;
    if rustix::process::geteuid().is_root() {
        prepare_privilege_separation()?;
    }
    let host_key = keys::private_key(&settings.places.keys, secret::DESTINATION, folder)?;
    let peer = keys::public_key(&settings.places.keys, secret::SOURCE_PUB)?.line();
    let gate = gate_command(folder.path())?;
    let authorized = folder.file("authorized_keys");
    let config = folder.file("sshd_config");
    let text = configuration(
        &host_key,
        &authorized,
        accounts.names(),
        &listen_lines(settings),
    );
    let files = [
        (&authorized, format!("restrict,command=\"{gate}\" {peer}\n")),
        (&config, text),
    ];
    for (path, content) in files {
        write_private(path, content.as_bytes()).map_err(|error| {
            Fault::new(
                reason::POD_INCOMPLETE,
                format!("{} cannot be written: {error}", path.display()),
            )
        })?;
    }
    Command::new(&program)
        .arg("-D")
        .arg("-e")
        .arg("-f")
        .arg(&config)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(accounts.environment())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Fault::new(
                reason::SERVER_FAILED,
                format!("{} cannot be started: {error}", program.display()),
            )
        })
}

/// The forced command, for a place within double quotes of `authorized_keys`.
fn gate_command(folder: &Path) -> Result<String, Fault> {
    let program = std::env::current_exe().map_err(|error| {
        Fault::new(
            reason::POD_INCOMPLETE,
            format!("the mover does not find its own program: {error}"),
        )
    })?;
    gate::forced_command(&program, folder).ok_or_else(|| {
        let (program, folder) = (program.display(), folder.display());
        Fault::new(
            reason::POD_INCOMPLETE,
            format!("the paths {program} and {folder} cannot be quoted; move what has a quote or a backslash in its name"),
        )
    })
}

fn listen_lines(settings: &DestinationSettings) -> String {
    let port = settings.port;
    match settings.listen {
        Some(IpAddr::V6(address)) => format!("ListenAddress [{address}]:{port}"),
        Some(IpAddr::V4(address)) => format!("ListenAddress {address}:{port}"),
        None => format!("ListenAddress 0.0.0.0:{port}\nListenAddress [::]:{port}"),
    }
}

fn configuration(host_key: &Path, authorized: &Path, names: &[String], listen: &str) -> String {
    let ciphers = cpu::server_ciphers(cpu::this_machine_has_aes());
    // StrictModes looks at the folders above authorized_keys, where /tmp is everybody's; the mover's own folder in it
    // is nobody else's (0700), which is what that check is for.
    format!(
        "{listen}
HostKey {}
AuthorizedKeysFile {}
StrictModes no
AllowUsers {}
AuthenticationMethods publickey
PubkeyAuthentication yes
PubkeyAcceptedAlgorithms ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256
PasswordAuthentication no
KbdInteractiveAuthentication no
HostbasedAuthentication no
PermitEmptyPasswords no
PermitRootLogin prohibit-password
UsePAM no
Ciphers {ciphers}
MACs hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512
KexAlgorithms -*sha1
PermitTTY no
PermitUserRC no
PermitUserEnvironment no
PermitTunnel no
PermitOpen none
PermitListen none
AllowAgentForwarding no
AllowTcpForwarding no
AllowStreamLocalForwarding no
DisableForwarding yes
GatewayPorts no
X11Forwarding no
MaxAuthTries 2
MaxSessions 4
MaxStartups 8:50:32
LoginGraceTime 20
ClientAliveInterval 15
ClientAliveCountMax 4
TCPKeepAlive yes
UseDNS no
Compression no
PrintMotd no
PrintLastLog no
Banner none
VersionAddendum none
PidFile none
LogLevel VERBOSE
",
        host_key.display(),
        authorized.display(),
        names.join(" "),
    )
}

fn prepare_privilege_separation() -> Result<(), Fault> {
    match std::fs::create_dir_all(PRIVILEGE_SEPARATION) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::AlreadyExists) => Err(Fault::new(
            reason::POD_INCOMPLETE,
            format!(
                "sshd needs the folder {PRIVILEGE_SEPARATION}, which cannot be made ({error}); add it to the image"
            ),
        )),
        _ => Ok(()),
    }
}

/// The processes that sshd has for its connections.
fn connections(server: &Child) -> Vec<i32> {
    let Some(id) = server.id() else {
        return Vec::new();
    };
    let path = PathBuf::from(format!("/proc/{id}/task/{id}/children"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Waits until every connection is closed, at most `limit`: what was said last must reach the peer.
pub(super) async fn drain(server: &Child, limit: Duration) {
    let drained = async {
        while !connections(server).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Peers that keep an idle connection open lose it.
    let _ = tokio::time::timeout(limit, drained).await;
}

/// Ends sshd and its connections.
pub(super) async fn stop(server: &mut Child) {
    let connections = connections(server);
    crate::supervise::end(server).await;
    for pid in connections
        .into_iter()
        .filter_map(rustix::process::Pid::from_raw)
    {
        // A connection that is gone already needs no signal.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_gives_nothing_but_the_gate() {
        let text = configuration(
            Path::new("/k"),
            Path::new("/a"),
            &["root".to_owned()],
            "ListenAddress 127.0.0.9:8022",
        );
        assert!(text.starts_with("ListenAddress 127.0.0.9:8022\n"));
        for line in [
            "PermitTTY no",
            "DisableForwarding yes",
            "AuthenticationMethods publickey",
            "UsePAM no",
        ] {
            assert!(text.lines().any(|present| present == line), "{line}");
        }
        assert!(!text.contains("Subsystem") && !text.contains("AcceptEnv"));
    }
}
