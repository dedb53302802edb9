//! An application: a SQLite database that somebody keeps writing to.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Pause between two transactions.
const PAUSE: Duration = Duration::from_millis(10);
/// What stands in the database at the start.
const SCHEMA: &str =
    "CREATE TABLE entry (number INTEGER PRIMARY KEY, text TEXT, checksum INTEGER);";

/// A thread that adds a row in a transaction of its own, again and again.
pub(crate) struct Writer {
    between_transactions: Arc<Mutex<()>>,
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Writer {
    /// Creates the database in this folder and starts writing.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let database = database(folder);
        query(&database, SCHEMA)?;
        let between_transactions = Arc::new(Mutex::new(()));
        let written = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (between, written, stop) = (
                Arc::clone(&between_transactions),
                Arc::clone(&written),
                Arc::clone(&stop),
            );
            std::thread::spawn(move || write(&database, &between, &written, &stop))
        };
        Ok(Self {
            between_transactions,
            written,
            stop,
            thread: Some(thread),
        })
    }

    /// Holds the writer between two transactions for as long as the guard lives.
    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        self.between_transactions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many transactions were committed so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Ends the thread, and says if it had failed.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            match thread.join() {
                Ok(result) => result?,
                Err(_) => bail!("the database's writer panicked"),
            }
        }
        Ok(self.written())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The database's file in a volume.
pub(crate) fn database(folder: &Path) -> PathBuf {
    folder.join("app.db")
}

/// Runs statements with the `sqlite3` program and returns what they print.
pub(crate) fn query(database: &Path, statements: &str) -> Result<String> {
    let output = Command::new("sqlite3")
        .args(["-bail", "-cmd", ".timeout 10000"])
        .arg(database)
        .arg(statements)
        .output()
        .context("cannot run sqlite3")?;
    if !output.status.success() {
        bail!(
            "sqlite3 failed on {}: {}",
            database.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn write(
    database: &Path,
    between: &Mutex<()>,
    written: &AtomicU64,
    stop: &AtomicBool,
) -> Result<()> {
    let mut sqlite = Command::new("sqlite3")
        .args(["-bail", "-cmd", ".timeout 10000"])
        .arg(database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run sqlite3")?;
    let outcome = add_rows(&mut sqlite, between, written, stop);
    drop(sqlite.stdin.take());
    sqlite.wait()?;
    outcome
}

fn add_rows(
    sqlite: &mut Child,
    between: &Mutex<()>,
    written: &AtomicU64,
    stop: &AtomicBool,
) -> Result<()> {
    let mut input = sqlite.stdin.take().context("sqlite3 without input")?;
    let output = sqlite.stdout.take().context("sqlite3 without output")?;
    let mut answers = BufReader::new(output).lines();
    while !stop.load(Ordering::Relaxed) {
        {
            let _turn = between.lock().unwrap_or_else(PoisonError::into_inner);
            add_row(&mut input, written.load(Ordering::Relaxed))?;
            match answers.next() {
                Some(Ok(_)) => written.fetch_add(1, Ordering::Relaxed),
                _ => bail!("sqlite3 ended while its database was written to"),
            };
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn add_row(input: &mut ChildStdin, number: u64) -> Result<()> {
    let text = format!("row {number} ").repeat(20);
    let length = text.len();
    input.write_all(
        format!("INSERT INTO entry VALUES ({number}, '{text}', {length}); SELECT 'committed';\n")
            .as_bytes(),
    )?;
    Ok(input.flush()?)
}
