//! Any tree turns into any other.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What a step does at its path.
#[derive(Clone, Debug)]
enum Step {
    Folder,
    File(u8),
    Link(u8),
    HardLink(usize),
    Pipe,
    Mode(u32),
    Time(i64, i64),
    Attribute(u8),
    Remove,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        4 => Just(Step::Folder),
        4 => any::<u8>().prop_map(Step::File),
        2 => any::<u8>().prop_map(Step::Link),
        3 => (0..PATHS.len()).prop_map(Step::HardLink),
        1 => Just(Step::Pipe),
        2 => (0_u32..0o1000).prop_map(Step::Mode),
        1 => (0_i64..5, 0_i64..3).prop_map(|(sec, nanos)| Step::Time(sec, nanos)),
        2 => any::<u8>().prop_map(Step::Attribute),
        1 => Just(Step::Remove),
    ];
    proptest::collection::vec((0..PATHS.len(), step), 0..24)
}

const PATHS: [&str; 10] = [
    "a", "a/a", "a/b", "a/a/a", "a-b", "b", "b/a", "b/a/c", "c", "c/\u{fc}",
];

/// Steps that cannot be taken are passed.
fn take(root: &Path, at: usize, step: &Step) {
    let path = root.join(PATHS[at]);
    let is_there = path.symlink_metadata().is_ok();
    let is_link = path.is_symlink();
    match step {
        Step::Folder => drop(fs::create_dir(&path)),
        Step::File(content) if !is_there => {
            let _ = fs::write(&path, vec![*content; usize::from(*content)]);
        }
        Step::Link(target) => drop(symlink(PATHS[usize::from(*target) % PATHS.len()], &path)),
        Step::HardLink(other) => drop(fs::hard_link(root.join(PATHS[*other]), &path)),
        Step::Pipe => drop(rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )),
        // Who is not root could not go on below a folder that it may not enter, nor read such a file.
        Step::Mode(mode) if is_there && !is_link => {
            let access = if path.is_dir() { 0o700 } else { 0o400 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode | access)).unwrap();
        }
        Step::Time(sec, nanos) if is_there => corpus::set_mtime(&path, *sec, *nanos).unwrap(),
        Step::Attribute(value) if path.is_file() && !is_link => {
            let _ = xattr::set(&path, "user.x", &[*value]);
        }
        Step::Remove if path.is_dir() && !is_link => fs::remove_dir_all(&path).unwrap(),
        Step::Remove if is_there => fs::remove_file(&path).unwrap(),
        _ => {}
    }
}

/// Which paths are names of one file.
fn groups(root: &Path) -> BTreeMap<PathBuf, Option<PathBuf>> {
    let tree = Tree::scan(root).unwrap();
    let entries = tree.entries().iter();
    entries
        .map(|(path, entry)| (path.clone(), entry.linked_with.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn any_tree_turns_into_any_other(first in steps(), second in steps(), third in steps()) {
        let pair = Pair::new();
        for turn in [first, second, third] {
            for (at, step) in &turn {
                take(&pair.source(), *at, step);
            }
            let (lost, _) = pair.carry();
            prop_assert!(lost.is_empty(), "{:?}", lost.sentences());
            pair.must_be_alike();
            prop_assert_eq!(groups(&pair.source()), groups(&pair.target()));
        }
    }
}
