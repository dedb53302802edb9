//! What the supervisor is asked from outside, over a socket: one line each way.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

use crate::folders::State;
use crate::parts::Name;

/// How long the supervisor may take.
const CAP: Duration = Duration::from_secs(60);

/// Something for the supervisor to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Start(Name),
    Stop(Name),
    Pause(Name),
    Resume(Name),
    /// Stop everything and end.
    End,
}

impl Request {
    /// As it travels.
    fn line(self) -> String {
        match self {
            Self::Start(name) => format!("start {}", name.word()),
            Self::Stop(name) => format!("stop {}", name.word()),
            Self::Pause(name) => format!("pause {}", name.word()),
            Self::Resume(name) => format!("resume {}", name.word()),
            Self::End => "end -".to_owned(),
        }
    }

    /// From a line.
    pub(crate) fn parse(line: &str) -> Result<Self> {
        let (verb, part) = line.trim().split_once(' ').context("not a request")?;
        if verb == "end" {
            return Ok(Self::End);
        }
        let name = Name::from_str(part, false).map_err(|fault| anyhow::anyhow!(fault))?;
        match verb {
            "start" => Ok(Self::Start(name)),
            "stop" => Ok(Self::Stop(name)),
            "pause" => Ok(Self::Pause(name)),
            "resume" => Ok(Self::Resume(name)),
            _ => bail!("{verb:?} is no request"),
        }
    }
}

/// Asks the running cluster and waits for the answer.
pub(crate) fn ask(state: &State, request: Request) -> Result<()> {
    let mut stream = UnixStream::connect(state.socket()).with_context(|| {
        format!(
            "no cluster runs in {}; start it with `make cluster`",
            state.folder().display()
        )
    })?;
    stream.set_read_timeout(Some(CAP))?;
    writeln!(stream, "{}", request.line())?;
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .context("the cluster did not answer")?;
    match answer.trim() {
        "ok" => Ok(()),
        "" => bail!("the cluster ended before it answered"),
        fault => bail!("{fault}"),
    }
}

/// The supervisor's process id on the host, if it lives.
pub(crate) fn supervisor(state: &State) -> Option<i32> {
    let text = fs::read_to_string(state.pid()).ok()?;
    let (pid, start) = text.trim().split_once(' ')?;
    let pid = pid.parse().ok()?;
    (start_time(pid).as_deref() == Some(start)).then_some(pid)
}

/// When a process started, in the kernel's own measure: a process id that is used again has another one.
pub(crate) fn start_time(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

/// A path under which the cluster's own file system is seen from the host.
pub(crate) fn root(state: &State) -> Result<PathBuf> {
    let pid = supervisor(state).context("no cluster runs; start it with `make cluster`")?;
    Ok(PathBuf::from(format!("/proc/{pid}/root")))
}
