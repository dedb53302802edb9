//! Syncs of a volume that did not change, triggered at both ends at once, phase by phase.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{LogParams, Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::floor::{Floor, bound, ready};
use super::stage::{NAME, Stage};
use crate::cluster::{CLAIM, DESTINATION, JOB, Kind, POD, SNAPSHOT, SOURCE};
use crate::figures::{Figures, NOT_COUNTED, entry, head, row, table};
use crate::requests::Requests;
use crate::timeline::{Sighting, Timeline};

/// How long after a sync its cleaning up may take; its writes count as the sync's.
const CLEANED_WITHIN: Duration = Duration::from_secs(5);

/// The phases of all measured syncs.
#[derive(Default)]
pub(super) struct Syncs {
    source: Phases,
    destination: Phases,
    writes: Vec<(usize, usize)>,
}

/// One side's phases.
#[derive(Default)]
struct Phases {
    total: Figures,
    steps: Vec<(&'static str, bool, Figures)>,
    ours: Figures,
}

impl Phases {
    /// Adds one sync: the moments of its steps in order, each with its name and whether the step before it was ours.
    fn add(&mut self, start: Instant, steps: &[(&'static str, bool, Instant)]) {
        let (mut last, mut ours) = (start, Duration::ZERO);
        for (index, &(name, is_ours, at)) in steps.iter().enumerate() {
            let took = at.saturating_duration_since(last);
            last = last.max(at);
            if is_ours {
                ours += took;
            }
            if self.steps.len() <= index {
                self.steps.push((name, is_ours, Figures::default()));
            }
            if let Some((_, _, figures)) = self.steps.get_mut(index) {
                figures.add(took);
            }
        }
        self.total.add(last - start);
        self.ours.add(ours);
    }

    fn show(&self, title: &str) -> Result<()> {
        head(title)?;
        for (name, is_ours, figures) in &self.steps {
            row(
                &format!("{name}{}", if *is_ours { " (ours)" } else { "" }),
                figures,
            )?;
        }
        row("trigger → Successful, all together", &self.total)?;
        row("of which ours", &self.ours)
    }
}

impl Syncs {
    /// Prints the phases beside the floor of the same run.
    pub(super) fn show(&self, floor: &Floor) -> Result<()> {
        self.source.show("A source's sync without a change")?;
        self.destination
            .show("A destination's sync without a change")?;
        table("A source's sync and its parts", &["median"])?;
        let seconds = |value: f64| [format!("{value:.2} s")];
        entry(
            "snapshot + volume + pod, by the cluster alone, one after the other",
            &seconds(floor.of_source()),
        )?;
        entry("trigger → Successful", &seconds(self.source.total.median()))?;
        let most = |of: fn(&(usize, usize)) -> usize| match self.writes.iter().map(of).max() {
            Some(most) => [most.to_string()],
            None => [NOT_COUNTED.to_owned()],
        };
        table("Writes of the operator in one sync", &["at most"])?;
        entry("at the source", &most(|(source, _)| *source))?;
        entry("at the destination", &most(|(_, destination)| *destination))
    }
}

/// Measures as many syncs as asked, after a first one that transfers everything.
pub(super) async fn measure(
    stage: &Stage,
    repeat: usize,
    requests: Option<&Requests>,
) -> Result<Syncs> {
    let kinds = [SNAPSHOT, CLAIM, JOB, POD, SOURCE];
    let at_source = Timeline::begin(&stage.cluster, &stage.source, &kinds);
    let kinds = [SNAPSHOT, CLAIM, JOB, POD, DESTINATION];
    let at_destination = Timeline::begin(&stage.cluster, &stage.destination, &kinds);
    let start = Instant::now();
    stage.relate("first").await?;
    finished(&at_source, SOURCE, start, "first").await?;
    finished(&at_destination, DESTINATION, start, "first").await?;
    let mut syncs = Syncs::default();
    for round in 0..repeat {
        sleep(CLEANED_WITHIN).await;
        let tag = format!("again-{round}");
        let (began, start) = (Timestamp::now(), Instant::now());
        tokio::try_join!(
            trigger(stage, SOURCE, &tag),
            trigger(stage, DESTINATION, &tag)
        )?;
        let (source, destination) = tokio::try_join!(
            source_steps(stage, &at_source, start, &tag),
            destination_steps(stage, &at_destination, start, &tag)
        )?;
        syncs.source.add(start, &source);
        syncs.destination.add(start, &destination);
        if let Some(requests) = requests {
            sleep(CLEANED_WITHIN).await;
            let writes = |namespace| requests.writes(began, Timestamp::now(), Some(namespace));
            syncs
                .writes
                .push((writes(&stage.source)?, writes(&stage.destination)?));
        }
    }
    Ok(syncs)
}

async fn trigger(stage: &Stage, kind: Kind, tag: &str) -> Result<()> {
    let namespace = if kind == SOURCE {
        &stage.source
    } else {
        &stage.destination
    };
    let patch = Patch::Merge(json!({"spec": {"trigger": {"manual": tag}}}));
    stage
        .cluster
        .api(kind, namespace)
        .patch(NAME, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

async fn finished(timeline: &Timeline, kind: Kind, start: Instant, tag: &str) -> Result<Instant> {
    let done =
        |seen: &Sighting| seen.is(kind, NAME) && seen.text("/status/lastManualSync") == Some(tag);
    let seen = timeline
        .first(&format!("{} synchronized", kind.2), start, done)
        .await?;
    anyhow::ensure!(
        seen.text("/status/latestMoverStatus/result") == Some("Successful"),
        "a sync failed: {}",
        seen.object.pointer("/status").cloned().unwrap_or_default()
    );
    Ok(seen.at)
}

type Steps = Vec<(&'static str, bool, Instant)>;

async fn source_steps(
    stage: &Stage,
    timeline: &Timeline,
    start: Instant,
    tag: &str,
) -> Result<Steps> {
    let copy = format!("volsync-{NAME}-src");
    let find = |what: &'static str, kind: Kind, test: fn(&Sighting) -> bool| {
        let copy = copy.clone();
        timeline.first(what, start, move |seen| seen.is(kind, &copy) && test(seen))
    };
    let cut = find("the snapshot", SNAPSHOT, |_| true).await?.at;
    let is_ready = find("the snapshot, ready", SNAPSHOT, ready).await?.at;
    let claim = find("the volume", CLAIM, |_| true).await?.at;
    let is_bound = find("the volume, bound", CLAIM, bound).await?.at;
    let (job, started, ended) = mover(stage, &stage.source, timeline, start).await?;
    let done = finished(timeline, SOURCE, start, tag).await?;
    Ok(vec![
        ("trigger → snapshot asked for", true, cut),
        ("snapshot ready", false, is_ready),
        ("volume asked for", true, claim),
        ("volume bound", false, is_bound),
        ("Job made", true, job),
        ("mover started", false, started),
        ("mover's report in its log", false, ended),
        ("Successful in the status", true, done),
    ])
}

async fn destination_steps(
    stage: &Stage,
    timeline: &Timeline,
    start: Instant,
    tag: &str,
) -> Result<Steps> {
    let known: BTreeSet<String> = timeline
        .all()
        .into_iter()
        .filter(|seen| seen.at < start)
        .map(|seen| seen.name)
        .collect();
    let (job, started, ended) = mover(stage, &stage.destination, timeline, start).await?;
    let image = |seen: &Sighting| seen.kind == SNAPSHOT && !known.contains(&seen.name);
    let cut = timeline.first("the image", start, image).await?.at;
    let is_ready = timeline
        .first("the image, ready", cut, |seen| image(seen) && ready(seen))
        .await?
        .at;
    let done = finished(timeline, DESTINATION, start, tag).await?;
    Ok(vec![
        ("trigger → Job made", true, job),
        ("mover started", false, started),
        ("mover's report in its log", false, ended),
        ("snapshot asked for", true, cut),
        ("snapshot ready", false, is_ready),
        ("Successful in the status", true, done),
    ])
}

/// When a new mover's Job was made, its pod ran, and its last line was written.
async fn mover(
    stage: &Stage,
    namespace: &str,
    timeline: &Timeline,
    start: Instant,
) -> Result<(Instant, Instant, Instant)> {
    let side = if namespace == stage.source {
        "src"
    } else {
        "dst"
    };
    let name = format!("volsync-rsync-{side}-{NAME}");
    let fresh =
        |seen: &Sighting| seen.is(JOB, &name) && seen.object.pointer("/status/succeeded").is_none();
    let job = timeline.first("the Job", start, fresh).await?;
    let uid = job.text("/metadata/uid").unwrap_or_default().to_owned();
    let of_job = |seen: &Sighting| {
        seen.kind == POD
            && seen.text("/metadata/ownerReferences/0/uid") == Some(&uid)
            && matches!(seen.text("/status/phase"), Some("Running" | "Succeeded"))
    };
    let pod = timeline.first("the mover's pod", start, of_job).await?;
    let ended = last_line(stage, namespace, &pod.name)
        .await
        .context("the mover's log")??;
    Ok((job.at, pod.at, ended))
}

/// Follows a log to its end; the moment its last line arrived.
fn last_line(stage: &Stage, namespace: &str, pod: &str) -> JoinHandle<Result<Instant>> {
    let api: Api<Pod> = Api::namespaced(stage.cluster.client.clone(), namespace);
    let pod = pod.to_owned();
    tokio::spawn(async move {
        let parameters = LogParams {
            follow: true,
            ..LogParams::default()
        };
        let mut lines = api.log_stream(&pod, &parameters).await?.lines();
        let mut last = Instant::now();
        while lines.try_next().await?.is_some() {
            last = Instant::now();
        }
        Ok(last)
    })
}
