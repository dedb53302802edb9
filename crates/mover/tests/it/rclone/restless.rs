//! Sources whose volumes do not keep still.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rstest::rstest;
use syncline_testkit::store::{Fault, Refusal};

use super::cloud::Cloud;
use super::shop::{Kind, Shop};
use super::stage::Stage;

/// Does something to files, a turn each millisecond, until it is dropped.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    /// Writes in place.
    fn of(files: &[PathBuf]) -> Self {
        let open = |path| std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let mut files: Vec<_> = files.iter().map(open).collect();
        Self::doing(move |turn| {
            for file in &mut files {
                let length = file.metadata().unwrap().len();
                let place = turn.wrapping_mul(40_503) % (length - 8);
                file.seek(SeekFrom::Start(place)).unwrap();
                file.write_all(&turn.to_le_bytes()).unwrap();
            }
        })
    }

    /// Makes files that live for less than a tenth of a second: a journal that has one name, a mail that has another each time
    /// and so has the folder that it lies in.
    fn of_short_lived(folder: PathBuf) -> Self {
        let named = move |turn: u64| {
            let mails = folder.join(format!("queue-{turn}"));
            (folder.join("journal"), mails.join("mail"), mails)
        };
        Self::doing(move |turn| {
            let (journal, mail, mails) = named(turn);
            std::fs::create_dir(mails).unwrap();
            std::fs::write(mail, turn.to_string()).unwrap();
            if turn % 2 == 0 {
                std::fs::write(journal, turn.to_string()).unwrap();
            } else {
                std::fs::remove_file(journal).unwrap();
            }
            if let Some((_, mail, mails)) = turn.checked_sub(50).map(&named) {
                std::fs::remove_file(mail).unwrap();
                std::fs::remove_dir(mails).unwrap();
            }
        })
    }

    /// Appends to a log, and gives one of `count` mails, each with its number in it, another name from time to time.
    fn of_mails(folder: PathBuf, count: u64) -> Self {
        /// After so many turns one is renamed.
        const EACH: u64 = 15;
        let named = move |mail: u64, times: u64| folder.join(format!("mail-{mail}-{times}"));
        for mail in 0..count {
            std::fs::write(named(mail, 0), mail.to_string()).unwrap();
        }
        let mut log = std::fs::File::create(named(count, 0)).unwrap();
        Self::doing(move |turn| {
            log.write_all(b"line\n").unwrap();
            let (mail, times) = (turn / EACH % count, turn / EACH / count);
            if turn % EACH == 0 {
                std::fs::rename(named(mail, times), named(mail, times + 1)).unwrap();
            }
        })
    }

    fn doing(mut turn: impl FnMut(u64) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for number in 0_u64.. {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                turn(number);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A file that goes in parts, one that does not, and somebody who writes in both.
fn restless(cloud: &Cloud) -> Writer {
    for (name, value) in [
        ("RCLONE_S3_UPLOAD_CUTOFF", "5M"),
        ("RCLONE_S3_CHUNK_SIZE", "5M"),
    ] {
        std::fs::write(cloud.shop.path("config").join(name), value).unwrap();
    }
    let files = [("database", 12_000_000), ("journal", 1_000_000)];
    let files = files.map(|(name, length)| {
        let path = cloud.shop.src().join(name);
        std::fs::write(&path, vec![b'.'; length]).unwrap();
        path
    });
    std::fs::write(cloud.shop.src().join("still"), "still").unwrap();
    Writer::of(&files)
}

fn has_all(cloud: &Cloud) {
    let size = |name: &str| {
        let found = std::fs::metadata(cloud.shop.dst().join(name));
        found.unwrap().len()
    };
    assert_eq!(
        (size("database"), size("journal"), size("still")),
        (12_000_000, 1_000_000, 5)
    );
}

#[test]
fn files_that_never_keep_still_are_named_and_reach_every_destination() {
    let cloud = Cloud::new();
    let writer = restless(&cloud);
    let source = cloud.shop.source(&[]);
    drop(writer);
    source.succeeded();
    let words = source.report.unpreserved.join("; ");
    assert!(words.contains("2 file(s) that changed"), "{words}");
    cloud.shop.destination(&[]).succeeded();
    has_all(&cloud);
    // Once they keep still they are sent as they are.
    let source = cloud.shop.source(&[]);
    source.succeeded();
    assert_eq!(source.report.unpreserved, [] as [&str; 0]);
    cloud.shop.destination(&[]).succeeded();
    crate::tree::assert_same(&cloud.shop.src(), &cloud.shop.dst());
}

#[test]
fn files_that_go_before_they_can_be_read_hold_up_no_version_and_no_other_file() {
    let cloud = Cloud::new();
    let shop = &cloud.shop;
    super::interleaved::fill(&shop.src());
    shop.source(&[]).succeeded();
    let writer = Writer::of_short_lived(shop.src());
    for round in ["first", "second", "third"] {
        std::fs::write(shop.src().join("still"), round).unwrap();
        shop.source(&[]).succeeded();
        shop.destination(&[]).succeeded();
        let still = std::fs::read_to_string(shop.dst().join("still"));
        assert_eq!(still.unwrap(), round);
    }
    drop(writer);
    shop.source(&[]).succeeded();
    shop.destination(&[]).succeeded();
    crate::tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn no_version_is_complete_without_a_file_that_was_renamed_while_it_was_sent() {
    const MAILS: u64 = 2;
    let cloud = Cloud::new();
    let shop = &cloud.shop;
    let writer = Writer::of_mails(shop.src(), MAILS);
    for _ in 0..3 {
        let source = shop.source(&[]);
        if source.code != Some(0) {
            source.failed("SourceChanging");
            continue;
        }
        shop.destination(&[]).succeeded();
        let files = std::fs::read_dir(shop.dst()).unwrap();
        let arrived: Vec<String> = files
            .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
            .collect();
        for mail in 0..MAILS {
            assert!(arrived.contains(&mail.to_string()), "{mail}: {arrived:?}");
        }
    }
    drop(writer);
    shop.source(&[]).succeeded();
    shop.destination(&[]).succeeded();
    crate::tree::assert_same(&shop.src(), &shop.dst());
}

/// Files are sent three times at most while they change: what happens at the third transfer happens to what nobody has seen.
#[rstest]
#[case::a_new_log_takes_its_place("mv log log.1; echo second >log")]
#[case::its_writer_goes_on("mv log log.1; echo more >>log.1")]
#[case::it_goes_to_another_folder("mv log old/log")]
fn a_log_that_is_rotated_before_it_is_read_is_in_the_version(
    #[case] rotation: &str,
    #[values(false, true)] is_new: bool,
) {
    let shop = Shop::new(Kind::Local);
    std::fs::create_dir(shop.src().join("old")).unwrap();
    if !is_new {
        std::fs::write(shop.src().join("log"), "early\n").unwrap();
        shop.source(&[]).succeeded();
    }
    std::fs::write(shop.src().join("log"), "first\n").unwrap();
    let stage = Stage::at_transfers(
        &shop,
        &format!(
            "cd {}; case $transfer in 1|2) echo line >>log;; 3) {rotation};; esac",
            shop.src().display()
        ),
    );
    let source = shop.source(&[("PATH", &stage.path())]);
    source.succeeded();
    assert!(source.log.contains("was renamed to"), "{}", source.log);
    shop.destination(&[]).succeeded();
    // Under which name does not matter to who reads it.
    let logs =
        ["log", "log.1", "old/log"].map(|name| std::fs::read_to_string(shop.dst().join(name)));
    let mut logs = logs.into_iter().flatten();
    assert!(
        logs.any(|log| log.starts_with("first\nline\n")),
        "{}",
        source.log
    );
    shop.source(&[]).succeeded();
    shop.destination(&[]).succeeded();
    crate::tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn files_that_go_before_they_can_be_read_hold_up_a_source_without_notes_neither() {
    let cloud = Cloud::new();
    let notes = Fault::refuse(Refusal::AccessDenied).at("-syncline");
    cloud.store.misbehave(notes);
    std::fs::write(cloud.shop.src().join("still"), "still").unwrap();
    let writer = Writer::of_short_lived(cloud.shop.src());
    let source = cloud.shop.source(&[]);
    drop(writer);
    source.succeeded();
    // What the permissions name is there: a destination would else take the listing for one that lacks it.
    cloud.shop.destination(&[]).succeeded();
    let still = std::fs::read_to_string(cloud.shop.dst().join("still"));
    assert_eq!(still.unwrap(), "still");
}

#[test]
fn a_source_without_notes_names_files_that_never_keep_still_too() {
    for key in [None, Some("RCLONE_EXCLUDE")] {
        let cloud = Cloud::new();
        let writer = restless(&cloud);
        match key {
            Some(key) => std::fs::write(cloud.shop.path("config").join(key), "*.tmp").unwrap(),
            None => cloud
                .store
                .misbehave(Fault::refuse(Refusal::AccessDenied).at("-syncline")),
        }
        let source = cloud.shop.source(&[]);
        drop(writer);
        source.succeeded();
        let words = source.report.unpreserved.join("; ");
        assert!(
            words.contains("that changed while they were read"),
            "{words}"
        );
        cloud.shop.destination(&[]).succeeded();
        has_all(&cloud);
    }
}
