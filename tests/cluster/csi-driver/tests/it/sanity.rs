//! Stock `csi-sanity` judges the driver, for directories and for block devices, on btrfs where that can be had.
//!
//! `SYNCLINE_CSI_SANITY` names the program; `make e2e` builds it and sets the variable. Without it the test says so and
//! passes, since `make test` needs no Go.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::fixture::{JUDGE, may_mount};

const DRIVER: &str = env!("CARGO_BIN_EXE_csi-driver");

/// Runs `script` in a mount namespace of its own; what it mounts is gone with it.
fn alone(script: &str, room: &Path, variables: &[(&str, &str)]) -> Child {
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc", script])
        .current_dir(room)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// The driver on a fresh btrfs in a file, then csi-sanity; both in one namespace.
const SCRIPT: &str = r#"
mkdir data
truncate -s 20G image
mkfs.btrfs -q image
mount -o loop image data
"$DRIVER" --socket "$PWD/csi.sock" --data "$PWD/data" --node sanity --faults "$PWD/faults.json" 2> driver.log &
driver=$!
for attempt in $(seq 500); do
    [ ! -S csi.sock ] || break
    kill -0 $driver
    sleep 0.02
done
code=0
"$SANITY" --csi.endpoint "unix://$PWD/csi.sock" --csi.mountdir "$PWD/target" --csi.stagingdir "$PWD/staging" \
    --csi.testvolumeaccesstype "$ACCESS" --csi.checkpathcmd "$PWD/kind" --ginkgo.no-color > sanity.log 2>&1 || code=$?
kill $driver
wait $driver || true
"$DRIVER" --data "$PWD/data" --detach-all
umount data
exit $code
"#;

/// csi-sanity looks at paths itself and knows no device nodes among them.
const KIND: &str = "#!/bin/sh
if [ -d \"$1\" ]; then echo directory; elif [ -e \"$1\" ]; then echo file; else echo not_found; fi
";

fn judge(sanity: &str, access: &str) {
    let room = TempDir::new().unwrap();
    let kind = room.path().join("kind");
    fs::write(&kind, KIND).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&kind, executable).unwrap();
    let variables = [("DRIVER", DRIVER), ("SANITY", sanity), ("ACCESS", access)];
    let mut child = alone(SCRIPT, room.path(), &variables);
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(
            start.elapsed() < Duration::from_mins(5),
            "csi-sanity ({access}) does not end"
        );
        std::thread::sleep(Duration::from_millis(50));
    };
    let log = fs::read_to_string(room.path().join("sanity.log")).unwrap_or_default();
    let driver = fs::read_to_string(room.path().join("driver.log")).unwrap_or_default();
    assert!(
        status.success(),
        "csi-sanity ({access}): {status}\n{log}\nthe driver:\n{driver}"
    );
    let summary = log.lines().find(|line| line.contains("Passed"));
    println!("csi-sanity ({access}): {}", summary.unwrap_or("no summary"));
    assert!(summary.is_some_and(|line| line.contains(" 0 Failed")));
    let image = room.path().join("image");
    assert!(
        !loops_show(&image),
        "no loop device is left on {}",
        image.display()
    );
}

fn loops_show(file: &Path) -> bool {
    let entries = fs::read_dir("/sys/block").unwrap().filter_map(Result::ok);
    entries
        .filter_map(|entry| fs::read_to_string(entry.path().join("loop/backing_file")).ok())
        .any(|backing| backing.trim_end().starts_with(&*file.to_string_lossy()))
}

/// The program, when the caller named one and we may mount.
fn program() -> Option<String> {
    let program = std::env::var(JUDGE).ok();
    if program.is_none() {
        println!("not run: {JUDGE} names no csi-sanity (`make e2e` does)");
    }
    if let Some(program) = &program {
        File::open(program)
            .unwrap_or_else(|error| panic!("{JUDGE} must name the program csi-sanity: {error}"));
    }
    program.filter(|_| may_mount())
}

#[test]
fn csi_sanity_finds_no_fault_with_directories() {
    if let Some(program) = program() {
        judge(&program, "mount");
    }
}

#[test]
fn csi_sanity_finds_no_fault_with_block_devices() {
    if let Some(program) = program() {
        judge(&program, "block");
    }
}
