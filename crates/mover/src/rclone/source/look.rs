//! What is there before a run changes anything: the volume, the marker, and whose the path is.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use futures::future::join_all;

use super::way::marker_of_notes;
use super::{Source, unexpectedly_empty};
use crate::rclone::facl;
use crate::rclone::generation::{self, LARGEST_MARKER, MARKER, Marker, Standing};
use crate::rclone::names;
use crate::rclone::outcome::{Next, Setback};
use crate::rclone::program::Command;
use crate::rclone::settings::{STATE_SUFFIX, Spot};
use crate::rclone::store::{Evidence, Listed};
use crate::report::{Fault, reason};
use crate::tree::{self, Scan, entries_in_words};

/// Why nothing can be kept beside the path, and what helps: in so few words that a report has room for them.
pub(super) struct Lack {
    pub(super) why: String,
    pub(super) cure: String,
    /// A marker may lie there that nobody lets this source see.
    pub(super) hides_marker: bool,
}

impl Lack {
    fn new(why: String, cure: impl Into<String>) -> Self {
        Self {
            why,
            cure: cure.into(),
            hides_marker: false,
        }
    }
}

/// So many files are asked for by name where nobody lets this source see whose the path is.
const NAMES_ASKED: usize = 16;
/// So many listings have to show then that nothing is there.
const LISTINGS_ASKED: u32 = 2;

/// What helps where there is no room beside the path.
const BELOW: &str = "a path below it, or the annotation syncline.dev/rclone-state-path";

/// In the words of a report: nobody can put right what may lie at `spot`.
pub(super) fn may_stay(spot: &str) -> String {
    format!("a marker in {spot}, if there is one: it stays, and who can read it trusts it")
}

/// What lies beside the path.
pub(super) enum Ground {
    /// A marker, or room for one.
    Accompanied(Option<Marker>),
    /// Nothing can be kept there. A marker of earlier times may be there all the same.
    Alone { lack: Lack, marker: Option<Marker> },
    /// Nothing can be kept there, and nobody lets this source see whether a marker is there.
    Blind(Setback),
}

impl Ground {
    pub(super) fn marker(&self) -> Option<&Marker> {
        match self {
            Self::Accompanied(marker) | Self::Alone { marker, .. } => marker.as_ref(),
            Self::Blind(_) => None,
        }
    }
}

impl Source<'_> {
    /// Reads the volume's tree, and says what of it cannot be sent.
    pub(super) async fn scan(&self) -> Result<(Scan, Vec<String>), Setback> {
        let data = self.settings.places.data.clone();
        let scanned = tokio::select! {
            scanned = tokio::task::spawn_blocking(move || tree::scan_moving(&data)) => scanned,
            fault = self.rclone.stopped() => return Err(fault.into()),
        };
        let unreadable = |why: String| {
            Fault::new(
                reason::SOURCE_UNREADABLE,
                format!("the source volume cannot be read to its end: {why}"),
            )
        };
        let mut scan = scanned
            .map_err(|error| unreadable(error.to_string()))?
            .map_err(|error| unreadable(error.to_string()))?;
        let mut unpreserved = Vec::new();
        if scan.at(facl::FILE_NAME.as_bytes()).is_some() {
            // VolSync's form gives that name another meaning.
            scan.entries.retain(|entry| {
                let below = entry.path.strip_prefix(facl::FILE_NAME.as_bytes());
                !below.is_some_and(|below| below.is_empty() || below.starts_with(b"/"))
            });
            scan = Scan::of(scan.entries);
            unpreserved.push(format!(
                "/{}, whose name the permissions have in the store",
                facl::FILE_NAME
            ));
        }
        Ok((scan, unpreserved))
    }

    /// Asks what the store can while the volume is read, where that will be needed: a run that finds nothing to do in a bucket
    /// needs it for nothing. An error is told by whoever needs to know.
    pub(super) async fn ask_ahead(&self) {
        let is_first = self.settings.last_generation.is_none();
        if is_first || Path::new(&self.rclone.remote().path).is_absolute() {
            let _ = self.rclone.features().await;
        }
    }

    /// Reads the marker and refuses a path that is another's.
    pub(super) async fn look(&self) -> Result<Ground, Setback> {
        self.bare.set(false);
        self.unread.take();
        let remote = self.rclone.remote();
        let Some(spot) = remote.state_file(MARKER) else {
            let why = format!("no folder can lie beside {}", remote.data());
            let lack = Lack::new(why, BELOW);
            return Ok(Ground::Alone { lack, marker: None });
        };
        if let Some(lack) = self.is_in_anothers_bucket().await? {
            return Ok(Ground::Alone { lack, marker: None });
        }
        let ((marker, above), elsewhere) = tokio::join!(self.markers(), self.check_usual_place());
        let marker = match marker {
            Ok(marker) => marker,
            Err(setback) if self.may_go_alone(&setback) => {
                // What may be seen holds, whatever else may not.
                above.and(elsewhere)?;
                return Ok(Ground::Blind(setback));
            }
            Err(setback) => return Err(setback),
        };
        match &marker {
            Some(marker) => {
                self.check_standing(marker)?;
                self.check_where_notes_went(marker).await?;
                if marker.is_of_other_path(&remote.path) {
                    // Its manifest tells nothing of what lies here.
                    self.doubt.set(true);
                }
            }
            None => above?,
        }
        elsewhere?;
        self.sort_formers(marker.as_ref());
        if let Some(key) = self.rclone.selective() {
            let why = format!(
                "{key} of the Secret makes rclone pass over files, so that no manifest could be kept to"
            );
            let lack = Lack::new(why, format!("a Secret without {key}"));
            return Ok(Ground::Alone { lack, marker });
        }
        if self.is_apart(&spot.to_string()).await? {
            let why = format!(
                "{spot} would lie on another file system than {}",
                remote.data()
            );
            let lack = Lack::new(why, BELOW);
            return Ok(Ground::Alone { lack, marker });
        }
        Ok(Ground::Accompanied(marker))
    }

    /// The marker, and where this source is new whether its path lies within another's.
    async fn markers(&self) -> (Result<Option<Marker>, Setback>, Result<(), Setback>) {
        let bases = self.rclone.bases().into_iter();
        let bases = bases.flat_map(|base| base.states_from_here_up());
        let above = self.rclone.remote().states_above().into_iter().chain(bases);
        let above: Vec<(String, Spot)> = above
            .map(|(path, folder)| (path, folder.file(MARKER)))
            .collect();
        if self.settings.last_generation.is_some() {
            let marker = match self.marker_ahead() {
                Some(marker) => Ok(Some(marker)),
                None => self.marker().await,
            };
            let is_lost = matches!(marker, Ok(None));
            let above = if is_lost {
                self.check_above(&above).await
            } else {
                Ok(())
            };
            return (marker, above);
        }
        let data = self.rclone.remote().data();
        // A listing may lack what is there, so this path's own marker is asked for by its name. One above, whose source would
        // notice and stop, most likely is not there: where this path holds nothing, a listing's word is enough for that.
        let (bare, marker, none_above) = tokio::join!(
            self.rclone.shows_nothing(&data),
            self.marker(),
            join_all(above.iter().map(|(_, spot)| self.rclone.is_absent(spot)))
        );
        let bare = bare && !self.is_doubtful.get();
        self.bare.set(bare);
        let shown = above.into_iter().zip(none_above);
        let shown: Vec<(String, Spot)> = shown
            .filter(|(_, absent)| !(bare && *absent))
            .map(|(above, _)| above)
            .collect();
        (marker, self.check_above(&shown).await)
    }

    /// Is what the marker tells of this source's own, or what it is to replace?
    pub(super) fn is_replaced_by_this(&self, marker: &Marker) -> bool {
        let standing = marker.standing(&self.me);
        matches!(standing, Standing::Own | Standing::Inherited)
            || self.settings.take_over.as_ref() == Some(&marker.source.uid)
    }

    /// Where the marker's source is, if it is somewhere else or that is unknown.
    fn in_cluster(&self, marker: &Marker) -> &'static str {
        let (theirs, ours) = (&marker.source.cluster, &self.me.cluster);
        if generation::are_known_apart(theirs, ours) {
            " of another cluster"
        } else if theirs == ours && !ours.is_empty() {
            ""
        } else {
            ", of another cluster perhaps"
        }
    }

    pub(super) fn check_standing(&self, marker: &Marker) -> Result<(), Setback> {
        let data = self.rclone.remote().data();
        let mut holder = generation::described(&marker.source);
        if let Some(path) =
            (marker.path.as_ref()).filter(|_| marker.is_of_other_path(&self.rclone.remote().path))
        {
            holder = format!(
                "{holder}, whose data lies at {path} and whose notes lie in the same place as this source's,"
            );
        }
        if marker.source.uid != self.me.uid
            && self.settings.take_over.as_ref() == Some(&marker.source.uid)
        {
            if marker.run != self.run {
                self.console.say(&format!(
                    "{data} is taken over from {holder}, as was told; once this run has succeeded the annotation \
                     syncline.dev/rclone-take-over has done its work and may be removed"
                ));
            }
            return Ok(());
        }
        let message = match marker.standing(&self.me) {
            Standing::Own => return Ok(()),
            Standing::Inherited => {
                if marker.run != self.run {
                    self.console
                        .say(&format!("{data} is taken over from an earlier {holder}"));
                }
                return Ok(());
            }
            Standing::TakenOver => {
                format!(
                    "{data} was taken over by {holder}{}",
                    self.in_cluster(marker)
                )
            }
            Standing::Elsewhere => format!("{data} is written by {holder} of another cluster"),
            Standing::Others => {
                format!("{data} is written by {holder}{}", self.in_cluster(marker))
            }
        };
        let message = format!(
            "{message}; give this source another path; only if that source is gone for good, let this one take the path over with \
             the annotation syncline.dev/rclone-take-over: {}",
            marker.source.uid
        );
        let fault = Fault::new(reason::PATH_IN_USE, message);
        Err(fault.into())
    }

    /// Refuses a path below that of another source, which would remove what this one sends there: `above` are the paths above,
    /// and where the marker of each would be. Only a first run asks.
    async fn check_above(&self, above: &[(String, Spot)]) -> Result<(), Setback> {
        let checked = (above.iter()).map(|(path, spot)| self.check_one_above(path, spot));
        join_all(checked).await.into_iter().collect()
    }

    async fn check_one_above(&self, path: &str, spot: &Spot) -> Result<(), Setback> {
        let bytes = match self.rclone.read_by_name(spot, LARGEST_MARKER).await {
            Ok(Some(bytes)) => bytes,
            Err(setback)
                if setback.next == Next::Wait && spot.is_of(&self.rclone.remote().section) =>
            {
                return Err(setback);
            }
            // Keys that may not look there tell of nobody, and neither does a section that leads nowhere by itself.
            Ok(None) | Err(_) => return Ok(()),
        };
        let holder = match Marker::parse(&bytes) {
            Ok(marker) if marker.is_of_neighbour(path) => return Ok(()),
            // It writes there no more, since it writes here. One that this source is to replace may do so still.
            Ok(marker) if marker.standing(&self.me) == Standing::Own => return Ok(()),
            Ok(marker) => generation::described(&marker.source),
            Err(error) => format!("a source that cannot be told ({error})"),
        };
        let message = format!(
            "{} lies within the path of {holder} ({spot} tells), which would remove what this source sends; give each source a \
             path that is in no other's, or, if that one is gone for good, remove {spot}",
            self.rclone.remote().data()
        );
        Err(Fault::new(reason::PATH_IN_USE, message).into())
    }

    /// Refuses to remove `surplus` from the store: in a first run for a volume without a file, and in any where it shows another
    /// source's path.
    pub(super) fn check_surplus(
        &self,
        tree: &Scan,
        surplus: &[Vec<u8>],
        is_first: bool,
    ) -> Result<(), Setback> {
        if is_first && tree.files == 0 && !surplus.is_empty() && !self.settings.allow_empty {
            // A listing that showed nothing did not show all.
            let data = self.rclone.remote().data();
            return Err(unexpectedly_empty(&format!("{data} is not")).into());
        }
        self.check_within(surplus, is_first)
    }

    /// Refuses to remove from the store what belongs to another path that lies within this one, and the notes of another that
    /// lie there.
    fn check_within(&self, surplus: &[Vec<u8>], is_first: bool) -> Result<(), Setback> {
        let marker = format!("{STATE_SUFFIX}/{MARKER}");
        // VolSync's movers, which write no marker, leave the permissions at the root of each path.
        let permissions = format!("/{}", facl::FILE_NAME);
        // What the volume itself had is nobody else's.
        let touched = self.touched.borrow();
        let own: HashSet<Vec<u8>> = touched.iter().map(|path| names::listed(path)).collect();
        let surplus = surplus.iter().filter(|name| !own.contains(*name));
        let surplus: Vec<&[u8]> = surplus.map(Vec::as_slice).collect();
        let ends_in =
            |end: &str| (surplus.iter().copied()).find(|name| name.ends_with(end.as_bytes()));
        let path = ends_in(&marker).or_else(|| ends_in(&permissions).filter(|_| is_first));
        let path = path.map(|name| (name, ["path lies", "what it sent", "is in no other's"]));
        let notes = || {
            let name = marker_of_notes(&surplus)?;
            Some((name, ["notes lie", "them", "holds no other's notes"]))
        };
        let Some((name, [what, theirs, apart])) = path.or_else(notes) else {
            return Ok(());
        };
        let message = format!(
            "another source's {what} within {} ({} is there), and this source would remove {theirs}; give each source a path that \
             {apart}, or, if that one is gone for good, remove that file",
            self.rclone.remote().data(),
            crate::tree::shown(name)
        );
        Err(Fault::new(reason::PATH_IN_USE, message).into())
    }

    /// Beside a bucket lies another bucket, whose name anybody may have taken. Once this source has written there it is its
    /// own.
    async fn is_in_anothers_bucket(&self) -> Result<Option<Lack>, Setback> {
        let remote = self.rclone.remote();
        let Some(state) = remote
            .state()
            .filter(|_| remote.has_bucket_for_state() && self.settings.last_generation.is_none())
        else {
            return Ok(None);
        };
        if self.rclone.features().await?.bucket_based
            && self.rclone.is_of_another_account(&state).await?
        {
            let why = format!("the bucket {state} is another account's");
            let cure = "a path below the bucket, or the annotation syncline.dev/rclone-state-path";
            return Ok(Some(Lack::new(why, cure)));
        }
        Ok(None)
    }

    /// That somebody refused what lies beside the path.
    pub(super) fn refused(&self, refusal: &Setback) -> Lack {
        let state = self.rclone.remote().state();
        let place = state.map_or_else(String::new, |state| state.to_string());
        Lack::new(
            refusal.fault.message.clone(),
            format!("annotation syncline.dev/rclone-state-path, or rights in {place}"),
        )
    }

    /// Is it certain that nobody else's marker tells of what this source is about to change? `refusal` is why it cannot be
    /// seen. Gives that as why nothing is kept.
    pub(super) async fn check_blind(
        &self,
        tree: &Scan,
        refusal: &Setback,
    ) -> Result<Lack, Setback> {
        let data = self.rclone.remote().data();
        if self.is_without_marker().await {
            return Ok(self.refused(refusal));
        }
        let in_words = |setback: Setback| match setback.fault.reason {
            // Without words it is refused what was refused in words before.
            reason::CONFIG_INVALID => refusal.clone(),
            _ => setback,
        };
        let is_bare = async { self.is_surely_bare(tree).await.map_err(in_words) };
        if self.settings.may_be_blind || is_bare.await? {
            return Ok(Lack {
                hides_marker: true,
                ..self.refused(refusal)
            });
        }
        Err(Setback::new(
            refusal.fault.reason,
            format!(
                "{data} holds files, and whether they are another source's cannot be seen: {}; let the keys list, read, write and \
                 delete in {}, or name a place where they may with the annotation syncline.dev/rclone-state-path; if nobody else \
                 writes to this path, say so with syncline.dev/rclone-sole-writer: \"true\"",
                refusal.fault.message,
                self.rclone
                    .remote()
                    .state()
                    .map_or_else(String::new, |spot| spot.to_string())
            ),
            refusal.next,
        ))
    }

    /// Is it certain that this source would send nothing over what is another's? A listing may lack what is there, so what it would
    /// write first is asked for by name, and listings more than once.
    async fn is_surely_bare(&self, tree: &Scan) -> Result<bool, Setback> {
        let data = self.rclone.remote().data();
        let files = tree.entries.iter().filter(|entry| entry.is_file());
        let paths = files.take(NAMES_ASKED).map(|entry| entry.path.as_slice());
        let paths = paths.chain([facl::FILE_NAME.as_bytes()]);
        let names = paths.flat_map(|path| names::for_list(path).into_iter().chain([0]));
        if self.is_doubtful.get() || self.shows_any(names.collect()).await? {
            return Ok(false);
        }
        for _ in 0..LISTINGS_ASKED {
            if !self.rclone.is_empty(&data).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Is one of the files `names`, a list as rclone takes it, under the path? What may not be asked for counts as absent.
    async fn shows_any(&self, names: Vec<u8>) -> Result<bool, Setback> {
        let mut shows_any = false;
        let data = self.rclone.remote().data();
        let command = Command::new("lsjson")
            .args(["--recursive", "--no-traverse", "--files-only"])
            .args(["--no-modtime", "--no-mimetype"])
            .arg(&data)
            .names(names);
        let mut see = |_: Listed| shows_any = true;
        match self.rclone.read_listing(command, &data, &mut see).await {
            Err(setback) if setback.fault.reason != reason::STORE_REFUSED => Err(setback),
            _ => Ok(shows_any),
        }
    }

    /// Removes a marker that nobody lets this source see: if there is one, it would vouch for what is about to change. Nothing
    /// gives it its word back, so this is for when nothing else is left to look at.
    pub(super) async fn forget_hidden_marker(&self) {
        if let Some(spot) = self.rclone.remote().state_file(MARKER)
            && self.forget_marker().await.is_err()
        {
            self.unread.borrow_mut().insert(spot.to_string());
        }
    }

    /// Is it certain that there is no marker, although it may not be read or listed?
    async fn is_without_marker(&self) -> bool {
        match self.rclone.remote().state_file(MARKER) {
            Some(spot) => self.rclone.has_none_to_remove(&spot).await,
            None => true,
        }
    }

    /// Would what lies beside the path be on another file system, as beside a mounted volume? It would be lost with the pod.
    async fn is_apart(&self, state: &str) -> Result<bool, Setback> {
        let data = self.rclone.remote().data().to_string();
        let local = |spot: &str| spot.split_once(':').map(|(_, path)| path.to_owned());
        let (Some(data), Some(state)) = (local(&data), local(state)) else {
            return Ok(false);
        };
        // Only absolute paths of this pod can be mount points; asking rclone takes longer than looking.
        if !Path::new(&data).is_absolute() || !self.rclone.features().await?.is_local {
            return Ok(false);
        }
        let device = |path: &Path| {
            path.ancestors()
                .find_map(|path| std::fs::metadata(path).ok())
                .map(|found| found.dev())
        };
        let beside = Path::new(&state).parent().unwrap_or_else(|| Path::new("/"));
        Ok(device(Path::new(&data)) != device(beside))
    }

    /// Refuses a tree without a file where the store is known, or seen, to hold some.
    pub(super) async fn guard(&self, tree: &Scan, marker: Option<&Marker>) -> Result<(), Setback> {
        if tree.files > 0 || self.settings.allow_empty {
            return Ok(());
        }
        if tree.held() == 0 && self.settings.last_entries > 0 {
            // It was not when this run began.
            return Err(unexpectedly_empty("was not when it was last sent").into());
        }
        let is_more =
            |marker: &&Marker| marker.files > 0 || (tree.held() == 0 && marker.entries > 0);
        if let Some(marker) = marker.filter(is_more) {
            let but = format!(
                "the store holds {} of it, {} of them files",
                entries_in_words(marker.entries),
                marker.files
            );
            return Err(unexpectedly_empty(&but).into());
        }
        if marker.is_some_and(|marker| marker.state == generation::State::Complete) {
            return Ok(());
        }
        let data = self.rclone.remote().data();
        let mut holds_some = false;
        // Folders have permissions, too.
        let mut see = |listed: Listed| holds_some |= listed.name != facl::FILE_NAME.as_bytes();
        self.rclone.list(&data, Evidence::Cheap, &mut see).await?;
        if !holds_some {
            return Ok(());
        }
        Err(unexpectedly_empty(&format!("{data} is not")).into())
    }
}
