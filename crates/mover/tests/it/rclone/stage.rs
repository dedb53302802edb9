//! A script in place of rclone, which counts the calls and does what a test wants at one of them.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::shop::{Shop, rclone};

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// The mover is killed after it.
    DieAfter,
    /// Of the files that the call is told to move or delete only half are, then the mover is killed. Other calls go on.
    DieHalfway,
    /// The script `hook` runs before it.
    HookBefore,
    /// It does nothing and fails, as when the store does not answer.
    Fail,
}

/// A folder with the script as `rclone`.
pub(super) struct Stage {
    pub(super) folder: PathBuf,
}

impl Stage {
    pub(super) fn new(shop: &Shop, name: &str, at: At, call: u32, hook: &str) -> Self {
        // Each has a folder of its own: a call that a killed run left behind may still count itself in the last one.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = shop.path(&format!("{name}-{number}"));
        std::fs::create_dir(&folder).unwrap();
        let mut script = format!(
            "#!/bin/bash\n\
             # Calls may come side by side.\n\
             exec 9>{folder}/lock; flock 9\n\
             number=$(( $(cat {folder}/calls 2>/dev/null || echo 0) + 1 )); echo $number >{folder}/calls\n\
             echo \"$number $*\" >>{folder}/log\n\
             exec 9>&-\n\
             if [ $number -ne {call} ]; then exec {real} \"$@\"; fi\n",
            folder = folder.display(),
            real = rclone().display(),
        );
        match at {
            At::DieAfter => write!(script, "{} \"$@\"\nkill -KILL $PPID\n", rclone().display()),
            At::DieHalfway => write!(
                script,
                "case \" $* \" in *' --files-from0=- '*) ;; *) exec {real} \"$@\";; esac\n\
                 cat >{folder}/names; total=$(tr -cd '\\0' <{folder}/names | wc -c)\n\
                 head -z -n $(( (total + 1) / 2 )) {folder}/names | {real} \"$@\"\nkill -KILL $PPID\n",
                real = rclone().display(),
                folder = folder.display(),
            ),
            At::Fail => write!(
                script,
                "cat >/dev/null\n\
                 echo '{{\"level\":\"error\",\"msg\":\"connection reset by peer\",\"time\":\"\"}}' >&2\nexit 1\n"
            ),
            At::HookBefore => write!(
                script,
                "bash -c '{hook}' >{folder}/hook.log 2>&1 </dev/null\nexec {real} \"$@\"\n",
                folder = folder.display(),
                real = rclone().display(),
            ),
        }
        .unwrap();
        Self::with(folder, &script)
    }

    /// The script `hook` runs before each transfer of files by name; `transfer` is its number.
    pub(super) fn at_transfers(shop: &Shop, hook: &str) -> Self {
        let folder = shop.path("transfers");
        std::fs::create_dir(&folder).unwrap();
        let script = format!(
            "#!/bin/bash\n\
             case \" $* \" in *' copy '*' --files-from0=- '*)\n\
             echo >>{folder}/transfers; transfer=$(wc -l <{folder}/transfers)\n\
             ({hook}) >{folder}/hook.log 2>&1 </dev/null;;\n\
             esac\n\
             exec {real} \"$@\"\n",
            folder = folder.display(),
            real = rclone().display(),
        );
        Self::with(folder, &script)
    }

    /// The connection breaks off at the end of the first transfer of everything.
    pub(super) fn breaking_off(shop: &Shop) -> Self {
        let folder = shop.path("breaking-off");
        std::fs::create_dir(&folder).unwrap();
        let script = format!(
            "#!/bin/bash\n\
             case \" $* \" in *' copy '*) [ -e {folder}/broken ] || {{\n\
             touch {folder}/broken; {real} \"$@\"\n\
             echo '{{\"level\":\"error\",\"msg\":\"connection reset by peer\",\"time\":\"\"}}' >&2\n\
             exit 1; }};;\n\
             esac\n\
             exec {real} \"$@\"\n",
            folder = folder.display(),
            real = rclone().display(),
        );
        Self::with(folder, &script)
    }

    fn with(folder: PathBuf, script: &str) -> Self {
        let program = folder.join("rclone");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    pub(super) fn path(&self) -> String {
        format!("{}:/usr/bin:/bin", self.folder.display())
    }

    pub(super) fn calls(&self) -> u32 {
        let text = std::fs::read_to_string(self.folder.join("calls")).unwrap();
        text.trim().parse().unwrap()
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}
