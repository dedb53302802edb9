//! Targets that somebody prepared, and lists of entries that somebody made up: nothing outside the target is touched.

use super::*;

fn entry(path: &[u8], kind: Kind) -> Entry {
    Entry {
        mode: 0o755,
        uid: geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        ..super::entry(path, kind)
    }
}

/// A folder beside the target with one file in it.
fn outside(pair: &Pair) -> PathBuf {
    let outside = pair.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "not ours").unwrap();
    outside
}

fn snapshot(folder: &Path) -> Tree {
    Tree::scan(folder).unwrap()
}

#[test]
fn links_in_the_place_of_folders_go_before_anything_is_written() {
    let pair = Pair::new();
    let outside = outside(&pair);
    let before = snapshot(&outside);
    symlink(&outside, pair.target().join("a")).unwrap();
    symlink(outside.join("file"), pair.target().join("file")).unwrap();
    symlink(outside.join("made"), pair.target().join("new")).unwrap();
    fs::create_dir(pair.source().join("a")).unwrap();
    fs::write(pair.source().join("a/file"), "ours").unwrap();
    fs::write(pair.source().join("file"), "ours").unwrap();
    fs::write(pair.source().join("new"), "ours").unwrap();
    pair.carry();
    pair.must_be_alike();
    assert_eq!(snapshot(&outside), before);
}

#[test]
fn links_on_the_way_of_listed_files_go_before_anything_is_written() {
    let pair = Pair::new();
    let outside = outside(&pair);
    let before = snapshot(&outside);
    fs::create_dir_all(pair.target().join("deep/er")).unwrap();
    symlink(&outside, pair.target().join("deep/er/link")).unwrap();
    symlink(outside.join("file"), pair.target().join("file")).unwrap();
    symlink("kept", pair.target().join("other link")).unwrap();
    fs::create_dir_all(pair.target().join("folder/in/the/way")).unwrap();
    fs::write(pair.target().join("kept"), "kept").unwrap();
    let files: [&[u8]; 4] = [b"deep/er/link/x/y", b"file", b"folder", b"kept"];
    let left = prepare_for_files(&pair.target(), files).unwrap();
    assert_eq!(
        names(&left.entries),
        [".", "deep", "deep/er", "kept", "other link"]
    );
    let now = scan(&pair.target()).unwrap();
    assert_eq!(names(&now.entries), names(&left.entries));
    assert_eq!(snapshot(&outside), before);
}

#[test]
fn a_list_that_leads_through_a_link_makes_a_folder_of_it() {
    let pair = Pair::new();
    let outside = outside(&pair);
    let before = snapshot(&outside);
    symlink(&outside, pair.target().join("a")).unwrap();
    let entries = [
        entry(b"", Kind::Folder),
        entry(b"a", Kind::Folder),
        entry(
            b"a/b",
            Kind::Link {
                target: b"/etc".to_vec(),
            },
        ),
    ];
    restore(&pair.target(), &entries, &Scan::default()).unwrap();
    assert!(pair.target().join("a").symlink_metadata().unwrap().is_dir());
    assert_eq!(snapshot(&outside), before);
}

#[test]
fn a_list_whose_folder_is_a_link_reaches_nothing() {
    let pair = Pair::new();
    let outside = outside(&pair);
    let before = snapshot(&outside);
    let link = Kind::Link {
        target: outside.as_os_str().as_bytes().to_vec(),
    };
    let entries = [
        entry(b"", Kind::Folder),
        entry(b"a", link),
        entry(b"a/file", Kind::Pipe),
    ];
    assert!(restore(&pair.target(), &entries, &Scan::default()).is_err());
    assert_eq!(snapshot(&outside), before);
}

#[test]
fn paths_that_climb_reach_nothing() {
    for path in [&b"../outside/new"[..], b"/tmp/syncline-never-made"] {
        let pair = Pair::new();
        let outside = outside(&pair);
        let before = snapshot(&outside);
        let entries = [entry(b"", Kind::Folder), entry(path, Kind::Folder)];
        assert!(restore(&pair.target(), &entries, &Scan::default()).is_err());
        assert_eq!(snapshot(&outside), before);
    }
    assert!(!Path::new("/tmp/syncline-never-made").exists());
}

#[test]
fn a_file_that_is_a_link_in_the_target_is_no_file() {
    let pair = Pair::new();
    let outside = outside(&pair);
    let before = snapshot(&outside);
    symlink(outside.join("file"), pair.target().join("file")).unwrap();
    let mut file = entry(b"file", Kind::File);
    file.size = 8;
    file.mode = 0o4777;
    let entries = [entry(b"", Kind::Folder), file];
    let error = restore(&pair.target(), &entries, &Scan::default()).unwrap_err();
    assert!(matches!(error, RestoreError::Missing { .. }), "{error}");
    assert_eq!(snapshot(&outside), before);
}

#[test]
fn entries_of_one_inode_number_that_differ_are_not_linked() {
    let pair = Pair::new();
    fs::write(pair.target().join("a"), "1").unwrap();
    fs::write(pair.target().join("b"), "22").unwrap();
    let named = |path: &[u8], size| Entry {
        size,
        device_links: 2,
        ..entry(path, Kind::File)
    };
    let entries = [entry(b"", Kind::Folder), named(b"a", 1), named(b"b", 2)];
    let lost = restore(&pair.target(), &entries, &Scan::default()).unwrap();
    assert!(lost.is_empty());
    assert_eq!(fs::read(pair.target().join("a")).unwrap(), b"1");
    assert_eq!(fs::read(pair.target().join("b")).unwrap(), b"22");
}

#[test]
fn a_pipe_in_the_place_of_a_file_blocks_nobody() {
    let pair = Pair::new();
    let pipe = pair.target().join("file");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, 0o600.into(), 0).unwrap();
    fs::write(pair.source().join("file"), "ours").unwrap();
    pair.carry();
    pair.must_be_alike();
}
