//! `up`: from nothing to a node that runs pods.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::address::Link;
use crate::command::{note, output, print, run as run_program, wait_until};
use crate::control::{Request, ask, root, start_time, supervisor};
use crate::folders::{State, sources};
use crate::parts::{ALL, Name};
use crate::supervisor::ADDRESS;
use crate::{config, down, image, pki, programs};

const CAP: Duration = Duration::from_secs(90);
/// A file that says that the cluster was ready once.
const READY: &str = "ready";

/// Starts the cluster, unless it runs; prints its kubeconfig.
pub(crate) fn run(state: &State) -> Result<()> {
    if supervisor(state).is_none() || !state.path(READY).exists() {
        // Whatever an earlier attempt left.
        down::run(state)?;
        programs::build()?;
        let begun = Instant::now();
        if let Err(error) = start(state) {
            note("it did not start; the logs end with");
            let _ = show_logs(state);
            let _ = down::run(state);
            return Err(error);
        }
        note(&format!(
            "ready after {:.1} s",
            begun.elapsed().as_secs_f64()
        ));
    }
    print(&state.kubeconfig().display().to_string())
}

fn show_logs(state: &State) -> Result<()> {
    for entry in fs::read_dir(state.path("logs"))?.flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        if entry.file_name() != "audit.log" {
            note(&format!("--- {}", entry.path().display()));
            for line in lines.iter().skip(lines.len().saturating_sub(12)) {
                note(line);
            }
        }
    }
    Ok(())
}

fn start(state: &State) -> Result<()> {
    fs::create_dir_all(state.path("logs"))?;
    let link = Link::choose(state)?;
    fs::write(state.path(ADDRESS), link.node.to_string())?;
    pki::make(&state.path("pki"), link.node)?;
    config::write(state, link.node)?;
    fs::copy(state.path("pki/admin.kubeconfig"), state.kubeconfig())?;
    let pid = supervise(state)?;
    link.lay(pid)?;
    for name in ALL {
        before(state, name)?;
        ask(state, Request::Start(name))?;
    }
    image::import(state, &[image::pause(state)?])?;
    settle(state)?;
    fs::write(state.path(READY), "")?;
    Ok(())
}

/// Starts the first process of new namespaces; its process id as the host sees it.
fn supervise(state: &State) -> Result<i32> {
    let log = File::create(state.path("logs/supervisor.log"))?;
    let child = Command::new("unshare")
        .args([
            "--pid",
            "--fork",
            "--kill-child",
            "--mount",
            "--propagation",
            "private",
        ])
        .args(["--mount-proc", "--net", "--uts", "--ipc", "--"])
        .arg(std::env::current_exe()?)
        .arg("supervise")
        .env("SYNCLINE_CLUSTER_DIR", state.folder())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // It stays when the terminal goes.
        .process_group(0)
        .spawn()
        .context("unshare could not be started")?;
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let first = || -> Result<i32> {
        let text = fs::read_to_string(&children)?;
        text.split_whitespace()
            .next()
            .context("no child yet")?
            .parse()
            .context("a process id")
    };
    wait_until("the supervisor", CAP, || first().map(|_| ()))?;
    let pid = first()?;
    let start = start_time(pid).context("the supervisor ended")?;
    fs::write(state.pid(), format!("{pid} {start}"))?;
    wait_until("the supervisor's socket", CAP, || {
        ensure!(supervisor(state).is_some(), "the supervisor ended");
        ensure!(state.socket().exists(), "no socket");
        Ok(())
    })?;
    Ok(pid)
}

/// What a part has to wait for.
fn before(state: &State, name: Name) -> Result<()> {
    match name {
        Name::ControllerManager => wait_until("the API", CAP, || {
            ensure!(supervisor(state).is_some(), "the cluster ended");
            kubectl(state, &["get", "--raw", "/readyz"]).map(|_| ())
        }),
        Name::Kubelet => {
            let socket = root(state)?.join(config::CONTAINERD.trim_start_matches('/'));
            wait_until("containerd", CAP, || {
                ensure!(socket.exists(), "no socket");
                Ok(())
            })
        }
        Name::Csi => {
            // Its sidecars end when these kinds are not served.
            let folder = programs::snapshot_kinds()?.display().to_string();
            kubectl(state, &["apply", "--server-side", "--filename", &folder])?;
            let established = [
                "wait",
                "--for=condition=Established",
                "--timeout=30s",
                "--filename",
                &folder,
            ];
            kubectl(state, &established).map(|_| ())
        }
        Name::Etcd
        | Name::Apiserver
        | Name::Scheduler
        | Name::Containerd
        | Name::Proxy
        | Name::Dns => Ok(()),
    }
}

/// Waits until pods can run and volumes can be made.
fn settle(state: &State) -> Result<()> {
    let manifests = sources().join("manifests").display().to_string();
    wait_until("the cluster's own objects", CAP, || {
        kubectl(state, &["apply", "--server-side", "--filename", &manifests]).map(|_| ())
    })?;
    wait_until("the node", CAP, || {
        kubectl(
            state,
            &[
                "wait",
                "--for=condition=Ready",
                "--timeout=1s",
                "node",
                "--all",
            ],
        )
        .map(|_| ())
    })?;
    wait_until("the CSI driver", CAP, || {
        let drivers = kubectl(
            state,
            &[
                "get",
                "csinode",
                config::NODE,
                "--output",
                "jsonpath={.spec.drivers[*].name}",
            ],
        )?;
        ensure!(
            drivers.contains("csi.test.syncline.dev"),
            "it is not registered with the kubelet"
        );
        Ok(())
    })?;
    wait_until("the default service account", CAP, || {
        kubectl(state, &["get", "serviceaccount", "default"]).map(|_| ())
    })
}

fn kubectl(state: &State, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(programs::program("kube", "kubectl")?);
    command
        .arg("--kubeconfig")
        .arg(state.kubeconfig())
        .args(arguments);
    output(&mut command)
}

/// Runs a program inside the cluster's namespaces.
pub(crate) fn inside(state: &State, program: &str, arguments: &[&str]) -> Result<String> {
    let pid = supervisor(state).context("no cluster runs; start it with `make cluster`")?;
    let target = format!("--target={pid}");
    let mut all = vec![target.as_str(), "--mount", "--net", "--pid", "--", program];
    all.extend(arguments);
    run_program("nsenter", &all)
}
