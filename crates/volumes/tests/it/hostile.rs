//! Trees that nobody would make on purpose.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use syncline_volumes::{Consistency, Error, Options, Settled, Source};

use crate::compare::{assert_same, manifest};
use crate::fixture::{Disk, is_root, set_times};

#[derive(Clone, Debug)]
enum Kind {
    Directory,
    File {
        pieces: Vec<(u32, u8)>,
        length: u32,
    },
    Link(Vec<u8>),
    Fifo,
    /// Another name of an earlier file.
    Name(usize),
}

#[derive(Clone, Debug)]
struct Made {
    parent: usize,
    name: Vec<u8>,
    kind: Kind,
    mode: u32,
    modified: (i64, i64),
    owner: (u32, u32),
    attribute: Option<(String, Vec<u8>)>,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(
        any::<u8>().prop_filter("no slash or zero", |byte| *byte != 0 && *byte != b'/'),
        1..255,
    )
    .prop_filter("no dots", |name| name != b"." && name != b"..")
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Directory),
        4 => (vec((0_u32..200_000, any::<u8>()), 0..5), 0_u32..300_000)
            .prop_map(|(pieces, length)| Kind::File { pieces, length }),
        1 => name().prop_map(Kind::Link),
        1 => Just(Kind::Fifo),
        2 => any::<usize>().prop_map(Kind::Name),
    ]
}

fn made() -> impl Strategy<Value = Made> {
    let attribute = proptest::option::of(("user\\.[a-z]{1,40}", vec(any::<u8>(), 0..100)));
    let owner = (0_u32..70_000, 0_u32..70_000);
    let modified = (-2_000_000_000_i64..4_000_000_000, 0_i64..1_000_000_000);
    (
        any::<usize>(),
        name(),
        kind(),
        0_u32..0o10000,
        modified,
        owner,
        attribute,
    )
        .prop_map(
            |(parent, name, kind, mode, modified, owner, attribute)| Made {
                parent,
                name,
                kind,
                mode,
                modified,
                owner,
                attribute,
            },
        )
}

fn make(one: &Made, path: &Path, files: &[PathBuf]) -> bool {
    match &one.kind {
        Kind::Directory => fs::create_dir(path).is_ok(),
        Kind::File { pieces, length } => fs::File::create_new(path).is_ok_and(|file| {
            for (at, byte) in pieces {
                file.write_all_at(&[*byte; 4096], u64::from(*at)).unwrap();
            }
            file.set_len(u64::from(*length)).unwrap();
            true
        }),
        Kind::Link(target) => symlink(OsString::from_vec(target.clone()), path).is_ok(),
        Kind::Fifo => mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).is_ok(),
        Kind::Name(index) if !files.is_empty() => {
            fs::hard_link(&files[index % files.len()], path).is_ok()
        }
        Kind::Name(_) => false,
    }
}

fn build(root: &Path, plan: &[Made]) {
    let mut directories = vec![root.to_owned()];
    let mut files = Vec::new();
    let mut finished = Vec::new();
    for one in plan {
        let parent = &directories[one.parent % directories.len()];
        let path = parent.join(OsString::from_vec(one.name.clone()));
        // Names that exist, and paths that grew too long for the comparison, are left out.
        if path.as_os_str().len() > 3000 || !make(one, &path, &files) {
            continue;
        }
        match one.kind {
            Kind::Directory => directories.push(path.clone()),
            Kind::File { .. } => files.push(path.clone()),
            _ => {}
        }
        finished.push((path, one));
    }
    for (path, one) in finished.iter().rev() {
        let link = matches!(one.kind, Kind::Link(_));
        if is_root() {
            lchown(path, Some(one.owner.0), Some(one.owner.1)).unwrap();
        }
        if let (Some((name, value)), false, false) =
            (&one.attribute, link, matches!(one.kind, Kind::Fifo))
        {
            xattr::set(path, name, value).unwrap();
        }
        if !link {
            // An ordinary user must still be able to compare.
            let readable = if is_root() { 0 } else { 0o700 };
            fs::set_permissions(path, fs::Permissions::from_mode(one.mode | readable)).unwrap();
        }
        set_times(path, (1_000_000_000, 5), one.modified);
    }
}

fn copies_equal_the_plan(disk: &Disk, plan: &[Made], best: Consistency) {
    let volumes = disk.volumes_with(Options {
        best,
        ..Options::default()
    });
    let source = volumes.create("v").unwrap();
    build(&source, plan);
    let wanted = manifest(&source);
    let image = volumes.snapshot(Source::Volume("v"), "i").unwrap();
    assert_eq!(image.settled, Settled::Yes);
    assert_eq!(image.unkept.count, 0, "{:?}", image.unkept);
    assert_same(&wanted, &image.path);
    let restored = volumes.provision(Source::Image("i"), "w").unwrap();
    assert_same(&wanted, &restored.path);
    for name in ["v", "w"] {
        volumes.delete(name).unwrap();
    }
    volumes.delete_image("i").unwrap();
    assert!(volumes.volumes().unwrap().is_empty() && volumes.images().unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_is_copied_exactly(plan in vec(made(), 0..60)) {
        copies_equal_the_plan(&Disk::plain(), &plan, Consistency::None);
    }
}

#[test]
fn any_tree_is_copied_exactly_by_reflink_and_by_subvolume() {
    let (Some(xfs), Some(btrfs)) = (Disk::mount("xfs"), Disk::mount("btrfs")) else {
        return;
    };
    let config = ProptestConfig {
        cases: 20,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(plan in vec(made(), 0..60))| {
        copies_equal_the_plan(&xfs, &plan, Consistency::PerFile);
        copies_equal_the_plan(&btrfs, &plan, Consistency::PerFile);
        copies_equal_the_plan(&btrfs, &plan, Consistency::Atomic);
    });
}

#[test]
fn a_folder_that_holds_the_store_itself_is_not_copied_into_it() {
    let disk = Disk::plain();
    let volumes = disk.volumes();
    for source in [disk.path().to_owned(), disk.path().join("store")] {
        let source = Source::Folder(&source);
        for error in [
            volumes.snapshot(source, "image").unwrap_err(),
            volumes.provision(source, "volume").unwrap_err(),
        ] {
            assert!(matches!(error, Error::HoldsStore { .. }), "{error}");
        }
    }
    let beside = disk.path().join("beside");
    fs::create_dir(&beside).unwrap();
    volumes.snapshot(Source::Folder(&beside), "image").unwrap();
}
