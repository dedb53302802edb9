//! Sources and destinations whose keys may do less than they would like, at an S3 server.

use std::os::unix::fs::PermissionsExt as _;

use rstest::rstest;
use syncline_testkit::store::{Fault, Kind, Refusal};

use super::cloud::Cloud;
use super::shop::rclone;
use crate::tree;

fn denied() -> Fault {
    Fault::refuse(Refusal::AccessDenied)
}

/// A server, a volume with files, and the bare bucket.
fn with_bucket() -> (Cloud, String) {
    let cloud = Cloud::new();
    for name in ["one", "two"] {
        std::fs::write(cloud.shop.src().join(name), name).unwrap();
    }
    let bucket = cloud.store.path().to_owned();
    (cloud, bucket)
}

/// Without notes all is sent, nothing is left in the second bucket, and the report says `cure`.
#[track_caller]
fn goes_without(cloud: &Cloud, bucket: &str, cure: &str) {
    let path = [("RCLONE_DEST_PATH", bucket)];
    let source = cloud.shop.source(&path);
    source.succeeded();
    assert_eq!(source.report.generation, None);
    let words = source.report.unpreserved.join("; ");
    assert!(words.contains(cure), "{words}");
    cloud.store.behave();
    let buckets = cloud.shop.stock(&["lsf", "store:"]);
    assert!(
        !buckets.contains(&format!("{}-syncline", bucket.trim_matches('/'))),
        "{buckets}"
    );
    cloud.shop.destination(&path).succeeded();
    tree::compare(
        &cloud.shop.src(),
        &cloud.shop.dst(),
        tree::as_stock_rclone_keeps,
    );
}

#[rstest]
#[case::by_its_name("")]
#[case::with_a_slash_before_it("/")]
fn beside_a_bucket_no_bucket_of_another_account_is_used_by_a_source(#[case] before: &str) {
    let (cloud, bucket) = with_bucket();
    // Of other servers rclone does not believe that a bucket is another's.
    let conf = format!(
        "{}use_already_exists = true\n",
        cloud.store.rclone_conf("store")
    );
    std::fs::write(cloud.shop.path("config/rclone.conf"), conf).unwrap();
    let taken = Fault::refuse(Refusal::BucketAlreadyExists);
    cloud
        .store
        .misbehave(taken.on(Kind::Bucket).at("-syncline"));
    let path = format!("{before}{bucket}");
    goes_without(&cloud, &path, "cure: a path below the bucket");
    let asked = cloud.store.requests();
    assert_eq!(asked.count_at(Kind::Put, "-syncline/"), 0, "{asked}");
}

#[test]
fn where_no_bucket_may_be_made_beside_a_bucket_a_source_goes_without() {
    let (cloud, bucket) = with_bucket();
    cloud
        .store
        .misbehave(denied().on(Kind::Bucket).at("-syncline"));
    let cure = format!("rights in store:{bucket}-syncline/");
    goes_without(&cloud, &bucket, &cure);
}

#[rstest]
#[case::by_its_name("")]
#[case::with_a_slash_before_it("/")]
fn beside_a_bucket_no_marker_in_a_bucket_of_another_account_is_believed_by_a_destination(
    #[case] before: &str,
) {
    let (cloud, bucket) = with_bucket();
    let shop = &cloud.shop;
    let spelled = format!("{before}{bucket}");
    let path = ("RCLONE_DEST_PATH", spelled.as_str());
    let version = shop.source(&[path]).report.generation.unwrap();
    // All but the list of this account's buckets is the server's own answer.
    let stage = shop.path("stage");
    std::fs::create_dir(&stage).unwrap();
    let program = stage.join("rclone");
    let script = format!(
        "#!/bin/bash\nif [[ $1 = lsjson && ${{!#}} = store:{before} ]]; then echo '[]'; exit; fi\nexec {} \"$@\"\n",
        rclone().display()
    );
    std::fs::write(&program, script).unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&program, executable).unwrap();
    let programs = format!("{}:/usr/bin:/bin", stage.display());
    let stranger = shop.destination(&[path, ("PATH", &programs)]);
    stranger.succeeded();
    let words = "lies in a bucket of another account and is passed over";
    assert!(stranger.log.contains(words), "{}", stranger.log);
    let label = stranger.report.generation.unwrap();
    assert!(label.starts_with("listing:"), "{label}");
    let own = shop.destination(&[path]);
    own.succeeded();
    assert_eq!(own.report.generation, Some(version));
}

#[test]
fn a_source_that_may_read_the_notes_and_not_write_them_goes_without_or_fails_where_it_kept_some() {
    let (cloud, _) = with_bucket();
    let shop = &cloud.shop;
    let closed = || denied().on(Kind::Put).at("-syncline");
    cloud.store.misbehave(closed());
    let source = shop.source(&[]);
    source.succeeded();
    assert_eq!(source.report.generation, None);
    let words = source.report.unpreserved.join("; ");
    let cure = format!("rights in store:{}-syncline/", shop.path);
    assert!(words.contains(&cure), "{words}");
    cloud.store.behave();
    let kept = shop.source(&[]).report.generation.unwrap();
    cloud.store.misbehave(closed());
    std::fs::write(shop.src().join("one"), "changed").unwrap();
    shop.source(&[("LAST_GENERATION", &kept)])
        .failed("StoreRefused");
    // The version that was there is whole.
    let ended = shop.destination(&[]);
    ended.succeeded();
    assert_eq!(ended.report.generation, Some(kept));
    assert_eq!(std::fs::read(shop.dst().join("one")).unwrap(), b"one");
}

#[test]
fn a_token_that_does_not_fit_is_told_at_both_ends_at_the_first_try_in_words_where_the_store_has_some()
 {
    let (cloud, bucket) = with_bucket();
    let shop = &cloud.shop;
    let refused = || Fault::refuse(Refusal::InvalidToken);
    cloud.store.misbehave(refused());
    for ended in [shop.source(&[]), shop.destination(&[])] {
        ended.failed_saying("StoreRefused", "api error InvalidToken");
        assert_eq!(ended.report.attempts, Some(1), "{}", ended.log);
    }
    cloud.store.behave();
    // To questions for an object S3 answers without words.
    cloud.store.misbehave(refused().on(Kind::Head));
    let source = shop.source(&[]);
    source.failed_saying("ConfigInvalid", "session_token");
    assert_eq!(source.report.attempts, Some(1), "{}", source.log);
    cloud.store.behave();
    assert_eq!(shop.stock(&["lsf", &format!("store:{bucket}")]), "");
    shop.source(&[]).succeeded();
}

#[test]
fn a_source_that_may_not_delete_sends_until_a_file_has_to_go() {
    let (cloud, _) = with_bucket();
    let shop = &cloud.shop;
    cloud.store.misbehave(denied().on(Kind::Delete));
    let first = shop.source(&[]);
    first.succeeded();
    let stays = format!("old files stay at store:{}-syncline/", shop.path);
    assert!(first.log.contains(&stays), "{}", first.log);
    std::fs::write(shop.src().join("one"), "changed").unwrap();
    let last = first.report.generation.unwrap();
    let second = shop.source(&[("LAST_GENERATION", &last)]);
    second.succeeded();
    let waits = "waiting until they have noticed this one";
    assert!(second.log.contains(waits), "{}", second.log);
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
    std::fs::remove_file(shop.src().join("two")).unwrap();
    let last = second.report.generation.unwrap();
    shop.source(&[("LAST_GENERATION", &last)])
        .failed("StoreRefused");
}

#[test]
fn a_destination_that_may_only_read_asks_for_nothing_else_and_gets_all() {
    let (cloud, _) = with_bucket();
    cloud.shop.source(&[]).succeeded();
    for kind in [Kind::Put, Kind::Part, Kind::Delete, Kind::Bucket] {
        cloud.store.misbehave(denied().on(kind));
    }
    cloud.shop.destination(&[]).succeeded();
    tree::assert_same(&cloud.shop.src(), &cloud.shop.dst());
    assert_eq!(cloud.store.struck(), 0, "{}", cloud.store.requests());
    cloud.store.behave();
}
