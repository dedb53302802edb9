//! What an ordinary user can restore, and what is said of the rest. Root becomes one for a thread.

use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::*;

pub(crate) const USER: u32 = 4321;

/// Runs `work` as an ordinary user: this one, or for root another.
pub(crate) fn as_user<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            if geteuid().is_root() {
                let user = rustix::process::Uid::from_raw(USER);
                let group = rustix::process::Gid::from_raw(USER);
                set_thread_groups(&[]).unwrap();
                set_thread_res_gid(group, group, group).unwrap();
                set_thread_res_uid(user, user, user).unwrap();
            }
            work()
        });
        worker.join().unwrap()
    })
}

fn user() -> u32 {
    if geteuid().is_root() {
        USER
    } else {
        geteuid().as_raw()
    }
}

fn group() -> u32 {
    if geteuid().is_root() {
        USER
    } else {
        rustix::process::getegid().as_raw()
    }
}

/// A pair of folders of the user, in a folder that the user can enter.
fn pair_of_user() -> Pair {
    let pair = Pair::new();
    if geteuid().is_root() {
        corpus::give_to(pair.folder.path(), USER, USER).unwrap();
    }
    pair
}

#[test]
fn an_ordinary_users_tree_is_restored_whole() {
    let pair = pair_of_user();
    let (lost, again) = as_user(|| {
        corpus::hostile(&pair.source(), user()).unwrap();
        fs::set_permissions(
            pair.source().join("many"),
            fs::Permissions::from_mode(0o500),
        )
        .unwrap();
        let (lost, _) = pair.carry();
        pair.must_be_alike();
        // Folders and files that their owner may not write to are changed all the same.
        fs::write(pair.source().join("many/0"), "changed").unwrap();
        let locked = pair.source().join("read-only folder");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(locked.join("inside")).unwrap();
        fs::write(locked.join("other"), "other").unwrap();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
        xattr::set(pair.source().join("modes and times/755"), "user.a", b"b").unwrap();
        fs::set_permissions(
            pair.source().join("modes and times/755"),
            fs::Permissions::from_mode(0o444),
        )
        .unwrap();
        let (again, _) = pair.carry();
        pair.must_be_alike();
        (lost, again)
    });
    assert_eq!(lost.sentences(), Vec::<String>::new());
    assert_eq!(again.sentences(), Vec::<String>::new());
}

#[test]
fn folders_that_nobody_may_enter_are_opened_and_closed_again() {
    let pair = pair_of_user();
    as_user(|| {
        fs::create_dir_all(pair.source().join("closed/below")).unwrap();
        fs::write(pair.source().join("closed/below/file"), "1").unwrap();
        pair.carry();
        let closed = pair.target().join("closed");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        fs::write(pair.source().join("closed/below/file"), "22").unwrap();
        pair.carry();
        pair.must_be_alike();
        // As one that is not wanted it can be removed.
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        fs::remove_dir_all(pair.source().join("closed")).unwrap();
        pair.carry();
        pair.must_be_alike();
    });
}

#[test]
fn what_an_ordinary_user_may_not_set_is_said_and_nothing_is_given_away() {
    let pair = pair_of_user();
    let file = |path: &str, uid, mode| Entry {
        mode,
        uid,
        gid: group(),
        mtime: Time { sec: 5, nanos: 6 },
        ..entry(path, Kind::File)
    };
    let mut trusted = file("trusted", user(), 0o600);
    trusted.xattrs = vec![(b"trusted.mark".to_vec(), b"x".to_vec())];
    let mut device = file("device", user(), 0o600);
    device.kind = Kind::Device {
        block: false,
        major: 1,
        minor: 3,
    };
    let entries = [
        Entry {
            kind: Kind::Folder,
            ..file("", user(), 0o755)
        },
        device,
        file("foreign", 0, 0o4755),
        trusted,
    ];
    let lost = as_user(|| {
        fs::write(pair.target().join("foreign"), "").unwrap();
        fs::write(pair.target().join("trusted"), "").unwrap();
        restore(&pair.target(), &entries, &Scan::default()).unwrap()
    });
    assert_eq!(
        lost.sentences(),
        [
            "owners (1, first: foreign)",
            "permissions (1, first: foreign)",
            "extended attributes (1, first: trusted)",
            "devices, sockets or pipes (1, first: device)",
        ]
    );
    // A program of root's must not become one that makes everybody this user.
    let foreign = fs::metadata(pair.target().join("foreign")).unwrap();
    assert_eq!(foreign.mode() & 0o7777, 0o755);
    assert_eq!((foreign.mtime(), foreign.mtime_nsec()), (5, 6));
    assert!(!pair.target().join("device").exists());
}

#[test]
fn a_set_group_id_bit_that_the_kernel_drops_is_said() {
    if !geteuid().is_root() {
        // It takes a folder of a group that its owner does not belong to.
        return;
    }
    let pair = pair_of_user();
    let folder = pair.target().join("folder");
    fs::create_dir(&folder).unwrap();
    lchown(&folder, Some(USER), Some(77)).unwrap();
    let source = pair.source().join("folder");
    fs::create_dir(&source).unwrap();
    lchown(&source, Some(USER), Some(77)).unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o2755)).unwrap();
    let entries = scan(&pair.source()).unwrap().entries;
    let lost = as_user(|| restore(&pair.target(), &entries, &Scan::default()).unwrap());
    assert_eq!(lost.sentences(), ["permissions (1, first: folder)"]);
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn where_the_kernel_refuses_another_name_a_copy_stands_in_for_it() {
    let protected = fs::read("/proc/sys/fs/protected_hardlinks").unwrap_or_default();
    if !geteuid().is_root() || !protected.starts_with(b"1") {
        // It takes a file of somebody else's, and a kernel that protects those.
        return;
    }
    let pair = pair_of_user();
    fs::write(pair.source().join("first"), "content").unwrap();
    fs::hard_link(pair.source().join("first"), pair.source().join("second")).unwrap();
    let entries = scan(&pair.source()).unwrap().entries;
    fs::copy(pair.source().join("first"), pair.target().join("first")).unwrap();
    let lost = as_user(|| restore(&pair.target(), &entries, &Scan::default()).unwrap());
    assert_eq!(lost.count(Loss::HardLink), 1);
    let second = pair.target().join("second");
    assert_eq!(fs::read(&second).unwrap(), b"content");
    assert_eq!(fs::metadata(&second).unwrap().nlink(), 1);
}

#[test]
fn a_folder_that_cannot_be_read_is_an_error_that_names_it() {
    let pair = pair_of_user();
    let error = as_user(|| {
        fs::create_dir_all(pair.source().join("a/closed")).unwrap();
        let closed = pair.source().join("a/closed");
        fs::set_permissions(closed, fs::Permissions::from_mode(0o000)).unwrap();
        scan(&pair.source()).unwrap_err()
    });
    let words = error.to_string();
    assert!(words.contains("a/closed"), "{words}");
    assert!(words.contains("moverSecurityContext"), "{words}");
}
