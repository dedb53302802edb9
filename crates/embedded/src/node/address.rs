//! Pods' addresses: 127.64.0.0/11, of which Linux routes every one to the machine itself without being told.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

/// 127.64.0.0
const FIRST: u32 = 0x7f40_0000;
/// Addresses in a /11.
const COUNT: u32 = 1 << 21;

/// Gives each pod an address that no other pod of this cluster has.
#[derive(Debug)]
pub(crate) struct Addresses {
    next: Mutex<(u32, HashMap<Ipv4Addr, String>)>,
}

impl Addresses {
    /// Starts at a place that depends on the data folder, so that two clusters on a machine seldom meet.
    pub(crate) fn seeded(data_dir: &Path) -> Self {
        let hash = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
        let seed = hash
            .iter()
            .take(4)
            .fold(0_u32, |seed, byte| (seed << 8) | u32::from(*byte));
        Self {
            next: Mutex::new((seed % COUNT, HashMap::new())),
        }
    }

    /// Keeps an address that a pod has from before.
    pub(crate) fn keep(&self, uid: &str, address: Ipv4Addr) {
        self.next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .1
            .insert(address, uid.to_owned());
    }

    /// The pod's address: its present one, else a free one; `None` when two million pods have all.
    pub(crate) fn assign(&self, uid: &str) -> Option<Ipv4Addr> {
        let mut guard = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, taken) = &mut *guard;
        if let Some((address, _)) = taken.iter().find(|(_, holder)| *holder == uid) {
            return Some(*address);
        }
        for _ in 0..COUNT {
            let address = Ipv4Addr::from(FIRST + *next);
            *next = (*next + 1) % COUNT;
            // Some programs take these for a network's and a broadcast address.
            let last = address.octets()[3];
            if last != 0 && last != 255 && !taken.contains_key(&address) {
                taken.insert(address, uid.to_owned());
                return Some(address);
            }
        }
        None
    }

    /// Takes the pod's address back.
    pub(crate) fn release(&self, uid: &str) {
        self.next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .1
            .retain(|_, holder| holder != uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_have_addresses_of_their_own_and_keep_them() {
        let addresses = Addresses::seeded(Path::new("/data"));
        let first = addresses.assign("a").unwrap();
        assert_eq!(addresses.assign("a"), Some(first));
        assert_ne!(addresses.assign("b"), Some(first));
        assert!(first.is_loopback() && (64..96).contains(&first.octets()[1]));
        addresses.release("a");
        assert_ne!(addresses.assign("a"), addresses.assign("b"));
    }

    #[test]
    fn an_address_from_before_is_not_given_to_another_pod() {
        let addresses = Addresses::seeded(Path::new("/data"));
        let would_be = Addresses::seeded(Path::new("/data")).assign("x").unwrap();
        addresses.keep("old", would_be);
        assert_ne!(addresses.assign("new"), Some(would_be));
    }
}
