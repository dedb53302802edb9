//! Movers' images that turned out not to be Syncline's, so that not every resource tries them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::backoff::TRANSFER;

#[derive(Clone, Copy, Debug)]
struct Distrust {
    times: u32,
    until: Timestamp,
}

/// The images that are not tried for a while.
#[derive(Debug, Default)]
pub struct Images(Mutex<HashMap<String, Distrust>>);

impl Images {
    /// Notes that an image was found not to be Syncline's.
    pub fn distrust(&self, image: &str, now: Timestamp, jitter: f64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = all.get(image).map_or(0, |known| known.times) + 1;
        let until = now + TRANSFER.after(times, jitter);
        all.insert(image.to_owned(), Distrust { times, until });
    }

    /// Notes that an image works: somebody has put another one under its name.
    pub fn trust(&self, image: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(image);
    }

    /// Until when an image is not tried; absent when it may be.
    pub fn distrusted_until(&self, image: &str, now: Timestamp) -> Option<Timestamp> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(image)
            .map(|known| known.until)
            .filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_tried_again_later_and_later_until_it_works() {
        let (images, start) = (Images::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(images.distrusted_until("a", start), None);
        images.distrust("a", start, 0.0);
        let first = images.distrusted_until("a", start).unwrap();
        assert_eq!(images.distrusted_until("b", start), None);
        assert_eq!(images.distrusted_until("a", first), None);
        images.distrust("a", first, 0.0);
        let second = images.distrusted_until("a", first).unwrap();
        assert!(second.duration_since(first) > first.duration_since(start));
        images.trust("a");
        assert_eq!(images.distrusted_until("a", first), None);
    }
}
