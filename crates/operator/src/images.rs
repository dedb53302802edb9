//! Movers' images that turned out not to be Syncline's, so that not every resource tries them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::backoff::TRANSFER;
use crate::kinds::Key;

#[derive(Clone, Debug)]
struct Distrust {
    times: u32,
    until: Timestamp,
    /// The one resource that tries the image again meanwhile.
    trial: Option<Key>,
}

/// The images that are not tried for a while.
#[derive(Debug, Default)]
pub struct Images(Mutex<HashMap<String, Distrust>>);

impl Images {
    /// Notes that an image was found not to be Syncline's.
    pub fn distrust(&self, image: &str, now: Timestamp, jitter: f64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = all.get(image).map_or(0, |known| known.times) + 1;
        let distrust = Distrust {
            times,
            until: now + TRANSFER.after(times, jitter),
            trial: None,
        };
        all.insert(image.to_owned(), distrust);
    }

    /// Notes that an image works: somebody has put another one under its name.
    pub fn trust(&self, image: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(image);
    }

    /// Until when a resource does not try an image; absent when it may. When the time has come, one resource that
    /// `wants` to may, and the others wait for what comes of it: all of them at once would be a storm.
    pub fn hold(&self, image: &str, key: &Key, wants: bool, now: Timestamp) -> Option<Timestamp> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get_mut(image)?;
        if now >= known.until && wants {
            known.trial = Some(key.clone());
            known.until = now + TRANSFER.after(known.times, 0.0);
        }
        let held = now < known.until && known.trial.as_ref() != Some(key);
        held.then_some(known.until)
    }
}

#[cfg(test)]
mod tests {
    use syncline_api::names::Side;

    use super::*;

    fn key(name: &str) -> Key {
        Key {
            side: Side::Source,
            namespace: "east".to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn an_image_is_tried_again_later_and_later_until_it_works() {
        let (images, start) = (Images::default(), Timestamp::UNIX_EPOCH);
        let hold = |image: &str, now| images.hold(image, &key("one"), false, now);
        assert_eq!(hold("a", start), None);
        images.distrust("a", start, 0.0);
        let first = hold("a", start).unwrap();
        assert_eq!(hold("b", start), None);
        assert_eq!(hold("a", first), None);
        images.distrust("a", first, 0.0);
        let second = hold("a", first).unwrap();
        assert!(second.duration_since(first) > first.duration_since(start));
        images.trust("a");
        assert_eq!(hold("a", first), None);
    }

    #[test]
    fn one_resource_tries_again_and_the_others_wait_for_what_comes_of_it() {
        let (images, start) = (Images::default(), Timestamp::UNIX_EPOCH);
        images.distrust("a", start, 0.0);
        let due = images.hold("a", &key("one"), true, start).unwrap();
        assert_eq!(images.hold("a", &key("one"), true, due), None);
        let next = images.hold("a", &key("two"), true, due).unwrap();
        assert!(next > due);
        assert_eq!(images.hold("a", &key("one"), true, due), None, "it goes on");
        images.trust("a");
        assert_eq!(images.hold("a", &key("two"), true, due), None);
    }
}
