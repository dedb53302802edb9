//! A path that others write to as well, or may believe to be theirs.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::interleaved::fill;
use super::shop::{Kind, SHORT_LEASE, Shop};
use crate::pair::{is_root, run};
use crate::tree;

fn filled() -> Shop {
    let shop = Shop::new(Kind::Local);
    std::fs::create_dir(shop.src().join("folder")).unwrap();
    std::fs::write(shop.src().join("folder/file"), "content").unwrap();
    std::fs::write(shop.src().join("top"), "content").unwrap();
    shop
}

#[test]
fn a_source_of_the_same_name_in_another_cluster_is_refused_until_it_is_told_to_take_over() {
    let shop = filled();
    shop.source(&[("OWNER_CLUSTER", "here")]).succeeded();
    let there = [("OWNER_CLUSTER", "there"), ("OWNER_UID", "uid-9")];
    std::fs::write(shop.src().join("top"), "of another cluster").unwrap();
    let refused = shop.source(&there);
    refused.failed("PathInUse");
    let message = refused.report.message.unwrap();
    assert!(message.contains("another cluster"), "{message}");
    let cure = "; give this source another path; only if that source is gone for good, let this one take the path over with the \
        annotation syncline.dev/rclone-take-over: uid-1";
    assert!(message.ends_with(cure), "{message}");
    let object = shop.objects().join("top");
    assert_eq!(std::fs::read(&object).unwrap(), b"content");
    // Made anew in its own cluster it is the same source.
    shop.source(&[("OWNER_CLUSTER", "here"), ("OWNER_UID", "uid-2")])
        .succeeded();
    let wrong = [there[0], there[1], ("TAKE_OVER", "uid-1")];
    shop.source(&wrong).failed("PathInUse");
    let right = [there[0], there[1], ("TAKE_OVER", "uid-2")];
    shop.source(&right).succeeded();
    shop.source(&there).succeeded();
    let here = [("OWNER_CLUSTER", "here"), ("OWNER_UID", "uid-2")];
    let refused = shop.source(&here);
    refused.failed("PathInUse");
    // Back again it goes in the same way.
    let message = refused.report.message.unwrap();
    assert!(
        message.contains("syncline.dev/rclone-take-over: uid-9"),
        "{message}"
    );
    shop.source(&[here[0], here[1], ("TAKE_OVER", "uid-9")])
        .succeeded();
    shop.source(&there).failed("PathInUse");
}

#[test]
fn a_path_within_anothers_and_one_around_anothers_are_refused_and_nothing_is_removed() {
    let shop = filled();
    let inner = format!("{}/inner", shop.path);
    shop.source(&[("RCLONE_DEST_PATH", &inner)]).succeeded();
    let around = shop.source(&[("OWNER_NAME", "outer"), ("OWNER_UID", "uid-2")]);
    around.failed("PathInUse");
    let message = around.report.message.unwrap();
    assert!(
        message.contains("inner-syncline/generation.json"),
        "{message}"
    );
    assert!(shop.objects().join("inner/top").exists());
    assert!(
        shop.objects()
            .join("inner-syncline/generation.json")
            .exists()
    );
    // Nor by a source whose Secret chooses among files.
    std::fs::write(shop.path("config/RCLONE_EXCLUDE"), "*.tmp").unwrap();
    shop.source(&[("OWNER_NAME", "outer"), ("OWNER_UID", "uid-2")])
        .failed("PathInUse");
    assert!(shop.objects().join("inner/top").exists());
    assert!(
        shop.objects()
            .join("inner-syncline/generation.json")
            .exists()
    );

    let shop = filled();
    shop.source(&[]).succeeded();
    let inner = format!("{}/folder", shop.path);
    let within = shop.source(&[
        ("RCLONE_DEST_PATH", &inner),
        ("OWNER_NAME", "inner"),
        ("OWNER_UID", "uid-2"),
    ]);
    within.failed_saying("PathInUse", "space/source");
}

#[test]
fn a_path_within_anothers_is_refused_by_way_of_another_section_too() {
    let shop = Shop::new(Kind::Crypt);
    std::fs::write(shop.src().join("top"), "content").unwrap();
    let store = shop.path("store").display().to_string();
    let plain = [
        ("RCLONE_CONFIG_SECTION", "base"),
        ("RCLONE_DEST_PATH", store.as_str()),
    ];
    shop.source(&plain).succeeded();
    let sealed = shop.source(&[("OWNER_NAME", "inner"), ("OWNER_UID", "uid-2")]);
    sealed.failed_saying("PathInUse", "store-syncline/generation.json tells");
    let names = std::fs::read_dir(&store).unwrap();
    let mut names: Vec<_> = names.map(|name| name.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["permissions.facl", "top"]);
}

#[test]
fn a_path_that_is_the_place_of_anothers_notes_is_refused_and_they_stay() {
    let shop = filled();
    shop.source(&[]).succeeded();
    let (names, marker) = (shop.state_names(), shop.marker());
    let notes = shop.state().display().to_string();
    let other = [
        ("RCLONE_DEST_PATH", notes.as_str()),
        ("OWNER_NAME", "other"),
        ("OWNER_UID", "uid-2"),
    ];
    let refused = shop.source(&other);
    refused.failed_saying("PathInUse", "generation.json is there");
    refused.failed_saying("PathInUse", "notes lie within");
    assert_eq!((shop.state_names(), shop.marker()), (names, marker));
}

#[test]
fn notes_of_another_that_came_into_ones_path_are_not_removed_in_later_runs_either() {
    let shop = filled();
    shop.source(&[]).succeeded();
    let (path, notes) = (shop.path("store/other"), shop.objects().join("notes"));
    let (path, place) = (path.display().to_string(), notes.display().to_string());
    let other = [
        ("RCLONE_DEST_PATH", path.as_str()),
        ("STATE_PATH", place.as_str()),
        ("OWNER_NAME", "other"),
        ("OWNER_UID", "uid-2"),
    ];
    shop.source(&other).succeeded();
    std::fs::write(shop.src().join("top"), "changed").unwrap();
    for _ in 0..2 {
        let refused = shop.source(&[]);
        refused.failed_saying("PathInUse", "notes/generation.json");
        assert!(notes.join("generation.json").exists());
        assert!(notes.join("manifest-1.zst").exists());
    }
    // One's own file of that name is no such thing.
    std::fs::remove_dir_all(&notes).unwrap();
    std::fs::create_dir(&notes).unwrap();
    std::fs::write(notes.join("generation.json"), "{}").unwrap();
    shop.source(&[]).succeeded();
    assert!(!notes.join("generation.json").exists());
}

#[test]
fn what_looks_like_anothers_notes_and_was_the_volumes_own_goes_when_the_volume_has_it_no_more() {
    let shop = filled();
    for folder in ["copy", "db-syncline"] {
        let folder = shop.src().join(folder);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("generation.json"), "{}").unwrap();
        std::fs::write(folder.join("manifest-1.zst"), "x").unwrap();
    }
    let first = shop.source(&[]).report.generation.unwrap();
    for folder in ["copy", "db-syncline"] {
        std::fs::remove_dir_all(shop.src().join(folder)).unwrap();
    }
    let checked = shop.source(&[("LAST_GENERATION", &first), ("FULL_CHECK_EVERY", "1")]);
    checked.succeeded();
    assert!(checked.report.full_check);
    let left = ["copy", "db-syncline"].map(|folder| shop.objects().join(folder).exists());
    assert_eq!(left, [false, false]);
}

#[test]
fn a_path_of_volsyncs_within_ones_own_is_refused_at_first() {
    let shop = filled();
    std::fs::create_dir_all(shop.objects().join("other")).unwrap();
    std::fs::write(shop.objects().join("other/permissions.facl"), "x").unwrap();
    std::fs::write(shop.objects().join("other/data"), "x").unwrap();
    shop.source(&[]).failed("PathInUse");
    assert!(shop.objects().join("other/data").exists());
}

#[test]
fn a_volume_with_folders_alone_empties_no_store() {
    let shop = filled();
    let first = shop.source(&[]);
    first.succeeded();
    // A fresh claim on which something made a folder.
    run(Command::new("rm").arg("-r").arg(shop.src().join("folder")));
    std::fs::remove_file(shop.src().join("top")).unwrap();
    std::fs::create_dir(shop.src().join("pgdata")).unwrap();
    let last = first.report.generation.unwrap();
    let known = [
        ("LAST_GENERATION", last.as_str()),
        ("LAST_SYNCED_ENTRIES", "4"),
    ];
    shop.source(&known).failed("SourceUnexpectedlyEmpty");
    shop.source(&[]).failed("SourceUnexpectedlyEmpty");
    std::fs::remove_dir_all(shop.state()).unwrap();
    shop.source(&[]).failed("SourceUnexpectedlyEmpty");
    assert!(shop.objects().join("top").exists());
    shop.source(&[("ALLOW_EMPTY_SOURCE", "1")]).succeeded();
    assert!(!shop.objects().join("top").exists());
    // Now it is known to hold none, and may go on so.
    shop.source(&[]).succeeded();
}

#[test]
fn keys_by_which_rclone_deletes_what_it_passes_over_are_not_handed_on_and_that_is_told() {
    let shop = filled();
    std::fs::write(shop.path("config/RCLONE_DELETE_EXCLUDED"), "true").unwrap();
    std::fs::write(shop.path("config/RCLONE_IGNORE_ERRORS"), "true").unwrap();
    let first = shop.source(&[]);
    first.succeeded();
    for key in ["RCLONE_DELETE_EXCLUDED", "RCLONE_IGNORE_ERRORS"] {
        let words = format!("the key {key} of the Secret is passed over");
        assert!(first.log.contains(&words), "{}", first.log);
    }
    let inode = |name: &str| {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(shop.objects().join(name)).unwrap().ino()
    };
    let before = inode("top");
    std::fs::create_dir(shop.src().join("new folder")).unwrap();
    shop.source(&[]).succeeded();
    assert_eq!(inode("top"), before);
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn a_store_in_one_of_the_movers_own_places_is_refused() {
    let shop = filled();
    let root = shop.path("").display().to_string();
    let obscured = shop.stock(&["obscure", "secret words"]);
    let conf = format!(
        "[store]\ntype = local\n\n[alias]\ntype = alias\nremote = {root}tmp\n\n\
         [crypt]\ntype = crypt\nremote = alias:x\npassword = {}\n",
        obscured.trim()
    );
    std::fs::write(shop.path("config/rclone.conf"), conf).unwrap();
    let shm = format!(
        "/dev/shm/{}",
        shop.src().strip_prefix("/").unwrap().display()
    );
    for (role, volume, section, path) in [
        ("source", "src", "store", format!("{root}src/copy")),
        ("source", "src", "store", format!("{root}tmp/db")),
        ("destination", "dst", "store", format!("{root}dst/db")),
        ("destination", "dst", "store", format!("{root}tmp/db")),
        // As rclone reads them, seen from where the mover is.
        ("source", "src", "store", format!("{root}store/../tmp/./db")),
        ("source", "src", "store", "tmp/db".to_owned()),
        ("source", "src", "store", "store/../src/db".to_owned()),
        ("source", "src", "store", shm.clone()),
        ("source", "src", "alias", "db".to_owned()),
        ("source", "src", "crypt", "db".to_owned()),
        // What holds such a place, or all volumes.
        ("source", "src", "store", root.clone()),
        ("destination", "dst", "store", root.clone()),
        ("source", "src", "alias", "..".to_owned()),
        ("source", "src", "store", "/".to_owned()),
        ("destination", "dst", "store", "/mnt".to_owned()),
    ] {
        let variables = [
            ("RCLONE_CONFIG_SECTION", section),
            ("RCLONE_DEST_PATH", path.as_str()),
        ];
        let mut mover = shop.mover(role, &shop.path(volume), &variables);
        mover.current_dir(&root);
        let ended = shop.start_command(mover, role).end();
        ended.failed_saying("InvalidSettings", "spec.rclone.moverVolumes");
    }
    assert!(!Path::new(&shm).exists());
    for place in ["src/copy", "src/db", "dst/db", "tmp/db", "tmp/x"] {
        assert!(!shop.path(place).exists(), "{place}");
    }
}

#[test]
fn a_key_that_compares_sizes_only_is_passed_over_and_content_is_compared() {
    let shop = filled();
    std::fs::write(shop.path("config/RCLONE_SIZE_ONLY"), "true").unwrap();
    // What a stock source left there, of which one file changed without another size or time.
    let target = format!("store:{}", shop.path);
    shop.stock(&["sync", shop.src().to_str().unwrap(), &target]);
    let name = "top";
    let (file, object) = (shop.src().join(name), shop.objects().join(name));
    let turned: Vec<u8> = std::fs::read(&object)
        .unwrap()
        .iter()
        .map(|byte| !byte)
        .collect();
    std::fs::write(&object, turned).unwrap();
    run(Command::new("touch").arg("-r").arg(&file).arg(&object));
    let source = shop.source(&[]);
    source.succeeded();
    let words = "the key RCLONE_SIZE_ONLY of the Secret is passed over";
    assert!(source.log.contains(words), "{}", source.log);
    assert_eq!(
        std::fs::read(&object).unwrap(),
        std::fs::read(&file).unwrap()
    );
}

#[test]
fn the_lost_and_found_of_a_volume_that_is_the_store_is_nobodys_concern() {
    let shop = filled();
    let lost = shop.objects().join("lost+found");
    std::fs::create_dir_all(&lost).unwrap();
    std::fs::write(lost.join("#12"), "found by fsck").unwrap();
    if !is_root() {
        // As nobody but root may read it.
        run(Command::new("chmod").arg("000").arg(&lost));
    }
    shop.source(&[]).succeeded();
    shop.destination(&[]).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
    run(Command::new("chmod").arg("700").arg(&lost));
    assert!(lost.join("#12").exists());
}

#[test]
fn a_chmod_sends_no_content_again() {
    let shop = Shop::new(Kind::Local);
    for number in 0..20 {
        std::fs::write(shop.src().join(format!("{number}")), "content").unwrap();
    }
    shop.source(&[]).succeeded();
    let first = shop.destination(&[]).report.generation.unwrap();
    for number in 0..5 {
        run(Command::new("chmod")
            .arg("600")
            .arg(shop.src().join(format!("{number}"))));
    }
    let second = shop.source(&[("LAST_GENERATION", &first)]);
    second.succeeded();
    assert_eq!(second.report.files_transferred, Some(0), "{}", second.log);
    assert_ne!(second.report.generation.as_deref(), Some(first.as_str()));
    let second = shop.destination(&[("LAST_GENERATION", &first)]);
    second.succeeded();
    assert_eq!(second.report.files_transferred, Some(0), "{}", second.log);
    tree::assert_same(&shop.src(), &shop.dst());
}

#[test]
fn a_run_that_cannot_see_its_marker_for_long_ends_before_another_may_go_on() {
    let shop = filled();
    shop.source(&[]).succeeded();
    std::fs::write(shop.src().join("top"), "changed").unwrap();
    // Reading the marker hangs once the transfer has begun, and the transfer takes its time.
    let stage = shop.path("stage");
    std::fs::create_dir(&stage).unwrap();
    let program = stage.join("rclone");
    let real = super::shop::rclone().display();
    let script = format!(
        "#!/bin/bash\n\
         case $1 in\n\
         copy) trap 'echo term >{stage}/ended; exit 143' TERM; touch {stage}/began; sleep 600 & wait;;\n\
         cat) if [ -e {stage}/began ]; then exec sleep 600; fi;;\n\
         esac\nexec {real} \"$@\"\n",
        stage = stage.display()
    );
    std::fs::write(&program, script).unwrap();
    run(Command::new("chmod").arg("755").arg(&program));
    let path = format!("{}:/usr/bin:/bin", stage.display());
    let running = shop.start("source", "src", &[("PATH", &path), SHORT_LEASE]);
    // A marker that is not taken at first, by a busy machine, is told with a shorter time.
    running.wait_for("for 24 s the store did not show or take");
    assert!(stage.join("ended").exists(), "rclone was told to end");
    running.kill_all();
    running.end_somehow();
    assert_eq!(shop.marker()["state"], "uploading");
}

#[test]
fn an_answer_that_took_long_is_no_leave_to_write_the_last_word() {
    let shop = filled();
    // The look before the last word is answered long after another run has come.
    let stage = shop.path("stage");
    std::fs::create_dir(&stage).unwrap();
    let program = stage.join("rclone");
    let script = format!(
        "#!/bin/bash\n\
         case \"$*\" in\n\
         copyto*/manifest-*) touch {stage}/late;;\n\
         cat*) if [ -e {stage}/late ] && mkdir {stage}/held 2>/dev/null; then\n\
         answer=$({real} \"$@\")\n\
         sed -i 's/\"run\": \"[0-9a-f]*\"/\"run\": \"another\"/' {marker}\n\
         sleep 27; echo \"$answer\"; exit; fi;;\n\
         esac\nexec {real} \"$@\"\n",
        stage = stage.display(),
        real = super::shop::rclone().display(),
        marker = shop.state().join("generation.json").display(),
    );
    std::fs::write(&program, script).unwrap();
    run(Command::new("chmod").arg("755").arg(&program));
    let path = format!("{}:/usr/bin:/bin", stage.display());
    shop.source(&[("PATH", &path), SHORT_LEASE])
        .failed("PathInUse");
    assert!(stage.join("held").exists());
    assert_eq!(shop.marker()["run"], "another");
    assert_eq!(shop.marker()["state"], "uploading");
}

#[test]
fn notes_of_another_path_say_nothing_of_this_one() {
    let shop = filled();
    let notes = shop.path("store/notes").display().to_string();
    let here = [("STATE_PATH", notes.as_str())];
    let first = shop.source(&here).report.generation.unwrap();
    // The user gave the source another path and left the annotation.
    let other = format!("{}-2", shop.path);
    let there = [
        here[0],
        ("RCLONE_DEST_PATH", other.as_str()),
        ("LAST_GENERATION", first.as_str()),
    ];
    let moved = shop.source(&there);
    moved.succeeded();
    assert!(moved.report.full_check);
    assert!(shop.path("store/data-2/folder/file").exists());
    // Another source with the same annotation is told what it shares.
    let others = [here[0], ("OWNER_NAME", "other"), ("OWNER_UID", "uid-2")];
    let refused = shop.source(&others);
    refused.failed("PathInUse");
    let message = refused.report.message.unwrap();
    assert!(
        message.contains("data-2") && message.contains("notes lie in the same place"),
        "{message}"
    );
}

#[test]
fn notes_of_another_path_make_no_later_run_of_the_first_at_this_one() {
    let shop = filled();
    let notes = shop.path("store/notes").display().to_string();
    let here = [("STATE_PATH", notes.as_str())];
    let first = shop.source(&here).report.generation.unwrap();
    let volsyncs = shop.path("store/data-2/x");
    std::fs::create_dir_all(&volsyncs).unwrap();
    std::fs::write(volsyncs.join("permissions.facl"), "x").unwrap();
    std::fs::write(volsyncs.join("data"), "x").unwrap();
    let other = format!("{}-2", shop.path);
    let there = [
        here[0],
        ("RCLONE_DEST_PATH", other.as_str()),
        ("LAST_GENERATION", first.as_str()),
    ];
    for variables in [&there[..], &there[..2]] {
        let refused = shop.source(variables);
        refused.failed_saying("PathInUse", "x/permissions.facl");
        assert!(volsyncs.join("data").exists());
    }
    std::fs::remove_dir_all(&volsyncs).unwrap();
    shop.source(&there).succeeded();
    assert!(shop.path("store/data-2/folder/file").exists());
}

#[test]
fn an_empty_volume_empties_no_other_path_by_the_word_of_its_notes() {
    let shop = Shop::new(Kind::Local);
    let notes = shop.path("store/notes").display().to_string();
    let here = [("STATE_PATH", notes.as_str())];
    let first = shop.source(&here).report.generation.unwrap();
    let full = shop.path("store/data-2");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("file"), "content").unwrap();
    let other = format!("{}-2", shop.path);
    let there = [
        here[0],
        ("RCLONE_DEST_PATH", other.as_str()),
        ("LAST_GENERATION", first.as_str()),
    ];
    for variables in [&there[..], &there[..2]] {
        shop.source(variables).failed("SourceUnexpectedlyEmpty");
        assert!(full.join("file").exists());
    }
}

#[test]
fn a_source_that_goes_alone_leaves_no_notes_that_nobody_keeps_up() {
    let shop = filled();
    shop.source(&[]).succeeded();
    std::fs::write(
        shop.state()
            .join("run-0123456789abcdef0123456789abcdef.json"),
        "{}",
    )
    .unwrap();
    std::fs::write(shop.path("config/RCLONE_EXCLUDE"), "*.tmp").unwrap();
    shop.source(&[]).succeeded();
    assert_eq!(shop.state_names(), ["generation.json"]);
    assert_eq!(shop.marker()["state"], "retired");
}

#[test]
fn a_source_at_work_shows_that_it_is() {
    let shop = filled();
    shop.source(&[]).succeeded();
    std::fs::write(shop.src().join("top"), "changed").unwrap();
    let stage = shop.path("stage");
    std::fs::create_dir(&stage).unwrap();
    let program = stage.join("rclone");
    let script = format!(
        "#!/bin/bash\nif [ $1 = copy ]; then while [ ! -e {}/go ]; do sleep 0.05; done; fi\nexec {} \"$@\"\n",
        stage.display(),
        super::shop::rclone().display()
    );
    std::fs::write(&program, script).unwrap();
    run(Command::new("chmod").arg("755").arg(&program));
    let path = format!("{}:/usr/bin:/bin", stage.display());
    let running = shop.start("source", "src", &[("PATH", &path)]);
    let alive = || shop.marker()["alive"].as_str().map(str::to_owned);
    crate::pair::until("a sign of life", || alive().is_some());
    let first = alive();
    crate::pair::until("another sign of life", || alive() != first);
    std::fs::write(stage.join("go"), "").unwrap();
    running.end().succeeded();
    assert_eq!(shop.marker()["state"], "complete");
    assert_eq!(alive(), None);
}

/// Of two sources that both gave way, the one whose marker lies there, or either where none does, succeeds when it is alone.
/// Gives its volume.
fn goes_on_alone(shop: &Shop) -> PathBuf {
    let is_marked = shop.state_names().contains(&"generation.json".to_owned());
    let (volume, name, uid) = if is_marked && shop.marker()["source"]["uid"] == "uid-2" {
        ("src-2", "two", "uid-2")
    } else {
        ("src", "source", "uid-1")
    };
    let who = [("OWNER_NAME", name), ("OWNER_UID", uid)];
    shop.start("source", volume, &who).end().succeeded();
    shop.path(volume)
}

#[test]
fn of_two_sources_that_begin_together_at_most_one_goes_on() {
    for _ in 0..4 {
        let shop = Shop::new(Kind::Local);
        fill(&shop.src());
        std::fs::create_dir(shop.path("src-2")).unwrap();
        std::fs::write(shop.path("src-2").join("other"), "other").unwrap();
        std::fs::create_dir(shop.path("src-2").join("a")).unwrap();
        let one = shop.start("source", "src", &[("SYNCLINE_WAIT_UNIT_MS", "50")]);
        let two = shop.start(
            "source",
            "src-2",
            &[
                ("OWNER_NAME", "two"),
                ("OWNER_UID", "uid-2"),
                ("SYNCLINE_WAIT_UNIT_MS", "50"),
            ],
        );
        let (one, two) = (one.end(), two.end());
        let winners = [(&one, shop.src()), (&two, shop.path("src-2"))];
        let winners: Vec<_> = winners
            .iter()
            .filter(|(ended, _)| ended.code == Some(0))
            .collect();
        assert!(winners.len() <= 1, "{}\n{}", one.log, two.log);
        for ended in [&one, &two] {
            if ended.code != Some(0) {
                ended.failed("PathInUse");
            }
        }
        let volume = match winners.first() {
            Some((_, volume)) => volume.clone(),
            None => goes_on_alone(&shop),
        };
        shop.destination(&[]).succeeded();
        tree::assert_same(&volume, &shop.dst());
    }
}

#[test]
fn the_claim_of_a_run_that_died_makes_the_next_one_wait_and_compare_everything() {
    let shop = Shop::new(Kind::Local);
    fill(&shop.src());
    let first = shop.source(&[]).report.generation.unwrap();
    std::fs::write(
        shop.state()
            .join("run-0123456789abcdef0123456789abcdef.json"),
        "{}",
    )
    .unwrap();
    // What it may have done meanwhile.
    std::fs::write(shop.objects().join("a/b/7"), "FIRST 7").unwrap();
    std::fs::write(shop.src().join("a/b/1"), "changed").unwrap();
    let source = shop.source(&[("LAST_GENERATION", &first)]);
    source.succeeded();
    assert!(
        source.log.contains("did not end properly"),
        "{}",
        source.log
    );
    assert!(source.report.full_check);
    assert_eq!(
        std::fs::read(shop.objects().join("a/b/7")).unwrap(),
        b"first 7"
    );
    assert_eq!(shop.state_names().len(), 2);
}
