//! How this program talks to the first process of a running cluster: a line of JSON each way over a socket in its folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde::{Deserialize, Serialize};

const SOCKET: &str = "control";
const PATIENCE: Duration = Duration::from_secs(20);

/// A process to start in the cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Its output is appended here.
    pub(crate) log: PathBuf,
}

/// What can be asked of the first process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Request {
    /// Starts a process, unless one of that name is running.
    Start(Process),
    /// Sends a signal to a running process.
    Signal { name: String, signal: Kind },
    /// Only tells what there is.
    List,
}

/// The signals in use.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Kind {
    Stop,
    Kill,
    Pause,
    Resume,
}

/// How it is with a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum State {
    Running,
    /// Ended, how, and how often by itself; in that case it is started again.
    Ended(String, u32),
}

/// The answer to each request: all processes ever started, as they are after it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Reply {
    Processes(BTreeMap<String, State>),
    Failed(String),
}

/// A path to the socket that is short enough wherever the folder is: the kernel allows 107 bytes.
fn with_path<T>(folder: &Path, work: impl FnOnce(&Path) -> std::io::Result<T>) -> Result<T> {
    let opened = File::open(folder).with_context(|| {
        format!(
            "no cluster is in {}: start one with `make cluster` or `test-cluster up`",
            folder.display()
        )
    })?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", opened.as_raw_fd());
    work(Path::new(&path)).with_context(|| {
        format!(
            "no cluster answers at {}: start one with `test-cluster up`",
            folder.display()
        )
    })
}

pub(crate) fn listen(folder: &Path) -> Result<UnixListener> {
    // Of a cluster that is gone.
    let _ = std::fs::remove_file(folder.join(SOCKET));
    with_path(folder, |path| UnixListener::bind(path))
}

/// Asks the cluster in a folder.
pub(crate) fn ask(folder: &Path, request: &Request) -> Result<BTreeMap<String, State>> {
    let mut stream = with_path(folder, |path| UnixStream::connect(path))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .context("the cluster's first process does not answer")?;
    match serde_json::from_str(&answer).context("the cluster's first process answers nonsense")? {
        Reply::Processes(all) => Ok(all),
        Reply::Failed(why) => Err(anyhow!(why)),
    }
}

/// Serves one connection.
pub(crate) fn serve(
    stream: &UnixStream,
    handle: impl FnOnce(Request) -> Result<BTreeMap<String, State>>,
) -> Result<()> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let reply = match serde_json::from_str(&line)
        .map_err(anyhow::Error::from)
        .and_then(handle)
    {
        Ok(all) => Reply::Processes(all),
        Err(error) => Reply::Failed(format!("{error:#}")),
    };
    let mut stream = stream;
    let mut answer = serde_json::to_string(&reply)?;
    answer.push('\n');
    stream.write_all(answer.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_long_path_has_a_socket_too() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("long".repeat(40));
        std::fs::create_dir(&deep).unwrap();
        let listener = listen(&deep).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            serve(&stream, |_| {
                Ok(BTreeMap::from([("etcd".to_owned(), State::Running)]))
            })
        });
        let all = ask(&deep, &Request::List).unwrap();
        server.join().unwrap().unwrap();
        assert_eq!(all["etcd"], State::Running);
    }

    #[test]
    fn where_no_cluster_runs_the_cure_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for nothing in [folder.path(), &folder.path().join("nothing")] {
            let error = ask(nothing, &Request::List).unwrap_err();
            assert!(error.to_string().contains("test-cluster up"), "{error}");
        }
    }
}
