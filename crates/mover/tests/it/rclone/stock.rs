//! Stock rclone, as VolSync's movers call it, at either end.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::shop::{Kind, Shop};
use super::stage::Stage;
use super::whole::spoil;
use crate::pair::{is_root, run};
use crate::tree;

/// Links, pipes and devices do not go through a stock peer.
fn plain(shop: &Shop) {
    std::fs::create_dir_all(shop.src().join("a/b")).unwrap();
    std::fs::create_dir(shop.src().join("lost+found")).unwrap();
    for number in 0..20 {
        std::fs::write(
            shop.src().join(format!("a/b/{number}")),
            format!("content {number}"),
        )
        .unwrap();
    }
    std::fs::write(shop.src().join("top"), "top").unwrap();
    run(Command::new("chmod")
        .args(["640"])
        .arg(shop.src().join("top")));
    if is_root() {
        run(Command::new("chown")
            .args(["4711:4712"])
            .arg(shop.src().join("a/b/5")));
    }
    run(Command::new("setfacl")
        .args(["-m", "u:4711:rw"])
        .arg(shop.src().join("a/b/7")));
}

/// VolSync's source, by its own calls.
fn volsync_source(shop: &Shop) {
    let facl = shop.path("permissions.facl");
    let root = shop.src().parent().unwrap().display().to_string();
    // In VolSync's pod the volume is at /data.
    let script = format!(
        "cd {root} && find src -path src/lost+found -prune -o -print0 | xargs -0 getfacl -P | \
         sed 's,^# file: src,# file: data,' >{}",
        facl.display()
    );
    run(Command::new("bash").args(["-c", &script]));
    let target = format!("store:{}", shop.path);
    let source = shop.src().display().to_string();
    shop.stock(&[
        "sync",
        "--one-file-system",
        "--create-empty-src-dirs",
        "--checksum",
        "--exclude",
        "lost+found/**",
        &source,
        &target,
    ]);
    let folder = shop.path("").display().to_string();
    // The store lies in that folder, too.
    shop.stock(&[
        "copy",
        "--max-depth=1",
        "--include",
        "permissions.facl",
        &folder,
        &target,
    ]);
}

#[test]
fn a_stock_sources_objects_are_taken_and_again_only_when_they_changed() {
    let shop = Shop::new(Kind::Local);
    plain(&shop);
    volsync_source(&shop);
    let first = shop.destination(&[]);
    first.succeeded();
    tree::compare(&shop.src(), &shop.dst(), tree::as_stock_rclone_keeps);
    let label = first.report.generation.unwrap();
    assert!(label.starts_with("listing:"), "{label}");
    let waiting = shop.start(
        "destination",
        "dst",
        &[("POLL", "1"), ("LAST_GENERATION", &label)],
    );
    waiting.wait_for("waiting for a change in the store");
    std::fs::write(shop.src().join("a/new"), "new").unwrap();
    std::fs::remove_file(shop.src().join("a/b/3")).unwrap();
    volsync_source(&shop);
    waiting.end().succeeded();
    assert!(shop.dst().join("a/new").exists());
    assert!(!shop.dst().join("a/b/3").exists());
}

#[test]
fn of_what_a_crash_left_in_a_volume_that_goes_with_its_run_no_time_is_trusted() {
    // It tells no checksums.
    let shop = Shop::new(Kind::Sftp);
    plain(&shop);
    volsync_source(&shop);
    shop.destination(&[]).succeeded();
    let torn = "a/b/1";
    spoil(&shop.dst().join(torn), &shop.src().join(torn));
    shop.destination(&[("PASSING_VOLUME", "1")]).succeeded();
    tree::compare(&shop.src(), &shop.dst(), tree::as_stock_rclone_keeps);
}

#[test]
fn of_what_a_mover_itself_fetched_before_the_connection_broke_off_the_times_are_trusted() {
    let shop = Shop::new(Kind::Sftp);
    plain(&shop);
    volsync_source(&shop);
    let stage = Stage::breaking_off(&shop);
    let variables = [("PASSING_VOLUME", "1"), ("PATH", &*stage.path())];
    let destination = shop.destination(&variables);
    destination.succeeded();
    assert_eq!(destination.report.attempts, Some(2));
    assert_eq!(destination.report.files_transferred, Some(0));
    tree::compare(&shop.src(), &shop.dst(), tree::as_stock_rclone_keeps);
}

#[test]
fn stock_rclone_reads_what_a_source_left_and_finds_nothing_of_ours_in_it() {
    let shop = Shop::new(Kind::Local);
    plain(&shop);
    shop.source(&[]).succeeded();
    let target = format!("store:{}", shop.path);
    let back = shop.path("back");
    shop.stock(&[
        "sync",
        "--exclude",
        "permissions.facl",
        &target,
        back.to_str().unwrap(),
    ]);
    let names = |root: &std::path::Path| {
        let mut names: Vec<_> = tree::manifest(root).into_keys().collect();
        names.retain(|name| !name.starts_with("lost+found"));
        names
    };
    assert_eq!(names(&back), names(&shop.src()));
    let facl = std::fs::read_to_string(shop.objects().join("permissions.facl")).unwrap();
    assert!(
        facl.contains("# file: ") && facl.contains("a/b/7"),
        "{facl}"
    );
}

#[test]
fn a_path_that_volsync_filled_is_taken_over_without_sending_all_again() {
    let shop = Shop::new(Kind::Local);
    plain(&shop);
    volsync_source(&shop);
    std::fs::write(shop.objects().join("gone at the source"), "x").unwrap();
    let source = shop.source(&[]);
    source.succeeded();
    assert!(
        source.report.files_transferred.unwrap() <= 1,
        "{:?}",
        source.report
    );
    assert!(!shop.objects().join("gone at the source").exists());
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn a_stock_source_after_ours_is_noticed() {
    let shop = Shop::new(Kind::Local);
    plain(&shop);
    shop.source(&[]).succeeded();
    let first = shop.destination(&[]);
    std::fs::write(shop.src().join("added by volsync"), "x").unwrap();
    volsync_source(&shop);
    let second = shop.destination(&[(
        "LAST_GENERATION",
        first.report.generation.as_deref().unwrap(),
    )]);
    second.succeeded();
    assert!(shop.dst().join("added by volsync").exists());
    let words = second.report.unpreserved.join("; ");
    let cause = "cause: another source wrote its permissions.facl last";
    assert!(words.contains(cause), "{words}");
    // What it removes goes: the permissions that it left tell that it came to its end.
    std::fs::remove_file(shop.src().join("top")).unwrap();
    volsync_source(&shop);
    shop.destination(&[]).succeeded();
    assert!(!shop.dst().join("top").exists());
    // What somebody removed without such a word does not.
    std::fs::remove_file(shop.objects().join("a/b/3")).unwrap();
    shop.destination(&[]).failed("ListingIncomplete");
    assert!(shop.dst().join("a/b/3").exists());
    // Ours takes over again, and everything is as it was.
    shop.source(&[]).succeeded();
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn what_a_stock_source_does_not_carry_is_told_from_what_rights_would_have_given_back() {
    let shop = Shop::new(Kind::Local);
    plain(&shop);
    volsync_source(&shop);
    let whole = shop.destination(&[]);
    whole.succeeded();
    let words = whole.report.unpreserved.join("; ");
    assert!(words.contains("Syncline's notes carry"), "{words}");
    assert!(!whole.report.for_want_of_rights, "{words}");
    std::fs::remove_dir_all(shop.dst()).unwrap();
    std::fs::create_dir(shop.dst()).unwrap();
    let ordinary = shop.ordinary("destination", "dst", &[]);
    ordinary.succeeded();
    // Who is no root made the files of the source, too, and can give them all back.
    assert_eq!(ordinary.report.for_want_of_rights, is_root());
}

#[test]
fn a_destination_without_a_trigger_notices_a_stock_source_after_ours() {
    let shop = Shop::new(Kind::Local);
    plain(&shop);
    shop.source(&[]).succeeded();
    let first = shop.destination(&[]).report.generation.unwrap();
    let waiting = shop.start(
        "destination",
        "dst",
        &[("POLL", "1"), ("LAST_GENERATION", &first)],
    );
    waiting.wait_for("waiting for a new version");
    // The same names and sizes, and VolSync's last word.
    std::fs::write(shop.src().join("top"), "TOP").unwrap();
    volsync_source(&shop);
    let second = waiting.end();
    second.succeeded();
    assert_eq!(std::fs::read(shop.dst().join("top")).unwrap(), b"TOP");
    // It is not taken for news again.
    let second = second.report.generation.unwrap();
    let waiting = shop.start(
        "destination",
        "dst",
        &[("POLL", "1"), ("LAST_GENERATION", &second)],
    );
    waiting.wait_for("waiting for a new version");
    shop.source(&[]).succeeded();
    waiting.end().succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn a_destination_that_comes_another_way_than_the_source_takes_each_version_once() {
    let shop = Shop::new(Kind::Local);
    plain(&shop);
    shop.source(&[]).succeeded();
    // As when this way to the store shows other times than the source's.
    let facl = shop.objects().join("permissions.facl");
    run(Command::new("touch").args(["-d", "1 hour ago"]).arg(&facl));
    let poll = ("POLL", "1");
    let first = shop.destination(&[poll]).report.generation.unwrap();
    let waiting = shop.start("destination", "dst", &[poll, ("LAST_GENERATION", &first)]);
    waiting.wait_for("waiting for a new version");
    // What VolSync's source wrote afterwards is noticed all the same, and so is the next version of ours.
    std::fs::write(shop.src().join("top"), "TOP").unwrap();
    volsync_source(&shop);
    let second = waiting.end();
    second.succeeded();
    let second = second.report.generation.unwrap();
    assert_ne!(second, first);
    assert_eq!(std::fs::read(shop.dst().join("top")).unwrap(), b"TOP");
    let waiting = shop.start("destination", "dst", &[poll, ("LAST_GENERATION", &second)]);
    waiting.wait_for("waiting for a new version");
    shop.source(&[]).succeeded();
    waiting.end().succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
    // The version's number still says which files need not be looked at.
    run(Command::new("touch").args(["-d", "1 hour ago"]).arg(&facl));
    let third = shop.destination(&[poll]).report.generation.unwrap();
    let again = shop.destination(&[("LAST_GENERATION", &third)]);
    again.succeeded();
    assert_eq!(again.report.files_transferred, Some(0));
}

#[test]
fn what_a_stock_sources_permissions_name_is_not_deleted_because_a_listing_lacks_it() {
    let shop = Shop::new(Kind::Local);
    plain(&shop);
    volsync_source(&shop);
    shop.destination(&[]).succeeded();
    for place in ["mine", "a/mine"] {
        std::fs::write(shop.dst().join(place), "nobody knows it").unwrap();
    }
    std::fs::create_dir(shop.dst().join("empty")).unwrap();
    // As when a page of the listing lacks it, each time.
    std::fs::rename(shop.objects().join("top"), shop.path("aside")).unwrap();
    let short = shop.destination(&[]);
    short.failed_saying("ListingIncomplete", "permissions.facl names");
    assert!(shop.dst().join("top").exists() && shop.dst().join("mine").exists());
    std::fs::rename(shop.path("aside"), shop.objects().join("top")).unwrap();
    shop.destination(&[]).succeeded();
    assert!(shop.dst().join("top").exists());
    for place in ["mine", "a/mine", "empty"] {
        assert!(!shop.dst().join(place).exists(), "{place}");
    }
    tree::compare(&shop.src(), &shop.dst(), tree::as_stock_rclone_keeps);
}

#[test]
fn permissions_beyond_measure_are_not_fetched_and_that_is_said() {
    let shop = Shop::new(Kind::Local);
    plain(&shop);
    volsync_source(&shop);
    let facl = std::fs::File::options()
        .write(true)
        .open(shop.objects().join("permissions.facl"))
        .unwrap();
    facl.set_len(600 << 20).unwrap();
    let destination = shop.destination(&[]);
    destination.succeeded();
    let words = destination.report.unpreserved.join("; ");
    assert!(words.contains("larger than 512 MiB"), "{words}");
    assert!(shop.dst().join("top").exists());
}

#[test]
fn folders_come_and_go_with_a_stock_sources_and_files_that_a_key_passes_over_stay() {
    let shop = Shop::new(Kind::Local);
    plain(&shop);
    std::fs::create_dir_all(shop.src().join("empty/inside")).unwrap();
    std::fs::create_dir_all(shop.src().join("goes/soon")).unwrap();
    std::fs::write(shop.src().join("goes/file"), "x").unwrap();
    volsync_source(&shop);
    shop.destination(&[]).succeeded();
    assert!(shop.dst().join("empty/inside").exists());
    std::fs::write(shop.path("config/RCLONE_EXCLUDE"), "*.tmp").unwrap();
    std::fs::write(shop.dst().join("mine.tmp"), "x").unwrap();
    std::fs::remove_dir_all(shop.src().join("goes")).unwrap();
    std::fs::write(shop.src().join("theirs.tmp"), "x").unwrap();
    volsync_source(&shop);
    shop.destination(&[]).succeeded();
    assert!(shop.dst().join("mine.tmp").exists());
    assert!(!shop.dst().join("theirs.tmp").exists());
    assert!(!shop.dst().join("goes").exists());
    std::fs::remove_file(shop.path("config/RCLONE_EXCLUDE")).unwrap();
    shop.destination(&[]).succeeded();
    assert!(!shop.dst().join("mine.tmp").exists());
    assert!(shop.dst().join("theirs.tmp").exists());
}

#[test]
fn a_stock_sources_run_after_ours_counts_although_it_changed_permissions_only_or_came_another_way()
{
    let shop = Shop::new(Kind::Local);
    plain(&shop);
    shop.source(&[]).succeeded();
    let first = shop.destination(&[]);
    first.succeeded();
    // The same content with another time is no other source's.
    let facl = shop.objects().join("permissions.facl");
    run(Command::new("touch").args(["-d", "1 hour ago"]).arg(&facl));
    let again = shop.destination(&[]);
    again.succeeded();
    assert_eq!(again.report.generation, first.report.generation);
    run(Command::new("chmod").arg("600").arg(shop.src().join("top")));
    volsync_source(&shop);
    let ended = shop.destination(&[]);
    ended.succeeded();
    assert_ne!(ended.report.generation, first.report.generation);
    let found = std::fs::metadata(shop.dst().join("top")).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
}
