//! The sending end: connect, send, have it confirmed; try again while that can help.
//!
//! Invariant: success means that rsync ended with 0 *and* that the destination acknowledged `shutdown 0`.
//! Invariant: nothing is deleted at the destination on behalf of a source that cannot be read, or is empty and was not
//! known to be before, unless that was allowed.

mod device;
mod transfer;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use syncline_api::labels;
use syncline_api::report::{Progress, Report, Role, reason as api_reason};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::console::Console;
use crate::fs::{Census, census, has_nothing};
use crate::programs;
use crate::report::{Fault, failed, reason};
use crate::rsync::keys::PrivateFolder;
use crate::rsync::outcome::{self, Next, Setback};
use crate::rsync::preservation;
use crate::rsync::progress::{Totals, signed};
use crate::rsync::settings::{Compress, SourceSettings};
use crate::rsync::ssh::Client;
use crate::supervise::told_to_stop;
use crate::tree::entries_in_words;
use crate::tries::Tries;
use transfer::{Ask, Transfer};

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// A peer that answers faster is near: there, compressing costs more than it saves (measured: 1 GiB takes 3.5 s with
/// `-z` and 2.5 s without on a fast link).
const NEAR: Duration = Duration::from_millis(3);

/// How long the destination may take to bring its volume to disk.
const CONFIRMATION_LIMIT: Duration = Duration::from_secs(3600);

/// Sends the volume. The report is that of a success, or of a failure with what is known about the source all the same.
pub(crate) async fn run(settings: &SourceSettings, console: &Console) -> Result<Report, Fault> {
    let started = Instant::now();
    guard_against_emptiness(settings).await?;
    let rsync = programs::find("rsync")?;
    let folder = PrivateFolder::make(&settings.places.scratch)?;
    let client = Client::prepare(settings, &folder)?;
    let counted = Arc::new(OnceLock::new());
    let counting = tokio::task::spawn_blocking({
        let (counted, data) = (Arc::clone(&counted), settings.places.data.clone());
        move || census(&data).map(|census| *counted.get_or_init(|| census))
    });
    let source = Source {
        settings,
        console,
        client: &client,
        rsync: &rsync,
        counted: &counted,
        unpreserved: RefCell::default(),
    };
    let (attempts, outcome) = tokio::select! {
        outcome = source.send_until_confirmed() => outcome,
        signal = told_to_stop() => return Err(Fault::new(
            reason::INTERRUPTED,
            format!("the source was told to stop by {signal} before it was done; the next run goes on from here"),
        )),
    };
    let mut report = match outcome {
        Ok(totals) => {
            let census = counting.await.ok().and_then(Result::ok);
            source.finish(totals, census, started.elapsed())
        }
        Err(fault) => {
            console.say(&format!("{}: {}", fault.reason, fault.message));
            failed("rsync", Role::Source, &fault)
        }
    };
    report.attempts = i32::try_from(attempts).ok();
    Ok(report)
}

struct Source<'a> {
    settings: &'a SourceSettings,
    console: &'a Console,
    client: &'a Client,
    rsync: &'a PathBuf,
    counted: &'a OnceLock<Census>,
    /// What the destination says that it could not preserve.
    unpreserved: RefCell<Vec<String>>,
}

impl Source<'_> {
    /// Tries as often as it makes sense. Gives the number of tries and how the last one ended.
    async fn send_until_confirmed(&self) -> (u32, Result<Totals, Fault>) {
        let mut tries = Tries::new(self.settings.wait_unit);
        let mut ask = Ask::EVERYTHING;
        loop {
            let setback = match self.try_once(ask).await {
                Ok(totals) => return (tries.made() + 1, Ok(totals)),
                Err(setback) => setback,
            };
            let less = match setback.next {
                Next::AskLess(less) => ask.less(less),
                _ => None,
            };
            if let Some(less) = less {
                ask = less;
                self.say_again(&setback, &format!("asking for less: {}", ask.describe()));
                continue;
            }
            let Some(wait) = tries.wait_after(setback.next.again()) else {
                return (tries.made(), Err(setback.fault));
            };
            self.say_again(&setback, &format!("next try in {} s", wait.as_secs()));
            tokio::time::sleep(wait).await;
        }
    }

    fn say_again(&self, setback: &Setback, then: &str) {
        self.console.say(&format!(
            "{}: {}; {then}",
            setback.fault.reason, setback.fault.message
        ));
    }

    async fn try_once(&self, ask: Ask) -> Result<Totals, Setback> {
        // A volume may go away between two tries.
        let may_delete = guard_against_emptiness(self.settings).await?;
        let answered_in = self.knock().await?;
        let compress = match self.settings.compress {
            Compress::Auto => answered_in > NEAR,
            Compress::Always => true,
            Compress::Never => false,
        };
        let connection = self.client.connect(self.console).await?;
        let outcome = async {
            if let Some(device) = &self.settings.places.block {
                let totals = device::send(device, self.client, self.console).await?;
                self.confirm().await?;
                return Ok(totals);
            }
            let transfer = Transfer {
                rsync: self.rsync,
                data: &self.settings.places.data,
                path: &self.settings.path,
                ask,
                compress,
                census: self.counted,
            };
            if !may_delete {
                self.would_delete_nothing(&transfer).await?;
            }
            let totals = transfer.run(self.client, self.console).await?;
            self.confirm().await?;
            self.unpreserved.borrow_mut().extend(ask.lost());
            Ok(totals)
        };
        let outcome = outcome.await;
        connection.close().await;
        outcome
    }

    /// Refuses to send an empty volume of which nothing is known to a destination that holds something.
    async fn would_delete_nothing(&self, transfer: &Transfer<'_>) -> Result<(), Setback> {
        let deletions = transfer.would_delete(self.client, self.console).await?;
        let Some(example) = deletions.example else {
            return Ok(());
        };
        Err(Setback::new(
            api_reason::SOURCE_UNEXPECTEDLY_EMPTY,
            format!(
                "the source volume is empty and no earlier run of this source is known, but the destination {} holds {} \
                 entries (among them `{example}`), of which nothing was touched; check that the right volume is mounted, \
                 or allow it to be emptied once with the annotation {}",
                self.client.peer(),
                deletions.count,
                labels::ALLOW_EMPTY_SOURCE_ONCE
            ),
            Next::GiveUp,
        ))
    }

    /// Finds the peer and measures how fast it answers. A name that nobody knows and a port where nobody listens are
    /// told apart here without reading ssh's words.
    async fn knock(&self) -> Result<Duration, Setback> {
        let peer = self.client.peer();
        let addresses: Vec<_> =
            tokio::net::lookup_host((self.settings.address.as_str(), self.settings.port))
                .await
                .map_err(|error| outcome::unresolvable(peer, &error.to_string()))?
                .collect();
        let started = Instant::now();
        match tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(addresses.as_slice())).await {
            Ok(Ok(_)) => Ok(started.elapsed()),
            Ok(Err(error)) => Err(outcome::unreachable(peer, &error.to_string())),
            Err(_) => Err(outcome::unreachable(peer, "no answer within 30 s")),
        }
    }

    /// Tells the destination that the transfer is complete and waits until it says that the data is safe. VolSync's
    /// destinations say so by their exit code alone.
    async fn confirm(&self) -> Result<(), Setback> {
        let told = tokio::time::timeout(
            CONFIRMATION_LIMIT,
            self.client.run(&["shutdown", "0"], self.console),
        );
        let (code, words, unpreserved) = told.await.map_err(|_| {
            Setback::new(
                reason::NOT_CONFIRMED,
                format!(
                    "{} did not bring its volume to disk within an hour; check its storage",
                    self.client.peer()
                ),
                Next::GiveUp,
            )
        })??;
        if code == Some(0) {
            self.unpreserved.replace(unpreserved);
            Ok(())
        } else {
            Err(outcome::of_confirmation(code, &words, self.client.peer()))
        }
    }

    fn finish(&self, totals: Totals, census: Option<Census>, took: Duration) -> Report {
        let mut report = Report::successful("rsync", Role::Source);
        let entries = totals
            .entries
            .or_else(|| census.map(|census| census.entries));
        report.entries = entries.and_then(signed);
        report.bytes_sent = totals.sent.and_then(signed);
        report.bytes_received = totals.received.and_then(signed);
        report.files_transferred = totals.files_transferred.and_then(signed);
        report.total_bytes = totals.total_size.and_then(signed);
        if self.settings.places.block.is_none() {
            report.unpreserved =
                preservation::merged(preservation::at_source(), self.unpreserved.take());
        }
        let last = Progress {
            phase: Some("Transferred".to_owned()),
            bytes_done: report.total_bytes,
            bytes_total: report.total_bytes,
            files_done: report.entries,
            files_total: report.entries,
        };
        self.console.machine(&last.to_line());
        self.console
            .say(&format!("Rsync completed in {}s", took.as_secs()));
        report
    }
}

/// Refuses a source that cannot be read, or that is empty but for `lost+found` and was not when it was last sent:
/// `--delete` would empty the destination too. Gives whether it may delete there; an empty source of which no last run
/// is known, since it was made anew or is a second one, may not.
async fn guard_against_emptiness(settings: &SourceSettings) -> Result<bool, Fault> {
    let Some(device) = settings.places.block.clone() else {
        return guard_the_tree(settings);
    };
    let (last, allowed) = (settings.last_entries.unwrap_or(0), settings.allow_empty);
    // A device of zeros is read to its end.
    let looked = tokio::task::spawn_blocking(move || {
        device::guard_against_emptiness(&device, last, allowed)
    });
    looked.await.map_err(|error| {
        let message = format!("the source device could not be looked at: {error}; run it again");
        Fault::new(reason::SOURCE_UNREADABLE, message)
    })??;
    Ok(true)
}

fn guard_the_tree(settings: &SourceSettings) -> Result<bool, Fault> {
    let data = &settings.places.data;
    let is_empty = has_nothing(data).map_err(|error| {
        Fault::new(
            reason::SOURCE_UNREADABLE,
            format!(
                "the source volume at {} cannot be read: {error}; check its mount and permissions",
                data.display()
            ),
        )
    })?;
    if !is_empty || settings.allow_empty {
        return Ok(true);
    }
    let last_entries = match settings.last_entries {
        None => return Ok(false),
        Some(0) => return Ok(true),
        Some(entries) => entries_in_words(entries),
    };
    Err(Fault::new(
        api_reason::SOURCE_UNEXPECTEDLY_EMPTY,
        format!(
            "the source volume is empty, but held {last_entries} when it was last sent, so nothing was touched at the \
             destination; check that the right volume is mounted, or allow it once with the annotation {}",
            labels::ALLOW_EMPTY_SOURCE_ONCE
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::LOST_AND_FOUND;
    use std::path::Path;

    fn settings(data: &Path, last_entries: &str, allow: &str) -> SourceSettings {
        let data = data.display().to_string();
        SourceSettings::read(&|name| match name {
            "DESTINATION_ADDRESS" => Some("h".to_owned()),
            "SYNCLINE_DATA_DIR" => Some(data.clone()),
            "LAST_SYNCED_ENTRIES" => Some(last_entries.to_owned()),
            "ALLOW_EMPTY_SOURCE" => Some(allow.to_owned()),
            _ => None,
        })
        .unwrap()
    }

    #[test]
    fn an_empty_source_is_refused_once_it_held_something() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join(LOST_AND_FOUND)).unwrap();
        assert_eq!(guard_the_tree(&settings(data.path(), "0", "")), Ok(true));
        assert_eq!(guard_the_tree(&settings(data.path(), "", "")), Ok(false));
        assert_eq!(guard_the_tree(&settings(data.path(), "", "1")), Ok(true));
        let fault = guard_the_tree(&settings(data.path(), "17", "")).unwrap_err();
        assert_eq!(fault.reason, api_reason::SOURCE_UNEXPECTEDLY_EMPTY);
        assert!(fault.message.contains("17 entries"));
        let fault = guard_the_tree(&settings(data.path(), "1", "")).unwrap_err();
        assert!(fault.message.contains("held 1 entry when"));
        assert_eq!(guard_the_tree(&settings(data.path(), "17", "1")), Ok(true));
        std::fs::write(data.path().join("file"), "").unwrap();
        assert_eq!(guard_the_tree(&settings(data.path(), "17", "")), Ok(true));
    }

    #[test]
    fn a_source_that_is_not_there_is_refused() {
        let fault = guard_the_tree(&settings(Path::new("/nowhere/at/all"), "0", "1")).unwrap_err();
        assert_eq!(fault.reason, reason::SOURCE_UNREADABLE);
    }
}
