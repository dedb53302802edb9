//! A cluster in its folder: what is written down about it, and how it is now.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::config::CONTAINERD;
use crate::control::{self, Kind, Request, State};
use crate::parts::{Part, Setup};
use crate::place::Place;
use crate::programs::Programs;
use crate::shell;

/// How long a part may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);
const END: Duration = Duration::from_secs(10);
/// How often a process may end by itself: controllers do until the API server answers.
const HOPELESS: u32 = 5;
/// How much of a log explains an end.
const LOG_LINES: usize = 8;

/// Kept in the cluster's folder.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    node: Ipv4Addr,
    programs: PathBuf,
}

/// A cluster that has been started.
pub(crate) struct Cluster {
    pub(crate) setup: Setup,
}

impl Cluster {
    pub(crate) fn write(setup: Setup) -> Result<Self> {
        let record = Record {
            node: setup.node,
            programs: setup.programs.folder.clone(),
        };
        let path = setup.place.file("setup.json");
        fs::write(&path, serde_json::to_vec(&record)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { setup })
    }

    /// The cluster in this folder, if its first process lives.
    pub(crate) fn running(place: &Place) -> Result<Self> {
        control::ask(&place.folder, &Request::List)?;
        let record = fs::read(place.file("setup.json")).context("the cluster is half made")?;
        let record: Record = serde_json::from_slice(&record)?;
        Ok(Self {
            setup: Setup {
                place: place.clone(),
                programs: Programs {
                    folder: record.programs,
                },
                node: record.node,
            },
        })
    }

    /// The first process, as the host numbers it.
    pub(crate) fn first_process(&self) -> Result<String> {
        fs::read_to_string(self.setup.place.file("init"))
            .context("the cluster is half made: run `test-cluster up`")
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = self.setup.programs.command("kubectl");
        command
            .env("KUBECONFIG", self.setup.place.kubeconfig())
            .args(arguments);
        command
    }

    /// A program that runs in the cluster's namespaces, to be named by the first argument.
    pub(crate) fn inside(&self) -> Result<Command> {
        let path = std::env::var("PATH").unwrap_or_default();
        let programs = self.setup.programs.folder.display();
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.first_process()?])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"])
            .env("PATH", format!("{programs}:{path}"))
            .env("KUBECONFIG", self.setup.place.kubeconfig());
        Ok(command)
    }

    /// The image tool, from the host.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> Result<Command> {
        let socket = format!("/proc/{}/root{CONTAINERD}", self.first_process()?);
        let mut command = self.setup.programs.command("ctr");
        command.args(["--address", &socket, "--namespace", "k8s.io"]);
        command.args(arguments);
        Ok(command)
    }

    pub(crate) fn processes(&self) -> Result<BTreeMap<String, State>> {
        self.ask(&Request::List)
    }

    fn ask(&self, request: &Request) -> Result<BTreeMap<String, State>> {
        control::ask(&self.setup.place.folder, request)
    }

    /// Starts what does not run of a part.
    pub(crate) fn start(&self, part: Part) -> Result<()> {
        for process in self.setup.processes(part)? {
            self.ask(&Request::Start(process))?;
        }
        Ok(())
    }

    /// Stops a part and waits for its end.
    pub(crate) fn stop(&self, part: Part) -> Result<()> {
        for name in part.processes() {
            self.signal(name, Kind::Stop)?;
            // A paused process hears it only then.
            self.signal(name, Kind::Resume)?;
        }
        for name in part.processes() {
            let ended = || Ok((!self.is_running(name)?).then_some(()));
            if shell::wait_for(name, GRACE, ended).is_err() {
                self.signal(name, Kind::Kill)?;
                shell::wait_for(&format!("the end of {name}"), END, ended)?;
            }
        }
        Ok(())
    }

    pub(crate) fn signal_part(&self, part: Part, signal: Kind) -> Result<()> {
        for name in part.processes() {
            self.signal(name, signal)?;
        }
        Ok(())
    }

    fn signal(&self, name: &str, signal: Kind) -> Result<()> {
        let name = name.to_owned();
        self.ask(&Request::Signal { name, signal }).map(drop)
    }

    pub(crate) fn is_running(&self, name: &str) -> Result<bool> {
        Ok(self.processes()?.get(name) == Some(&State::Running))
    }

    /// Waits for something while all processes live.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let start = std::time::Instant::now();
        let outcome = shell::wait_for(what, limit, || {
            let dead = self.dead()?;
            if dead.is_some() {
                return Ok(Some(Err(dead)));
            }
            let seen = look();
            // Rather the reason than a wait to the end.
            Ok(seen?.map(Ok))
        });
        match outcome {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(dead)) => bail!("{}", dead.unwrap_or_default()),
            Err(error) => Err(error).with_context(|| {
                format!(
                    "after {:.0} s; the logs are in {}",
                    start.elapsed().as_secs_f64(),
                    self.setup.place.file("logs").display()
                )
            }),
        }
    }

    /// Which process ends by itself again and again, and its last words.
    fn dead(&self) -> Result<Option<String>> {
        Ok(self
            .processes()?
            .into_iter()
            .find_map(|(name, state)| match state {
                State::Ended(how, times) if times >= HOPELESS => Some(format!(
                    "{name} {how}; the end of its log:\n{}",
                    last_lines(&self.setup.place, &name)
                )),
                _ => None,
            }))
    }
}

/// The end of a log.
pub(crate) fn last_lines(place: &Place, process: &str) -> String {
    let log = fs::read(place.log(process)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).into_owned();
    let lines: Vec<&str> = log.lines().collect();
    let skipped = lines.len().saturating_sub(LOG_LINES);
    lines
        .into_iter()
        .skip(skipped)
        .collect::<Vec<_>>()
        .join("\n")
}
