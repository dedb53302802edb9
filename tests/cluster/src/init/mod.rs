//! The first process of the cluster's namespaces: it prepares them, starts what it is told to, and buries what has ended.
//!
//! It knows nothing of Kubernetes. When it ends, the kernel ends all others, and with the last of them go the mounts,
//! the links and the rules.

mod network;
mod table;
mod tree;

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};
use serde::{Deserialize, Serialize};

use self::table::Table;
use crate::cgroups::{Groups, Hierarchy};
use crate::control::{self, Request, State};
use crate::say;

/// Printed when the namespaces are there, and again when they are ready for use.
pub(crate) const BORN: &str = "born";
pub(crate) const READY: &str = "ready";

/// What the first process needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) folder: PathBuf,
    /// The name of its control groups.
    pub(crate) group: String,
    pub(crate) node_name: String,
    /// The node's end of the link, which the host has put into these namespaces.
    pub(crate) link: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) services: String,
    pub(crate) hierarchies: Vec<Hierarchy>,
    pub(crate) volumes: PathBuf,
}

/// After how long a process that ended by itself is started again.
const RESTART: Duration = Duration::from_secs(1);

type Shared = Arc<Mutex<Table>>;

/// Outside the namespaces: joins the cluster's control groups and becomes the program that makes the namespaces.
pub(crate) fn enter(group: &str) -> Result<()> {
    rustix::process::setsid().context("cannot leave the terminal")?;
    Groups::of(group)?.enter(0)?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let error = Command::new("unshare")
        .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"])
        .args(["--fork", "--kill-child", "--mount-proc"])
        .arg(program)
        .args(["init", group])
        .exec();
    Err(error).context("cannot run unshare: install util-linux")
}

/// Inside: runs until it is killed.
pub(crate) fn run(group: &str) -> Result<()> {
    say::answer(BORN);
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    // Whoever started this has died meanwhile.
    ensure!(!line.is_empty(), "nobody told what to do");
    let settings: Settings = serde_json::from_str(&line).context("cannot read the settings")?;
    ensure!(
        settings.group == group,
        "these are another cluster's settings"
    );
    tree::prepare(&settings)?;
    network::prepare(&settings)?;
    rustix::system::sethostname(settings.node_name.as_bytes())?;

    let listener = control::listen(&settings.folder)?;
    let table = Shared::default();
    let served = Arc::clone(&table);
    std::thread::spawn(move || serve(&listener, &served));
    say::answer(READY);
    let _ = std::io::stdout().flush();
    bury(&table)
}

fn locked(table: &Shared) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for every process that ends, also for those whose parents have died.
fn bury(table: &Shared) -> Result<()> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => {
                let again = locked(table).bury(pid, status);
                if let Some(name) = again {
                    let table = Arc::clone(table);
                    std::thread::spawn(move || start_again(&name, &table));
                }
            }
            Ok(None) | Err(Errno::INTR) => {}
            // No child yet.
            Err(Errno::CHILD) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(error).context("cannot wait for processes"),
        }
    }
}

/// As the kubelet or systemd would.
fn start_again(name: &str, table: &Shared) {
    std::thread::sleep(RESTART);
    if let Err(error) = locked(table).start_again(name) {
        say::note(&format!("{name} cannot be started again: {error:#}"));
    }
}

fn serve(listener: &UnixListener, table: &Shared) {
    for stream in listener.incoming().flatten() {
        if let Err(error) = control::serve(&stream, |request| handle(request, table)) {
            say::note(&format!("a request failed: {error:#}"));
        }
    }
}

fn handle(request: Request, table: &Shared) -> Result<BTreeMap<String, State>> {
    // Held while a process is started or told something, so that it is not buried unseen.
    let mut table = locked(table);
    match request {
        Request::Start(process) => table.start(process)?,
        Request::Signal { name, signal } => table.signal(&name, signal)?,
        Request::List => {}
    }
    Ok(table.states())
}
