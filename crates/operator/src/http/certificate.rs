//! The certificate that metrics are served with: one from files, which is read again when they change, or one made at
//! start, which no reader can verify.

use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use tokio_rustls::rustls;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::options::CertificateFiles;
use crate::reconcile::chain;

/// Names in a certificate of our own; whoever uses it does not look at them.
const NAMES: [&str; 1] = ["localhost"];

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is not what it must be.
    #[error(
        "{path} holds no usable {what}; see --metrics-cert-path, --metrics-cert-name and --metrics-cert-key"
    )]
    Unusable {
        /// The file.
        path: String,
        /// What it should hold.
        what: &'static str,
        /// Why it does not.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not go together, or are of an unknown kind.
    #[error("the certificate for metrics cannot be used")]
    Refused(#[from] rustls::Error),
    /// None could be made.
    #[error("a certificate for metrics could not be made")]
    NotMade(#[from] rcgen::Error),
}

/// The certificate in use.
#[derive(Debug)]
pub struct Certificates {
    files: Option<CertificateFiles>,
    provider: Arc<CryptoProvider>,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    stamp: Stamp,
}

/// When the two files were last written.
type Stamp = [Option<SystemTime>; 2];

impl Certificates {
    /// Reads the files, or makes a certificate.
    pub fn load(
        files: Option<CertificateFiles>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let stamp = files.as_ref().map_or([None; 2], stamp);
        let key = match &files {
            Some(files) => read(files, provider)?,
            None => make(provider)?,
        };
        Ok(Self {
            files,
            provider: Arc::clone(provider),
            current: RwLock::new(Current {
                key: Arc::new(key),
                stamp,
            }),
        })
    }

    /// Reads the files again if they have changed. One that cannot be used leaves the last one in its place.
    fn refresh(&self) {
        let Some(files) = &self.files else {
            return;
        };
        let stamp = stamp(files);
        if self.read_current().1 == stamp {
            return;
        }
        let renewed = read(files, &self.provider);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.stamp = stamp;
        match renewed {
            Ok(key) => {
                tracing::info!("the certificate for metrics has changed");
                current.key = Arc::new(key);
            }
            Err(error) => tracing::warn!(
                error = chain(&error),
                "the new certificate for metrics cannot be used; the last one is kept"
            ),
        }
    }

    fn read_current(&self) -> (Arc<CertifiedKey>, Stamp) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&current.key), current.stamp)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.refresh();
        Some(self.read_current().0)
    }
}

fn stamp(files: &CertificateFiles) -> Stamp {
    [&files.certificate, &files.key].map(|name| {
        let metadata = std::fs::metadata(files.folder.join(name));
        metadata.and_then(|metadata| metadata.modified()).ok()
    })
}

fn read(files: &CertificateFiles, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let unusable = |path: &Path, what| {
        let path = path.display().to_string();
        move |source| Error::Unusable { path, what, source }
    };
    let path = files.folder.join(&files.certificate);
    let chain = CertificateDer::pem_file_iter(&path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unusable(&path, "certificate"))?;
    let path = files.folder.join(&files.key);
    let key = PrivateKeyDer::from_pem_file(&path).map_err(unusable(&path, "private key"))?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}

fn make(provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let made = rcgen::generate_simple_self_signed(NAMES.map(str::to_owned))?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    Ok(CertifiedKey::from_der(
        vec![made.cert.der().clone()],
        key.into(),
        provider,
    )?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn provider() -> Arc<CryptoProvider> {
        Arc::new(rustls::crypto::ring::default_provider())
    }

    fn write(folder: &Path) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
        std::fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
        std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().to_vec()
    }

    fn served(certificates: &Certificates) -> Vec<u8> {
        certificates.refresh();
        certificates.read_current().0.cert.first().unwrap().to_vec()
    }

    fn age(folder: &Path, seconds: u64) {
        let file = std::fs::File::options()
            .write(true)
            .open(folder.join("tls.crt"))
            .unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
            .unwrap();
    }

    #[test]
    fn a_changed_certificate_is_served_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let first = write(folder.path());
        age(folder.path(), 1);
        let files = CertificateFiles {
            folder: folder.path().to_owned(),
            certificate: "tls.crt".to_owned(),
            key: "tls.key".to_owned(),
        };
        let certificates = Certificates::load(Some(files), &provider()).unwrap();
        assert_eq!(served(&certificates), first);
        let second = write(folder.path());
        age(folder.path(), 2);
        assert_eq!(served(&certificates), second);
        std::fs::write(folder.path().join("tls.crt"), "broken").unwrap();
        age(folder.path(), 3);
        assert_eq!(served(&certificates), second);
    }

    #[test]
    fn without_files_one_is_made() {
        let certificates = Certificates::load(None, &provider()).unwrap();
        assert!(!served(&certificates).is_empty());
    }
}
