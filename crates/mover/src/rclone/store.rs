//! What is asked of the store beside transfers: small files, listings, and what its backend can.

use std::path::Path;

use serde::Deserialize;
use syncline_api::report::reason as api_reason;

use crate::rclone::outcome::{FILE_NOT_FOUND, FOLDER_NOT_FOUND, LastWords, Next, Setback};
use crate::rclone::program::{Command, End, Rclone, Sink};
use crate::rclone::settings::Spot;
use crate::report::reason;

/// What a backend can, by its own account.
#[expect(
    clippy::struct_excessive_bools,
    reason = "a list of abilities, each there or not"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// It knows checksums of what it holds, so that `--checksum` compares contents.
    pub(crate) hashes: bool,
    /// Checksums cost no reading of files at the store.
    pub(crate) cheap_hashes: bool,
    /// Empty folders can exist.
    pub(crate) keeps_folders: bool,
    /// The first name of a path is a bucket.
    pub(crate) bucket_based: bool,
    /// The store is a file system of this machine.
    pub(crate) is_local: bool,
    /// Files keep the times that they are given.
    pub(crate) keeps_times: bool,
    /// Reading a time costs a request.
    pub(crate) slow_times: bool,
}

/// What a listing shall tell of each file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// Its size. No request for each file.
    Sizes,
    /// Time and checksum too, as far as they cost no request for each file. `lost+found` apart.
    Cheap,
    /// The same, and folders, where the store keeps folders.
    Folders,
}

/// A file in a listing, or a folder where these were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The path in the folder that was listed, in rclone's form ([`super::names::listed`]).
    pub(crate) name: Vec<u8>,
    /// `None` where the store does not know it.
    pub(crate) size: Option<u64>,
    /// Whatever else shows whether the file is still the same.
    pub(crate) evidence: String,
    pub(crate) is_folder: bool,
}

impl Listed {
    /// Does the store know a checksum of it? Only for listings with checksums.
    pub(crate) fn has_hash(&self) -> bool {
        self.evidence.contains(' ')
    }

    /// What shows whether the file is still the same, however it was listed: some stores tell fractions of seconds only in
    /// listings.
    pub(crate) fn stamp(&self) -> String {
        let (time, hashes) = self
            .evidence
            .split_once(' ')
            .unwrap_or((&self.evidence, ""));
        let second = time.get(..SECOND).unwrap_or(time);
        let size = self.size.map_or_else(String::new, |size| size.to_string());
        format!("{size} {second} {hashes}").trim_end().to_owned()
    }
}

/// A line of `rclone lsjson`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    path: String,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    mod_time: String,
    #[serde(default)]
    is_dir: bool,
    #[serde(default)]
    hashes: std::collections::BTreeMap<String, String>,
}

/// The answer of `rclone backend features`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    precision: u64,
    #[serde(default)]
    hashes: Option<Vec<String>>,
    features: std::collections::BTreeMap<String, bool>,
}

/// Uploads by the names of their buckets.
type Uploads = std::collections::BTreeMap<String, Vec<serde::de::IgnoredAny>>;

/// A precision that no time has: the backend keeps none (rclone's `ModTimeNotSupported`, a hundred years).
const NO_TIMES: u64 = 1_000_000_000 * 60 * 60 * 24 * 365;

/// rclone's exit code when a transfer came to its limit.
const LIMIT_REACHED: i32 = 8;
/// What `--max-transfer` has to allow beyond the file's own bytes.
const SLACK: u64 = 64 * 1024;

/// rclone's answer about its backend is never longer.
const LONGEST_ANSWER: u64 = 1024 * 1024;

/// What lies here is a file system's own, and VolSync's movers pass it over on both ends.
const LOST_AND_FOUND: &[u8] = b"lost+found/";

/// As much of a time in RFC 3339 as tells the second.
const SECOND: usize = "2026-11-21T17:21:10".len();

/// Does the run say that what it was asked for is not there?
fn is_absent(ended: &End) -> bool {
    matches!(ended.code, Some(FOLDER_NOT_FOUND | FILE_NOT_FOUND))
}

impl Rclone {
    /// A small file's content; `None` when it, its folder or its bucket is not there.
    pub(crate) async fn read_small(
        &self,
        file: &Spot,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Setback> {
        self.cat(Command::new("cat").arg(file), file, limit).await
    }

    /// The same by the file's name alone. Otherwise rclone looks for it in a listing, which may lack it. What is refused is told
    /// in a listing's words: S3 gives no reason with its answer to a question for a file.
    pub(crate) async fn read_by_name(
        &self,
        file: &Spot,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Setback> {
        let mut name = file.name().as_bytes().to_vec();
        name.push(0);
        let command = Command::new("cat").arg("--no-traverse").names(name);
        match self.cat(command.arg(file.folder()), file, limit).await {
            Err(setback)
                if [
                    api_reason::TRANSFER_FAILED,
                    reason::CONFIG_INVALID,
                    reason::STORE_REFUSED,
                ]
                .contains(&setback.fault.reason) =>
            {
                let listed = self.size_in_listing(file).await;
                Err(listed.err().unwrap_or(setback))
            }
            read => read,
        }
    }

    async fn cat(
        &self,
        command: Command,
        file: &Spot,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Setback> {
        let mut bytes = Vec::new();
        let command = command.arg(format!("--head={}", limit.saturating_add(1)));
        let ended = self
            .go(command, None, Sink::Bytes(&mut bytes, limit))
            .await?;
        if is_absent(&ended) {
            return Ok(None);
        }
        if ended.code != Some(0) {
            return Err(self.trouble(&ended));
        }
        if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
            return Err(too_large(file, limit));
        }
        if bytes.is_empty() {
            // One of which nothing has been written yet is there all the same.
            return Ok(self.must_be_absent(file).await?.then_some(bytes));
        }
        Ok(Some(bytes))
    }

    /// On a bucket store a file that may not be read looks like an empty folder, so the listing of its folder decides. Gives
    /// whether it is there, without content.
    async fn must_be_absent(&self, file: &Spot) -> Result<bool, Setback> {
        match self.size_in_listing(file).await? {
            None => Ok(false),
            Some(0) => Ok(true),
            Some(size) => Err(Setback::new(
                reason::STORE_REFUSED,
                format!(
                    "the store lists `{file}` with {size} bytes and does not let it be read; let the keys of the Secret read \
                     objects, not only list them, and take `no_head_object` out of the section"
                ),
                Next::GiveUp,
            )),
        }
    }

    /// Whether a listing lacks a file. Of one that most likely is not there, this takes one request, and reading it two.
    pub(crate) async fn is_absent(&self, file: &Spot) -> bool {
        matches!(self.size_in_listing(file).await, Ok(None))
    }

    /// Whether a listing shows neither a file nor a folder at the root of `folder`.
    pub(crate) async fn shows_nothing(&self, folder: &Spot) -> bool {
        let mut names = 0_u64;
        let listed = self
            .list_with(folder, &["--no-modtime"], &mut |_| names += 1)
            .await;
        listed.is_ok() && names == 0
    }

    /// The size of a file in the listing of its folder; `None` when it is not listed.
    async fn size_in_listing(&self, file: &Spot) -> Result<Option<u64>, Setback> {
        let mut size = None;
        let name = file.name().as_bytes().to_vec();
        let mut look = |listed: Listed| {
            if listed.name == name {
                size = Some(listed.size.unwrap_or_default());
            }
        };
        let options = ["--files-only", "--no-modtime"];
        self.list_with(&file.folder(), &options, &mut look).await?;
        Ok(size)
    }

    /// Writes a small file, with its folder and bucket where they are missing; whole or not at all where the backend can.
    pub(crate) async fn write_small(&self, file: &Spot, content: &[u8]) -> Result<(), Setback> {
        let place = tempfile::NamedTempFile::new_in(self.folder())
            .map_err(|error| local_trouble(&error))?;
        std::fs::write(place.path(), content).map_err(|error| local_trouble(&error))?;
        self.put(place.path(), file).await
    }

    /// Copies the local file `from` to the store, over what is there.
    pub(crate) async fn put(&self, from: &Path, file: &Spot) -> Result<(), Setback> {
        // Keys that may not make buckets are told so even when the bucket is there; so it is only made when it is not.
        let command = Command::new("copyto")
            .args(["--no-check-dest", "--retries=1"])
            .arg(from)
            .arg(file);
        let careful = command.clone().tune("RCLONE_S3_NO_CHECK_BUCKET", "true");
        match self.quietly(careful).await {
            Err(setback) if setback.fault.reason == reason::BUCKET_MISSING => {
                self.quietly(command).await
            }
            result => result,
        }
    }

    /// Copies those of the files `names` of a folder of the store that are there to the local folder `to`, together at most
    /// `limit` bytes.
    pub(crate) async fn fetch_some(
        &self,
        folder: &Spot,
        names: &[&str],
        to: &Path,
        limit: u64,
    ) -> Result<(), Setback> {
        let list = names.iter().flat_map(|name| name.bytes().chain([0]));
        let command = Command::new("copy")
            .args(["--no-traverse", "--no-check-dest", "--retries=1"])
            .with_garbage()
            .arg("--cutoff-mode=hard")
            .arg(format!("--max-transfer={}B", limit.saturating_add(SLACK)))
            .names(list.collect());
        self.quietly(command.arg(folder).arg(to)).await
    }

    /// Copies a file of the store of at most `limit` bytes to the local file `to`; false when it is not there.
    pub(crate) async fn fetch(&self, file: &Spot, to: &Path, limit: u64) -> Result<bool, Setback> {
        let command = Command::new("copyto")
            .args(["--no-check-dest", "--retries=1", "--cutoff-mode=hard"])
            // Temporary files are memory, and a store can hold anything.
            .arg(format!("--max-transfer={}B", limit.saturating_add(SLACK)))
            .arg(file)
            .arg(to);
        let ended = self.go(command, None, Sink::Nowhere).await?;
        if is_absent(&ended) {
            return Ok(false);
        }
        if ended.code == Some(LIMIT_REACHED) {
            return Err(too_large(file, limit));
        }
        if ended.code != Some(0) {
            return Err(self.trouble(&ended));
        }
        if to.is_file() {
            return Ok(true);
        }
        self.must_be_absent(file).await?;
        Ok(false)
    }

    /// Makes a folder, and its bucket.
    pub(crate) async fn make_folder(&self, folder: &Spot) -> Result<(), Setback> {
        self.quietly(Command::new("mkdir").arg(folder)).await
    }

    /// Does another account hold the bucket in which `folder` lies? Names of buckets are everybody's, and whoever was
    /// there first may have opened it to all.
    pub(crate) async fn is_of_another_account(&self, folder: &Spot) -> Result<bool, Setback> {
        let ended = self
            .go(Command::new("mkdir").arg(folder), None, Sink::Nowhere)
            .await?;
        // Keys that may make no buckets are told that, and not whose it is.
        Ok(ended.code != Some(0) && ended.words.has("BucketAlreadyExists"))
    }

    /// Is the bucket in which `folder` lies missing among those that these keys can list? False where they may not.
    pub(crate) async fn is_not_among_ours(&self, folder: &Spot) -> Result<bool, Setback> {
        let mut is_ours = false;
        let name = folder.name().as_bytes().to_vec();
        let mut look = |listed: Listed| is_ours |= listed.name == name;
        let options = ["--dirs-only", "--no-modtime"];
        match self.list_with(&folder.folder(), &options, &mut look).await {
            Ok(_) => Ok(!is_ours),
            Err(setback) if setback.fault.reason == reason::STORE_REFUSED => Ok(false),
            Err(setback) => Err(setback),
        }
    }

    /// Removes a file of the store; one that is not there is no trouble.
    pub(crate) async fn remove(&self, file: &Spot) -> Result<(), Setback> {
        let command = Command::new("deletefile").arg("--retries=1").arg(file);
        let ended = self.go(command, None, Sink::Nowhere).await?;
        if ended.code == Some(0) || is_absent(&ended) {
            Ok(())
        } else {
            Err(self.trouble(&ended))
        }
    }

    /// Whether it is certain that a file is not there, from keys that may not list its folder.
    pub(crate) async fn has_none_to_remove(&self, file: &Spot) -> bool {
        let command = Command::new("deletefile").arg("--dry-run").arg(file);
        let ended = self.go(command, None, Sink::Nowhere).await;
        ended.is_ok_and(|ended| is_absent(&ended))
    }

    /// Runs a command of which nothing is printed.
    pub(crate) async fn quietly(&self, command: Command) -> Result<(), Setback> {
        let ended = self.go(command, None, Sink::Nowhere).await?;
        if ended.code == Some(0) {
            Ok(())
        } else {
            Err(self.trouble(&ended))
        }
    }

    /// Lists all files of a folder and beneath, one after the other, in no order. False when the folder is not there.
    ///
    /// After an error what was listed before it is nothing: it may be any part.
    pub(crate) async fn list(
        &self,
        folder: &Spot,
        evidence: Evidence,
        each: &mut dyn FnMut(Listed),
    ) -> Result<bool, Setback> {
        let mut options = vec!["--recursive"];
        if evidence == Evidence::Sizes {
            options.extend(["--no-modtime", "--files-only"]);
            return self.list_with(folder, &options, each).await;
        }
        let features = self.features().await?;
        if evidence == Evidence::Cheap || !features.keeps_folders {
            options.push("--files-only");
        }
        options.extend(evidence_options(features));
        if features.bucket_based {
            // A rule for rclone would cost a request for each folder.
            let mut others = |listed: Listed| {
                if !listed.name.starts_with(LOST_AND_FOUND) {
                    each(listed);
                }
            };
            return self.list_with(folder, &options, &mut others).await;
        }
        // A store at the root of a volume has one, which may be closed to all but root.
        options.push("--exclude=/lost+found/**");
        self.list_with(folder, &options, each).await
    }

    /// What the store tells of one file, as a listing does; `None` when it is not there.
    pub(crate) async fn look_at(&self, file: &Spot) -> Result<Option<Listed>, Setback> {
        // Named as one file its folder would be listed, which may hold a million.
        let command = Command::new("lsjson")
            .args(["--stat", "--files-only", "--no-mimetype"])
            .args(evidence_options(self.features().await?))
            .arg(file);
        let mut bytes = Vec::new();
        let sink = Sink::Bytes(&mut bytes, LONGEST_ANSWER);
        let ended = self.go(command, None, sink).await?;
        if is_absent(&ended) {
            return Ok(None);
        }
        if ended.code != Some(0) {
            return Err(self.trouble(&ended));
        }
        Ok(listed(&bytes).ok().filter(|found| !found.is_folder))
    }

    async fn list_with(
        &self,
        folder: &Spot,
        options: &[&str],
        each: &mut dyn FnMut(Listed),
    ) -> Result<bool, Setback> {
        let command = Command::new("lsjson")
            .arg("--no-mimetype")
            .args(options)
            .arg(folder);
        self.read_listing(command, folder, each).await
    }

    /// Runs a command that lists `folder`, or part of it.
    pub(super) async fn read_listing(
        &self,
        command: Command,
        folder: &Spot,
        each: &mut dyn FnMut(Listed),
    ) -> Result<bool, Setback> {
        let (mut strange, mut is_closed, mut has_begun) = (None, false, false);
        let mut read = |line: &[u8]| match line {
            b"[" | b"[]" => is_closed = line == b"[]",
            b"]" => is_closed = true,
            line => {
                has_begun = true;
                match listed(line) {
                    Ok(row) => each(row),
                    Err(_) => strange = Some(crate::console::printable(line)),
                }
            }
        };
        let ended = self.go(command, None, Sink::Lines(&mut read)).await?;
        // A folder that goes away in the middle is told in the same words as one that is not there.
        if is_absent(&ended) && !has_begun {
            return Ok(false);
        }
        if ended.code != Some(0) && !is_absent(&ended) {
            return Err(self.trouble(&ended));
        }
        let what = match (strange, is_closed && ended.code == Some(0)) {
            (None, true) => return whole(folder, &ended.words).map(|()| true),
            (Some(line), _) => format!("has a line that cannot be read: {line}"),
            (None, false) => "was cut off".to_owned(),
        };
        Err(Setback::new(
            reason::LISTING_INCOMPLETE,
            format!("the listing of `{folder}` {what}; it is tried again"),
            Next::Wait,
        ))
    }

    /// Whether a folder and all beneath holds no file; what is not there is empty.
    pub(crate) async fn is_empty(&self, folder: &Spot) -> Result<bool, Setback> {
        let mut files = 0_u64;
        self.list(folder, Evidence::Cheap, &mut |_| files += 1)
            .await?;
        Ok(files == 0)
    }

    /// How many uploads in parts to a folder and beneath have begun and not ended; 0 where nobody can tell.
    pub(crate) async fn unfinished_uploads(&self, folder: &Spot) -> Result<usize, Setback> {
        let mut bytes = Vec::new();
        let command = Command::new("backend")
            .arg("list-multipart-uploads")
            .arg(folder);
        let ended = self
            .go(command, None, Sink::Bytes(&mut bytes, LONGEST_ANSWER))
            .await?;
        let uploads: Uploads = match ended.code {
            Some(0) => serde_json::from_slice(&bytes).unwrap_or_default(),
            _ => Uploads::default(),
        };
        Ok(uploads.values().map(Vec::len).sum())
    }

    /// What the store's backend can.
    pub(crate) async fn features(&self) -> Result<Features, Setback> {
        self.features
            .get_or_try_init(|| self.ask_for_features())
            .await
            .copied()
    }

    async fn ask_for_features(&self) -> Result<Features, Setback> {
        let mut bytes = Vec::new();
        let command = Command::new("backend")
            .arg("features")
            .arg(self.remote().data());
        let ended = self
            .go(command, None, Sink::Bytes(&mut bytes, LONGEST_ANSWER))
            .await?;
        if ended.code != Some(0) {
            return Err(self.trouble(&ended));
        }
        features(&bytes).ok_or_else(|| {
            Setback::new(
                reason::POD_INCOMPLETE,
                "the answer of `rclone backend features` cannot be read; use the mover's image of this release".to_owned(),
                Next::GiveUp,
            )
        })
    }
}

/// Options by which a listing shows whether a file is still the same.
fn evidence_options(features: Features) -> Vec<&'static str> {
    let mut options = Vec::new();
    if features.slow_times || features.bucket_based {
        // What the store itself says of when it was written is evidence enough. A backend before one whose times cost a
        // request each, such as `crypt`, does not say that they do.
        options.push("--use-server-modtime");
    }
    // Of objects that came in parts S3 tells the checksum only when it is asked for each.
    if features.cheap_hashes && !features.slow_times {
        options.push("--hash");
    }
    options
}

/// Refuses a listing of which rclone says in passing that it leaves something out: nobody may take that for absent.
fn whole(folder: &Spot, words: &LastWords) -> Result<(), Setback> {
    let Some(line) = words.omission() else {
        return Ok(());
    };
    let message = format!(
        "the listing of `{folder}` leaves out an object whose name rclone cannot use; rename it, or correct how rclone.conf says \
         that the store writes names (encoding, list_url_encode): {line}"
    );
    let reason = reason::LISTING_INCOMPLETE;
    Err(Setback::new(reason, message, Next::GiveUp))
}

fn local_trouble(error: &std::io::Error) -> Setback {
    Setback::new(
        reason::POD_INCOMPLETE,
        format!(
            "a temporary file cannot be written: {error}; give the mover's pod a writable /tmp with room"
        ),
        Next::GiveUp,
    )
}

/// A file or folder from a line of a listing.
fn listed(line: &[u8]) -> Result<Listed, serde_json::Error> {
    let line = line.strip_suffix(b",").unwrap_or(line);
    let row: Row = serde_json::from_slice(line)?;
    let mut evidence = row.mod_time;
    for (kind, hash) in &row.hashes {
        evidence.push(' ');
        evidence.push_str(kind);
        evidence.push(':');
        evidence.push_str(hash);
    }
    Ok(Listed {
        name: row.path.into_bytes(),
        size: u64::try_from(row.size).ok(),
        evidence,
        is_folder: row.is_dir,
    })
}

fn too_large(file: &Spot, limit: u64) -> Setback {
    Setback::new(
        api_reason::TRANSFER_FAILED,
        format!("`{file}` is larger than {limit} bytes, so it is none of ours; remove it"),
        Next::GiveUp,
    )
}

fn features(answer: &[u8]) -> Option<Features> {
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let can = |name: &str| answer.features.get(name).copied().unwrap_or_default();
    let hashes = answer
        .hashes
        .as_ref()
        .is_some_and(|hashes| !hashes.is_empty());
    Some(Features {
        hashes,
        cheap_hashes: hashes && !can("SlowHash"),
        keeps_folders: can("CanHaveEmptyDirectories"),
        bucket_based: can("BucketBased"),
        is_local: can("IsLocal"),
        keeps_times: answer.precision < NO_TIMES,
        slow_times: can("SlowModTime"),
    })
}
