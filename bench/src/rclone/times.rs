//! How long runs take: both sides in turns, on the same files and the same server.

use std::time::Duration;

use anyhow::Result;

use super::corpus::Corpus;
use super::process::Cost;
use super::side::{BOTH, Mover, Side, Tools};
use super::store::Store;
use crate::figures::{Figures, entry, table};

/// Runs that change nothing are short, so each round has several.
const UNCHANGED: usize = 3;

/// The figures of one row: VolSync's and ours.
#[derive(Clone, Debug, Default)]
struct Pair([Figures; 2], [Figures; 2]);

impl Pair {
    fn add(&mut self, side: Side, cost: Cost) {
        let place = usize::from(side == Side::Ours);
        for (figures, value) in [(&mut self.0, cost.wall), (&mut self.1, cost.busy)] {
            if let Some(figures) = figures.get_mut(place) {
                figures.add(value);
            }
        }
    }

    fn show(&self, what: &str) -> Result<()> {
        let ([stock, ours], [stock_busy, ours_busy]) = (&self.0, &self.1);
        let times = |figures: &Figures| {
            format!(
                "{:.2} s ({:.2}–{:.2})",
                figures.median(),
                figures.quantile(0.0),
                figures.quantile(1.0)
            )
        };
        let ratio = format!("{:.1}×", stock.median() / ours.median());
        let busy = |figures: &Figures| format!("{:.2} s", figures.median());
        entry(
            what,
            &[
                times(stock),
                times(ours),
                ratio,
                busy(stock_busy),
                busy(ours_busy),
            ],
        )
    }
}

fn head(title: &str) -> Result<()> {
    table(
        title,
        &[
            "VolSync's calls",
            "ours",
            "ratio",
            "processor: VolSync's",
            "ours",
        ],
    )
}

/// Many small files.
#[derive(Debug, Default)]
struct Small {
    first: Pair,
    unchanged: Pair,
    cold: Pair,
    checked: Pair,
    changed: Pair,
    restored: Pair,
}

/// Measures runs on `corpus`, of which `changed` files change, with a store that is so far away, and prints a table.
pub(super) fn small(
    tools: &Tools,
    store: &Store,
    corpus: &mut Corpus,
    (changed, repeat): (usize, usize),
    distance: Duration,
) -> Result<()> {
    let away = match distance {
        Duration::ZERO => None,
        distance => Some(store.away(distance)?),
    };
    let config = away.as_ref().map_or(&store.config, |(_, config)| config);
    let mut rows = Small::default();
    for round in 0..repeat {
        for side in in_turns(round) {
            let bucket = format!("small-{round}-{side:?}").to_lowercase();
            store.make_bucket(&bucket)?;
            let mut mover = Mover::new(tools, side, (config, &bucket), &corpus.root);
            rows.round(side, &mut mover, corpus, changed)?;
            store.drop_bucket(&bucket)?;
        }
    }
    head(&format!(
        "{}; the store is {} ms away",
        corpus.describe(),
        distance.as_millis()
    ))?;
    rows.first.show("first run, the store is empty")?;
    rows.unchanged.show("run without a change")?;
    rows.cold
        .show("run without a change, files' data not in memory (as in a fresh clone)")?;
    rows.checked
        .show("run without a change that compares everything, as each tenth of ours does")?;
    rows.changed.show(&format!("run after {changed} changed"))?;
    rows.restored.show("destination's run into an empty volume")
}

impl Small {
    fn round(
        &mut self,
        side: Side,
        mover: &mut Mover,
        corpus: &mut Corpus,
        changed: usize,
    ) -> Result<()> {
        corpus.recall()?;
        self.first.add(side, mover.send()?);
        corpus.settle()?;
        for _ in 0..UNCHANGED {
            let cost = mover.send()?;
            self.unchanged.add(side, cost);
            // The stock way has but one kind of run.
            if side == Side::Stock {
                self.checked.add(side, cost);
            }
        }
        corpus.forget()?;
        self.cold.add(side, mover.send()?);
        corpus.recall()?;
        if let Some(cost) = mover.send_checked()? {
            self.checked.add(side, cost);
        }
        corpus.change(changed)?;
        self.changed.add(side, mover.send()?);
        corpus.settle()?;
        self.restored.add(side, mover.fetch()?.0);
        Ok(())
    }
}

/// Measures runs on a few big files and prints a table.
pub(super) fn big(tools: &Tools, store: &Store, corpus: &Corpus, repeat: usize) -> Result<()> {
    let (mut first, mut unchanged, mut restored) =
        (Pair::default(), Pair::default(), Pair::default());
    for round in 0..repeat {
        for side in in_turns(round) {
            let bucket = format!("big-{round}-{side:?}").to_lowercase();
            store.make_bucket(&bucket)?;
            let mut mover = Mover::new(tools, side, (&store.config, &bucket), &corpus.root);
            corpus.recall()?;
            first.add(side, mover.send()?);
            corpus.settle()?;
            unchanged.add(side, mover.send()?);
            corpus.settle()?;
            let (cost, volume) = mover.fetch()?;
            restored.add(side, cost);
            // A few inodes cost nobody, and many GiB would.
            std::fs::remove_dir_all(volume)?;
            store.drop_bucket(&bucket)?;
        }
    }
    head(&corpus.describe())?;
    first.show("first run, the store is empty")?;
    unchanged.show("run without a change")?;
    restored.show("destination's run into an empty volume")
}

/// Who goes first changes, so that nobody always finds what the other left behind.
fn in_turns(round: usize) -> [Side; 2] {
    let [first, second] = BOTH;
    if round.is_multiple_of(2) {
        [first, second]
    } else {
        [second, first]
    }
}
