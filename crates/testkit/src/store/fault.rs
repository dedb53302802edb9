//! What a store does wrong, and to whom.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::StatusCode;
use tokio::sync::watch;

use super::request::{Kind, Request, Requests};

/// An error that S3 answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The keys may not do this.
    AccessDenied,
    /// The keys were for a time, and it is over.
    ExpiredToken,
    /// The session token does not fit the keys.
    InvalidToken,
    /// The client's clock is wrong.
    RequestTimeTooSkewed,
    /// Too many requests.
    SlowDown,
    /// The store has a fault of its own.
    InternalError,
    /// There is no such bucket.
    NoSuchBucket,
    /// The bucket is another account's.
    BucketAlreadyExists,
}

impl Refusal {
    /// Status, code and message, as Amazon's list of error responses has them.
    pub(super) fn words(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::AccessDenied => (StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"),
            Self::ExpiredToken => (
                StatusCode::BAD_REQUEST,
                "ExpiredToken",
                "The provided token has expired.",
            ),
            Self::InvalidToken => (
                StatusCode::BAD_REQUEST,
                "InvalidToken",
                "The provided token is malformed or otherwise invalid.",
            ),
            Self::RequestTimeTooSkewed => (
                StatusCode::FORBIDDEN,
                "RequestTimeTooSkewed",
                "The difference between the request time and the server's time is too large.",
            ),
            Self::SlowDown => (
                StatusCode::SERVICE_UNAVAILABLE,
                "SlowDown",
                "Please reduce your request rate.",
            ),
            Self::InternalError => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                "We encountered an internal error. Please try again.",
            ),
            Self::BucketAlreadyExists => (
                StatusCode::CONFLICT,
                "BucketAlreadyExists",
                "The requested bucket name is not available.",
            ),
            Self::NoSuchBucket => (
                StatusCode::NOT_FOUND,
                "NoSuchBucket",
                "The specified bucket does not exist",
            ),
        }
    }
}

/// What is done to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Refuse(Refusal),
    Cut,
    Shorten(usize),
    Hold,
    Unreachable,
}

/// Something that a store does wrong: to every request, or to those that its further methods choose.
#[derive(Clone, Debug)]
#[must_use = "give it to ObjectStore::misbehave"]
pub struct Fault {
    deed: Deed,
    kind: Option<Kind>,
    part: String,
    skipped: usize,
    times: usize,
}

impl Fault {
    fn new(deed: Deed) -> Self {
        Self {
            deed,
            kind: None,
            part: String::new(),
            skipped: 0,
            times: usize::MAX,
        }
    }

    /// The store answers with this error; it does not see the request.
    pub fn refuse(refusal: Refusal) -> Self {
        Self::new(Deed::Refuse(refusal))
    }

    /// The connection is closed in the middle: of the upload, or of the answer where nothing is uploaded.
    pub fn cut() -> Self {
        Self::new(Deed::Cut)
    }

    /// A listing keeps its first `keep` entries only and says that it is complete.
    pub fn shorten(keep: usize) -> Self {
        Self::new(Deed::Shorten(keep)).on(Kind::List)
    }

    /// Requests wait until [`super::ObjectStore::behave`].
    pub fn hold() -> Self {
        Self::new(Deed::Hold)
    }

    /// New connections are closed at once; the other methods choose nothing but how many.
    pub fn unreachable() -> Self {
        Self::new(Deed::Unreachable)
    }

    /// Only requests of this kind.
    pub fn on(self, kind: Kind) -> Self {
        Self {
            kind: Some(kind),
            ..self
        }
    }

    /// Only requests whose path (of a listing: bucket and prefix) has this in it.
    pub fn at(self, part: impl Into<String>) -> Self {
        Self {
            part: part.into(),
            ..self
        }
    }

    /// The first `count` that fit are let through.
    pub fn after(self, count: usize) -> Self {
        Self {
            skipped: count,
            ..self
        }
    }

    /// Only so many times.
    pub fn times(self, count: usize) -> Self {
        Self {
            times: count,
            ..self
        }
    }

    /// Whether it strikes a request that it fits; counts it.
    fn strikes(&mut self) -> bool {
        if self.skipped > 0 {
            self.skipped -= 1;
            return false;
        }
        if self.times == 0 {
            return false;
        }
        self.times -= 1;
        true
    }

    fn fits(&self, request: &Request) -> bool {
        self.deed != Deed::Unreachable
            && self.kind.is_none_or(|kind| kind == request.kind)
            && request.target.contains(&self.part)
    }
}

/// The faults of one store, and what it was asked.
#[derive(Debug)]
pub(super) struct Faults {
    state: Mutex<State>,
    /// Counts how often all faults ended.
    cleared: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    requests: Vec<Request>,
    struck: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            cleared: watch::channel(0).0,
        }
    }
}

impl Faults {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    pub(super) fn clear(&self) {
        self.state().faults.clear();
        self.cleared.send_modify(|times| *times += 1);
    }

    pub(super) fn struck(&self) -> usize {
        self.state().struck
    }

    pub(super) fn requests(&self) -> Requests {
        Requests(self.state().requests.clone())
    }

    pub(super) fn forget_requests(&self) {
        self.state().requests.clear();
    }

    /// Counts a request and tells what is to be done to it.
    pub(super) fn meet(&self, request: &Request) -> Option<Deed> {
        let mut state = self.state();
        state.requests.push(request.clone());
        state.choose(|fault| fault.fits(request))
    }

    /// Whether a new connection is turned away.
    pub(super) fn turns_away(&self) -> bool {
        self.state()
            .choose(|fault| fault.deed == Deed::Unreachable)
            .is_some()
    }

    /// Somebody who hears when all faults end from now on.
    pub(super) fn until_cleared(&self) -> watch::Receiver<u64> {
        self.cleared.subscribe()
    }
}

impl State {
    fn choose(&mut self, fits: impl Fn(&Fault) -> bool) -> Option<Deed> {
        let mut fitting = self.faults.iter_mut().filter(|fault| fits(fault));
        let deed = fitting.find_map(|fault| fault.strikes().then_some(fault.deed));
        self.struck += usize::from(deed.is_some());
        deed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: Kind, target: &str) -> Request {
        Request {
            kind,
            target: target.to_owned(),
        }
    }

    #[test]
    fn a_fault_strikes_those_it_was_meant_for_and_no_others() {
        let faults = Faults::default();
        faults.add(Fault::cut().on(Kind::Part).at("/b/").after(1).times(1));
        let part = request(Kind::Part, "/b/o");
        assert_eq!(faults.meet(&part), None);
        assert_eq!(faults.meet(&request(Kind::Put, "/b/o")), None);
        assert_eq!(faults.meet(&request(Kind::Part, "/c/o")), None);
        assert_eq!(faults.meet(&part), Some(Deed::Cut));
        assert_eq!(faults.meet(&part), None);
        assert_eq!(faults.struck(), 1);
        assert_eq!(faults.requests().count_at(Kind::Part, "/b/"), 3);
        assert!(!faults.turns_away());
        faults.add(Fault::unreachable().times(1));
        assert!(faults.turns_away() && !faults.turns_away());
    }
}
