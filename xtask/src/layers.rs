//! `xtask check-layers`: who may know whom, checked over `cargo metadata`.
//!
//! What a crate is built of is checked, which its dev-dependencies are not: tests may reach for whatever they need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

/// The table of the house plan: a room and the rooms of ours that it may use. A room without a row is an error.
const MAY_USE: [(&str, &[&str]); 10] = [
    ("syncline-api", &[]),
    ("syncline-volumes", &[]),
    ("syncline-transfer", &[]),
    ("syncline-syncthing", &[]),
    ("syncline-schedule", &["syncline-api"]),
    (
        "syncline-mover",
        &["syncline-api", "syncline-transfer", "syncline-syncthing"],
    ),
    (
        "syncline-operator",
        &["syncline-api", "syncline-schedule", "syncline-syncthing"],
    ),
    ("syncline-embedded", &["syncline-volumes"]),
    (
        "syncline-devsync",
        &["syncline-syncthing", "syncline-transfer"],
    ),
    ("syncline-cli", EVERY_ROOM),
];

/// What is built into the product, the command line apart.
const EVERY_ROOM: &[&str] = &[
    "syncline-api",
    "syncline-devsync",
    "syncline-embedded",
    "syncline-mover",
    "syncline-operator",
    "syncline-schedule",
    "syncline-syncthing",
    "syncline-transfer",
    "syncline-volumes",
];

/// Crates that are not part of the product and may use anything.
const FREE: [&str; 7] = [
    "syncline-api-table",
    "syncline-bench",
    "syncline-csi-driver",
    "syncline-test-cluster",
    "syncline-testkit",
    "syncline-tests",
    "xtask",
];
const TESTKIT: &str = "syncline-testkit";

/// Foreign crates that a room may not use itself: the mover holds no credentials and talks to no API server.
const NEVER: [(&str, &str, &str); 2] = [
    ("syncline-mover", "kube", "a mover holds no API credentials"),
    (
        "syncline-mover",
        "k8s-openapi",
        "a mover holds no API credentials",
    ),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Absent for what the crate is built of, else `dev` or `build`.
    kind: Option<String>,
    /// Where it is, for the crates of this workspace.
    path: Option<PathBuf>,
}

pub(crate) fn run(root: &Path) -> Result<()> {
    let metadata = metadata(root)?;
    let mut faults: Vec<String> = metadata.packages.iter().flat_map(faults_of).collect();
    for package in &metadata.packages {
        let manifest = fs::read_to_string(&package.manifest_path)
            .with_context(|| format!("{} cannot be read", package.manifest_path.display()))?;
        faults.extend(lints_fault(&package.name, &manifest));
    }
    ensure!(
        faults.is_empty(),
        "the house plan is broken:\n{}",
        faults.join("\n")
    );
    Ok(())
}

/// The crates of this workspace with their own dependencies.
fn metadata(root: &Path) -> Result<Metadata> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo cannot be run")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    serde_json::from_slice(&output.stdout)
        .context("cargo metadata did not answer in the form of version 1")
}

/// What one crate uses against the plan.
fn faults_of(package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    let built_of = || {
        package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
    };
    if FREE.contains(&name) {
        return Vec::new();
    }
    let Some((_, may_use)) = MAY_USE.iter().find(|(room, _)| *room == name) else {
        return vec![format!(
            "{name}: the room has no row in the plan; give it one in xtask/src/layers.rs and an ADR"
        )];
    };
    let mut faults = Vec::new();
    for used in built_of().map(|dependency| dependency.name.as_str()) {
        for (_, _, reason) in NEVER
            .iter()
            .filter(|(room, never, _)| *room == name && *never == used)
        {
            faults.push(format!(
                "{name} -> {used}: {name} never uses {used}, {reason}"
            ));
        }
    }
    for used in built_of()
        .filter(|dependency| dependency.path.is_some())
        .map(|dependency| dependency.name.as_str())
    {
        if used == TESTKIT {
            faults.push(format!(
                "{name} -> {used}: nothing but tests uses {TESTKIT}; make it a dev-dependency"
            ));
        } else if !may_use.contains(&used) {
            let rule = if may_use.is_empty() {
                "no crate of ours".to_owned()
            } else {
                may_use.join(", ")
            };
            faults.push(format!("{name} -> {used}: {name} may use {rule}"));
        }
    }
    faults
}

/// A member has to take over the workspace's lints.
fn lints_fault(name: &str, manifest: &str) -> Option<String> {
    let mut lines = manifest
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "[lints]")
        .skip(1);
    let taken_over = lines
        .by_ref()
        .take_while(|line| !line.starts_with('['))
        .any(|line| line == "workspace = true");
    (!taken_over).then(|| format!("{name}: its Cargo.toml lacks `[lints] workspace = true`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependency = |(name, kind): &(&str, Option<&str>)| Dependency {
            name: (*name).to_owned(),
            kind: kind.map(str::to_owned),
            path: name
                .starts_with("syncline-")
                .then(|| PathBuf::from("/somewhere")),
        };
        Package {
            name: name.to_owned(),
            manifest_path: PathBuf::new(),
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    #[test]
    fn an_edge_that_the_plan_lacks_is_named_with_its_rule() {
        let faults = faults_of(&package(
            "syncline-embedded",
            &[("syncline-api", None), ("syncline-volumes", None)],
        ));
        assert_eq!(
            faults,
            ["syncline-embedded -> syncline-api: syncline-embedded may use syncline-volumes"]
        );
        let faults = faults_of(&package(
            "syncline-api",
            &[("syncline-schedule", Some("build"))],
        ));
        assert_eq!(
            faults,
            ["syncline-api -> syncline-schedule: syncline-api may use no crate of ours"]
        );
    }

    #[test]
    fn a_mover_never_uses_kube_itself() {
        let faults = faults_of(&package(
            "syncline-mover",
            &[("syncline-api", None), ("kube", None)],
        ));
        assert_eq!(
            faults,
            [
                "syncline-mover -> kube: syncline-mover never uses kube, a mover holds no API credentials"
            ]
        );
        assert!(faults_of(&package("syncline-embedded", &[("kube", None)])).is_empty());
    }

    #[test]
    fn only_tests_use_the_testkit() {
        let faults = faults_of(&package("syncline-cli", &[("syncline-testkit", None)]));
        assert!(
            matches!(faults.as_slice(), [fault] if fault.contains("make it a dev-dependency")),
            "{faults:?}"
        );
        assert!(
            faults_of(&package(
                "syncline-cli",
                &[("syncline-testkit", Some("dev"))]
            ))
            .is_empty()
        );
        assert!(faults_of(&package("xtask", &[("syncline-testkit", None)])).is_empty());
    }

    #[test]
    fn a_room_without_a_row_is_a_fault() {
        let faults = faults_of(&package("syncline-attic", &[]));
        assert!(
            matches!(faults.as_slice(), [fault] if fault.starts_with("syncline-attic: the room has no row"))
        );
    }

    #[test]
    fn a_member_without_the_workspaces_lints_is_a_fault() {
        assert_eq!(
            lints_fault("a", "[package]\nname = \"a\"\n[lints]\nworkspace = true\n"),
            None
        );
        assert!(lints_fault("a", "[package]\nname = \"a\"\n").is_some());
        assert!(lints_fault("a", "[lints]\n[dependencies]\nworkspace = true\n").is_some());
    }

    #[test]
    fn the_house_as_it_stands_keeps_to_the_plan() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the workspace");
        run(root).expect("every edge is allowed");
    }
}
