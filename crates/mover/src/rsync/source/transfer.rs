//! One run of rsync at the source.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::Instant;

use crate::console::{Console, printable};
use crate::fs::{Census, LOST_AND_FOUND};
use crate::programs;
use crate::report::reason;
use crate::rsync::outcome::{LastWords, Less, Next, Setback, of_rsync};
use crate::rsync::progress::{Glimpse, Totals, glimpse, progress};
use crate::rsync::ssh::{self, Client};
use crate::supervise::each_line;

/// At most one progress line in this time.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// rsync gives up when nothing moves for so long, in seconds. ssh notices dead links much earlier; this is for peers
/// that live and do nothing.
const IDLE_LIMIT: &str = "--timeout=1800";

/// Times are compared to the nanosecond. By default rsync compares seconds, and so would miss for good a file of the
/// same size that was written once more in the second in which the last copy was taken, as databases do.
const EXACT_TIMES: &str = "--modify-window=-1";

/// So much of a name is shown, in bytes: a message must have room for its cure.
const EXAMPLE_CAP: usize = 120;

/// Which extended attributes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attributes {
    /// All but `SELinux` labels, which belong to the node.
    All,
    /// Those of users.
    Users,
    /// None, and owners by name instead of by number, as VolSync does.
    None,
}

/// How much is asked of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) attributes: Attributes,
    /// Compare times to the nanosecond; rrsync does not let that option through.
    pub(crate) exact_times: bool,
    /// Give the volume's root folder the times and the mode of the source's. Only its owner can, and an unprivileged
    /// destination rarely is.
    pub(crate) root: bool,
    /// Make device files. That takes a capability which movers on a cluster do not have.
    pub(crate) devices: bool,
}

impl Ask {
    /// Everything that rsync can keep.
    pub(crate) const EVERYTHING: Self = Self {
        attributes: Attributes::All,
        exact_times: true,
        root: true,
        devices: true,
    };

    /// What to ask for after the peer refused this much; `None` when there is nothing less. The least is what VolSync
    /// asks for.
    pub(crate) fn less(self, less: Less) -> Option<Self> {
        if less == Less::Root {
            let without = Self {
                root: false,
                ..self
            };
            return self.root.then_some(without);
        }
        if less == Less::Devices {
            let without = Self {
                devices: false,
                ..self
            };
            return self.devices.then_some(without);
        }
        let attributes = match (less, self.attributes) {
            (Less::Options, attributes) if self.exact_times => attributes,
            (Less::Attributes, Attributes::All) => Attributes::Users,
            (_, Attributes::None) => return None,
            _ => Attributes::None,
        };
        let exact_times =
            self.exact_times && less == Less::Attributes && attributes != Attributes::None;
        Some(Self {
            attributes,
            exact_times,
            ..self
        })
    }

    /// In words, for the log.
    pub(crate) fn describe(self) -> String {
        let times = if self.exact_times {
            "times to the nanosecond"
        } else {
            "times by the second"
        };
        let attributes = match self.attributes {
            Attributes::All => "all extended attributes",
            Attributes::Users => "users' extended attributes only (no security.*, trusted.*)",
            Attributes::None => "no extended attributes, owners by name (VolSync's options)",
        };
        let devices = if self.devices {
            ""
        } else {
            ", no device files"
        };
        format!("{times}, {attributes}{devices}")
    }

    /// What is not preserved because it was not asked for.
    pub(crate) fn lost(self) -> Vec<String> {
        let mut lost = Vec::new();
        if !self.root {
            lost.push("times and mode of the volume's root folder");
        }
        if !self.devices {
            lost.push("device files");
        }
        if self.attributes == Attributes::Users {
            lost.push("extended attributes other than users' (security.*, trusted.*)");
        }
        lost.into_iter().map(str::to_owned).collect()
    }
}

/// What one transfer needs to know.
pub(crate) struct Transfer<'a> {
    pub(crate) rsync: &'a PathBuf,
    pub(crate) data: &'a Path,
    /// A folder in the destination's volume; empty means its root.
    pub(crate) path: &'a str,
    pub(crate) ask: Ask,
    pub(crate) compress: bool,
    /// What the source holds, once it has been counted.
    pub(crate) census: &'a OnceLock<Census>,
}

impl Transfer<'_> {
    /// rsync's arguments.
    pub(crate) fn arguments(&self, shell: &str) -> Vec<String> {
        let hidden: &[&str] = match self.ask.attributes {
            Attributes::All => &["security.selinux"],
            Attributes::Users => &["security.*", "trusted.*"],
            Attributes::None => &[],
        };
        let mut arguments = vec!["-aAHSx".to_owned()];
        if self.ask.attributes != Attributes::None {
            arguments.extend(["-X".into(), "--numeric-ids".into()]);
            arguments.extend(hidden.iter().map(|name| format!("--filter=-xs {name}")));
        }
        if self.ask.exact_times {
            arguments.push(EXACT_TIMES.into());
        }
        if !self.ask.devices {
            arguments.push("--no-devices".into());
        }
        if self.compress {
            arguments.push("-z".into());
        }
        arguments.extend([
            "--delete".into(),
            "--itemize-changes".into(),
            "--no-human-readable".into(),
            "--info=stats2,misc2,progress2".into(),
            "--outbuf=L".into(),
            IDLE_LIMIT.into(),
            // mkfs makes this folder for itself; it is neither sent nor deleted at the other end.
            format!("--exclude=/{LOST_AND_FOUND}"),
            format!("--rsh={shell}"),
        ]);
        let path = self.path.trim_matches('/');
        if path.is_empty() {
            arguments.push(format!("{}/", self.data.display()));
            arguments.push(format!("{}:.", ssh::HOST));
        } else {
            arguments.push("--mkpath".into());
            arguments.push(format!("{}/", self.data.display()));
            arguments.push(format!("{}:./{path}/", ssh::HOST));
        }
        arguments
    }

    /// Runs rsync to its end; twice where the root folder is not to be touched, since rsync deletes only in folders that it
    /// was given, and changes what it was given.
    pub(crate) async fn run(&self, client: &Client, console: &Console) -> Result<Totals, Setback> {
        let arguments = self.arguments(&client.remote_shell());
        if self.ask.root {
            return self.send((client, console), arguments, None).await;
        }
        let names = names_in(self.data).map_err(|error| cannot_read(self.data, &error))?;
        let deleting = deleting(&arguments);
        let mut totals = Totals::default();
        if !names.is_empty() {
            totals = self
                .send((client, console), beneath_root(arguments), Some(names))
                .await?;
        }
        self.send((client, console), deleting, None).await?;
        Ok(totals)
    }

    /// Asks what [`Transfer::run`] would delete at the destination. Nothing is changed there.
    pub(crate) async fn would_delete(
        &self,
        client: &Client,
        console: &Console,
    ) -> Result<Deletions, Setback> {
        let arguments = self.arguments(&client.remote_shell());
        let arguments = if self.ask.root {
            arguments
        } else {
            deleting(&arguments)
        };
        let mut deletions = Deletions::default();
        let asked = self
            .pass((client, console), asking(arguments), None, |line| {
                deletions.read(line);
            })
            .await;
        // What an rsync that failed later named already is there all the same.
        if deletions.count == 0 {
            asked?;
        }
        Ok(deletions)
    }

    /// One run of rsync whose progress is shown.
    async fn send(
        &self,
        (client, console): (&Client, &Console),
        arguments: Vec<String>,
        names: Option<Vec<u8>>,
    ) -> Result<Totals, Setback> {
        let (mut totals, mut shown) = (Totals::default(), Shown::default());
        self.pass((client, console), arguments, names, |line| {
            self.hear(line, &mut totals, &mut shown, console);
        })
        .await?;
        Ok(totals)
    }

    /// One run of rsync, which may be given names on its standard input. `hear` is given each line that it prints.
    async fn pass(
        &self,
        (client, console): (&Client, &Console),
        arguments: Vec<String>,
        names: Option<Vec<u8>>,
        mut hear: impl FnMut(&[u8]),
    ) -> Result<(), Setback> {
        let mut child = Command::new(self.rsync)
            .args(arguments)
            .env("LC_ALL", "C")
            .envs(client.environment())
            // A setting of the environment must not change how arguments reach the gate.
            .env_remove("RSYNC_PROTECT_ARGS")
            .env_remove("RSYNC_OLD_ARGS")
            .stdin(if names.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| programs::cannot_run(self.rsync, &error))?;
        let input = child.stdin.take();
        let give_names = async {
            if let (Some(mut input), Some(names)) = (input, names) {
                // An rsync that reads no further says itself why.
                let _ = input.write_all(&names).await;
            }
        };
        let mut words = LastWords::default();
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let listen_output = async {
            if let Some(stream) = output {
                each_line(stream, &mut hear).await;
            }
        };
        let listen_errors = async {
            if let Some(stream) = errors {
                each_line(stream, |line| {
                    console.relay(line);
                    words.hear(line);
                })
                .await;
            }
        };
        tokio::join!(give_names, listen_output, listen_errors);
        let status = child
            .wait()
            .await
            .map_err(|error| programs::cannot_run(self.rsync, &error))?;
        of_rsync(status.code(), &words, client.peer()).map_or(Ok(()), Err)
    }

    fn hear(&self, line: &[u8], totals: &mut Totals, shown: &mut Shown, console: &Console) {
        let text = String::from_utf8_lossy(line);
        if let Some(glimpse) = glimpse(&text) {
            let now = Instant::now();
            let glimpse = glimpse.counted_as(shown.glimpse);
            shown.glimpse = Some(glimpse);
            let is_due = |at| now.duration_since(at) >= PROGRESS_INTERVAL;
            if shown.at.is_none_or(is_due) {
                shown.at = Some(now);
                console.machine(&progress(glimpse, self.census.get().copied()).to_line());
            }
            return;
        }
        totals.read(&text);
        console.relay(line);
    }
}

/// The names in the root folder, each followed by a zero.
fn names_in(data: &Path) -> std::io::Result<Vec<u8>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(data)? {
        let name = entry?.file_name();
        if name != LOST_AND_FOUND {
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
    }
    Ok(names)
}

/// The arguments that send what is in the root folder and not the folder itself.
fn beneath_root(mut arguments: Vec<String>) -> Vec<String> {
    arguments.retain(|argument| argument != "--delete");
    let more = [
        "-r",
        "--force",
        "--from0",
        "--files-from=-",
        "--no-relative",
    ];
    arguments.splice(1..1, more.map(str::to_owned));
    arguments
}

/// The arguments that delete what the source has no more, and change nothing else.
fn deleting(arguments: &[String]) -> Vec<String> {
    let kept = ["--rsh=", "--exclude=", "--timeout=", "--mkpath"];
    let options = arguments
        .iter()
        .filter(|argument| kept.iter().any(|start| argument.starts_with(start)));
    let places = arguments.iter().skip(arguments.len().saturating_sub(2));
    ["-rlx", "--delete", "--existing", "--ignore-existing"]
        .map(str::to_owned)
        .into_iter()
        .chain(options.cloned())
        .chain(places.cloned())
        .collect()
}

/// The arguments that do nothing and name what would be deleted.
fn asking(mut arguments: Vec<String>) -> Vec<String> {
    const NAME_CHANGES: &str = "--itemize-changes";
    arguments.retain(|argument| argument != NAME_CHANGES && !argument.starts_with("--info="));
    arguments.splice(1..1, ["--dry-run", NAME_CHANGES].map(str::to_owned));
    arguments
}

/// What a transfer would delete at the destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deletions {
    /// How many entries.
    pub(crate) count: u64,
    /// One of them, as rsync prints it.
    pub(crate) example: Option<String>,
}

impl Deletions {
    /// Takes in a line such as `*deleting   folder/file`.
    fn read(&mut self, line: &[u8]) {
        let Some(name) = line.strip_prefix(b"*deleting ") else {
            return;
        };
        self.count += 1;
        let name = name.trim_ascii_start();
        let start = name.get(..EXAMPLE_CAP).unwrap_or(name);
        self.example.get_or_insert_with(|| printable(start));
    }
}

fn cannot_read(data: &Path, error: &std::io::Error) -> Setback {
    Setback::new(
        reason::SOURCE_UNREADABLE,
        format!("{} cannot be read: {error}", data.display()),
        Next::Wait,
    )
}

/// The progress that was told last.
#[derive(Default)]
struct Shown {
    at: Option<Instant>,
    glimpse: Option<Glimpse>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(ask: Ask, path: &str) -> Vec<String> {
        let census = OnceLock::new();
        let rsync = PathBuf::from("/usr/bin/rsync");
        Transfer {
            rsync: &rsync,
            data: Path::new("/data"),
            path,
            ask,
            compress: false,
            census: &census,
        }
        .arguments("ssh")
    }

    #[test]
    fn the_root_is_the_root_and_a_path_is_made() {
        assert_eq!(
            arguments(Ask::EVERYTHING, "/").last().unwrap(),
            "destination:."
        );
        let arguments = arguments(Ask::EVERYTHING, "/sub dir/x/");
        assert_eq!(arguments.last().unwrap(), "destination:./sub dir/x/");
        assert!(arguments.contains(&"--mkpath".to_owned()));
    }

    #[test]
    fn a_refusal_leads_to_what_volsync_asks_for_at_the_latest() {
        for less in [Less::Attributes, Less::Options] {
            let steps = std::iter::successors(Some(Ask::EVERYTHING), |ask| ask.less(less));
            let last = steps.take(10).last().unwrap();
            assert_eq!(
                last,
                Ask {
                    attributes: Attributes::None,
                    exact_times: false,
                    root: true,
                    devices: true
                }
            );
            let arguments = arguments(last, "");
            assert!(
                !arguments
                    .iter()
                    .any(|argument| argument.starts_with("-X") || argument == "--numeric-ids")
            );
        }
        let ask = Ask::EVERYTHING.less(Less::Options).unwrap();
        assert_eq!(
            ask,
            Ask {
                attributes: Attributes::All,
                exact_times: false,
                root: true,
                devices: true
            },
            "VolSync's rrsync takes that"
        );
        let ask = Ask::EVERYTHING.less(Less::Attributes).unwrap();
        assert_eq!(
            ask,
            Ask {
                attributes: Attributes::Users,
                exact_times: true,
                root: true,
                devices: true
            }
        );
    }

    #[test]
    fn device_files_that_the_peer_may_not_make_are_left_out_and_named() {
        let ask = Ask::EVERYTHING.less(Less::Devices).unwrap();
        assert_eq!(ask.less(Less::Devices), None);
        assert!(arguments(ask, "").contains(&"--no-devices".to_owned()));
        assert_eq!(ask.lost(), ["device files"]);
        assert_eq!(Ask::EVERYTHING.lost(), [] as [&str; 0]);
    }

    #[test]
    fn a_question_changes_nothing_and_names_what_would_go() {
        for ask in [Ask::EVERYTHING, Ask::EVERYTHING.less(Less::Root).unwrap()] {
            let whole = arguments(ask, "sub");
            let asking = asking(if ask.root { whole } else { deleting(&whole) });
            for option in ["--dry-run", "--itemize-changes", "--delete", "--mkpath"] {
                let times = asking.iter().filter(|argument| *argument == option).count();
                assert_eq!(times, 1, "{option}: {asking:?}");
            }
            assert_eq!(asking.last().unwrap(), "destination:./sub/");
        }
        let mut deletions = Deletions::default();
        for line in [
            "",
            ".d..t...... ./",
            "*deleting   sub/y",
            "*deleting   sub/",
        ] {
            deletions.read(line.as_bytes());
        }
        let example = Some("sub/y".to_owned());
        assert_eq!(deletions, Deletions { count: 2, example });
    }

    #[test]
    fn a_root_folder_that_is_not_the_peers_is_left_alone() {
        let ask = Ask::EVERYTHING.less(Less::Root).unwrap();
        assert_eq!(ask.less(Less::Root), None);
        let whole = arguments(ask, "");
        let sending = beneath_root(whole.clone());
        assert!(!sending.contains(&"--delete".to_owned()));
        assert!(sending.contains(&"--files-from=-".to_owned()));
        let deleting = deleting(&whole);
        assert_eq!(deleting.last().unwrap(), "destination:.");
        assert!(
            deleting.contains(&"--delete".to_owned()) && !deleting.contains(&"-aAHSx".to_owned())
        );
    }
}
