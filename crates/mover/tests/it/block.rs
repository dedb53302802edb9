//! Block devices: loop devices where the tests may make them, and plain files in their place otherwise.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rstest::rstest;

use crate::pair::{As, Ended, Pair, Running, is_root, run};
use crate::stand_in::StandIn;

const BLOCK: u64 = 64 * 1024;

/// A file, or a loop device on top of it.
struct Disk {
    path: PathBuf,
    file: PathBuf,
}

impl Disk {
    fn new(pair: &Pair, name: &str, blocks: u64) -> Self {
        let file = pair.path(name);
        File::create(&file)
            .unwrap()
            .set_len(blocks * BLOCK)
            .unwrap();
        Self {
            path: file.clone(),
            file,
        }
    }

    /// The same as a true block device; `None` where this machine has none to give.
    fn looped(self) -> Option<Self> {
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(&self.file)
            .output()
            .ok()?;
        let path = String::from_utf8(output.stdout).unwrap();
        let path = PathBuf::from(path.trim());
        (output.status.success() && path.exists()).then(|| Self {
            path,
            file: self.file.clone(),
        })
    }

    fn put(&self, block: u64, byte: u8) {
        let file = File::options().write(true).open(&self.path).unwrap();
        let content: Vec<u8> = (0..BLOCK)
            .map(|at| byte ^ u8::try_from(at % 13).unwrap())
            .collect();
        file.write_all_at(&content, block * BLOCK).unwrap();
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    fn variable(&self) -> (&str, &str) {
        ("BLOCK_DEVICE", self.path.to_str().unwrap())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.path != self.file {
            run(Command::new("losetup").arg("-d").arg(&self.path));
        }
    }
}

fn sync(pair: &Pair, source: &Disk, target: &Disk) -> (Ended, Ended) {
    let destination = pair.destination(&[target.variable()]);
    let source = pair.source(&[source.variable()]);
    source.succeeded();
    let destination = destination.end();
    destination.succeeded();
    (source, destination)
}

fn only_changed_blocks_travel(pair: &Pair, source: &Disk, target: &Disk) {
    for block in (0..1024).step_by(3) {
        source.put(block, 0x5a);
    }
    target.put(1, 0x11);
    let (first, _) = sync(pair, source, target);
    assert!(source.content() == target.content());
    assert_eq!(first.report.entries, Some(342));
    assert_eq!(first.report.total_bytes, Some(64 << 20));
    assert!(
        first.report.logs.contains("total size is 67108864"),
        "{}",
        first.report.logs
    );
    for block in [3, 4, 900] {
        source.put(block, 0x77);
    }
    let (second, destination) = sync(pair, source, target);
    assert!(source.content() == target.content());
    let sent = second.report.bytes_sent.unwrap();
    assert!((3 << 16..4 << 16).contains(&sent), "{sent}");
    let told = "67108864 bytes received, 196608 of them written and read back";
    assert!(destination.log.contains(told), "{}", destination.log);
    let (third, _) = sync(pair, source, target);
    assert!(third.report.bytes_sent.unwrap() < 2000);
    let progress = third
        .log
        .lines()
        .filter_map(syncline_api::report::parse_line);
    let last = progress.into_iter().next_back().unwrap();
    assert_eq!(
        (last.bytes_done, last.bytes_total),
        (Some(64 << 20), Some(64 << 20))
    );
}

#[test]
fn of_a_file_in_place_of_a_device_only_changed_blocks_travel() {
    let pair = Pair::new();
    let disks = (Disk::new(&pair, "a", 1024), Disk::new(&pair, "b", 1024));
    only_changed_blocks_travel(&pair, &disks.0, &disks.1);
}

#[test]
fn of_a_block_device_only_changed_blocks_travel() {
    let pair = Pair::new();
    let looped = |name| Disk::new(&pair, name, 1024).looped();
    // Without root there are no loop devices; the same is then shown with files above.
    if let (true, Some(source), Some(target)) = (is_root(), looped("a"), looped("b")) {
        only_changed_blocks_travel(&pair, &source, &target);
    }
}

#[test]
fn an_ordinary_user_replicates_a_device_that_is_its_own() {
    let pair = if is_root() {
        Pair::of(As::Ordinary, "ed25519")
    } else {
        Pair::new()
    };
    let (source, target) = (Disk::new(&pair, "a", 40), Disk::new(&pair, "b", 40));
    source.put(7, 1);
    if is_root() {
        pair.give_away();
    }
    sync(&pair, &source, &target);
    assert!(source.content() == target.content());
}

#[test]
fn a_transfer_that_was_cut_is_completed_by_the_next_run() {
    let pair = Pair::new();
    let (source, target) = (Disk::new(&pair, "a", 4000), Disk::new(&pair, "b", 4100));
    for block in 0..4000 {
        source.put(block, u8::try_from(block % 200 + 20).unwrap());
    }
    let destination = pair.destination(&[target.variable()]);
    let broken = pair.start_source(&[source.variable()]);
    crate::pair::until("something has arrived", || {
        let file = File::open(&target.path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 300 * BLOCK).unwrap();
        byte != [0]
    });
    broken.kill_all();
    destination.wait_for("the transfer ended with exit code 1");
    assert_eq!(
        pair.say(&["shutdown", "0"]).status.code(),
        Some(1),
        "nothing is complete"
    );
    let again = pair.source(&[source.variable()]);
    again.succeeded();
    let ended = destination.end();
    ended.succeeded();
    assert!(ended.log.contains("left as they are"), "{}", ended.log);
    let (sent, arrived) = (source.content(), target.content());
    assert!(sent[..] == arrived[..sent.len()]);
    assert!(arrived[sent.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_smaller_destination_is_named_with_both_sizes() {
    let pair = Pair::new();
    let (source, target) = (Disk::new(&pair, "a", 10), Disk::new(&pair, "b", 9));
    let mut destination = pair.destination(&[target.variable()]);
    let ended = pair.source(&[source.variable()]);
    ended.failed("DestinationTooSmall");
    let message = ended.report.message.unwrap();
    assert!(
        message.contains("589824") && message.contains("655360"),
        "{message}"
    );
    assert_eq!(ended.report.attempts, Some(1));
    assert!(destination.is_running());
}

#[rstest]
#[case::to_a_file_system(true)]
#[case::to_a_device(false)]
fn a_device_and_a_file_system_are_told_apart(#[case] source_is_device: bool) {
    let pair = Pair::new();
    std::fs::write(pair.src().join("file"), "content").unwrap();
    let disk = Disk::new(&pair, "disk", 4);
    let variables = [disk.variable()];
    let (ours, theirs): (&[_], &[_]) = if source_is_device {
        (&variables, &[])
    } else {
        (&[], &variables)
    };
    let destination = pair.destination(theirs);
    let ended = pair.source(ours);
    ended.failed("VolumeModeMismatch");
    assert!(
        ended
            .report
            .message
            .unwrap()
            .contains("spec.rsync.volumeMode")
    );
    assert_eq!(ended.report.attempts, Some(1));
    destination.wait_for("Invalid command: ");
}

#[test]
fn volsyncs_destination_is_named_as_what_it_is() {
    let pair = Pair::new();
    let disk = Disk::new(&pair, "disk", 4);
    let _stand_in = StandIn::start(&pair, "");
    let ended = pair.source(&[disk.variable()]);
    ended.failed("CommandRefused");
    let message = ended.report.message.unwrap();
    assert!(
        message.contains("diskrsync") && message.contains("Syncline"),
        "{message}"
    );
    assert_eq!(ended.report.attempts, Some(1));
}

#[test]
fn volsyncs_source_is_refused_by_name() {
    let pair = Pair::new();
    let disk = Disk::new(&pair, "disk", 4);
    let destination = pair.destination(&[disk.variable()]);
    let output = pair.say(&["diskrsync", "--target", "/dev/block"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("let Syncline run the source too"), "{text}");
    destination.wait_for("Invalid command: `diskrsync --target /dev/block`");
}

#[test]
fn a_device_that_has_become_all_zeros_is_not_sent_unless_that_is_allowed() {
    let pair = Pair::new();
    let (source, target) = (Disk::new(&pair, "a", 10), Disk::new(&pair, "b", 10));
    target.put(3, 9);
    let kept = target.content();
    let destination = pair.destination(&[target.variable()]);
    let last = ("LAST_SYNCED_ENTRIES", "5");
    let refused = pair.source(&[source.variable(), last]);
    refused.failed("SourceUnexpectedlyEmpty");
    assert!(target.content() == kept);
    pair.source(&[source.variable(), last, ("ALLOW_EMPTY_SOURCE", "1")])
        .succeeded();
    destination.end().succeeded();
    assert!(target.content().iter().all(|byte| *byte == 0));
}

/// Says these bytes to the destination as a key holder might.
fn say(pair: &Pair, words: &[&str], bytes: &[u8]) -> String {
    let mut child = pair
        .ssh("source")
        .arg(&pair.address)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(bytes);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_key_holder_that_talks_nonsense_writes_nothing_and_completes_nothing() {
    let pair = Pair::new();
    let target = Disk::new(&pair, "b", 10);
    target.put(3, 9);
    let kept = target.content();
    let mut destination: Running = pair.destination(&[target.variable()]);
    let receive = ["syncline", "receive-block", "--proto", "1"];
    let mut huge = b"S\x14\0\0\0SYNCBLK1".to_vec();
    huge.extend(u64::MAX.to_le_bytes());
    huge.extend(65536_u32.to_le_bytes());
    for bytes in [
        &b""[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"D\xff\xff\xff\xff",
        &huge,
    ] {
        say(&pair, &receive, bytes);
    }
    let other = say(&pair, &["syncline", "receive-block", "--proto", "2"], b"");
    assert!(other.contains("version 1"), "{other}");
    let path = say(
        &pair,
        &["syncline", "receive-block", "--proto", "1", "/etc/passwd"],
        b"",
    );
    assert!(path.contains("Invalid command"), "{path}");
    assert_eq!(pair.say(&["shutdown", "0"]).status.code(), Some(1));
    assert!(destination.is_running());
    assert!(target.content() == kept);
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let pair = Pair::new();
    let missing = ("BLOCK_DEVICE", "/nowhere/block");
    pair.source(&[missing]).failed("SourceUnreadable");
    pair.unready_destination(&[missing])
        .end()
        .failed("DestinationUnwritable");
    assert!(!Path::new("/nowhere").exists());
}
