//! Against the stock getfacl and setfacl, in both directions.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use rustix::process::{getegid, geteuid};
use syncline_testkit::tree::Ignore;
use syncline_testkit::{Tree, corpus};

use super::*;
use crate::tree::tests::user::{USER, as_user};
use crate::tree::{Loss, scan};

/// A folder with a volume at `data`, as `/` is in VolSync's mover.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        Self { folder }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What the stock program prints of all entries, each block for itself, sorted.
    fn stock(&self, options: &[&str]) -> Vec<Vec<u8>> {
        let mut find = Command::new("find")
            .args(["data", "-print0"])
            .current_dir(self.folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Command::new("xargs")
            .args(["-0", "getfacl", "-P"])
            .args(options)
            .current_dir(self.folder.path())
            .stdin(find.stdout.take().unwrap())
            .output()
            .unwrap();
        assert!(find.wait().unwrap().success());
        assert!(output.status.success(), "{output:?}");
        blocks(&output.stdout)
    }

    fn ours(&self) -> Vec<u8> {
        let mut text = Vec::new();
        write(&scan(&self.data()).unwrap().entries, &mut text).unwrap();
        text
    }

    /// The stock program gives a copy what `text` says.
    fn restore_stock(&self, text: &[u8]) -> std::process::Output {
        let file = self.folder.path().join("facl");
        fs::write(&file, text).unwrap();
        Command::new("setfacl")
            .arg(format!("--restore={}", file.display()))
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    /// A copy of the files as an object store gives them back: content and nothing else. Links are kept, so that it shows
    /// whether one is followed.
    fn plain_copy(&self) -> Self {
        let copy = Self::new();
        let status = Command::new("cp")
            .args(["-r", "--no-preserve=all", "--no-dereference", "-T"])
            .args([self.data(), copy.data()])
            .status()
            .unwrap();
        assert!(status.success());
        copy
    }

    fn tree(&self) -> Tree {
        Tree::scan(&self.data()).unwrap()
    }
}

fn blocks(text: &[u8]) -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut block = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        block.extend_from_slice(line);
        if line == b"\n" {
            found.push(std::mem::take(&mut block));
        }
    }
    assert!(block.is_empty());
    found.sort();
    found
}

fn must_be_equal(ours: &[Vec<u8>], stock: &[Vec<u8>]) {
    for (ours, stock) in ours.iter().zip(stock) {
        assert_eq!(
            String::from_utf8_lossy(ours),
            String::from_utf8_lossy(stock)
        );
    }
    assert_eq!(ours.len(), stock.len());
}

/// Everything that permissions can be, under names that are hard to write down.
fn populate(place: &Place) {
    let root = place.data();
    corpus::hostile(&root, geteuid().as_raw()).unwrap();
    corpus::crowd(&root, 32).unwrap();
    if geteuid().is_root() {
        corpus::owners(&root).unwrap();
    }
    let folder = root.join("acls \\ and\nlines");
    fs::create_dir(&folder).unwrap();
    for (name, options) in [
        ("named", &["-m", "u:7:rwx,u:123456:r,g:33:rw,g:4:x"][..]),
        ("masked", &["-m", "u:7:rwx,g:33:rw,m:r"]),
        ("mask alone", &["-m", "m:rx"]),
        ("set-id", &["-m", "u:9:rx"]),
    ] {
        let file = folder.join(name);
        fs::write(&file, name).unwrap();
        let mode = if name == "set-id" { 0o6755 } else { 0o664 };
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        setfacl(options, &file);
    }
    let sub = folder.join("default");
    fs::create_dir(&sub).unwrap();
    setfacl(&["-d", "-m", "u:7:rwx,g:33:rwx,m:rx,o:-"], &sub);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o7770)).unwrap();
    symlink("named", folder.join("link")).unwrap();
}

fn setfacl(options: &[&str], path: &Path) {
    let status = Command::new("setfacl")
        .args(options)
        .arg("--")
        .arg(path)
        .status();
    assert!(status.unwrap().success());
}

/// What an ordinary user cannot give to a copy, or what no file of permissions carries.
fn without_times(tree: &Tree) -> Vec<String> {
    tree.entries()
        .iter()
        .map(|(path, entry)| {
            let acls: Vec<_> = entry
                .xattrs
                .iter()
                .filter(|(name, _)| name.as_bytes().starts_with(b"system."))
                .collect();
            // Of links nothing is said.
            let mode = if entry.target.is_some() {
                0
            } else {
                entry.mode
            };
            format!("{path:?} {mode:o} {}:{} {acls:?}", entry.uid, entry.gid)
        })
        .collect()
}

#[test]
fn it_is_written_as_getfacl_prints_it() {
    let place = Place::new();
    populate(&place);
    must_be_equal(&blocks(&place.ours()), &place.stock(&["-n"]));
}

#[test]
fn the_stock_setfacl_restores_what_is_written() {
    let place = Place::new();
    populate(&place);
    let (stock, ours) = (place.plain_copy(), place.plain_copy());
    let output = stock.restore_stock(&place.ours());
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let facl = parse(place.ours().as_slice()).unwrap();
    assert_eq!(facl.ignored_count, 0);
    let lost = apply(&ours.data(), &facl, &Names::of_volsync()).unwrap();
    assert_eq!(lost.sentences(), Vec::<String>::new());
    let (source, copied) = (place.tree(), without_times(&stock.tree()));
    let mut expected = without_times(&source);
    let entries = source.entries().values();
    for ((entry, line), copied) in entries.zip(&mut expected).zip(&copied) {
        // Of links nothing is said, not even the owner.
        if entry.target.is_some() {
            line.clone_from(copied);
        }
    }
    assert_eq!(copied, expected);
    assert_eq!(without_times(&ours.tree()), expected);
}

#[test]
fn what_the_stock_getfacl_wrote_is_restored_as_the_stock_setfacl_does() {
    let place = Place::new();
    populate(&place);
    let (stock, ours) = (place.plain_copy(), place.plain_copy());
    let text = place.stock(&[]).concat();
    assert!(stock.restore_stock(&text).status.success());
    let facl = parse(text.as_slice()).unwrap();
    // It was written here and not in VolSync's image.
    let lost = apply(&ours.data(), &facl, &Names::of_here()).unwrap();
    assert!(lost.is_empty(), "{:?}", lost.sentences());
    assert_eq!(without_times(&ours.tree()), without_times(&stock.tree()));
    let ignore = Ignore::default();
    let differences: Vec<String> = stock.tree().differences(&ours.tree(), ignore);
    let differences: Vec<&String> = differences
        .iter()
        .filter(|line| !line.contains("modification time"))
        .collect();
    assert_eq!(differences, Vec::<&String>::new());
}

#[test]
fn permissions_that_are_there_and_not_wanted_go() {
    let place = Place::new();
    let file = place.data().join("file");
    fs::write(&file, "").unwrap();
    let text = place.ours();
    let (stock, ours) = (place.plain_copy(), place.plain_copy());
    for copy in [&stock, &ours] {
        setfacl(&["-m", "u:7:rwx"], &copy.data().join("file"));
        setfacl(&["-d", "-m", "u:7:rwx"], &copy.data());
        setfacl(&["-m", "g:7:rwx"], &copy.data());
        fs::set_permissions(copy.data(), fs::Permissions::from_mode(0o3777)).unwrap();
    }
    assert!(stock.restore_stock(&text).status.success());
    let facl = parse(text.as_slice()).unwrap();
    apply(&ours.data(), &facl, &Names::of_volsync()).unwrap();
    assert_eq!(without_times(&ours.tree()), without_times(&stock.tree()));
    assert_eq!(without_times(&ours.tree()), without_times(&place.tree()));
}

#[test]
fn forms_that_others_write_are_read() {
    let place = Place::new();
    fs::write(place.data().join("a\\b"), "").unwrap();
    fs::create_dir(place.data().join("folder")).unwrap();
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let text = format!(
        "# a comment\n# file: /data/a\\134b\n# owner: {uid}\n# group: {gid}\n# flags: s-t\nu::rwx\ng::r-x\t\t#effective:r-x\n\
         o::--x\nu:9:rw-\n\n\n# file: ./folder\nuser::rwx\ngroup::---\nother::---\nd:u:9:r-x\nd:m::r--"
    );
    let facl = parse(text.as_bytes()).unwrap();
    assert_eq!((facl.blocks.len(), facl.ignored_count), (2, 0));
    let lost = apply(&place.data(), &facl, &Names::of_volsync()).unwrap();
    assert!(lost.is_empty(), "{:?}", lost.sentences());
    let mode = |name: &str| fs::metadata(place.data().join(name)).unwrap().mode() & 0o7777;
    assert_eq!(mode("a\\b"), 0o5771);
    assert_eq!(mode("folder"), 0o700);
    let text = String::from_utf8(place.ours()).unwrap();
    for line in [
        "user:9:rw-\n",
        "mask::rwx\n",
        "default:user:9:r-x\t#effective:r--\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn blocks_that_lead_elsewhere_or_make_no_sense_are_left_out_and_counted() {
    let place = Place::new();
    fs::write(place.data().join("file"), "").unwrap();
    let good = "# file: data/file\nuser::rwx\ngroup::rwx\nother::rwx\n\n";
    let bad = [
        "# file: etc/passwd\nuser::rwx\n\n",
        "# file: data/../etc/passwd\nuser::rwx\n\n",
        "# file: datafile\nuser::rwx\n\n",
        "# file: data//etc\nuser::rwx\n\n",
        "# file: data/lost+found\nuser::rwx\n\n",
        "# file: data/file\n# file: data/file\nuser::rwx\n\n",
        "user::rwx\ngroup::rwx\n\n",
        "# file: data/file\nnobody::rwx\n\n",
        "# file: data/file\nuser::rwz\n\n",
        "# file: data/file\nuser::\n\n",
        "# file: data/file\n# flags: xyz\n\n",
        "\u{1F980}\n\n",
    ];
    let long = format!("# file: data/{}\n\n", "x".repeat(100_000));
    let text = format!("{}{long}{good}", bad.concat());
    let facl = parse(text.as_bytes()).unwrap();
    assert_eq!(
        (facl.blocks.len(), facl.ignored_count),
        (1, bad.len() as u64 + 1)
    );
    let lost = apply(&place.data(), &facl, &Names::of_volsync()).unwrap();
    assert_eq!(lost.count(Loss::Permissions), bad.len() as u64 + 1);
    let mode = fs::metadata(place.data().join("file")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o777);
}

#[test]
fn no_link_is_followed_and_what_is_missing_is_said() {
    let place = Place::new();
    let outside = place.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "").unwrap();
    let before = Tree::scan(&outside).unwrap();
    symlink(&outside, place.data().join("folder")).unwrap();
    symlink(outside.join("file"), place.data().join("file")).unwrap();
    let block = |path: &str| format!("# file: data/{path}\nuser::rwx\ngroup::rwx\nother::rwx\n\n");
    let text = ["folder", "folder/file", "file", "missing", "missing/too"]
        .map(block)
        .concat();
    let facl = parse(text.as_bytes()).unwrap();
    let lost = apply(&place.data(), &facl, &Names::of_volsync()).unwrap();
    assert_eq!(lost.count(Loss::Permissions), 5);
    assert_eq!(Tree::scan(&outside).unwrap(), before);
}

#[test]
fn a_name_that_nobody_has_gives_nobody_anything() {
    let place = Place::new();
    let file = place.data().join("file");
    fs::write(&file, "").unwrap();
    let text = "# file: data/file\n# owner: nobody of that name\n# group: root\n# flags: ss-\nuser::rwx\n\
                user:nobody of that name:rwx\ngroup::r--\nmask::rwx\nother::---\n\n";
    let facl = parse(text.as_bytes()).unwrap();
    let lost = apply(&place.data(), &facl, &Names::of_volsync()).unwrap();
    assert_eq!(
        lost.sentences(),
        [
            "owners (1, first: file)",
            "permissions (1, first: file)",
            "ACLs (1, first: file)"
        ]
    );
    let found = fs::metadata(&file).unwrap();
    assert_eq!(found.uid(), geteuid().as_raw());
    assert_eq!(found.mode() & 0o7000, 0);
}

#[test]
fn an_owner_is_found_by_the_name_that_volsyncs_image_gives_it() {
    if !geteuid().is_root() {
        // Nobody else may give files away; what the name means is tested beside the table.
        return;
    }
    let place = Place::new();
    let file = place.data().join("file");
    fs::write(&file, "").unwrap();
    lchown(&file, Some(1234), Some(1234)).unwrap();
    let text =
        "# file: data/file\n# owner: daemon\n# group: tape\nuser::rw-\ngroup::r--\nother::r--\n\n";
    let facl = parse(text.as_bytes()).unwrap();
    let lost = apply(&place.data(), &facl, &Names::of_volsync()).unwrap();
    assert!(lost.is_empty());
    let found = fs::metadata(&file).unwrap();
    assert_eq!((found.uid(), found.gid()), (2, 33));
}

#[test]
fn an_ordinary_user_gives_what_it_may_and_the_rest_is_said() {
    let place = Place::new();
    fs::create_dir_all(place.data().join("closed/below")).unwrap();
    fs::write(place.data().join("closed/below/file"), "").unwrap();
    fs::write(place.data().join("foreign"), "").unwrap();
    let text = "# file: data/closed\nuser::---\ngroup::---\nother::---\n\n\
                # file: data/closed/below\nuser::r-x\nuser:7:rwx\ngroup::---\nmask::rwx\nother::---\n\n\
                # file: data/closed/below/file\nuser::r--\ngroup::---\nother::---\n\n\
                # file: data/foreign\n# owner: 0\n# group: 0\n# flags: ss-\nuser::rwx\ngroup::r-x\nother::r-x\n\n";
    let facl = parse(text.as_bytes()).unwrap();
    if geteuid().is_root() {
        corpus::give_to(place.folder.path(), USER, USER).unwrap();
    }
    let lost = as_user(|| apply(&place.data(), &facl, &Names::of_volsync()).unwrap());
    assert_eq!(
        lost.sentences(),
        [
            "owners (1, first: foreign)",
            "permissions (1, first: foreign)"
        ]
    );
    let mode = |path: &str| {
        let found = fs::symlink_metadata(place.data().join(path)).unwrap();
        found.mode() & 0o7777
    };
    assert_eq!((mode("closed"), mode("foreign")), (0, 0o755));
    // Whoever tests this may be no more allowed in than anybody else.
    as_user(|| {
        fs::set_permissions(
            place.data().join("closed"),
            fs::Permissions::from_mode(0o700),
        )
    })
    .unwrap();
    assert_eq!(
        (mode("closed/below"), mode("closed/below/file")),
        (0o570, 0o400)
    );
}

/// Who is not root cannot read a folder of its own that it took the right to from itself.
fn owners_least() -> u16 {
    if geteuid().is_root() { 0 } else { 7 }
}

fn acls(owners_least: u16) -> impl Strategy<Value = Acl> {
    let bits = || 0_u16..8;
    let named = || proptest::collection::btree_map(0_u32..100_000, 0_u16..8, 0..4);
    ((bits(), bits(), bits(), bits()), named(), named()).prop_map(
        move |((owner, group, other, mask), users, groups)| {
            let record = |tag, id, permissions| acl::Record {
                tag,
                id,
                permissions,
            };
            let mut records = vec![
                record(Tag::Owner, 0, owner | owners_least),
                record(Tag::OwningGroup, 0, group),
                record(Tag::Other, 0, other),
                record(Tag::Mask, 0, mask),
            ];
            records.extend(users.iter().map(|(id, bits)| record(Tag::User, *id, *bits)));
            records.extend(
                groups
                    .iter()
                    .map(|(id, bits)| record(Tag::Group, *id, *bits)),
            );
            Acl::new(records).unwrap()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_acl_is_written_and_read_as_the_stock_programs_do(
        found in proptest::collection::vec((acls(owners_least()), proptest::option::of(acls(0))), 1..12)
    ) {
        let place = Place::new();
        for (number, (access, default)) in found.iter().enumerate() {
            let path = place.data().join(format!("{number}"));
            fs::create_dir(&path).unwrap();
            xattr::set(&path, "system.posix_acl_access", &access.to_kernel()).unwrap();
            if let Some(default) = default {
                xattr::set(&path, "system.posix_acl_default", &default.to_kernel()).unwrap();
            }
        }
        let text = place.ours();
        let sorted = blocks(&text);
        must_be_equal(&sorted, &place.stock(&["-n"]));
        let copy = Place::new();
        for number in 0..found.len() {
            fs::create_dir(copy.data().join(format!("{number}"))).unwrap();
        }
        let facl = parse(text.as_slice()).unwrap();
        let lost = apply(&copy.data(), &facl, &Names::of_volsync()).unwrap();
        prop_assert!(lost.is_empty());
        prop_assert_eq!(blocks(&copy.ours()), sorted);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let facl = parse(bytes.as_slice()).unwrap();
        prop_assert!(facl.blocks.len() < 1000);
    }
}
