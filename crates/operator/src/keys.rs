//! SSH key pairs for the movers: ed25519 in OpenSSH's own format.
//!
//! Invariant: a key is a function of its seed. Who draws the seed is the shell's business.

use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};

/// Random bytes that one key pair is made of.
pub type Seed = [u8; 32];

/// One key pair, as the files that OpenSSH reads.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The private key, PEM, ending in a newline.
    pub private: String,
    /// The public key, one line of `authorized_keys`, ending in a newline.
    pub public: String,
}

impl std::fmt::Debug for KeyPair {
    // A private key that reaches a log by `{:?}` is a leak.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("KeyPair")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

/// Makes the key pair of `seed`. `comment` ends up at the end of the public key's line.
pub fn generate(seed: &Seed, comment: &str) -> Result<KeyPair, ssh_key::Error> {
    let key = PrivateKey::new(
        KeypairData::Ed25519(Ed25519Keypair::from_seed(seed)),
        comment,
    )?;
    Ok(KeyPair {
        private: key.to_openssh(LineEnding::LF)?.to_string(),
        public: format!("{}\n", key.public_key().to_openssh()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_pair_is_what_openssh_reads() {
        let pair = generate(&[7; 32], "syncline").unwrap();
        let read = PrivateKey::from_openssh(&pair.private).unwrap();
        assert!(
            pair.private
                .starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n")
        );
        assert!(pair.public.starts_with("ssh-ed25519 "));
        assert!(pair.public.ends_with(" syncline\n"));
        assert_eq!(
            format!("{}\n", read.public_key().to_openssh().unwrap()),
            pair.public
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_key_and_another_seed_another() {
        assert_eq!(
            generate(&[1; 32], "a").unwrap(),
            generate(&[1; 32], "a").unwrap()
        );
        assert_ne!(
            generate(&[1; 32], "a").unwrap(),
            generate(&[2; 32], "a").unwrap()
        );
    }

    #[test]
    fn a_key_pair_never_prints_its_private_half() {
        let pair = generate(&[3; 32], "x").unwrap();
        assert!(!format!("{pair:?}").contains("PRIVATE"));
    }
}
