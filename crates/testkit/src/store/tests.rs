//! Each server with the stock rclone, and each fault as rclone sees it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Backend, Fault, Keys, Kind, ObjectStore, Refusal, SECTION, Tls, another_ca};

/// rclone must not try for minutes what is meant to fail.
const ONCE: [&str; 4] = ["--retries", "1", "--low-level-retries", "1"];

/// Files of more than 5 MiB go in parts.
const PARTS: [&str; 4] = ["--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M"];

fn volume(folder: &Path) {
    fs::create_dir_all(folder.join("sub/deep")).unwrap();
    for number in 0..30 {
        fs::write(folder.join(format!("file {number}")), number.to_string()).unwrap();
    }
    fs::write(folder.join("sub/ünï +%&=.txt"), "names").unwrap();
    let big: Vec<u8> = (0..12_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    fs::write(folder.join("sub/deep/big"), big).unwrap();
}

fn names(listing: &str) -> BTreeSet<&str> {
    listing.lines().collect()
}

fn refusal(store: &ObjectStore, arguments: &[&str]) -> String {
    complaint(&mut once(store, arguments))
}

fn once(store: &ObjectStore, arguments: &[&str]) -> Command {
    store.rclone_command(&[arguments, &ONCE].concat()).unwrap()
}

fn complaint(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?} had success");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What must hold with each server: a volume comes back as it went, names and all.
async fn goes_there_and_back(backend: Backend, tls: Tls) -> ObjectStore {
    let store = ObjectStore::near(backend, tls).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (source, copy) = (folder.path().join("source"), folder.path().join("copy"));
    volume(&source);
    let place = format!("{SECTION}:{}/db", store.path());
    let (from, to) = (source.to_str().unwrap(), copy.to_str().unwrap());
    store
        .rclone(&[&["sync", from, &place][..], &PARTS].concat())
        .unwrap();
    let seen = store
        .rclone(&["lsf", "-R", "--files-only", &place])
        .unwrap();
    assert_eq!(names(&seen).len(), 32, "{seen}");
    assert!(names(&seen).contains("sub/ünï +%&=.txt"), "{seen}");
    store.rclone(&["sync", &place, to]).unwrap();
    store
        .rclone(&["check", "--download", from, &place])
        .unwrap();
    for name in ["file 7", "sub/ünï +%&=.txt", "sub/deep/big"] {
        assert_eq!(
            fs::read(source.join(name)).unwrap(),
            fs::read(copy.join(name)).unwrap(),
            "{name}"
        );
    }
    store
        .rclone(&["deletefile", &format!("{place}/file 3")])
        .unwrap();
    store
        .rclone(&[
            "moveto",
            &format!("{place}/file 4"),
            &format!("{place}/moved"),
        ])
        .unwrap();
    let seen = store.rclone(&["lsf", &place]).unwrap();
    assert!(
        !names(&seen).contains("file 3") && !names(&seen).contains("file 4"),
        "{seen}"
    );
    assert!(names(&seen).contains("moved"), "{seen}");
    store
}

#[tokio::test]
async fn s3_keeps_what_it_is_given_and_counts_what_it_is_asked() {
    let store = goes_there_and_back(Backend::S3, Tls::Without).await;
    let requests = store.requests();
    assert_eq!(
        requests.count_at(Kind::Part, "/db/sub/deep/big"),
        3,
        "{requests}"
    );
    assert_eq!(requests.count(Kind::StartMultipart), 1, "{requests}");
    assert_eq!(requests.count(Kind::EndMultipart), 1, "{requests}");
    assert!(requests.count_at(Kind::Put, "/db/") >= 31, "{requests}");
    store.forget_requests();
    let place = format!("{SECTION}:{}/db", store.path());
    for version in ["1", "2"] {
        let listing = [
            "lsf",
            "-R",
            "--fast-list",
            "--s3-list-chunk",
            "7",
            "--s3-list-version",
            version,
        ];
        let seen = store
            .rclone(&[&listing[..], &[place.as_str()]].concat())
            .unwrap();
        assert_eq!(
            seen.lines().filter(|name| !name.ends_with('/')).count(),
            31,
            "{seen}"
        );
    }
    let requests = store.requests();
    assert_eq!(
        requests.count_at(Kind::List, "/db/"),
        10,
        "five pages each: {requests}"
    );
    assert_eq!(
        requests.total(),
        requests.count(Kind::List) + requests.count(Kind::Head),
        "{requests}"
    );
    store.forget_requests();
    // Nothing is at these keys: a folder's, and one that nobody ever had.
    for absent in ["sub", "nothing"] {
        let seen = store
            .rclone(&["lsjson", "--stat", &format!("{place}/{absent}")])
            .unwrap();
        assert!(seen.contains("\"IsDir\": true"), "{seen}");
    }
    let listed = refusal(&store, &["lsf", &format!("{SECTION}:no-such-bucket-here")]);
    assert!(listed.contains("directory not found"), "{listed}");
}

#[tokio::test]
async fn webdav_keeps_what_it_is_given() {
    let store = goes_there_and_back(Backend::WebDav, Tls::Without).await;
    assert!(store.requests().count(Kind::List) > 0);
    goes_there_and_back(Backend::WebDav, Tls::Valid).await;
}

#[tokio::test]
async fn sftp_keeps_what_it_is_given() {
    let store = goes_there_and_back(Backend::Sftp, Tls::Without).await;
    assert_eq!(store.requests().total(), 0);
}

#[tokio::test]
async fn nobody_comes_in_with_wrong_keys() {
    for (backend, words) in [
        (Backend::S3, ["SignatureDoesNotMatch", "InvalidAccessKeyId"]),
        (Backend::WebDav, ["401", "401"]),
        (Backend::Sftp, ["unable to authenticate"; 2]),
    ] {
        let store = ObjectStore::near(backend, Tls::Without).await.unwrap();
        for (keys, word) in [Keys::WrongSecret, Keys::Unknown].into_iter().zip(words) {
            let folder = tempfile::tempdir().unwrap();
            let config = folder.path().join("rclone.conf");
            fs::write(&config, store.rclone_conf_as("other", keys)).unwrap();
            let place = format!("other:{}", store.path());
            let words = ["--config", config.to_str().unwrap(), "lsf", &place];
            let said = refusal(&store, &words);
            assert!(said.contains(word), "{backend:?} {keys:?}: {said}");
        }
    }
}

#[tokio::test]
async fn tls_is_by_a_ca_of_the_store_s_own() {
    let store = goes_there_and_back(Backend::S3, Tls::Valid).await;
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("ca.pem");
    fs::write(&other, another_ca().unwrap()).unwrap();
    let place = format!("{SECTION}:{}", store.path());
    let said = complaint(once(&store, &["lsf", &place]).env("RCLONE_CA_CERT", other));
    assert!(
        said.contains("certificate signed by unknown authority"),
        "{said}"
    );
    let expired = ObjectStore::near(Backend::S3, Tls::Expired).await.unwrap();
    let place = format!("{SECTION}:{}", expired.path());
    let mut command = once(&expired, &["lsf", &place]);
    let said = complaint(command.env_remove("RCLONE_NO_CHECK_CERTIFICATE"));
    assert!(said.contains("certificate has expired"), "{said}");
}

#[tokio::test]
async fn an_error_of_s3_comes_as_s3_words_it_and_for_as_long_as_it_was_asked_for() {
    let store = ObjectStore::near(Backend::S3, Tls::Without).await.unwrap();
    let place = format!("{SECTION}:{}", store.path());
    for (refused, word) in [
        (Refusal::AccessDenied, "AccessDenied"),
        (Refusal::ExpiredToken, "ExpiredToken"),
        (Refusal::RequestTimeTooSkewed, "RequestTimeTooSkewed"),
        (Refusal::SlowDown, "SlowDown"),
        (Refusal::InternalError, "InternalError"),
    ] {
        store.misbehave(Fault::refuse(refused));
        let said = refusal(&store, &["lsf", &place]);
        assert!(said.contains(word), "{said}");
        store.behave();
    }
    let struck = store.struck();
    store.misbehave(Fault::refuse(Refusal::SlowDown).on(Kind::List).times(3));
    assert_eq!(store.rclone(&["lsf", &place]).unwrap(), "");
    assert_eq!(store.struck(), struck + 3);
    store.misbehave(Fault::unreachable());
    let said = refusal(&store, &["lsf", &place]);
    assert!(said.contains("EOF") || said.contains("reset"), "{said}");
}

#[tokio::test]
async fn a_part_whose_connection_is_cut_is_sent_again() {
    let store = ObjectStore::near(Backend::S3, Tls::Without).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    volume(folder.path());
    let from = folder.path().join("sub/deep/big");
    let place = format!("{SECTION}:{}/big", store.path());
    let copy = [
        &["copyto", "--ignore-times", from.to_str().unwrap(), &place][..],
        &PARTS,
    ]
    .concat();
    store.misbehave(Fault::cut().on(Kind::Part).after(1).times(1));
    store.rclone(&copy).unwrap();
    assert_eq!(store.struck(), 1);
    assert_eq!(store.requests().count(Kind::Part), 4);
    let (folder, bucket) = (
        from.parent().unwrap().to_str().unwrap(),
        place.trim_end_matches("/big"),
    );
    store
        .rclone(&["check", "--download", folder, bucket])
        .unwrap();
    store.misbehave(Fault::cut().on(Kind::Part));
    let said = refusal(&store, &copy);
    // How the end of a connection shows depends on whether it was read or written just then.
    let words = ["EOF", "reset", "broken pipe", "closed network connection"];
    assert!(words.iter().any(|word| said.contains(word)), "{said}");
}

#[tokio::test]
async fn a_listing_can_lack_something_or_break_off() {
    for backend in [Backend::S3, Backend::WebDav] {
        let store = ObjectStore::near(backend, Tls::Without).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let place = format!("{SECTION}:{}/db", store.path());
        store
            .rclone(&["copy", folder.path().to_str().unwrap(), &place])
            .unwrap();
        store.misbehave(Fault::shorten(2).at("/db"));
        assert_eq!(
            store.rclone(&["lsf", &place]).unwrap().lines().count(),
            2,
            "{backend:?}"
        );
        store.behave();
        store.misbehave(Fault::cut().on(Kind::List).at("/db"));
        refusal(&store, &["lsf", &place]);
        store.behave();
        assert_eq!(
            store.rclone(&["lsf", &place]).unwrap(),
            "a\nb\nc\n",
            "{backend:?}"
        );
    }
}

#[tokio::test]
async fn requests_are_held_until_the_store_behaves_again() {
    let store = ObjectStore::near(Backend::S3, Tls::Without).await.unwrap();
    let place = format!("{SECTION}:{}", store.path());
    store.misbehave(Fault::hold().on(Kind::List));
    let mut listing = store
        .rclone_command(&["lsf", &place])
        .unwrap()
        .spawn()
        .unwrap();
    crate::wait::wait_for_blocking("a request to be held", Duration::from_secs(20), || {
        Ok(match store.struck() {
            0 => crate::wait::Look::NotYet(store.requests().to_string()),
            _ => crate::wait::Look::Done(()),
        })
    })
    .unwrap();
    assert!(listing.try_wait().unwrap().is_none());
    store.behave();
    assert!(listing.wait().unwrap().success());
}
