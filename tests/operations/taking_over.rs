//! Taking over from VolSync's release by the commands of the documentation, as they stand there.
//!
//! VolSync's part is played by a release under VolSync's names: an operator that holds VolSync's lease, definitions that belong to
//! that release as Helm 3 left them, and a role for people that nobody's release has.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use syncline_testkit::cluster::Real;
use syncline_testkit::scenario::{CAP, Stage};
use syncline_testkit::{Site, Who, scenario};
use syncline_tests::parts::{destination, listening, over, text};

use crate::release::{Away, CHART, DEFINITIONS, definition, must_be_the_same};
use crate::system::{System, helm};
use crate::{needs, turn};

const PAGE: &str = include_str!("../../docs/migrating-from-volsync.md");
/// The namespace and the releases that the page speaks of.
const HOME: &str = "volsync-system";
const VOLSYNC: &str = "volsync";
const SYNCLINE: &str = "syncline";
/// The chart, as the page names it.
const CHART_OF_PAGE: &str = "deploy/helm/syncline";
/// A lease that changes hands within a test's patience.
const LEASE: &str = "--set=leaderElection.leaseDuration=15s,leaderElection.renewDeadline=10s,leaderElection.retryPeriod=2s";
/// A role for people as other ways of installation leave it.
const ROLE: &str = "volsync-edit";

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_commands_take_over_from_volsyncs_release() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "takeover", |stage| async move {
        let site = stage.site("west").await?;
        let image = System::of(&stage.cluster).await?.image().await?;
        let release = Away::take(&stage).await?;
        let outcome = async {
            let page = Page::open(&stage, image).await?;
            page.install_volsync()?;
            page.takes_over(&site).await
        }
        .await;
        let cleaned = clean(&stage);
        let back = release.bring_back();
        outcome.and(cleaned).and(back)
    })
    .await
}

/// The page and the cluster that it is tried on.
struct Page<'a> {
    stage: &'a Stage,
    home: Site,
    image: String,
}

impl<'a> Page<'a> {
    /// With VolSync's namespace and nothing in it.
    async fn open(stage: &'a Stage, image: String) -> Result<Self> {
        let labels = json!({"syncline.dev/test": "scenario"});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME, "labels": labels}});
        let home = Site {
            namespace: HOME.to_owned(),
            cluster: stage.cluster.clone(),
            client: stage.cluster.client().await?,
            cap: CAP * 2,
        };
        home.apply(namespace).await?;
        Ok(Self { stage, home, image })
    }

    fn real(&self) -> Result<&Real> {
        self.stage.cluster.real()
    }

    /// The release that plays VolSync's part: the same chart under VolSync's name.
    fn install_volsync(&self) -> Result<()> {
        let chart = self.stage.cluster.scratch().join(VOLSYNC);
        let copied = Command::new("cp")
            .args(["--recursive", "--dereference", CHART])
            .arg(&chart)
            .status()?;
        ensure!(copied.success(), "the chart cannot be copied");
        rename(&chart.join("Chart.yaml"))?;
        let chart = chart.to_str().context("a path that is no text")?;
        let given = ["--set=tenantRoles=false", "--take-ownership"];
        self.helm(
            &[
                &["install", VOLSYNC, chart, "--namespace", HOME][..],
                &given,
            ]
            .concat(),
        )?;
        for name in DEFINITIONS {
            let applied_by_helm = |entry: &Value| {
                text(entry, "/manager") == Some("helm")
                    && text(entry, "/operation") == Some("Apply")
            };
            reassign(self.real()?, name, |entry| {
                let updated = by_operation(entry, "Update");
                Some(if applied_by_helm(entry) {
                    updated
                } else {
                    entry.clone()
                })
            })?;
        }
        let role = ["create", "clusterrole", ROLE, "--verb=get"];
        let of = ["--resource=replicationsources.volsync.backube"];
        self.real()?.kubectl_says(&[&role[..], &of].concat())?;
        Ok(())
    }

    async fn takes_over(&self, site: &Site) -> Result<()> {
        site.apply(destination("copy", json!({}))).await?;
        listening(site, "copy").await?;
        let before = site.get("ReplicationDestination", "copy").await?;
        let plain = [
            "install",
            SYNCLINE,
            CHART,
            "--namespace",
            HOME,
            "--dry-run=server",
        ];
        let refused = self.helm(&plain).err().map(|error| error.to_string());
        ensure!(
            refused
                .as_ref()
                .is_some_and(|words| words.contains("invalid ownership metadata")),
            "what the page warns of does not happen: {refused:?}"
        );

        self.step(1)?;
        ensure!(
            self.holder().await?.starts_with("volsync-"),
            "VolSync lost the lease"
        );
        self.step(2)?;
        self.leads("syncline-").await?;
        self.step(3)?;
        self.step(4)?;
        works(site, "second").await?;
        for name in DEFINITIONS {
            let owner = definition(self.real()?, name)?;
            let owner = owner.pointer("/metadata/annotations/meta.helm.sh~1release-name");
            ensure!(owner == Some(&Value::from(SYNCLINE)), "{name}: {owner:?}");
        }
        self.step(5)?;
        self.leads("volsync-").await?;
        works(site, "third").await?;
        self.has_volsyncs_names().await?;
        self.helm(&["uninstall", SYNCLINE, "--namespace", HOME, "--wait"])?;
        must_be_the_same(&site.get("ReplicationDestination", "copy").await?, &before)
    }

    /// Runs the commands of one of the page's steps.
    fn step(&self, number: usize) -> Result<()> {
        let commands = commands(number)?;
        ensure!(!commands.is_empty(), "step {number} has no commands");
        for command in commands {
            let words: Vec<&str> = command.split_whitespace().collect();
            match words.split_first() {
                Some((&"helm", arguments)) => self.helm(arguments).map(drop),
                Some((&"kubectl", arguments)) => self.real()?.kubectl_says(arguments).map(drop),
                Some((&"syncline", arguments)) => self.syncline(arguments),
                _ => bail!("a program that is not known here"),
            }
            .with_context(|| format!("step {number}: {command}"))?;
        }
        Ok(())
    }

    /// Runs helm; what it installs has the image of the tests, and is awaited.
    fn helm(&self, arguments: &[&str]) -> Result<String> {
        let image = format!("--set=image.image={}", self.image);
        let mut all: Vec<&str> = arguments.to_vec();
        for word in &mut all {
            if *word == CHART_OF_PAGE {
                *word = CHART;
            }
        }
        if all
            .first()
            .is_some_and(|verb| ["install", "upgrade"].contains(verb))
        {
            all.extend([image.as_str(), LEASE, "--timeout=3m"]);
            if !all.contains(&"--dry-run=server") {
                all.push("--wait");
            }
        }
        helm(&self.stage.cluster, &all)
    }

    fn syncline(&self, arguments: &[&str]) -> Result<()> {
        let output = self
            .stage
            .cluster
            .syncline(arguments.iter().copied())
            .output()?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{words}");
        Ok(())
    }

    async fn holder(&self) -> Result<String> {
        let lease = self.home.get("Lease", "b95b3104.backube").await?;
        let holder = text(&lease, "/spec/holderIdentity").unwrap_or_default();
        Ok(holder.to_owned())
    }

    /// Waits until a pod of this name holds the lease.
    async fn leads(&self, pod: &str) -> Result<()> {
        let what = format!("a holder {pod}…");
        let holds = |lease: &Value| {
            let holder = text(lease, "/spec/holderIdentity")?;
            holder.starts_with(pod).then_some(())
        };
        self.home
            .wait("Lease", "b95b3104.backube", &what, holds)
            .await
    }

    async fn has_volsyncs_names(&self) -> Result<()> {
        for (kind, name) in [
            ("Deployment", "volsync"),
            ("Service", "volsync-metrics"),
            ("Role", "volsync-leader-election"),
            ("ClusterRole", "volsync-manager"),
            ("ClusterRole", "volsync-metrics-reader"),
            ("ClusterRole", "volsync-metrics-auth-role"),
            ("ClusterRole", ROLE),
        ] {
            let object = self.home.get(kind, name).await?;
            let label = text(&object, "/metadata/labels/control-plane");
            ensure!(
                label == Some("volsync-controller"),
                "{kind} {name}: {label:?}"
            );
        }
        let gone = self.home.find("Deployment", SYNCLINE).await?;
        ensure!(gone.is_none(), "{gone:?}");
        Ok(())
    }
}

/// Sees that a new resource is answered.
async fn works(site: &Site, name: &str) -> Result<()> {
    site.apply(destination(name, json!({}))).await?;
    listening(site, name).await?;
    Ok(())
}

/// The commands of a step of "Take over": the lines that begin with `$`.
fn commands(step: usize) -> Result<Vec<&'static str>> {
    let (_, section) = PAGE
        .split_once("\n## 2. Take over\n")
        .context("no such section")?;
    let (_, rest) = section
        .split_once(&format!("\n{step}. "))
        .with_context(|| format!("no step {step}"))?;
    let numbered = |line: &&str| line.starts_with(|start: char| !start.is_whitespace());
    let lines = rest.lines().enumerate();
    let lines = lines.take_while(|(at, line)| *at == 0 || !numbered(line));
    Ok(lines
        .filter_map(|(_, line)| line.trim().strip_prefix("$ "))
        .collect())
}

/// Makes a copy of our chart one of VolSync's name.
fn rename(description: &Path) -> Result<()> {
    let ours = std::fs::read_to_string(description)?;
    std::fs::write(
        description,
        ours.replace("name: syncline\n", "name: volsync\n"),
    )?;
    Ok(())
}

fn by_operation(entry: &Value, operation: &str) -> Value {
    over(entry.clone(), json!({"operation": operation}))
}

/// Changes who wrote what in a definition.
fn reassign(real: &Real, name: &str, change: impl Fn(&Value) -> Option<Value>) -> Result<()> {
    let found = definition(real, name)?;
    let entries = found
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    let entries: Vec<Value> = entries.into_iter().flatten().filter_map(change).collect();
    let patch = json!({"metadata": {"managedFields": entries}}).to_string();
    let arguments = [
        "patch",
        "customresourcedefinition",
        name,
        "--type=merge",
        "--patch",
        &patch,
    ];
    real.kubectl_says(&arguments)?;
    Ok(())
}

/// Takes away what the releases here may have left, and leaves the definitions with one owner, as helm made them.
fn clean(stage: &Stage) -> Result<()> {
    let real = stage.cluster.real()?;
    for release in [VOLSYNC, SYNCLINE] {
        let uninstall = [
            "uninstall",
            release,
            "--namespace",
            HOME,
            "--ignore-not-found",
            "--wait",
        ];
        helm(&stage.cluster, &uninstall)?;
    }
    real.kubectl_says(&["delete", "clusterrole", ROLE, "--ignore-not-found"])?;
    real.kubectl_says(&["delete", "namespace", HOME, "--ignore-not-found"])?;
    for name in DEFINITIONS {
        let found = definition(real, name)?;
        let entries = found
            .pointer("/metadata/managedFields")
            .and_then(Value::as_array);
        let of_helm = |entry: &Value, operation| {
            text(entry, "/manager") == Some("helm") && text(entry, "/operation") == Some(operation)
        };
        let applied = entries
            .into_iter()
            .flatten()
            .any(|entry| of_helm(entry, "Apply"));
        reassign(real, name, |entry| {
            if !of_helm(entry, "Update") {
                Some(entry.clone())
            } else if applied {
                None
            } else {
                Some(by_operation(entry, "Apply"))
            }
        })?;
    }
    Ok(())
}
