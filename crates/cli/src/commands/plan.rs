//! `syncline plan`: what the operator would do, read only.

use clap::{ArgGroup, Args, ValueEnum};
use jiff::Timestamp;
use kube::Client;
use syncline_api::names::Side;
use syncline_operator::kinds::{Key, word_for};
use syncline_operator::options::{MoverImages, Options};
use syncline_operator::preview::{self, Preview, Verdict};

use crate::args::Overview;
use crate::commands::operator::movers;
use crate::connection::{connect, within};
use crate::failure::{Failure, Kind};
use crate::kinds;
use crate::printer::Printer;
use crate::settings::Target;

/// Show what the operator would do with the replications there are, without doing it.
///
/// It reads, validates and plans as the operator does, and writes nothing. What is shown is the next step of each; what
/// follows depends on what the cluster makes of that.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("which").required(true).multiple(true).args(["names", "all", "all_namespaces"])))]
pub(crate) struct Arguments {
    /// Which ones: `source NAME …` or `source/NAME …`; `destination` likewise
    #[arg(value_name = "KIND/NAME")]
    names: Vec<String>,
    /// Every replication
    #[arg(long, conflicts_with = "names")]
    all: bool,
    #[command(flatten)]
    scope: Overview,
    /// How to print it
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Format>,
    /// For an operator that looks after these movers only
    #[arg(long, value_name = "MOVER", value_delimiter = ',')]
    movers: Vec<String>,
    /// The ssh port that is meant where spec.rsync names none [default: 22, on an embedded cluster 2022]
    #[arg(long, value_name = "PORT")]
    rsync_port: Option<u16>,
    /// Image of the mover pods
    #[arg(long, value_name = "IMAGE", env = "SYNCLINE_MOVER_IMAGE")]
    mover_image: Option<String>,
}

/// How replications are named, for who named them otherwise.
const FORMS: &str =
    "write source/NAME or destination/NAME, or --all; `syncline status` lists the replications";

/// A form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A list of objects for programs.
    Json,
}

pub(crate) async fn run(
    arguments: &Arguments,
    target: &Target,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let options = options(arguments, target)?;
    let client = connect(target).await?;
    let scope = arguments.scope.namespace.as_deref();
    let is_all = arguments.names.is_empty();
    let keys = if is_all {
        preview::keys(&client, scope).await.map_err(failure)?
    } else {
        let namespace = scope.unwrap_or_else(|| client.default_namespace());
        named(&arguments.names, namespace)?
    };
    let mut previews = Vec::new();
    for key in &keys {
        match preview::preview(&client, key, &options, now())
            .await
            .map_err(failure)?
        {
            Some(preview) => previews.push(preview),
            // One of all may go while they are read; one that was asked for by name may not.
            None if is_all => {}
            None => return Err(missing(&client, key).await),
        }
    }
    print(arguments, &previews, target, printer)
}

fn options(arguments: &Arguments, target: &Target) -> Result<Options, Failure> {
    let embedded = target.data_folder().is_some();
    let port = if embedded { 2022 } else { 22 };
    Ok(Options {
        images: MoverImages::all(arguments.mover_image.as_deref().unwrap_or("syncline")),
        movers: movers(&arguments.movers)?,
        rsync_port: arguments.rsync_port.unwrap_or(port),
        ..Options::default()
    })
}

/// The present moment; the shell of this command.
fn now() -> Timestamp {
    Timestamp::now()
}

fn failure(error: preview::Error) -> Failure {
    match error {
        preview::Error::List { source, .. } if matches!(*source, kube::Error::Service(_)) => {
            Failure::from(*source)
        }
        error => Failure::from(anyhow::Error::new(error)),
    }
}

/// Reads `source/db`, `ReplicationDestination db` and the like.
fn named(words: &[String], namespace: &str) -> Result<Vec<Key>, Failure> {
    let read = kinds::objects(words)?
        .into_iter()
        .map(|(kind, name)| key(&kind, name, namespace));
    read.collect()
}

fn key(kind: &str, name: Option<String>, namespace: &str) -> Result<Key, Failure> {
    let wrong = |message| Failure::new(message).of_kind(Kind::Usage).hint(FORMS);
    let side = match kinds::without_nickname(&kind.to_lowercase()) {
        "replicationsource" | "replicationsources" => Side::Source,
        "replicationdestination" | "replicationdestinations" => Side::Destination,
        _ => {
            return Err(wrong(format!("{kind:?} is neither source nor destination")));
        }
    };
    let name = name.ok_or_else(|| wrong(format!("which {kind}?")))?;
    Ok(Key {
        side,
        namespace: namespace.to_owned(),
        name,
    })
}

/// One that was asked for by name and is not there.
async fn missing(client: &Client, key: &Key) -> Failure {
    let failure = Failure::new(format!("there is no {key}")).of_kind(Kind::NotFound);
    kinds::or_named_elsewhere(client, word_for(key.side), &key.name, failure).await
}

fn print(
    arguments: &Arguments,
    previews: &[Preview],
    target: &Target,
    printer: &mut Printer,
) -> Result<(), Failure> {
    if arguments.output == Some(Format::Json) {
        let text = serde_json::to_string_pretty(previews).map_err(anyhow::Error::new)?;
        printer.line(&text)?;
        return Ok(());
    }
    if previews.is_empty() {
        let scope = arguments.scope.namespace.as_deref();
        printer.note(&format!(
            "There are no replications{}.",
            within(scope, target)
        ));
        return Ok(());
    }
    printer.columns(&table(previews))?;
    for preview in previews {
        let details = details(preview);
        if !details.is_empty() {
            printer.line("")?;
            printer.line(&format!(
                "{} {}/{}",
                preview.kind, preview.namespace, preview.name
            ))?;
            for line in details {
                printer.line(&format!("  {line}"))?;
            }
        }
    }
    Ok(())
}

fn table(previews: &[Preview]) -> Vec<Vec<String>> {
    let head = ["NAMESPACE", "KIND", "NAME", "MOVER", "NOW", "NEXT"].map(str::to_owned);
    let rows = previews.iter().map(|preview| {
        vec![
            preview.namespace.clone(),
            preview.kind.trim_start_matches("Replication").to_owned(),
            preview.name.clone(),
            preview.mover.unwrap_or("-").to_owned(),
            word(preview.verdict).to_owned(),
            preview
                .next_sync_time
                .map_or_else(|| "-".to_owned(), |time| time.to_string()),
        ]
    });
    std::iter::once(head.to_vec()).chain(rows).collect()
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::LeftAlone => "left alone",
        Verdict::Trouble => "trouble",
        Verdict::Waits => "waits",
        Verdict::Starts => "starts",
        Verdict::GoesOn => "goes on",
        Verdict::FinishesVolSync => "finishes VolSync's run",
    }
}

fn details(preview: &Preview) -> Vec<String> {
    let mut lines = vec![preview.message.clone()];
    lines.extend(preview.advice.clone());
    for (what, objects) in [
        ("would apply", &preview.applies),
        ("would change", &preview.changes),
        ("would delete", &preview.deletes),
    ] {
        if !objects.is_empty() {
            lines.push(format!("{what} {}", objects.join(", ")));
        }
    }
    if preview.writes_status {
        lines.push("would write the status".to_owned());
    }
    lines.retain(|line| !line.is_empty());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview(verdict: Verdict) -> Preview {
        Preview {
            kind: "ReplicationSource",
            namespace: "east".to_owned(),
            name: "db".to_owned(),
            mover: Some("rsync"),
            verdict,
            message: "a run starts at once".to_owned(),
            advice: Some("annotate the namespace".to_owned()),
            next_sync_time: None,
            applies: vec!["Secret/a".to_owned(), "Service/b".to_owned()],
            changes: Vec::new(),
            deletes: Vec::new(),
            writes_status: true,
        }
    }

    #[test]
    fn one_is_named_by_its_side_or_its_kind() {
        let read = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            named(&words, "east").map(|keys| {
                let of = |key: Key| (key.side, key.name);
                keys.into_iter().map(of).collect::<Vec<_>>()
            })
        };
        let db = |side| (side, "db".to_owned());
        assert_eq!(read(&["source/db"]).unwrap(), [db(Side::Source)]);
        assert_eq!(
            read(&["ReplicationDestination/db", "source/db"]).unwrap(),
            [db(Side::Destination), db(Side::Source)]
        );
        assert_eq!(read(&["source", "db"]).unwrap(), [db(Side::Source)]);
        assert_eq!(read(&["sources/db"]).unwrap(), [db(Side::Source)]);
        for wrong in [&["db"][..], &["pvc/db"], &["source"], &["source/"]] {
            assert_eq!(read(wrong).unwrap_err().kind.exit_code(), 2);
        }
    }

    #[test]
    fn the_table_is_followed_by_what_would_be_done() {
        let all = [preview(Verdict::Starts)];
        assert_eq!(
            table(&all)[1],
            ["east", "Source", "db", "rsync", "starts", "-"]
        );
        assert_eq!(
            details(&all[0]),
            [
                "a run starts at once",
                "annotate the namespace",
                "would apply Secret/a, Service/b",
                "would write the status"
            ]
        );
    }
}
