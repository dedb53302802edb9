//! Through real servers that are not rclone: what they are asked, and what comes of their faults.

use std::path::{Path, PathBuf};

use syncline_testkit::store::{Backend, Fault, Kind, ObjectStore, Refusal, Requests, Tls};

use super::shop::Shop;
use crate::tree;

/// A store of this kind with volumes.
fn shop(runtime: &tokio::runtime::Runtime, backend: Backend) -> (ObjectStore, Shop) {
    let store = runtime
        .block_on(ObjectStore::near(backend, Tls::Without))
        .unwrap();
    let shop = Shop::with(&store.rclone_conf("store"), format!("{}/db", store.path()));
    (store, shop)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn small_files(root: &Path, count: u32) {
    for number in 0..count {
        std::fs::write(root.join(format!("{number:04}")), format!("{number}")).unwrap();
    }
}

/// Requests about the data. How often the marker is looked at beside it depends on time.
fn below(asked: &Requests) -> usize {
    let kinds = [Kind::List, Kind::Head, Kind::Get, Kind::Put, Kind::Delete];
    let beside: usize = kinds
        .map(|kind| asked.count_at(kind, "-syncline/"))
        .iter()
        .sum();
    asked.total() - beside
}

fn there_and_back(backend: Backend) {
    let runtime = runtime();
    let (_store, shop) = shop(&runtime, backend);
    tree::fill(&shop.src());
    if backend == Backend::S3 {
        // In one of its listings moto shows a plus as a blank.
        std::fs::remove_dir_all(shop.src().join("a/lost+found")).unwrap();
    }
    let source = shop.source(&[]);
    source.succeeded();
    assert_eq!(source.report.unpreserved, [] as [&str; 0]);
    let first = source.report.generation.unwrap();
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
    tree::change(&shop.src());
    let source = shop.source(&[("LAST_GENERATION", &first)]);
    source.succeeded();
    assert!(source.report.files_transferred.unwrap() < 10);
    let destination = shop.destination(&[("LAST_GENERATION", &first)]);
    destination.succeeded();
    assert!(destination.report.files_transferred.unwrap() < 10);
    tree::assert_same(&shop.src(), &shop.dst());
    let check = shop.source(&[("RUNS_SINCE_FULL_CHECK", "9")]);
    check.succeeded();
    if backend == Backend::S3 {
        // Where a store has neither hashes nor times a check sends everything, which makes a new version.
        assert_eq!(
            check.report.generation, destination.report.generation,
            "{}",
            check.log
        );
    }
}

#[test]
fn a_volume_arrives_whole_by_s3_and_so_do_its_changes() {
    there_and_back(Backend::S3);
}

#[test]
fn a_volume_arrives_whole_by_webdav_and_so_do_its_changes() {
    there_and_back(Backend::WebDav);
}

#[test]
fn a_file_costs_one_request_when_it_is_sent_and_none_when_it_did_not_change() {
    let runtime = runtime();
    let (store, shop) = shop(&runtime, Backend::S3);
    small_files(&shop.src(), 300);
    store.forget_requests();
    let first = shop.source(&[]);
    first.succeeded();
    let asked = store.requests();
    let beneath = |kind| asked.count_at(kind, "/db/0");
    assert_eq!(
        (beneath(Kind::Put), beneath(Kind::Head)),
        (300, 0),
        "{asked}"
    );
    assert!(below(&asked) < 310, "{asked}");
    let generation = first.report.generation.unwrap();

    let reads = Reads::of(&shop.src());
    store.forget_requests();
    shop.source(&[("LAST_GENERATION", &generation)]).succeeded();
    let asked = store.requests();
    assert!(asked.total() <= 6, "{asked}");
    assert!(reads.seen().is_empty());

    // A changed run asks for nothing but what changed.
    for number in 0..20 {
        std::fs::write(shop.src().join(format!("{number:04}")), "changed").unwrap();
    }
    std::fs::remove_file(shop.src().join("0299")).unwrap();
    store.forget_requests();
    shop.source(&[("LAST_GENERATION", &generation)]).succeeded();
    let asked = store.requests();
    let beneath = |kind| asked.count_at(kind, "/db/0");
    assert_eq!(
        (beneath(Kind::Put), beneath(Kind::Head)),
        (20, 0),
        "{asked}"
    );
    assert!(below(&asked) < 30, "{asked}");

    store.forget_requests();
    let destination = shop.destination(&[]);
    destination.succeeded();
    let asked = store.requests();
    let beneath = |kind| asked.count_at(kind, "/db/0");
    assert_eq!(
        (beneath(Kind::Get), beneath(Kind::Head)),
        (299, 0),
        "{asked}"
    );
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn a_source_that_may_not_see_whose_a_path_is_leaves_what_lies_there() {
    let runtime = runtime();
    let (store, shop) = shop(&runtime, Backend::S3);
    small_files(&shop.src(), 5);
    shop.source(&[]).succeeded();
    std::fs::remove_file(shop.src().join("0001")).unwrap();
    store.misbehave(Fault::refuse(Refusal::AccessDenied).at("db-syncline"));
    let other = [("OWNER_NAME", "other"), ("OWNER_UID", "uid-2")];
    let refused = shop.source(&other);
    refused.failed("StoreRefused");
    let message = refused.report.message.unwrap();
    assert!(
        message.contains("syncline.dev/rclone-sole-writer"),
        "{message}"
    );
    let names = store
        .rclone(&["lsf", &format!("store:{}", shop.path)])
        .unwrap();
    assert!(names.contains("0001"), "{names}");
    shop.source(&[other[0], other[1], ("SOLE_WRITER", "1")])
        .succeeded();
    let names = store
        .rclone(&["lsf", &format!("store:{}", shop.path)])
        .unwrap();
    assert!(!names.contains("0001"), "{names}");
}

#[test]
fn a_listing_that_is_short_at_a_source_removes_nothing_and_costs_a_check() {
    let runtime = runtime();
    let (store, shop) = shop(&runtime, Backend::S3);
    small_files(&shop.src(), 30);
    shop.source(&[]).succeeded();
    std::fs::write(shop.src().join("0007"), "changed").unwrap();
    store.misbehave(Fault::shorten(10).at("/db/").times(1));
    shop.source(&[]).succeeded();
    assert_eq!(store.struck(), 1);
    store.behave();
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn a_listing_that_stays_short_at_a_source_is_told_and_no_version_is_made_of_it() {
    let runtime = runtime();
    let (store, shop) = shop(&runtime, Backend::S3);
    small_files(&shop.src(), 30);
    let first = shop.source(&[]).report.generation.unwrap();
    std::fs::write(shop.src().join("0007"), "changed").unwrap();
    store.misbehave(Fault::shorten(10).at("/db/"));
    let short = shop.source(&[("LAST_GENERATION", &first)]);
    short.failed("ListingIncomplete");
    let message = short.report.message.unwrap();
    assert!(
        message.contains("does not show what was sent there") && message.contains("20 missing"),
        "{message}"
    );
    store.behave();
    shop.source(&[]).succeeded();
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn of_two_sources_of_a_bucket_that_begin_together_at_most_one_goes_on() {
    let runtime = runtime();
    let (_store, shop) = shop(&runtime, Backend::S3);
    small_files(&shop.src(), 20);
    std::fs::create_dir(shop.path("src-2")).unwrap();
    small_files(&shop.path("src-2"), 7);
    let one = shop.start("source", "src", &[("SYNCLINE_WAIT_UNIT_MS", "50")]);
    let second = [
        ("OWNER_NAME", "two"),
        ("OWNER_UID", "uid-2"),
        ("SYNCLINE_WAIT_UNIT_MS", "50"),
    ];
    let two = shop.start("source", "src-2", &second);
    let ends = [(one.end(), "src"), (two.end(), "src-2")];
    for (ended, _) in ends.iter().filter(|(ended, _)| ended.code != Some(0)) {
        ended.failed("PathInUse");
    }
    let winners: Vec<_> = ends
        .iter()
        .filter(|(ended, _)| ended.code == Some(0))
        .collect();
    assert!(winners.len() <= 1);
    let volume: &str = if let Some((_, volume)) = winners.first() {
        volume
    } else {
        // Both gave way. The one whose marker lies there, or either where none does, succeeds when it is alone.
        let marker = format!("store:{}-syncline/generation.json", shop.path);
        let is_second = shop.stock(&["cat", &marker]).contains("uid-2");
        let (volume, who) = if is_second {
            ("src-2", &second[..])
        } else {
            ("src", &[][..])
        };
        shop.start("source", volume, who).end().succeeded();
        volume
    };
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.path(volume), &shop.dst());
}

/// Parts of 5 MiB for a file of 12.
fn in_parts(shop: &Shop) {
    for (name, value) in [
        ("RCLONE_S3_UPLOAD_CUTOFF", "5M"),
        ("RCLONE_S3_CHUNK_SIZE", "5M"),
    ] {
        std::fs::write(shop.path("config").join(name), value).unwrap();
    }
    let content: Vec<u8> = (0..12_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    std::fs::write(shop.src().join("big"), content).unwrap();
}

#[test]
fn a_connection_that_is_cut_in_a_part_costs_that_part_and_one_that_always_is_has_a_name() {
    let runtime = runtime();
    let (store, shop) = shop(&runtime, Backend::S3);
    in_parts(&shop);
    store.misbehave(Fault::cut().on(Kind::Part).after(1).times(1));
    let first = shop.source(&[]);
    first.succeeded();
    assert_eq!(store.struck(), 1);
    store.behave();
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
    // For ever: a clear fault, and nothing half in the store.
    std::fs::write(shop.src().join("big"), vec![b'x'; 12_000_000]).unwrap();
    std::fs::write(shop.path("config/RCLONE_LOW_LEVEL_RETRIES"), "2").unwrap();
    std::fs::write(shop.path("config/RCLONE_RETRIES"), "1").unwrap();
    store.misbehave(Fault::cut().on(Kind::Part));
    let cut = shop.source(&[]);
    cut.failed("StoreUnreachable");
    store.behave();
    let bucket = format!("store:{}", store.path());
    let left = store
        .rclone(&["backend", "list-multipart-uploads", &bucket])
        .unwrap();
    assert!(!left.contains("UploadId"), "{left}");
    shop.source(&[]).succeeded();
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn a_run_that_died_in_an_upload_in_parts_is_told_of_by_the_next_one() {
    let runtime = runtime();
    let (store, shop) = shop(&runtime, Backend::S3);
    in_parts(&shop);
    store.misbehave(Fault::hold().on(Kind::Part));
    let dying = shop.start("source", "src", &[]);
    crate::pair::until("a part is on its way", || store.struck() > 0);
    dying.kill_all();
    dying.end_somehow();
    store.behave();
    let next = shop.source(&[]);
    next.succeeded();
    assert!(next.log.contains("1 upload(s) in parts"), "{}", next.log);
    assert!(next.log.contains("rclone backend cleanup"), "{}", next.log);
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn objects_that_came_in_parts_are_listed_without_a_question_for_each() {
    let runtime = runtime();
    let (store, shop) = shop(&runtime, Backend::S3);
    in_parts(&shop);
    small_files(&shop.src(), 3);
    let first = shop.source(&[]).report.generation.unwrap();
    std::fs::write(shop.src().join("0001"), "changed").unwrap();
    store.forget_requests();
    shop.source(&[("LAST_GENERATION", &first)]).succeeded();
    let asked = store.requests();
    assert_eq!(asked.count_at(Kind::Head, "/db/big"), 0, "{asked}");
}

#[test]
fn an_object_in_parts_is_held_against_the_checksum_that_the_store_makes_of_its_parts() {
    let runtime = runtime();
    let (store, shop) = shop(&runtime, Backend::S3);
    in_parts(&shop);
    // As rclone does with Amazon's.
    let conf = format!(
        "{}\nuse_multipart_etag = true\n",
        store.rclone_conf("store").trim_end()
    );
    std::fs::write(shop.path("config/rclone.conf"), conf).unwrap();
    let first = shop.source(&[]);
    first.succeeded();
    assert!(store.requests().count_at(Kind::Part, "/db/big") >= 3);
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
    store.forget_requests();
    let last = first.report.generation.unwrap();
    let check = shop.source(&[("LAST_GENERATION", &last), ("RUNS_SINCE_FULL_CHECK", "9")]);
    check.succeeded();
    assert_eq!(check.report.generation.as_ref(), Some(&last));
    let asked = store.requests();
    assert_eq!(asked.count_at(Kind::Part, "/db/big"), 0, "{asked}");
}

#[test]
fn files_of_the_same_size_are_told_apart_where_the_store_has_no_checksum_of_them() {
    let runtime = runtime();
    let (store, shop) = shop(&runtime, Backend::S3);
    let conf = format!(
        "{}\ndisable_checksum = true\nupload_cutoff = 5M\nchunk_size = 5M\n",
        store.rclone_conf("store").trim_end()
    );
    std::fs::write(shop.path("config/rclone.conf"), conf).unwrap();
    small_files(&shop.src(), 3);
    let write = |letter: u8| std::fs::write(shop.src().join("big"), vec![letter; 12_000_000]);
    let (volume, target) = (
        shop.src().display().to_string(),
        format!("store:{}", shop.path),
    );
    let stock_sync = || shop.stock(&["sync", &volume, &target]);
    let fetched = || {
        shop.destination(&[("SYNCLINE_WAIT_UNIT_MS", "1")])
            .succeeded();
        std::fs::read(shop.dst().join("big")).unwrap()
            == std::fs::read(shop.src().join("big")).unwrap()
    };
    let object = || shop.stock(&["cat", &format!("{target}/big")]).into_bytes();
    // From a stock source.
    for letter in [b'a', b'b'] {
        write(letter).unwrap();
        stock_sync();
        assert!(fetched());
    }
    // Over what lies there, from a volume that holds something else.
    write(b'c').unwrap();
    shop.source(&[]).succeeded();
    assert_eq!(object()[0], b'c');
    assert!(fetched());
    // After a stock source that came after ours.
    write(b'd').unwrap();
    stock_sync();
    assert!(fetched());
    // From a source whose keys leave it without a memory.
    std::fs::write(shop.path("config/RCLONE_EXCLUDE"), "*.tmp").unwrap();
    for letter in [b'e', b'f'] {
        write(letter).unwrap();
        shop.source(&[]).succeeded();
        assert_eq!(object()[0], letter);
        assert!(fetched());
    }
    // What is the same is not sent again.
    store.forget_requests();
    shop.source(&[]).succeeded();
    let asked = store.requests();
    assert_eq!(asked.count_at(Kind::Part, "/db/big"), 0, "{asked}");
}

/// Files whose access times lie long past, which the kernel renews at the first read.
struct Reads(Vec<PathBuf>);

impl Reads {
    fn of(folder: &Path) -> Self {
        let files = std::fs::read_dir(folder).unwrap();
        let reads = Self(files.map(|entry| entry.unwrap().path()).collect());
        let probe = &reads.0[0];
        reads.forget();
        std::fs::read(probe).unwrap();
        assert_eq!(
            reads.seen(),
            std::slice::from_ref(probe),
            "no access times here"
        );
        reads.forget();
        reads
    }

    fn past() -> std::time::SystemTime {
        std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000)
    }

    fn forget(&self) {
        let times = std::fs::FileTimes::new().set_accessed(Self::past());
        // That is a change of a kind. Where the folder has it, too, it makes no file one that may have been written.
        let folder = self.0[0].parent().unwrap();
        for path in self.0.iter().map(PathBuf::as_path).chain([folder]) {
            std::fs::File::open(path).unwrap().set_times(times).unwrap();
        }
    }

    /// Those that were read.
    fn seen(&self) -> Vec<PathBuf> {
        let is_read =
            |path: &&PathBuf| std::fs::metadata(path).unwrap().accessed().unwrap() != Self::past();
        self.0.iter().filter(is_read).cloned().collect()
    }
}
