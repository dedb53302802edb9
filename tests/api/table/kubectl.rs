//! The commands of the table: what stock kubectl prints on a cluster.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::rows::{self, folder};
use super::site::Site;

/// The longest that a command may take to print what is expected.
const PATIENCE: Duration = Duration::from_secs(60);

/// Commands that follow each other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Session {
    /// Words that are others in every run.
    #[serde(default)]
    names: Vec<String>,
    /// Commands that put away what the session leaves.
    #[serde(default)]
    clean_up: Vec<String>,
    /// Texts that commands use as `{name}`, for manifests.
    #[serde(default)]
    texts: BTreeMap<String, String>,
    rows: Vec<Row>,
}

/// One command. With a name its output is compared with the recorded one; without, it must succeed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Row {
    name: Option<String>,
    run: String,
    #[serde(default)]
    input: String,
    /// A row without a name may fail: what it makes may be there.
    #[serde(default)]
    may_fail: bool,
    /// The output comes about by itself: the command is repeated until it prints what is expected.
    #[serde(default)]
    until: bool,
    /// The command goes on by itself: it is ended after so many lines.
    ends: Option<usize>,
    /// What is run once it has begun to print.
    #[serde(default)]
    during: Vec<String>,
    /// Only lines with one of these words are compared.
    #[serde(default)]
    lines: Vec<String>,
}

impl Session {
    pub(crate) fn read(name: &str) -> Self {
        let path = folder("rows").join(format!("{name}.yaml"));
        let text = fs::read_to_string(&path).unwrap();
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Runs the commands and tells the differences.
    pub(crate) fn play(&self, name: &str, site: &Site, left_out: &[String]) -> Vec<String> {
        let recorded = rows::recorded(name);
        let kubectl = Kubectl::new(self, site);
        let mut surprises = Vec::new();
        for row in &self.rows {
            let Some(title) = &row.name else {
                kubectl.prepare(row);
                continue;
            };
            let Some(line) = recorded.get(title) else {
                surprises.push(format!("«{title}» has no recorded output"));
                continue;
            };
            let expected = left_out.contains(title);
            match kubectl.compare(row, &line["response"], expected) {
                Ok(()) if expected => {
                    surprises.push(format!("«{title}» is met: take it off left-out.yaml"));
                }
                Err(difference) if !expected => surprises.push(format!("«{title}»\n{difference}")),
                _ => {}
            }
        }
        kubectl.clean_up(self);
        surprises
    }

    /// Writes what the commands print on a real cluster.
    pub(crate) fn record(&self, name: &str, site: &Site) {
        let kubectl = Kubectl::new(self, site);
        let mut lines = Vec::new();
        for row in &self.rows {
            match &row.name {
                None => kubectl.prepare(row),
                Some(title) => {
                    if row.until {
                        std::thread::sleep(Duration::from_secs(3));
                    }
                    lines.push(json!({ "name": title, "command": row.run, "response": kubectl.answer(row) }));
                }
            }
        }
        kubectl.clean_up(self);
        rows::record(name, &lines);
    }
}

/// kubectl with a kubeconfig and a home of its own.
struct Kubectl<'a> {
    binary: PathBuf,
    kubeconfig: &'a Path,
    home: tempfile::TempDir,
    /// The table's words and the ones of this run.
    words: Vec<(String, String)>,
    texts: &'a BTreeMap<String, String>,
    /// What this cluster calls things, and what the table calls them.
    of_site: &'a [(String, String)],
    image: &'a str,
    plain: Plain,
}

impl<'a> Kubectl<'a> {
    fn new(session: &'a Session, site: &'a Site) -> Self {
        Self {
            binary: binary(),
            kubeconfig: &site.kubeconfig,
            home: tempfile::tempdir().unwrap(),
            words: super::own_words(&session.names),
            texts: &session.texts,
            of_site: &site.words,
            image: &site.image,
            plain: Plain::new(),
        }
    }

    fn here(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in self.texts {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text = text.replace("{image}", self.image);
        text = text.replace(
            "{deploy}",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy"),
        );
        for (table, own) in &self.words {
            text = text.replace(table, own);
        }
        text
    }

    fn begin(&self, command: &str, input: &str) -> Child {
        let mut child = Command::new(&self.binary)
            .args(words(&self.here(command)))
            .env("KUBECONFIG", self.kubeconfig)
            .env("HOME", self.home.path())
            .env("KUBE_EDITOR", "sed -i s/before/after/")
            .env("NO_COLOR", "1")
            .current_dir(self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = self.here(input);
        // A command that reads nothing may have ended.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child
    }

    fn run(&self, command: &str, input: &str) -> Output {
        self.begin(command, input).wait_with_output().unwrap()
    }

    /// Runs a command; one that does not end by itself is ended after its lines.
    fn run_row(&self, row: &Row) -> Output {
        let Some(ends) = row.ends else {
            return self.run(&row.run, &row.input);
        };
        let mut child = self.begin(&row.run, &row.input);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut printed = String::new();
        for number in 0..ends {
            let Some(Ok(line)) = lines.next() else { break };
            printed.push_str(&line);
            printed.push('\n');
            if number == 0 {
                row.during
                    .iter()
                    .for_each(|command| drop(self.run(command, "")));
            }
        }
        // It may have ended by itself.
        let _ = child.kill();
        let mut output = child.wait_with_output().unwrap();
        output.stdout = printed.into_bytes();
        output
    }

    fn prepare(&self, row: &Row) {
        let output = self.run(&row.run, &row.input);
        let fine = output.status.success() || row.may_fail;
        assert!(fine, "kubectl {}\n{output:?}", row.run);
    }

    fn answer(&self, row: &Row) -> Value {
        let output = self.run_row(row);
        let text = |bytes: &[u8]| {
            let mut text = String::from_utf8_lossy(bytes).into_owned();
            for (table, own) in &self.words {
                text = text.replace(own, table);
            }
            for (name, word) in self.of_site {
                text = text.replace(name, word);
            }
            let text = self.plain.of(&text);
            let wanted = |line: &&str| {
                row.lines.is_empty() || row.lines.iter().any(|word| line.contains(word))
            };
            text.lines().filter(wanted).collect::<Vec<_>>().join("\n")
        };
        json!({ "exit": output.status.code(), "stdout": text(&output.stdout), "stderr": text(&output.stderr) })
    }

    fn compare(&self, row: &Row, recorded: &Value, once: bool) -> Result<(), String> {
        let started = Instant::now();
        loop {
            let here = self.answer(row);
            let outcome = difference(recorded, &here);
            if outcome.is_ok() || once || !row.until || started.elapsed() > PATIENCE {
                return outcome;
            }
        }
    }

    fn clean_up(&self, session: &Session) {
        for command in &session.clean_up {
            let output = self.run(command, "");
            assert!(output.status.success(), "kubectl {command}\n{output:?}");
        }
    }
}

fn difference(recorded: &Value, here: &Value) -> Result<(), String> {
    let mut found: Vec<String> = Vec::new();
    for part in ["exit", "stdout", "stderr"] {
        let (left, right) = (&recorded[part], &here[part]);
        if left == right {
            continue;
        }
        let (Some(left), Some(right)) = (left.as_str(), right.as_str()) else {
            found.push(format!("  {part} {right}, recorded: {left}"));
            continue;
        };
        let (left, right): (Vec<_>, Vec<_>) = (left.lines().collect(), right.lines().collect());
        found.push(format!("  {part}:"));
        for line in right.iter().filter(|line| !left.contains(line)) {
            found.push(format!("    here     {line}"));
        }
        for line in left.iter().filter(|line| !right.contains(line)) {
            found.push(format!("    recorded {line}"));
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(found.join("\n"))
    }
}

/// What an output is without what is each run's own.
struct Plain(Vec<(Regex, &'static str)>);

impl Plain {
    fn new() -> Self {
        let rules = [
            // What the client logs of its connections.
            (r"(?m)^[IWE]\d{4} [\d:.]+ .*\n", ""),
            // What a cluster's own admission says of pods is no answer of the API.
            (r"(?m)^Warning: would violate PodSecurity .*\n", ""),
            (
                r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000)",
                "(time)",
            ),
            (
                r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d \+0000",
                "(time)",
            ),
            (
                r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
                "(uid)",
            ),
            (r"\b[0-9a-f]{64}\b", "(hash)"),
            // Said or not, as the two ends of the pipe come to read it.
            (r"(?m)^tar: Removing leading .*\n?", ""),
            (r#"(?i)("?resource ?version"?: *)[^\s,]+"#, "$1(own)"),
            (r"\b(\d+[smhdy]){1,2}\b", "(age)"),
            (r"/tmp/(LIVE|MERGED)-\d+", "/tmp/$1"),
            (r"\b\d+\.\d+\.\d+\.\d+\b", "(ip)"),
            (r"kube-api-access-[a-z0-9]{5}", "kube-api-access"),
            (r"(\(ip\)|\[::1\]):\d+ ->", "$1:(port) ->"),
            (r"(Created pod:\s+\S+)-[a-z0-9]{5}\b", "$1-(own)"),
            // Columns are as wide as the run's own names.
            (r"(\S) {2,}", "$1  "),
            (r"(?m) +$", ""),
        ];
        Self(
            rules
                .into_iter()
                .map(|(rule, with)| (Regex::new(rule).unwrap(), with))
                .collect(),
        )
    }

    fn of(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (rule, with) in &self.0 {
            text = rule.replace_all(&text, *with).into_owned();
        }
        text
    }
}

/// Stock kubectl: the one of the caller, or the one that is fetched.
fn binary() -> PathBuf {
    if let Some(binary) = std::env::var_os("KUBECTL") {
        return binary.into();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/fetch-kubectl");
    let output = Command::new(script)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "kubectl could not be fetched");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// Words as a shell parts them; quotes keep blanks.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for letter in text.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}
