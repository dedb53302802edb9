//! What becomes of the marker when a store writes half of one, and when a run ends before it sent anything.

use std::process::Command;

use syncline_testkit::store::{Fault, Kind as Request, Refusal};

use super::cloud::Cloud;
use super::interleaved::fill;
use super::shop::{Kind, SHORT_LEASE, Shop, rclone};
use crate::pair::run;
use crate::tree;

const OTHER: [(&str, &str); 2] = [("OWNER_NAME", "other"), ("OWNER_UID", "uid-2")];

/// A store in a folder, and a volume.
fn filled() -> Shop {
    let shop = Shop::new(Kind::Local);
    fill(&shop.src());
    shop
}

/// A `PATH` with an `rclone` that does `script` before all else. `half` leaves half of the marker there.
fn acting(shop: &Shop, script: &str) -> String {
    let stage = shop.path("stage");
    std::fs::create_dir(&stage).unwrap();
    let program = stage.join("rclone");
    let text = format!(
        "#!/bin/bash\nstage={}; marker={}; real={}\n\
         half() {{ head -c 40 $marker >$stage/half; cp $stage/half $marker; }}\n\
         fail() {{ echo '{{\"level\":\"error\",\"msg\":\"'\"$1\"'\",\"time\":\"\"}}' >&2; exit 1; }}\n\
         {script}\nexec $real \"$@\"\n",
        stage.display(),
        shop.state().join("generation.json").display(),
        rclone().display(),
    );
    std::fs::write(&program, text).unwrap();
    run(Command::new("chmod").arg("755").arg(&program));
    format!("{}:/usr/bin:/bin", stage.display())
}

#[test]
fn half_a_marker_of_ones_own_is_written_again_and_ends_no_run() {
    let during =
        "if [ $1 = copy ]; then half; until tail -c 2 $marker | grep -q }; do sleep 0.05; done; fi";
    let after = "case \"$*\" in copyto*/manifest-*) half;; esac";
    for script in [during, after] {
        let shop = filled();
        let path = acting(&shop, script);
        let ended = shop.source(&[("PATH", &path)]);
        ended.succeeded();
        assert_eq!(shop.marker()["state"], "complete");
        assert!(shop.path("stage/half").exists());
        shop.destination(&[]).succeeded();
        tree::assert_same(&shop.src(), &shop.dst());
    }
}

#[test]
fn a_marker_of_ones_own_that_a_failed_writing_took_along_is_written_again() {
    let shop = filled();
    // As rclone does on WebDAV, once: the manifest is there, and what was to follow it.
    let path = acting(
        &shop,
        "case \"$*\" in copyto*/manifest-*) touch $stage/last;;\n\
         copyto*/generation.json) if [ -e $stage/last ] && mkdir $stage/broken 2>/dev/null; then\n\
         rm $marker; fail 'connection reset by peer'; fi;; esac",
    );
    shop.source(&[("PATH", &path)]).succeeded();
    assert!(shop.path("stage/broken").exists());
    assert_eq!(shop.marker()["state"], "complete");
}

#[test]
fn half_a_marker_beside_a_claim_that_came_since_is_not_taken_for_ones_own() {
    let shop = filled();
    let path = acting(
        &shop,
        "case \"$*\" in copyto*/manifest-*) half; touch ${marker%/*}/run-0123456789abcdef0123456789abcdef.json;; esac",
    );
    let ended = shop.source(&[("PATH", &path)]);
    let log = &ended.log;
    assert!(log.contains("came while this one was at work"), "{log}");
    // Once it has waited for the other in vain, that is one of those that died.
    assert!(log.contains("did not end properly"), "{log}");
    ended.succeeded();
}

#[test]
fn a_run_that_fails_beside_half_a_marker_is_taken_up_by_the_same_source_only() {
    let shop = filled();
    let path = acting(&shop, "if [ $1 = copy ]; then half; fail AccessDenied; fi");
    // The run ends before it looks at its marker.
    let slow = ("SYNCLINE_WAIT_UNIT_MS", "200");
    shop.source(&[("PATH", &path), slow]).failed("StoreRefused");
    let claims = || {
        let names = shop.state_names();
        names.iter().filter(|name| name.starts_with("run-")).count()
    };
    assert_eq!(claims(), 1);
    shop.source(&OTHER).failed("PathInUse");
    shop.source(&[]).succeeded();
    assert_eq!(claims(), 0);
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn half_a_marker_beside_half_an_upload_stays_until_all_is_there() {
    let shop = filled();
    shop.source(&[]).succeeded();
    let marker = shop.state().join("generation.json");
    std::fs::copy(
        &marker,
        shop.state()
            .join("run-0123456789abcdef0123456789abcdef.json"),
    )
    .unwrap();
    std::fs::write(&marker, "{\"version\": 1, \"sta").unwrap();
    std::fs::remove_file(shop.objects().join("a/b/1")).unwrap();
    let path = acting(
        &shop,
        "case \"$*\" in lsjson*--recursive*/data/) fail 'connection reset by peer';; esac",
    );
    shop.source(&[("PATH", &path)]).failed("StoreUnreachable");
    assert_eq!(shop.marker()["state"], "uploading");
    shop.source(&[]).succeeded();
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn a_run_that_is_refused_before_it_sent_anything_leaves_the_path_to_whoever_had_it() {
    let shop = filled();
    let first = shop.source(&[]).report.generation;
    let nested = shop.objects().join("inner-syncline");
    let marker = shop.marker();
    let took_over = [OTHER[0], OTHER[1], ("TAKE_OVER", "uid-1")];
    let made_anew = [("OWNER_UID", "uid-3")];
    for variables in [&took_over[..], &made_anew] {
        std::fs::create_dir(&nested).unwrap();
        std::fs::write(nested.join("generation.json"), "{}").unwrap();
        shop.source(variables).failed("PathInUse");
        assert_eq!(shop.marker(), marker);
        std::fs::remove_dir_all(&nested).unwrap();
        let destination = shop.destination(&[]);
        destination.succeeded();
        assert_eq!(destination.report.generation, first);
        let source = shop.source(&[]);
        source.succeeded();
        assert_eq!(source.report.generation, first);
    }
}

#[test]
fn a_marker_beside_which_another_run_was_at_work_does_not_get_its_word_back() {
    let shop = filled();
    shop.source(&[]).succeeded();
    let nested = shop.objects().join("inner-syncline");
    std::fs::create_dir(&nested).unwrap();
    std::fs::write(nested.join("generation.json"), "{}").unwrap();
    std::fs::write(
        shop.state()
            .join("run-0123456789abcdef0123456789abcdef.json"),
        "{}",
    )
    .unwrap();
    let took_over = [OTHER[0], OTHER[1], ("TAKE_OVER", "uid-1")];
    shop.source(&took_over).failed("PathInUse");
    // But whose the path is stays as it was.
    let marker = shop.marker();
    assert_eq!(marker["state"], "uploading");
    assert_eq!(marker["source"]["uid"], "uid-1");
    std::fs::remove_dir_all(&nested).unwrap();
    // What a check removes is told.
    std::fs::write(shop.objects().join("stranger"), "put there by hand").unwrap();
    let ended = shop.source(&[]);
    ended.succeeded();
    assert!(
        ended
            .log
            .contains("in no version that this source knows of")
            && ended.log.contains("stranger"),
        "{}",
        ended.log
    );
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn a_check_that_gets_no_listing_takes_the_last_version_from_nobody() {
    let cloud = Cloud::new();
    for number in 0..30 {
        std::fs::write(cloud.shop.src().join(format!("{number}")), "content").unwrap();
    }
    let first = cloud.shop.source(&[]).report.generation.unwrap();
    let check = [
        ("LAST_GENERATION", first.as_str()),
        ("RUNS_SINCE_FULL_CHECK", "9"),
    ];
    let refused = || {
        Fault::refuse(Refusal::AccessDenied)
            .on(Request::List)
            .at("/db/")
    };
    // At once, and where only the listing at the end is left.
    for fault in [refused(), refused().after(2)] {
        cloud.store.misbehave(fault);
        cloud.shop.source(&check).failed("StoreRefused");
        assert!(cloud.store.struck() > 0);
        cloud.store.behave();
        let destination = cloud.shop.destination(&[]);
        destination.succeeded();
        assert_eq!(destination.report.generation.as_ref(), Some(&first));
    }
}

#[test]
fn a_sign_of_life_that_comes_late_is_not_the_last_word() {
    let shop = filled();
    // One is on its way for longer than the run waits for it, and the store takes it all the same, after the upload.
    let path = acting(
        &shop,
        "from=${@: -2:1}; to=${@: -1}\n\
         case \"$*\" in\n\
         copy\\ *) touch $stage/began; until [ -e $stage/given-up ]; do sleep 0.05; done;;\n\
         copyto*/generation.json) if [ -e $stage/began ] && mkdir $stage/held 2>/dev/null; then\n\
         cp $from $stage/late\n\
         export stage to given=$$\n\
         setsid bash -c 'while kill -0 $given; do sleep 0.05; done; touch $stage/given-up\n\
         sleep 2.5; cp $stage/late ${to#*:}; touch $stage/landed' >/dev/null 2>&1 </dev/null &\n\
         exec sleep 600; fi;;\n\
         esac",
    );
    let ended = shop.source(&[("PATH", &path), SHORT_LEASE]);
    ended.succeeded();
    crate::pair::until("the late one is there", || {
        shop.path("stage/landed").exists()
    });
    assert_eq!(shop.marker()["state"], "complete", "{}", ended.log);
}

#[test]
fn a_former_marker_that_is_ended_late_gets_its_word_back_all_the_same() {
    let shop = filled();
    shop.source(&[]).succeeded();
    let marker = shop.marker();
    // The first one that ends it is given up, and comes; the second is refused.
    let path = acting(
        &shop,
        "from=${@: -2:1}; to=${@: -1}\n\
         case \"$*\" in copyto*/data-syncline/generation.json)\n\
         if mkdir $stage/held 2>/dev/null; then\n\
         cp $from $stage/late\n\
         export stage to\n\
         setsid bash -c 'until [ -e $stage/refused ]; do sleep 0.05; done\n\
         sleep 2; cp $stage/late ${to#*:}; touch $stage/landed' >/dev/null 2>&1 </dev/null &\n\
         exec sleep 600; fi\n\
         if mkdir $stage/refused 2>/dev/null; then fail AccessDenied; fi;;\n\
         esac",
    );
    let notes = shop.path("store/notes").display().to_string();
    let taking_over = [
        OTHER[0],
        OTHER[1],
        ("STATE_PATH", &notes),
        ("TAKE_OVER", "uid-1"),
        ("PATH", &path),
        SHORT_LEASE,
    ];
    let ended = shop.source(&taking_over);
    ended.failed("StoreRefused");
    crate::pair::until("the late one is there", || {
        shop.path("stage/landed").exists()
    });
    assert_eq!(shop.marker(), marker, "{}", ended.log);
    assert_eq!(shop.state_names().len(), 2);
}
