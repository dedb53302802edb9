//! The cluster's keys and certificates: its own authority, the server's certificate, the administrator's.

use std::{
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// How long certificates are valid.
const VALID: SignedDuration = SignedDuration::from_hours(24 * 365);
/// How long before their end they are made anew.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(24 * 30);

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    #[error(
        "cannot write {path}: {source}; see that the data folder belongs to this user and has space"
    )]
    File { path: PathBuf, source: io::Error },
    #[error("cannot make certificates: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// All that TLS needs, as PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    pub(crate) authority: String,
    pub(crate) server_certificate: String,
    pub(crate) server_key: String,
    pub(crate) admin_certificate: String,
    pub(crate) admin_key: String,
}

/// Where each part is kept.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.join(name)).ok()
    }

    fn write(&self, name: &str, content: &str) -> Result<(), PkiError> {
        let path = self.folder.join(name);
        write_private(&path, content).map_err(|source| PkiError::File { path, source })
    }
}

/// Writes a file that only this user can read, whole or not at all.
pub(super) fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

impl Pki {
    /// The certificates in this folder, made (anew) when there are none, they end soon, or another address is served.
    pub(crate) fn load_or_make(
        folder: &Path,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let files = Files {
            folder: folder.to_owned(),
        };
        let fault = |source| PkiError::File {
            path: folder.to_owned(),
            source,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(fault)?;
        let until = files
            .read("valid-until")
            .and_then(|text| text.trim().parse::<Timestamp>().ok());
        let fresh = until.is_some_and(|until| until.duration_since(now) > RENEW_BEFORE);
        let same = files
            .read("address")
            .is_some_and(|text| text.trim() == address.to_string());
        if let Some(pki) = Self::read(&files).filter(|_| fresh && same) {
            return Ok(pki);
        }
        let until = now.checked_add(VALID).unwrap_or(now);
        let pki = Self::make(address, now, until)?;
        pki.write(&files)?;
        files.write("address", &address.to_string())?;
        files.write("valid-until", &until.to_string())?;
        Ok(pki)
    }

    fn read(files: &Files) -> Option<Self> {
        Some(Self {
            authority: files.read("ca.crt")?,
            server_certificate: files.read("server.crt")?,
            server_key: files.read("server.key")?,
            admin_certificate: files.read("admin.crt")?,
            admin_key: files.read("admin.key")?,
        })
    }

    fn write(&self, files: &Files) -> Result<(), PkiError> {
        files.write("ca.crt", &self.authority)?;
        files.write("server.crt", &self.server_certificate)?;
        files.write("server.key", &self.server_key)?;
        files.write("admin.crt", &self.admin_certificate)?;
        files.write("admin.key", &self.admin_key)
    }

    /// The authority's key is used here and kept nowhere.
    fn make(address: IpAddr, now: Timestamp, until: Timestamp) -> Result<Self, PkiError> {
        let authority_key = KeyPair::generate()?;
        let mut params = params("syncline embedded cluster", None, Vec::new(), (now, until))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let authority = params.self_signed(&authority_key)?;
        let issuer = Issuer::new(params, authority_key);

        let mut names: Vec<String> = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "127.0.0.1",
            "::1",
        ]
        .map(str::to_owned)
        .to_vec();
        if !names.contains(&address.to_string()) {
            names.push(address.to_string());
        }
        let server = self::params("kube-apiserver", None, names, (now, until))?;
        let (server_certificate, server_key) =
            issue(server, ExtendedKeyUsagePurpose::ServerAuth, &issuer)?;
        let admin = self::params(
            "kubernetes-admin",
            Some("system:masters"),
            Vec::new(),
            (now, until),
        )?;
        let (admin_certificate, admin_key) =
            issue(admin, ExtendedKeyUsagePurpose::ClientAuth, &issuer)?;
        Ok(Self {
            authority: authority.pem(),
            server_certificate: server_certificate.pem(),
            server_key: server_key.serialize_pem(),
            admin_certificate: admin_certificate.pem(),
            admin_key: admin_key.serialize_pem(),
        })
    }
}

fn params(
    name: &str,
    organization: Option<&str>,
    alternatives: Vec<String>,
    (now, until): (Timestamp, Timestamp),
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(alternatives)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name = subject;
    // A day earlier, so that clocks that differ a little agree.
    let (from, until) = (
        day(now
            .checked_sub(SignedDuration::from_hours(24))
            .unwrap_or(now)),
        day(until),
    );
    params.not_before = date_time_ymd(from.0, from.1, from.2);
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    Ok(params)
}

fn day(at: Timestamp) -> (i32, u8, u8) {
    let day = at.to_zoned(TimeZone::UTC).date();
    (
        day.year().into(),
        day.month().unsigned_abs(),
        day.day().unsigned_abs(),
    )
}

fn issue(
    mut params: CertificateParams,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(Certificate, KeyPair), PkiError> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, issuer)?, key))
}
