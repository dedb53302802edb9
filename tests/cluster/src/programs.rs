//! The programs of the cluster: built once from pinned Go modules, kept by the hash of what pins them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{note, output, run};
use crate::folders::{cache, sources};

/// The version of Kubernetes, as its programs shall tell it. `kube/go.mod` pins the same.
pub(crate) const KUBERNETES: &str = "v1.36.3";
/// The least version of Go, as (major, minor).
const GO: (u32, u32) = (1, 26);
/// Debian's packages that the node needs.
const PACKAGES: [&str; 8] = [
    "btrfs-progs",
    "conntrack",
    "containernetworking-plugins",
    "iproute2",
    "iptables",
    "nftables",
    "runc",
    "util-linux",
];
/// The modules, those first that take longest.
const MODULES: [&str; 7] = ["kube", "csi", "helm", "coredns", "runtime", "etcd", "pause"];
/// A file that says that a module's folder is complete.
const COMPLETE: &str = ".complete";

/// Where a module's programs lie, built or not.
fn folder(module: &str) -> Result<PathBuf> {
    let source = sources().join(module);
    let mut pins = vec![KUBERNETES.to_owned()];
    for entry in ["go.mod", "go.sum", "main.go"] {
        pins.push(fs::read_to_string(source.join(entry)).unwrap_or_default());
    }
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in pins.join("\n").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    Ok(cache()?.join(format!("{module}-{hash:016x}")))
}

/// Builds what is missing, and installs the packages that are.
pub(crate) fn build() -> Result<()> {
    let ensure_tools = sources().join("../tools/ensure-tools");
    let installed = Command::new(ensure_tools).args(PACKAGES).status()?;
    ensure!(installed.success(), "the node's packages are missing");
    for module in MODULES {
        let folder = folder(module)?;
        if folder.join(COMPLETE).exists() {
            continue;
        }
        check_go()?;
        let start = Instant::now();
        note(&format!("building {module} (once)"));
        build_module(module, &folder)?;
        note(&format!(
            "built {module} in {} s",
            start.elapsed().as_secs()
        ));
    }
    link_tools()
}

fn build_module(module: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let what = if module == "pause" { "." } else { "tool" };
    let version = "k8s.io/component-base/version";
    let (major, minor) = KUBERNETES
        .trim_start_matches('v')
        .split_once('.')
        .unwrap_or_default();
    let minor = minor.split('.').next().unwrap_or_default();
    let flags = format!(
        "-s -w -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
    );
    let flags = if module == "kube" {
        flags.as_str()
    } else {
        "-s -w"
    };
    let built = Command::new("go")
        .args([
            "build",
            "-mod=readonly",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            flags,
            "-o",
        ])
        .arg(format!("{}/", folder.display()))
        .arg(what)
        .current_dir(sources().join(module))
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("go could not be started")?;
    ensure!(built.success(), "tests/cluster/{module} did not build");
    if module == "csi" {
        keep_snapshot_kinds(folder)?;
    }
    fs::write(folder.join(COMPLETE), "")?;
    Ok(())
}

fn check_go() -> Result<()> {
    let cure = format!(
        "The cluster for tests needs Go {}.{} or newer to be built. Cure: install it and put it on the PATH",
        GO.0, GO.1
    );
    let Ok(text) = run("go", &["env", "GOVERSION"]) else {
        bail!("{cure}")
    };
    let mut numbers = text
        .trim()
        .trim_start_matches("go")
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    ensure!(
        version >= GO,
        "{cure} (this is Go {}.{})",
        version.0,
        version.1
    );
    Ok(())
}

/// A program, by its module and name.
pub(crate) fn program(module: &str, name: &str) -> Result<PathBuf> {
    let path = folder(module)?.join(name);
    ensure!(
        path.exists(),
        "{} is not built; run `test-cluster build`",
        path.display()
    );
    Ok(path)
}

/// A program of this workspace, which lies where this one does.
pub(crate) fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name(name);
    ensure!(
        path.exists(),
        "{} is not built; run `cargo build --workspace`",
        path.display()
    );
    Ok(path)
}

/// The folder that has all stock tools side by side.
pub(crate) fn tools() -> Result<PathBuf> {
    Ok(cache()?.join("tools"))
}

fn link_tools() -> Result<()> {
    let tools = tools()?;
    fs::create_dir_all(&tools)?;
    for (module, name) in [
        ("kube", "kubectl"),
        ("helm", "helm"),
        ("csi", "csi-sanity"),
        ("runtime", "ctr"),
        ("etcd", "server"),
        ("kube", "kube-apiserver"),
    ] {
        let shown = if name == "server" { "etcd" } else { name };
        let draft = tools.join(format!(".{shown}.{}", std::process::id()));
        let _ = fs::remove_file(&draft);
        std::os::unix::fs::symlink(folder(module)?.join(name), &draft)?;
        fs::rename(&draft, tools.join(shown))?;
    }
    Ok(())
}

/// The folder with the definitions of the snapshot kinds.
pub(crate) fn snapshot_kinds() -> Result<PathBuf> {
    Ok(folder("csi")?.join("crds"))
}

/// They are part of a module that the snapshotter requires.
fn keep_snapshot_kinds(folder: &Path) -> Result<()> {
    let mut list = Command::new("go");
    list.args([
        "list",
        "-mod=readonly",
        "-m",
        "-f",
        "{{.Dir}}",
        "github.com/kubernetes-csi/external-snapshotter/client/v8",
    ])
    .current_dir(sources().join("csi"))
    .env("GOTOOLCHAIN", "local")
    .env("GOFLAGS", "");
    let source = PathBuf::from(output(&mut list)?.trim()).join("config/crd");
    let target = folder.join("crds");
    fs::create_dir_all(&target)?;
    for entry in fs::read_dir(&source)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snapshot.storage.k8s.io_") {
            fs::write(target.join(&*name), fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
