//! What runs ask of the store and read of the volume: counted in a pass of its own, whose times mean nothing.

use std::fs;

use anyhow::Result;
use syncline_testkit::store::{Backend, Kind, ObjectStore, Tls};

use super::corpus::Corpus;
use super::side::{BOTH, Mover, SECTION, Tools};
use crate::figures::{entry, table};

/// The kinds that are shown, and their names.
const KINDS: [(Kind, &str); 9] = [
    (Kind::List, "LIST"),
    (Kind::Head, "HEAD"),
    (Kind::Get, "GET"),
    (Kind::Put, "PUT"),
    (Kind::StartMultipart, "start of parts"),
    (Kind::Part, "part"),
    (Kind::EndMultipart, "end of parts"),
    (Kind::Delete, "DELETE"),
    (Kind::Bucket, "of the bucket"),
];

/// A row: what was done, and what each side asked for.
struct Row {
    what: String,
    asked: Vec<String>,
}

/// Counts what both sides ask for in runs on `corpus`, of which `changed` files change, and prints a table.
pub(super) async fn show(tools: &Tools, corpus: &mut Corpus, changed: usize) -> Result<()> {
    let mut rows: Vec<Row> = [
        "first run".to_owned(),
        "run without a change".to_owned(),
        "read of the volume's files in it".to_owned(),
        format!("run after {changed} changed"),
        "destination's run into an empty volume".to_owned(),
    ]
    .map(|what| Row {
        what,
        asked: Vec::new(),
    })
    .into();
    for side in BOTH {
        // A server of its own for each, behind a door that counts.
        let store = ObjectStore::near(Backend::S3, Tls::Without).await?;
        let config = tools.scratch.join("counted.conf");
        fs::write(&config, store.rclone_conf(SECTION))?;
        let mut mover = Mover::new(tools, side, (&config, store.path()), &corpus.root);
        let asked = tokio::task::block_in_place(|| asked(&store, &mut mover, corpus, changed))?;
        for (row, asked) in rows.iter_mut().zip(asked) {
            row.asked.push(asked);
        }
    }
    table("requests", &["VolSync's calls", "ours"])?;
    for row in rows {
        entry(&row.what, &row.asked)?;
    }
    Ok(())
}

fn asked(
    store: &ObjectStore,
    mover: &mut Mover,
    corpus: &mut Corpus,
    changed: usize,
) -> Result<[String; 5]> {
    let counted = || {
        let text = in_words(store);
        store.forget_requests();
        text
    };
    mover.send()?;
    let first = counted();
    corpus.forget()?;
    let before = corpus.in_memory()?;
    mover.send()?;
    let unchanged = counted();
    let read = match (before, corpus.in_memory()?) {
        (Some(0), Some(after)) => format!("{:.1} MiB", mebibytes(after)),
        (Some(_), _) => "not counted: the file system keeps its files in memory".to_owned(),
        _ => "not counted: fincore (util-linux) is missing".to_owned(),
    };
    corpus.change(changed)?;
    mover.send()?;
    let after_changes = counted();
    mover.fetch()?;
    Ok([first, unchanged, read, after_changes, counted()])
}

fn in_words(store: &ObjectStore) -> String {
    let requests = store.requests();
    let parts = KINDS.map(|(kind, name)| (requests.count(kind), name));
    let shown: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    shown.join(", ")
}

fn mebibytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1024.0
}
