//! Against the real rclone: on this machine's file system, and at a server that answers what it is told to.

use rstest::rstest;
use syncline_api::env;

mod encrypted;
mod odd;
mod server;

use super::*;
use crate::rclone::outcome::Next;
use crate::rclone::store::{Evidence, Listed};
use server::{Answer, Server};

/// The stock rclone: that of `RCLONE`, else the one that `tests/tools/fetch-rclone` keeps.
fn stock() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tools/fetch-rclone");
        let output = std::process::Command::new(script).output().unwrap();
        assert!(
            output.status.success(),
            "rclone cannot be fetched; set RCLONE"
        );
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    });
    found.clone()
}

/// A Secret, a private folder, a store, and rclone between them.
struct Bench {
    rclone: Rclone,
    console: Console,
    place: tempfile::TempDir,
    private: PrivateFolder,
}

impl Bench {
    /// With `rclone.conf` (in which `DIR` is the bench's folder), other keys, and the path in the section `x`.
    fn new(conf: &str, keys: &[(&str, &str)], path: &str) -> Result<Self, Fault> {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().to_str().unwrap();
        let secret = place.path().join("secret");
        std::fs::create_dir(&secret).unwrap();
        std::fs::write(secret.join("rclone.conf"), conf.replace("DIR", dir)).unwrap();
        for (name, value) in keys {
            std::fs::write(secret.join(name), value).unwrap();
        }
        let path = path.replace("DIR", dir);
        let settings = Settings::read(Role::Source, &|name| match name {
            env::RCLONE_CONFIG => Some(secret.join("rclone.conf").display().to_string()),
            env::RCLONE_CONFIG_SECTION => Some("x".to_owned()),
            env::RCLONE_DEST_PATH => Some(path.clone()),
            _ => None,
        })
        .unwrap();
        let private = PrivateFolder::make(place.path()).unwrap();
        let console = Console::for_rclone();
        let rclone = Rclone::with_program(stock(), &settings, &private, &console)?;
        Ok(Self {
            rclone,
            console,
            place,
            private,
        })
    }

    fn local() -> Self {
        Self::new("[x]\ntype = local\n", &[], "DIR/store/db").unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn marker(&self) -> crate::rclone::settings::Spot {
        self.rclone.remote().state_file("generation.json").unwrap()
    }

    async fn names(&self) -> Vec<Listed> {
        let mut names = Vec::new();
        let data = self.rclone.remote().data();
        assert!(
            self.rclone
                .list(&data, Evidence::Sizes, &mut |listed| names.push(listed))
                .await
                .unwrap()
        );
        names.sort_by(|one, other| one.name.cmp(&other.name));
        names
    }

    fn copy(&self) -> Command {
        Command::new("copy")
            .arg(self.path("volume"))
            .arg(self.rclone.remote().data())
            .arg("--retries=1")
    }
}

#[tokio::test]
async fn small_files_come_back_and_absence_is_no_failure() {
    let bench = Bench::local();
    let (rclone, marker) = (&bench.rclone, bench.marker());
    assert_eq!(rclone.read_small(&marker, 100).await.unwrap(), None);
    rclone.remove(&marker).await.unwrap();
    rclone
        .write_small(&marker, b"{\"generation\":1}")
        .await
        .unwrap();
    rclone
        .write_small(&marker, b"{\"generation\":2}")
        .await
        .unwrap();
    let read = rclone.read_small(&marker, 100).await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"{\"generation\":2}"[..]));
    let fault: Fault = rclone.read_small(&marker, 5).await.unwrap_err().into();
    assert!(
        fault.message.contains("larger than 5 bytes"),
        "{}",
        fault.message
    );
    let to = bench.path("fetched");
    assert!(rclone.fetch(&marker, &to, 16).await.unwrap());
    assert_eq!(std::fs::read(&to).unwrap(), b"{\"generation\":2}");
    // Whatever a store holds, no more than was asked for comes into memory.
    let big = bench.path("big");
    std::fs::write(&big, vec![b'x'; 4 << 20]).unwrap();
    let spot = rclone.remote().state_file("big").unwrap();
    rclone.put(&big, &spot).await.unwrap();
    let fault: Fault = rclone.fetch(&spot, &to, 1 << 20).await.unwrap_err().into();
    assert!(fault.message.contains("larger than"), "{}", fault.message);
    rclone.remove(&spot).await.unwrap();
    rclone.remove(&marker).await.unwrap();
    assert!(
        !rclone
            .fetch(&marker, &bench.path("again"), 16)
            .await
            .unwrap()
    );
    let beside = std::fs::read_dir(bench.path("store/db-syncline")).unwrap();
    assert_eq!(beside.count(), 0, "no part of a file is left behind");
}

#[tokio::test]
async fn a_listing_tells_nothing_from_an_empty_folder_and_gives_every_file() {
    let bench = Bench::local();
    let data = bench.rclone.remote().data();
    let mut none = |listed: Listed| panic!("{listed:?}");
    assert!(
        !bench
            .rclone
            .list(&data, Evidence::Sizes, &mut none)
            .await
            .unwrap()
    );
    assert!(bench.rclone.is_empty(&data).await.unwrap());
    std::fs::create_dir_all(bench.path("store/db/deep/er")).unwrap();
    assert!(
        bench
            .rclone
            .list(&data, Evidence::Sizes, &mut none)
            .await
            .unwrap()
    );
    for (name, content) in [("a", "1"), ("deep/er/b", "22"), ("deep/new\nline", "333")] {
        std::fs::write(bench.path("store/db").join(name), content).unwrap();
    }
    let listed: Vec<_> = bench
        .names()
        .await
        .into_iter()
        .map(|listed| (listed.name, listed.size))
        .collect();
    let expected = [("a", 1), ("deep/er/b", 2), ("deep/new␊line", 3)];
    assert_eq!(
        listed,
        expected.map(|(name, size)| (name.as_bytes().to_vec(), Some(size)))
    );
    assert!(!bench.rclone.is_empty(&data).await.unwrap());
}

#[tokio::test]
async fn a_cheap_listing_shows_that_a_file_was_written_again() {
    let bench = Bench::local();
    std::fs::create_dir_all(bench.path("store/db")).unwrap();
    let data = bench.rclone.remote().data();
    let mut seen = Vec::new();
    for time in [1_000_000_000, 1_000_000_001] {
        let file = std::fs::File::create(bench.path("store/db/f")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(time))
            .unwrap();
        let mut each = |listed: Listed| seen.push(listed.evidence);
        assert!(
            bench
                .rclone
                .list(&data, Evidence::Cheap, &mut each)
                .await
                .unwrap()
        );
    }
    assert_ne!(seen[0], seen[1]);
}

#[rstest]
#[case::local("[x]\ntype = local\n", true, true, false)]
#[case::crypt(
    "[x]\ntype = crypt\nremote = DIR/store\npassword = DjoRUZL-gGI-U4PItEcvNA_8\n",
    false,
    true,
    false
)]
#[case::s3(
    "[x]\ntype = s3\nprovider = Other\nendpoint = http://127.0.0.1:9\n",
    true,
    false,
    true
)]
#[tokio::test]
async fn backends_say_what_they_can(
    #[case] conf: &str,
    #[case] hashes: bool,
    #[case] folders: bool,
    #[case] buckets: bool,
) {
    let bench = Bench::new(conf, &[], "bucket/db").unwrap();
    let features = bench.rclone.features().await.unwrap();
    assert_eq!(
        (
            features.hashes,
            features.keeps_folders,
            features.bucket_based,
            features.slow_times
        ),
        (hashes, folders, buckets, buckets)
    );
    assert!(features.keeps_times);
}

#[tokio::test]
async fn a_run_counts_what_it_did() {
    let bench = Bench::local();
    std::fs::create_dir(bench.path("volume")).unwrap();
    for number in 0..20 {
        std::fs::write(
            bench.path("volume").join(number.to_string()),
            vec![b'x'; 100],
        )
        .unwrap();
    }
    let stats = bench
        .rclone
        .run(bench.copy(), &bench.console)
        .await
        .unwrap();
    assert_eq!((stats.files, stats.bytes, stats.deletes), (20, 2000, 0));
    let delete = Command::new("delete")
        .arg(bench.rclone.remote().data())
        .names(b"1\x002\x00".to_vec());
    let stats = bench.rclone.run(delete, &bench.console).await.unwrap();
    assert_eq!(stats.deletes, 2);
    let stats = bench
        .rclone
        .run(bench.copy(), &bench.console)
        .await
        .unwrap();
    assert_eq!((stats.files, stats.checks), (2, 18));
}

#[tokio::test]
async fn what_the_secret_sets_wins_over_our_tuning() {
    let keys = [
        ("RCLONE_MAX_TRANSFER", "1k\n"),
        ("RCLONE_LOG_FILE", "/nowhere/log"),
        ("RCLONE_LOG_LEVEL", "DEBUG"),
    ];
    let bench = Bench::new("[x]\ntype = local\n", &keys, "DIR/store").unwrap();
    std::fs::create_dir(bench.path("volume")).unwrap();
    std::fs::write(bench.path("volume/f"), vec![0; 5000]).unwrap();
    let tuned = bench.copy().tune("RCLONE_MAX_TRANSFER", "1G");
    let fault = bench
        .rclone
        .run(tuned, &bench.console)
        .await
        .unwrap_err()
        .fault;
    assert!(fault.message.contains("RCLONE_MAX_*"), "{}", fault.message);
    assert!(
        bench.console.tail().contains("DEBUG"),
        "{}",
        bench.console.tail()
    );
}

#[tokio::test]
async fn a_missing_section_is_told_before_rclone_runs() {
    let fault = Bench::new("[y]\ntype = local\n", &[], "p").err().unwrap();
    assert_eq!(fault.reason, reason::SECTION_MISSING);
    let bench = Bench::new("[x]\ntype = alias\nremote = gone:/p\n", &[], "p").unwrap();
    let fault: Fault = bench.rclone.features().await.unwrap_err().into();
    assert_eq!(fault.reason, reason::SECTION_MISSING, "{}", fault.message);
}

#[tokio::test]
async fn a_run_that_is_told_to_stop_ends_its_rclone() {
    let server = Server::start(Answer::Silence);
    let bench = Bench::new(&server.conf(), &[], "bucket/db").unwrap();
    let marker = bench.marker();
    let reading = bench.rclone.read_small(&marker, 100);
    let stop = async {
        server.asked().await;
        bench.rclone.stop.cancel();
    };
    let (result, ()) = tokio::join!(reading, stop);
    assert_eq!(result.unwrap_err().fault.reason, reason::INTERRUPTED);
    let fault: Fault = bench.rclone.features().await.unwrap_err().into();
    assert_eq!(
        fault.reason,
        reason::INTERRUPTED,
        "nothing is started any more"
    );
}

/// Tries of rclone itself are few in tests.
const FEW_TRIES: &[(&str, &str)] = &[
    ("RCLONE_LOW_LEVEL_RETRIES", "1"),
    ("RCLONE_RETRIES", "1"),
    ("RCLONE_TIMEOUT", "5s"),
];

#[rstest]
#[case(Answer::Error(403, "AccessDenied"), reason::STORE_REFUSED)]
#[case(Answer::Error(403, "SignatureDoesNotMatch"), reason::STORE_REFUSED)]
#[case(Answer::Error(403, "InvalidAccessKeyId"), reason::STORE_REFUSED)]
#[case(Answer::Error(400, "ExpiredToken"), reason::CREDENTIALS_EXPIRED)]
#[case(Answer::Error(400, "InvalidToken"), reason::STORE_REFUSED)]
#[case(
    Answer::Error(400, "AuthorizationHeaderMalformed"),
    reason::CONFIG_INVALID
)]
#[case(Answer::Error(403, "RequestTimeTooSkewed"), reason::CLOCK_SKEWED)]
#[case(Answer::Error(503, "SlowDown"), reason::STORE_OVERLOADED)]
#[case(Answer::Error(500, "InternalError"), reason::STORE_OVERLOADED)]
#[case(Answer::Cut, reason::STORE_UNREACHABLE)]
#[tokio::test]
async fn what_a_store_answers_is_told_apart_and_no_secret_is_said(
    #[case] answer: Answer,
    #[case] expected: &str,
) {
    let server = Server::start(answer);
    let bench = Bench::new(&server.conf(), FEW_TRIES, "bucket/db").unwrap();
    std::fs::create_dir(bench.path("volume")).unwrap();
    std::fs::write(bench.path("volume/f"), "x").unwrap();
    let data = bench.rclone.remote().data();
    let mut none = |listed: Listed| panic!("{listed:?}");
    let upload = |options: &[&str]| {
        let copy = bench.copy().args(options);
        copy.tune("RCLONE_S3_NO_CHECK_BUCKET", "true")
    };
    let faults: Vec<Fault> = vec![
        bench
            .rclone
            .read_small(&bench.marker(), 100)
            .await
            .unwrap_err()
            .into(),
        bench
            .rclone
            .read_by_name(&bench.marker(), 100)
            .await
            .unwrap_err()
            .into(),
        bench
            .rclone
            .write_small(&bench.marker(), b"{}")
            .await
            .unwrap_err()
            .into(),
        bench
            .rclone
            .list(&data, Evidence::Sizes, &mut none)
            .await
            .unwrap_err()
            .into(),
        bench
            .rclone
            .run(upload(&[]), &bench.console)
            .await
            .unwrap_err()
            .into(),
        bench
            .rclone
            .run(
                upload(&["--no-traverse", "--no-check-dest"]),
                &bench.console,
            )
            .await
            .unwrap_err()
            .into(),
    ];
    for fault in faults {
        assert_eq!(fault.reason, expected, "{}", fault.message);
        assert!(!fault.message.contains("CANARY"), "{}", fault.message);
    }
    assert!(
        !bench.console.tail().contains("CANARY"),
        "{}",
        bench.console.tail()
    );
}

#[tokio::test]
async fn a_missing_bucket_is_told_by_an_upload_and_is_nothing_to_a_listing() {
    let server = Server::start(Answer::Error(404, "NoSuchBucket"));
    let bench = Bench::new(&server.conf(), FEW_TRIES, "bucket/db").unwrap();
    let fault: Fault = bench
        .rclone
        .write_small(&bench.marker(), b"{}")
        .await
        .unwrap_err()
        .into();
    assert_eq!(fault.reason, reason::BUCKET_MISSING, "{}", fault.message);
    assert_eq!(
        bench.rclone.read_small(&bench.marker(), 100).await.unwrap(),
        None
    );
    let mut none = |listed: Listed| panic!("{listed:?}");
    let data = bench.rclone.remote().data();
    assert!(
        !bench
            .rclone
            .list(&data, Evidence::Sizes, &mut none)
            .await
            .unwrap()
    );
    let requests = server.requests.lock().unwrap();
    assert!(
        requests
            .iter()
            .any(|request| request.starts_with("PUT /bucket ")),
        "it is tried to make the bucket: {requests:?}"
    );
}

#[tokio::test]
async fn a_listing_that_leaves_out_a_name_is_not_taken_for_whole() {
    // The server does not write names as rclone.conf says that it does; rclone leaves the object out and has success.
    let server = Server::start(Answer::Listed("db/100 %&amp;"));
    let conf = format!("{}list_url_encode = true\n", server.conf());
    let bench = Bench::new(&conf, FEW_TRIES, "bucket/db").unwrap();
    let data = bench.rclone.remote().data();
    let mut none = |listed: Listed| panic!("{listed:?}");
    let listing = bench.rclone.list(&data, Evidence::Sizes, &mut none);
    let fault: Fault = listing.await.unwrap_err().into();
    assert_eq!(fault.reason, reason::LISTING_INCOMPLETE);
    assert!(fault.message.contains("100 %&"), "{}", fault.message);
}

#[rstest]
#[case::by_an_error(1, "TransferFailed")]
#[case::because_the_folder_went_away(3, "ListingIncomplete")]
#[case::without_a_word(0, "ListingIncomplete")]
#[tokio::test]
async fn a_listing_that_breaks_off_after_its_first_row_is_not_taken_for_whole(
    #[case] code: i32,
    #[case] expected: &str,
) {
    let mut bench = Bench::local();
    let (draft, program) = (bench.path("draft"), bench.path("rclone"));
    let row = r#"{"Path":"a","Size":1},"#;
    std::fs::write(
        &draft,
        format!("#!/bin/sh\necho '['; echo '{row}'; exit {code}\n"),
    )
    .unwrap();
    // Another test that starts a program at this moment would hand it a file that is being written, which nobody can run.
    let made = std::process::Command::new("install")
        .args(["-m", "755"])
        .args([&draft, &program])
        .status()
        .unwrap();
    assert!(made.success());
    bench.rclone.program = program;
    let data = bench.rclone.remote().data();
    let mut rows = 0;
    let mut count = |_: Listed| rows += 1;
    let listing = bench.rclone.list(&data, Evidence::Sizes, &mut count).await;
    let fault: Fault = listing.unwrap_err().into();
    assert_eq!((rows, fault.reason), (1, expected), "{}", fault.message);
}

#[rstest]
#[case::refused(403)]
#[case::empty(200)]
#[tokio::test]
async fn a_file_that_may_be_listed_and_not_read_is_not_taken_for_absent(#[case] status: u16) {
    let server = Server::start(Answer::Unreadable(status));
    let bench = Bench::new(&server.conf(), FEW_TRIES, "bucket/db").unwrap();
    let marker = bench.marker();
    let fault: Fault = bench
        .rclone
        .read_small(&marker, 100)
        .await
        .unwrap_err()
        .into();
    assert_eq!(fault.reason, reason::STORE_REFUSED, "{}", fault.message);
}

#[tokio::test]
async fn a_file_for_which_s3_does_not_take_the_question_is_not_taken_for_absent() {
    let server = Server::start(Answer::Wordless(400));
    let bench = Bench::new(&server.conf(), FEW_TRIES, "bucket/db").unwrap();
    let marker = bench.marker();
    let read = bench.rclone.read_by_name(&marker, 100).await;
    let setback = read.unwrap_err();
    let found = (setback.fault.reason, setback.next);
    assert_eq!(
        found,
        (reason::CONFIG_INVALID, Next::GiveUp),
        "{}",
        setback.fault.message
    );
    assert!(!bench.rclone.has_none_to_remove(&marker).await);
}

#[tokio::test]
async fn secrets_stand_neither_in_arguments_nor_in_files_that_others_can_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::start(Answer::Silence);
    let keys = [
        ("RCLONE_CONFIG_PASS", "CANARY-PASS"),
        ("RCLONE_DUMP", "headers,bodies,auth"),
        ("RCLONE_VERBOSE", "2"),
    ];
    let bench = Bench::new(&server.conf(), &keys, "bucket/db").unwrap();
    std::fs::create_dir(bench.path("volume")).unwrap();
    std::fs::write(bench.path("volume/f"), "x").unwrap();
    let run = bench.rclone.run(bench.copy(), &bench.console);
    let look = async {
        server.asked().await;
        let own = std::process::id().to_string();
        let mut seen = 0;
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let status = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            let parent = status
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.split(' ').nth(1).map(str::to_owned));
            if parent.as_deref() == Some(&own) {
                let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
                let words = String::from_utf8_lossy(&words).into_owned();
                assert!(!words.contains("CANARY"), "{words}");
                seen += u32::from(words.contains("--use-json-log"));
            }
        }
        assert!(seen > 0, "rclone was looked at");
        bench.rclone.stop.cancel();
    };
    let (result, ()) = tokio::join!(run, look);
    assert_eq!(result.unwrap_err().fault.reason, reason::INTERRUPTED);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&bench.private.file("rclone.conf")), 0o600);
    assert_eq!(mode(bench.private.path()), 0o700);
    let tail = bench.console.tail();
    assert!(
        tail.contains("HTTP REQUEST") && !tail.contains("CANARY"),
        "{tail}"
    );
}
