//! The rclone program: how it is started, heard, and ended.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use syncline_api::report::Role;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::console::{Console, printable};
pub(crate) use crate::fs::PrivateFolder;
use crate::fs::write_private;
use crate::programs;
use crate::rclone::config::{Config, Section};
use crate::rclone::outcome::{LastWords, Scene, Setback, of_rclone};
use crate::rclone::redact::Redactor;
use crate::rclone::settings::{Remote, Settings};
use crate::rclone::stats::Line;
pub(crate) use crate::rclone::stats::Stats;
use crate::rclone::store::Features;
use crate::report::{Fault, reason};
use crate::supervise::{each_line_within, end, told_to_stop};

/// At most one progress line in this time.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A line of rclone's log may be so long: statistics name every file under way.
const LONGEST_LOG_LINE: usize = 1024 * 1024;

/// So many lines of one run are printed; a store can give reason for millions.
const MOST_LINES: u32 = 500;

/// How often rclone asks a store again for what is not data. On S3 a refused certificate, a clock that is wrong and a server
/// that is not there cost twenty seconds with each try, and what may pass is tried again by the mover itself.
const FEW_TRIES: &str = "3";

/// What is about one file or folder, or asks what a store can. A good part of its time is the garbage of rclone's start, which
/// is collected rarely.
const BRIEF: &[&str] = &["backend", "cat", "copyto", "deletefile", "mkdir"];

/// Lets Go collect garbage when there is four times as much as is in use, up to so much in all: a pod may have little more.
const RARELY: [(&str, &str); 2] = [("GOGC", "400"), ("GOMEMLIMIT", "100MiB")];

/// What is set for every run, unless the Secret decides it.
const DEFAULTS: &[(&str, &str)] = &[
    // "é" composed and decomposed are two names to a file system; rclone would drop one of the two files.
    ("RCLONE_NO_UNICODE_NORMALIZATION", "true"),
    ("RCLONE_CONTIMEOUT", "30s"),
];

/// rclone, its configuration, and the store that it is to talk to.
pub(crate) struct Rclone {
    program: PathBuf,
    /// The private copy of `rclone.conf`, into which rclone may write new tokens.
    config_file: PathBuf,
    /// The folder of this run's private files.
    folder: PathBuf,
    config: Config,
    redactor: Redactor,
    remote: Remote,
    role: Role,
    custom_ca: Option<PathBuf>,
    /// Asked once.
    pub(super) features: OnceCell<Features>,
    stop: CancellationToken,
    signal: Arc<OnceLock<&'static str>>,
    /// Nothing may run for now.
    halted: tokio::sync::watch::Sender<bool>,
}

/// One run of rclone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Command {
    verb: &'static str,
    words: Vec<OsString>,
    tuning: Vec<(&'static str, String)>,
    names: Option<Vec<u8>>,
    obeys_choice: bool,
    expected: Option<(u64, u64)>,
}

impl Command {
    /// A command of rclone, such as `sync`.
    pub(crate) fn new(verb: &'static str) -> Self {
        Self {
            verb,
            ..Self::default()
        }
    }

    /// Adds an option or a place.
    pub(crate) fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.words.push(word.as_ref().to_owned());
        self
    }

    /// Adds options or places.
    pub(crate) fn args<W: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.words
            .extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Only the files of this list: names of [`super::names::for_list`], each followed by a zero.
    pub(crate) fn names(mut self, names: Vec<u8>) -> Self {
        self.names = Some(names);
        self
    }

    /// Heeds the keys of the Secret that choose among files, as only runs over the whole volume do: rclone refuses to read or
    /// write a single file, or a list of names, when there are any.
    pub(crate) fn choosing(mut self) -> Self {
        self.obeys_choice = true;
        self
    }

    /// Sets a variable (`RCLONE_TRANSFERS`) for this run, unless the Secret decides it.
    pub(crate) fn tune(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.tuning.push((name, value.into()));
        self
    }

    /// Lets rclone collect its garbage rarely: what it does takes little memory.
    pub(crate) fn with_garbage(self) -> Self {
        let tuned = |command: Self, (name, value)| command.tune(name, value);
        RARELY.into_iter().fold(self, tuned)
    }

    /// How many files and bytes are to be moved, for progress.
    pub(crate) fn expect(mut self, files: u64, bytes: u64) -> Self {
        self.expected = Some((files, bytes));
        self
    }
}

/// Where rclone's standard output goes.
pub(crate) enum Sink<'a> {
    Nowhere,
    /// Into memory, at most so many bytes and one.
    Bytes(&'a mut Vec<u8>, u64),
    /// Line by line.
    Lines(&'a mut dyn FnMut(&[u8])),
}

/// How a run of rclone ended.
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    pub(crate) words: LastWords,
    pub(crate) stats: Stats,
}

impl Rclone {
    /// Checks the configuration, copies it to `folder`, and hides its secrets from everything that `console` says from now
    /// on. Must be called within the event loop, since it listens for signals.
    pub(crate) fn prepare(
        settings: &Settings,
        folder: &PrivateFolder,
        console: &Console,
    ) -> Result<Self, Fault> {
        let program = programs::find("rclone")?;
        let rclone = Self::with_program(program, settings, folder, console)?;
        rclone.listen_for_signals();
        Ok(rclone)
    }

    fn with_program(
        program: PathBuf,
        settings: &Settings,
        folder: &PrivateFolder,
        console: &Console,
    ) -> Result<Self, Fault> {
        let mut config = Config::read(&settings.places)?;
        let config_file = folder.file("rclone.conf");
        write_private(&config_file, config.text.as_bytes()).map_err(|error| {
            Fault::new(
                reason::POD_INCOMPLETE,
                format!("{} cannot be written: {error}", config_file.display()),
            )
        })?;
        if config.is_encrypted {
            config.sections = decrypted(&program, &config_file, &config);
        }
        let redactor = Redactor::of(&config);
        let hiding = redactor.clone();
        console.hide(move |text| hiding.redact(text));
        for name in config.passed_over() {
            console.say(&format!(
                "the key {name} of the Secret is passed over: what it would set is this mover's to decide"
            ));
        }
        config.check(&settings.remote)?;
        if let Some(path) = &settings.places.custom_ca {
            std::fs::metadata(path).map_err(|error| {
                Fault::new(
                    reason::CERTIFICATE_REFUSED,
                    format!(
                        "the certificates of spec.rclone.customCA cannot be read ({error}); correct its name and its key"
                    ),
                )
            })?;
        }
        Ok(Self {
            program,
            config_file,
            folder: folder.path().to_owned(),
            config,
            redactor,
            remote: settings.remote.clone(),
            role: settings.role,
            custom_ca: settings.places.custom_ca.clone(),
            features: OnceCell::new(),
            stop: CancellationToken::new(),
            signal: Arc::default(),
            halted: tokio::sync::watch::Sender::new(false),
        })
    }

    /// What the Secret holds.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Where the data lies.
    pub(crate) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// The key of the Secret that makes rclone pass over files, if there is one. Lists of names cannot be used then, and the
    /// store does not hold what the volume holds.
    pub(crate) fn selective(&self) -> Option<&str> {
        self.config.selective()
    }

    /// Do those keys nothing but pass over files, so that a listing under them shows what a transfer carries?
    pub(super) fn only_filters(&self) -> bool {
        self.config.only_filters()
    }

    /// From now on a signal to stop is kept until somebody asks.
    fn listen_for_signals(&self) {
        let (stop, signal) = (self.stop.clone(), Arc::clone(&self.signal));
        tokio::spawn(async move {
            let name = told_to_stop().await;
            // Set once only: the first signal ends the mover.
            let _ = signal.set(name);
            stop.cancel();
        });
    }

    /// The folder of this run's private files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until the pod is told to stop.
    pub(crate) async fn stopped(&self) -> Fault {
        self.stop.cancelled().await;
        self.interrupted()
    }

    /// Says what a try failed with, and waits for the next one, unless the pod is told to stop.
    pub(crate) async fn rest(
        &self,
        failed: &Fault,
        wait: Duration,
        console: &Console,
    ) -> Result<(), Fault> {
        console.say(&format!(
            "{}: {}; next try in {} s",
            failed.reason,
            failed.message,
            wait.as_secs()
        ));
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            stopped = self.stopped() => Err(stopped),
        }
    }

    /// Ends what runs, and lets nothing run until [`Self::go_on`].
    pub(crate) fn halt(&self) {
        self.halted.send_replace(true);
    }

    pub(crate) fn go_on(&self) {
        self.halted.send_replace(false);
    }

    /// Waits until nothing may run any more.
    async fn ended(&self) {
        let mut halted = self.halted.subscribe();
        tokio::select! {
            () = self.stop.cancelled() => {}
            // The other end is here too.
            _ = halted.wait_for(|is_halted| *is_halted) => {}
        }
    }

    fn interrupted(&self) -> Fault {
        let signal = self.signal.get().copied().unwrap_or("a signal");
        Fault::new(
            reason::INTERRUPTED,
            format!(
                "the mover was told to stop by {signal} before it was done; the next run goes on from here"
            ),
        )
    }

    /// Runs a command to its end, printing what it says and its progress.
    pub(crate) async fn run(&self, command: Command, console: &Console) -> Result<Stats, Setback> {
        let ended = self.go(command, Some(console), Sink::Nowhere).await?;
        match ended.code {
            Some(0) => Ok(ended.stats),
            _ => Err(self.trouble(&ended)),
        }
    }

    /// Why a run ended as it did.
    pub(crate) fn trouble(&self, ended: &End) -> Setback {
        let store = self.remote.data().to_string();
        let folder = self.folder_of_store();
        let scene = Scene {
            role: self.role,
            store: &store,
            folder: folder.as_ref(),
        };
        of_rclone(ended.code, &ended.words, scene)
    }

    /// Runs a command to its end, whatever that is. Without a console nothing is printed.
    pub(crate) async fn go(
        &self,
        command: Command,
        console: Option<&Console>,
        sink: Sink<'_>,
    ) -> Result<End, Setback> {
        if self.stop.is_cancelled() || *self.halted.borrow() {
            return Err(self.interrupted().into());
        }
        let command = match console {
            Some(_) => command,
            None => command.tune("RCLONE_LOW_LEVEL_RETRIES", FEW_TRIES),
        };
        let mut child = self.start(&command, &sink)?;
        let ears = Ears {
            redactor: &self.redactor,
            console,
            expected: command.expected,
            heard: RefCell::default(),
        };
        let (input, output, errors) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let talk = async {
            tokio::join!(give(input, command.names), take(output, sink), async {
                if let Some(errors) = errors {
                    each_line_within(errors, LONGEST_LOG_LINE, |line| ears.hear(line)).await;
                }
            });
        };
        tokio::select! {
            () = talk => {}
            () = self.ended() => return Err(self.end(&mut child).await),
        }
        let status = tokio::select! {
            status = child.wait() => status.map_err(|error| self.cannot_run(&error))?,
            () = self.ended() => return Err(self.end(&mut child).await),
        };
        let heard = ears.heard.into_inner();
        Ok(End {
            code: status.code(),
            words: heard.words,
            stats: heard.stats,
        })
    }

    /// Lets rclone clean up (it ends uploads in parts) and waits for it.
    async fn end(&self, child: &mut Child) -> Setback {
        end(child).await;
        self.interrupted().into()
    }

    fn start(&self, command: &Command, sink: &Sink<'_>) -> Result<Child, Setback> {
        let mut child = tokio::process::Command::new(&self.program);
        child
            .arg(command.verb)
            .args(["--use-json-log", "--stats=1s", "--stats-log-level=NOTICE"])
            .arg(format!("--log-level={}", self.config.log_level()))
            .args(
                self.custom_ca
                    .as_deref()
                    .into_iter()
                    .flat_map(|path| [Path::new("--ca-cert"), path]),
            )
            .args(command.names.as_ref().map(|_| "--files-from0=-"))
            .args(&command.words);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RCLONE") {
                child.env_remove(name);
            }
        }
        if BRIEF.contains(&command.verb) {
            child.envs(RARELY);
        }
        let defaults = DEFAULTS
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        for (name, value) in defaults.chain(command.tuning.iter().cloned()) {
            if !self.config.decides(name) {
                child.env(name, value);
            }
        }
        child
            .envs(self.config.environment_of(command.obeys_choice))
            .env("RCLONE_CONFIG", &self.config_file)
            .env("RCLONE_ASK_PASSWORD", "false")
            .env("LC_ALL", "C")
            .stdin(piped(command.names.is_some()))
            .stdout(piped(!matches!(sink, Sink::Nowhere)))
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if !self.config.decides("RCLONE_CACHE_DIR") {
            child.env("RCLONE_CACHE_DIR", self.folder.join("cache"));
        }
        child.spawn().map_err(|error| self.cannot_run(&error))
    }

    fn cannot_run(&self, error: &std::io::Error) -> Setback {
        programs::cannot_run(&self.program, error).into()
    }
}

/// The sections of an encrypted configuration, so that their secrets are known. None where rclone cannot read it, which its
/// first run tells better.
fn decrypted(program: &Path, file: &Path, config: &Config) -> Vec<Section> {
    type Sections = BTreeMap<String, BTreeMap<String, String>>;
    let password = config.environment_of(false).filter(|(name, _)| {
        name.starts_with("RCLONE_CONFIG_PASS") || name == "RCLONE_PASSWORD_COMMAND"
    });
    let told = std::process::Command::new(program)
        .args(["config", "dump"])
        .envs(password)
        .env("RCLONE_CONFIG", file)
        .env("RCLONE_ASK_PASSWORD", "false")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let sections = told
        .ok()
        .and_then(|told| serde_json::from_slice::<Sections>(&told.stdout).ok());
    let sections = sections.unwrap_or_default().into_iter();
    sections
        .map(|(name, entries)| Section {
            name,
            entries: entries.into_iter().collect(),
        })
        .collect()
}

fn piped(is_needed: bool) -> Stdio {
    if is_needed {
        Stdio::piped()
    } else {
        Stdio::null()
    }
}

async fn give(input: Option<ChildStdin>, names: Option<Vec<u8>>) {
    if let (Some(mut input), Some(names)) = (input, names) {
        // An rclone that reads no further says itself why.
        let _ = input.write_all(&names).await;
    }
}

async fn take<R: AsyncRead + Unpin>(output: Option<R>, sink: Sink<'_>) {
    let Some(mut output) = output else { return };
    match sink {
        Sink::Nowhere => {}
        Sink::Bytes(bytes, most) => {
            let most = most.saturating_add(1);
            // What could not be read is missing, and the exit code tells it.
            let _ = (&mut output).take(most).read_to_end(bytes).await;
        }
        Sink::Lines(each) => each_line_within(output, LONGEST_LOG_LINE, each).await,
    }
}

/// What is done with rclone's log.
struct Ears<'a> {
    redactor: &'a Redactor,
    console: Option<&'a Console>,
    expected: Option<(u64, u64)>,
    heard: RefCell<Heard>,
}

#[derive(Default)]
struct Heard {
    words: LastWords,
    stats: Stats,
    lines: u32,
    shown: Option<Instant>,
}

impl Ears<'_> {
    fn hear(&self, bytes: &[u8]) {
        let mut heard = self.heard.borrow_mut();
        let Some(line) = Line::parse(bytes) else {
            // Before rclone has read its options it does not speak JSON.
            let text = self.redactor.redact(&printable(bytes));
            if !text.contains(" DEBUG : ") {
                heard.words.hear(&text);
            }
            self.say(&mut heard, &text);
            return;
        };
        if let Some(counts) = line.counts() {
            heard.stats = counts.stats();
            let is_due = |at: Instant| at.elapsed() >= PROGRESS_INTERVAL;
            if let Some(console) = self.console
                && heard.shown.is_none_or(is_due)
            {
                heard.shown = Some(Instant::now());
                console.machine(&counts.progress(self.expected).to_line());
            }
            return;
        }
        let (whole, subject) = (line.text(), line.subject());
        let text = self.redactor.redact(&whole);
        if line.is_trouble() {
            // Where something in it is hidden nobody knows where it ends.
            let is_as_said = text.get(..subject) == whole.get(..subject);
            let subject = if is_as_said { subject } else { 0 };
            heard.words.hear_of(subject, &text);
        }
        self.say(&mut heard, &text);
    }

    fn say(&self, heard: &mut Heard, text: &str) {
        let Some(console) = self.console else { return };
        heard.lines = heard.lines.saturating_add(1);
        match heard.lines {
            0..MOST_LINES => console.say(text),
            MOST_LINES => console.say("further lines of this run of rclone are left out"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
