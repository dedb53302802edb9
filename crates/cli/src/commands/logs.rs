//! `syncline logs`.

use std::borrow::Cow;

use clap::Args;
use futures::{AsyncBufRead, AsyncBufReadExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use syncline_api::report;

use crate::args::Scope;
use crate::commands::status::percent;
use crate::connection::connect;
use crate::failure::{Failure, Kind};
use crate::kinds;
use crate::printer::Printer;
use crate::settings::Target;

/// Show what a pod, or the latest mover of a replication, has printed.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// POD, or KIND/NAME of a replication or a Job
    #[arg(value_name = "POD|KIND/NAME")]
    object: String,
    #[command(flatten)]
    scope: Scope,
    /// Go on showing what is printed
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<i64>,
}

pub(crate) async fn run(
    arguments: &Arguments,
    target: &Target,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let client = connect(target).await?;
    let namespace = arguments
        .scope
        .namespace
        .as_deref()
        .unwrap_or_else(|| client.default_namespace());
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let Some((kind, name)) = arguments.object.split_once('/') else {
        return match show(
            &pods,
            &arguments.object,
            arguments,
            Lines::AsPrinted,
            printer,
        )
        .await
        {
            Err(failure) => {
                let name = &arguments.object;
                let failure = kinds::or_named_elsewhere(&client, "pods", name, failure).await;
                Err(failure.or_hint("`syncline status` lists the replications: write source/NAME or destination/NAME; `syncline get pods -A` lists the pods"))
            }
            Ok(()) => Ok(()),
        };
    };
    let served = kinds::resolve(&client, kind).await?;
    if served.resource.kind == "Pod" {
        return match show(&pods, name, arguments, Lines::AsPrinted, printer).await {
            Err(failure) => Err(kinds::or_elsewhere(&client, &served, name, failure).await),
            Ok(()) => Ok(()),
        };
    }
    let found = served.api(&client, namespace).get(name).await;
    let object = match found.map_err(Failure::from) {
        Err(failure) => return Err(kinds::or_elsewhere(&client, &served, name, failure).await),
        Ok(object) => object,
    };
    if let Some(pod) = latest_pod(
        &client,
        namespace,
        object.metadata.uid.as_deref().unwrap_or_default(),
    )
    .await?
    {
        printer.note(&format!("pod {pod}:"));
        return show(&pods, &pod, arguments, Lines::ForPeople, printer).await;
    }
    let logs = object
        .data
        .pointer("/status/latestMoverStatus/logs")
        .and_then(Value::as_str)
        .filter(|logs| !logs.is_empty());
    let Some(logs) = logs else {
        let failure = Failure::new(format!(
            "{} has no pod now, and no earlier run left a log",
            arguments.object
        ))
        .of_kind(Kind::NotFound);
        return Err(failure.hint(format!(
            "`syncline get {kind} {name} -n {namespace} -o yaml` shows its conditions"
        )));
    };
    printer.note("no pod runs now; this is what the last run left in the status:");
    match last_lines(logs, arguments.tail) {
        "" => Ok(()),
        lines => Ok(printer.line(lines)?),
    }
}

/// The last lines of a text; all of them where no number is given, or a negative one as with kubectl.
fn last_lines(text: &str, tail: Option<i64>) -> &str {
    let Some(wanted) = tail.and_then(|tail| usize::try_from(tail).ok()) else {
        return text;
    };
    let body = text.trim_end_matches('\n');
    let skipped = body.lines().count().saturating_sub(wanted);
    let starts = body.split_inclusive('\n').take(skipped).map(str::len).sum();
    body.get(starts..).unwrap_or_default()
}

/// The newest pod of the newest Job that belongs to the object (or is it).
async fn latest_pod(
    client: &Client,
    namespace: &str,
    owner: &str,
) -> Result<Option<String>, Failure> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let mine = |job: &Job| {
        job.uid().as_deref() == Some(owner)
            || job
                .owner_references()
                .iter()
                .any(|reference| reference.uid == owner)
    };
    let jobs: Vec<String> = jobs
        .list(&ListParams::default())
        .await?
        .into_iter()
        .filter(mine)
        .filter_map(|job| job.uid())
        .collect();
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut pods: Vec<Pod> = pods.list(&ListParams::default()).await?.items;
    pods.retain(|pod| {
        pod.owner_references()
            .iter()
            .any(|reference| jobs.contains(&reference.uid))
    });
    pods.sort_by_key(|pod| pod.creation_timestamp().map(|time| time.0));
    Ok(pods.last().map(ResourceExt::name_any))
}

/// How a pod's lines are shown.
#[derive(Clone, Copy)]
enum Lines {
    /// As it comes, also a line without an end, as `kubectl logs` does.
    AsPrinted,
    /// A mover's lines for the operator are left out (its report) or put into words (its progress).
    ForPeople,
}

async fn show(
    pods: &Api<Pod>,
    name: &str,
    arguments: &Arguments,
    lines: Lines,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let parameters = LogParams {
        follow: arguments.follow,
        tail_lines: arguments.tail,
        ..LogParams::default()
    };
    let stream = pods.log_stream(name, &parameters).await?;
    copy(stream, lines, printer).await
}

async fn copy(
    stream: impl AsyncBufRead,
    lines: Lines,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut stream = std::pin::pin!(stream);
    match lines {
        Lines::AsPrinted => loop {
            let piece = stream.fill_buf().await?;
            if piece.is_empty() {
                break;
            }
            printer.raw(piece)?;
            let length = piece.len();
            stream.as_mut().consume(length);
        },
        Lines::ForPeople => {
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).await? > 0 {
                printer.raw(&for_people(&line))?;
                line.clear();
            }
        }
    }
    Ok(())
}

/// A mover's line as people want to read it; empty where it is for the operator alone.
fn for_people(line: &[u8]) -> Cow<'_, [u8]> {
    let text = String::from_utf8_lossy(line);
    if report::parse_report_line(&text).is_some() {
        return Cow::Borrowed(&[]);
    }
    match report::parse_line(&text) {
        Some(progress) => Cow::Owned(format!("{}\n", percent(&progress)).into_bytes()),
        None => Cow::Borrowed(line),
    }
}

#[cfg(test)]
mod tests {
    use syncline_api::report::{Report, Role};
    use syncline_api::status::Progress;

    use super::*;

    #[test]
    fn the_stored_log_is_cut_to_its_last_lines() {
        let text = "one\ntwo\nthree\n";
        assert_eq!(last_lines(text, Some(2)), "two\nthree");
        assert_eq!(last_lines(text, Some(9)), "one\ntwo\nthree");
        assert_eq!(last_lines(text, Some(0)), "");
        assert_eq!(last_lines(text, None), text);
        assert_eq!(last_lines(text, Some(-1)), text);
    }

    #[test]
    fn what_a_mover_prints_for_the_operator_is_left_out_or_put_into_words() {
        let done = Report::successful("rsync", Role::Source).to_line(true);
        assert_eq!(for_people(done.as_bytes()), b"".as_slice());
        let half = Progress {
            phase: Some("Transferring".to_owned()),
            bytes_done: Some(1),
            bytes_total: Some(2),
            ..Progress::default()
        };
        assert_eq!(
            for_people(half.to_line().as_bytes()),
            b"Transferring 50%\n".as_slice()
        );
        for said in ["Rsync completed in 1s\n", "{\"a\": 1}\n", "no end of line"] {
            assert_eq!(for_people(said.as_bytes()), said.as_bytes());
        }
    }
}
