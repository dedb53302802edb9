//! `up`: a cluster from nothing, or what is missing of one that runs.

use std::fs::{self, File};
use std::io::{BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum as _;

use super::{down, import};
use crate::cgroups::{self, Groups};
use crate::cluster::{Cluster, last_lines};
use crate::config::{self, FIRST_SERVICE, NODE, SERVICES};
use crate::control::{Kind, State};
use crate::init::{BORN, READY, Settings};
use crate::parts::{ETCD, Part, Setup};
use crate::place::Place;
use crate::programs::Programs;
use crate::{pki, say, shell};

/// Sparse: what tests do not write takes no space.
const VOLUMES_SIZE: u64 = 20 << 30;
/// The node's end of the link.
const LINK: &str = "node0";
/// Where the CSI driver's socket lies, in the kubelet's folder.
const CSI_FOLDER: &str = "kubelet/plugins/csi.test.syncline.dev";
const PATIENCE: Duration = Duration::from_secs(120);
const CLUSTER_MANIFEST: &str = include_str!("../../manifests/cluster.yaml");
const CSI_MANIFEST: &str = include_str!("../../manifests/csi.yaml");

pub(crate) fn run(place: &Place, programs: Programs) -> Result<()> {
    let _lock = place.lock()?;
    let cluster = match Cluster::running(place) {
        Ok(cluster) => cluster,
        Err(_) => say::step("namespaces, keys and settings", || {
            down::clean(place)?;
            prepare(place, programs)
        })?,
    };
    wake(&cluster)?;
    start(&cluster)?;
    say::answer(&place.kubeconfig().to_string_lossy());
    Ok(())
}

/// Everything up to the first process.
fn prepare(place: &Place, programs: Programs) -> Result<Cluster> {
    place.make()?;
    let addresses = place.free_addresses()?;
    for name in [
        "volumes",
        "faults.json.d",
        CSI_FOLDER,
        "kubelet/plugins_registry",
    ] {
        fs::create_dir_all(place.file(name))?;
    }
    make_disk(place)?;
    pki::make(place, addresses.node, FIRST_SERVICE)?;
    config::write(place, addresses.node)?;

    let groups = Groups::of(&place.cgroup())?;
    groups.make()?;
    let mut outer = spawn_first(place)?;
    let answers = outer.stdout.take().context("no answers")?;
    let mut answers = BufReader::new(answers);
    expect(place, &mut answers, BORN)?;
    let first = groups
        .processes()
        .into_iter()
        .find(|pid| u32::try_from(*pid) != Ok(outer.id()))
        .context("the first process is not among the cluster's")?;
    groups.join_parts(i64::from(outer.id()))?;
    groups.join_parts(first.into())?;
    groups.share_controllers();
    let first = first.to_string();
    let link = place.link();
    shell::run(&[
        "ip", "link", "add", &link, "type", "veth", "peer", "name", LINK, "netns", &first,
    ])?;
    let host = format!("{}/30", addresses.host);
    shell::run(&["ip", "addr", "add", &host, "dev", &link])?;
    shell::run(&["ip", "link", "set", &link, "up"])?;

    let settings = Settings {
        folder: place.folder.clone(),
        group: place.cgroup(),
        node_name: NODE.to_owned(),
        link: LINK.to_owned(),
        address: addresses.node,
        services: SERVICES.to_owned(),
        hierarchies: cgroups::hierarchies()?,
        volumes: place.file("volumes"),
    };
    let mut orders = outer.stdin.take().context("no orders")?;
    writeln!(orders, "{}", serde_json::to_string(&settings)?)?;
    expect(place, &mut answers, READY)?;
    fs::write(place.file("init"), first)?;
    Cluster::write(Setup {
        place: place.clone(),
        programs,
        node: addresses.node,
    })
}

fn spawn_first(place: &Place) -> Result<Child> {
    let log = File::create(place.log("init")).context("cannot write a log")?;
    Command::new(std::env::current_exe()?)
        .args(["enter", &place.cgroup()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("cannot start the first process")
}

fn expect(place: &Place, answers: &mut impl std::io::BufRead, word: &str) -> Result<()> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    ensure!(
        line.trim() == word,
        "the first process has failed: {}",
        last_lines(place, "init")
    );
    Ok(())
}

/// A file with btrfs in it, if this machine can make one.
fn make_disk(place: &Place) -> Result<()> {
    let path = place.file("volumes.btrfs");
    File::create(&path)?.set_len(VOLUMES_SIZE)?;
    if let Err(error) = shell::run(&["mkfs.btrfs", "--quiet", "--force", &path.to_string_lossy()]) {
        say::note(&format!("volumes are full copies here: {error:#}"));
        fs::remove_file(&path)?;
    }
    Ok(())
}

/// What a test has paused or stopped runs again.
fn wake(cluster: &Cluster) -> Result<()> {
    for part in Part::value_variants() {
        cluster.signal_part(*part, Kind::Resume)?;
    }
    let states = cluster.processes()?;
    for part in Part::value_variants() {
        let ended = |name: &&str| matches!(states.get(*name), Some(State::Ended(..)));
        if part.processes().iter().any(ended) {
            cluster.start(*part)?;
        }
    }
    Ok(())
}

fn start(cluster: &Cluster) -> Result<()> {
    say::step("etcd, API server and containerd", || {
        cluster.start(Part::Etcd)?;
        cluster.start(Part::Containerd)?;
        cluster.wait_for("etcd", PATIENCE, || give_etcd_a_past(cluster).map(Some))?;
        cluster.start(Part::Apiserver)?;
        cluster.wait_for("the API server", PATIENCE, || {
            let ready = cluster
                .kubectl(&["get", "--raw=/readyz", "--request-timeout=2s"])
                .output()?;
            if ready.status.success() {
                return Ok(Some(()));
            }
            bail!(
                "{}",
                String::from_utf8_lossy(&ready.stderr).trim().to_owned()
            )
        })
    })?;
    say::step("controllers, kubelet, network and names", || {
        for part in [Part::ControllerManager, Part::Scheduler, Part::Proxy] {
            cluster.start(part)?;
        }
        apply(cluster, CLUSTER_MANIFEST)?;
        import::pause(cluster)?;
        cluster.start(Part::Kubelet)?;
        cluster.start(Part::Dns)
    })?;
    say::step("storage", || storage(cluster))?;
    say::step("node ready", || ready(cluster))
}

/// Revisions from before the API server. Its caches else begin with the first one, and answer with it long after etcd has
/// forgotten that.
fn give_etcd_a_past(cluster: &Cluster) -> Result<()> {
    let put = format!("{ETCD}/v3/kv/put");
    // The key is `past`.
    for value in ["MQ==", "Mg==", "Mw=="] {
        let pair = format!(r#"{{"key": "cGFzdA==", "value": "{value}"}}"#);
        let mut curl = cluster.inside()?;
        shell::output(curl.args([
            "curl",
            "--silent",
            "--show-error",
            "--fail",
            "--data",
            &pair,
            &put,
        ]))?;
    }
    Ok(())
}

fn storage(cluster: &Cluster) -> Result<()> {
    let crds = cluster.setup.programs.snapshot_crds()?;
    let crds = crds.to_string_lossy();
    shell::output(&mut cluster.kubectl(&["apply", "--server-side", "--filename", &crds]))?;
    shell::output(&mut cluster.kubectl(&[
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "--filename",
        &crds,
    ]))?;
    cluster.start(Part::Csi)?;
    cluster.wait_for("the classes", PATIENCE, || {
        apply(cluster, CSI_MANIFEST).map(Some)
    })
}

pub(super) fn apply(cluster: &Cluster, manifest: &str) -> Result<()> {
    let mut child = cluster
        .kubectl(&["apply", "--server-side", "--filename", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run kubectl")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(manifest.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Pods can be started with volumes, in every namespace.
fn ready(cluster: &Cluster) -> Result<()> {
    let condition = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
    let looks: [(&str, Vec<&str>, &str); 4] = [
        (
            "the node",
            vec!["get", "node", NODE, "--output", condition],
            "True",
        ),
        (
            "the node's taints to go",
            vec!["get", "node", NODE, "--output=jsonpath=none{.spec.taints}"],
            "none",
        ),
        (
            "the default service account",
            vec![
                "get",
                "serviceaccount",
                "default",
                "--namespace=default",
                "--output=name",
            ],
            "serviceaccount/default",
        ),
        (
            "the CSI driver on the node",
            vec![
                "get",
                "csinode",
                NODE,
                "--output=jsonpath={.spec.drivers[*].name}",
            ],
            "csi.test.syncline.dev",
        ),
    ];
    for (what, arguments, wanted) in looks {
        if what.contains("CSI") && !cluster.is_running("csi-driver")? {
            say::note(
                "no CSI driver: build it (cargo build -p syncline-csi-driver), then `up` again",
            );
            continue;
        }
        cluster.wait_for(what, PATIENCE, || {
            let said = shell::output(&mut cluster.kubectl(&arguments))?;
            Ok((said.trim() == wanted).then_some(()))
        })?;
    }
    Ok(())
}
