//! The ssh client: one connection, pinned to the destination's host key, shared by everything that a run says to it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use syncline_api::keys as secret;
use syncline_api::report::MOST_UNPRESERVED;
use tokio::process::{Child, Command};

use crate::console::Console;
use crate::fs::write_private;
use crate::programs;
use crate::report::{Fault, reason};
use crate::rsync::accounts::Accounts;
use crate::rsync::cpu;
use crate::rsync::keys::{self, PrivateFolder};
use crate::rsync::outcome::{LastWords, Setback, of_connection};
use crate::rsync::preservation;
use crate::rsync::settings::SourceSettings;
use crate::supervise::{each_line, end};

/// The destination's name in ssh's configuration and in its list of known hosts. Address, port and user stand in the
/// configuration only, so that no address ever needs brackets or quotes.
pub(crate) const HOST: &str = "destination";

/// How often the connection's socket is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// ssh's files for one run.
pub(crate) struct Client {
    program: PathBuf,
    config: PathBuf,
    socket: PathBuf,
    accounts: Accounts,
    peer: String,
}

/// An open connection. Commands run through it until it is closed.
pub(crate) struct Connection {
    child: Child,
}

impl Client {
    /// Writes keys and configuration to `folder`.
    pub(crate) fn prepare(
        settings: &SourceSettings,
        folder: &PrivateFolder,
    ) -> Result<Self, Fault> {
        let program = programs::find("ssh")?;
        let identity = keys::private_key(&settings.places.keys, secret::SOURCE, folder)?;
        let host_key = keys::public_key(&settings.places.keys, secret::DESTINATION_PUB)?;
        let known_hosts = folder.file("known_hosts");
        let config = folder.file("ssh_config");
        let socket = folder.file("mux");
        let text = configuration(
            settings,
            host_key.signatures(),
            [&known_hosts, &identity, &socket],
        );
        for (path, content) in [
            (&known_hosts, format!("{HOST} {}\n", host_key.line())),
            (&config, text),
        ] {
            write_private(path, content.as_bytes()).map_err(|error| {
                Fault::new(
                    reason::POD_INCOMPLETE,
                    format!("{} cannot be written: {error}", path.display()),
                )
            })?;
        }
        Ok(Self {
            program,
            config,
            socket,
            accounts: Accounts::of_process(None, folder)?,
            peer: peer(settings),
        })
    }

    /// How the destination is called in messages.
    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// The remote shell for rsync: this client, through the open connection only.
    pub(crate) fn remote_shell(&self) -> String {
        // The paths are this program's own: a system folder and a private folder, without spaces.
        format!(
            "{} -F {} -o ControlMaster=no",
            self.program.display(),
            self.config.display()
        )
    }

    /// What ssh needs in its environment, also where another program starts it.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.accounts.environment()
    }

    /// Connects, authenticates and keeps the connection open.
    pub(crate) async fn connect(&self, console: &Console) -> Result<Connection, Setback> {
        // A socket of a connection that broke is in the new one's way.
        let _ = std::fs::remove_file(&self.socket);
        let mut child = self
            .command()
            .args(["-o", "ControlMaster=yes", "-N", HOST])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.unusable(&error))?;
        let words = Arc::new(Mutex::new(LastWords::default()));
        let listening = child.stderr.take().map(|stream| {
            let (words, console) = (Arc::clone(&words), console.clone());
            tokio::spawn(each_line(stream, move |line| {
                console.relay(line);
                words
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .hear(line);
            }))
        });
        loop {
            tokio::select! {
                _ = child.wait() => {
                    if let Some(listening) = listening {
                        // What ssh said last explains its end.
                        let _ = listening.await;
                    }
                    let words = words.lock().unwrap_or_else(PoisonError::into_inner);
                    return Err(of_connection(&words, &self.peer));
                }
                () = tokio::time::sleep(LOOK) => if self.socket.exists() {
                    return Ok(Connection { child });
                },
            }
        }
    }

    /// Starts `words` at the destination, with pipes to talk to them.
    pub(crate) fn start(&self, words: &[&str]) -> Result<Child, Setback> {
        self.command()
            .args(["-o", "ControlMaster=no", HOST])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.unusable(&error))
    }

    /// Runs `words` at the destination and gives the exit code, what was complained of, and what that end says that it
    /// cannot preserve.
    pub(crate) async fn run(
        &self,
        words: &[&str],
        console: &Console,
    ) -> Result<(Option<i32>, LastWords, Vec<String>), Setback> {
        let mut child = self
            .command()
            .args(["-o", "ControlMaster=no", HOST])
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.unusable(&error))?;
        let mut heard = LastWords::default();
        let mut unpreserved = Vec::new();
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let listen_output = async {
            if let Some(stream) = output {
                each_line(stream, |line| {
                    console.relay(line);
                    let line = crate::console::printable(line);
                    unpreserved.extend(preservation::heard(&line).unwrap_or_default());
                    unpreserved.truncate(MOST_UNPRESERVED);
                })
                .await;
            }
        };
        let listen_errors = async {
            if let Some(stream) = errors {
                each_line(stream, |line| {
                    console.relay(line);
                    heard.hear(line);
                })
                .await;
            }
        };
        tokio::join!(listen_output, listen_errors);
        let status = child.wait().await.map_err(|error| self.unusable(&error))?;
        Ok((status.code(), heard, unpreserved))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("-F")
            .arg(&self.config)
            .env("LC_ALL", "C")
            .envs(self.environment())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    fn unusable(&self, error: &std::io::Error) -> Setback {
        programs::cannot_run(&self.program, error).into()
    }
}

impl Connection {
    /// Closes the connection.
    pub(crate) async fn close(mut self) {
        end(&mut self.child).await;
    }
}

/// ssh's configuration for the one host it may talk to.
fn configuration(
    settings: &SourceSettings,
    signatures: &str,
    [known_hosts, identity, socket]: [&PathBuf; 3],
) -> String {
    format!(
        "Host {HOST}
HostName {}
Port {}
User {}
HostKeyAlias {HOST}
HostKeyAlgorithms {}
StrictHostKeyChecking yes
UserKnownHostsFile {}
GlobalKnownHostsFile /dev/null
UpdateHostKeys no
VerifyHostKeyDNS no
CheckHostIP no
IdentityFile {}
IdentitiesOnly yes
IdentityAgent none
PreferredAuthentications publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
BatchMode yes
ConnectTimeout 30
ConnectionAttempts 1
ServerAliveInterval 30
ServerAliveCountMax 4
TCPKeepAlive yes
ControlPath {}
ControlPersist no
ForwardAgent no
ForwardX11 no
ClearAllForwardings yes
PermitLocalCommand no
EscapeChar none
RequestTTY no
Compression no
Ciphers {}
LogLevel INFO
",
        settings.address.replace('%', "%%"),
        settings.port,
        settings.user,
        signatures,
        known_hosts.display(),
        identity.display(),
        socket.display(),
        cpu::client_ciphers(cpu::this_machine_has_aes()),
    )
}

fn peer(settings: &SourceSettings) -> String {
    if settings.address.contains(':') {
        format!("{}@[{}]:{}", settings.user, settings.address, settings.port)
    } else {
        format!("{}@{}:{}", settings.user, settings.address, settings.port)
    }
}
