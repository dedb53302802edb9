//! A CA of a store's own, and the certificate that its door shows.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;

/// A CA and the one certificate that it signed.
pub(super) struct Authority {
    pem: String,
    certificate: rcgen::Certificate,
    key: KeyPair,
    expired: bool,
}

impl Authority {
    /// For a server at this address; `expired`: its time was over long ago.
    pub(super) fn new(address: IpAddr, expired: bool) -> Result<Self> {
        let (pem, issuer) = authority("syncline test store")?;
        let mut params = CertificateParams::new(vec![address.to_string(), "localhost".to_owned()])?;
        params
            .distinguished_name
            .push(DnType::CommonName, "test store");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Self {
            pem,
            certificate,
            key,
            expired,
        })
    }

    /// The CA's own certificate.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    pub(super) fn is_expired(&self) -> bool {
        self.expired
    }

    pub(super) fn server_config(&self) -> Result<Arc<rustls::ServerConfig>> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der())
            .map_err(|error| anyhow::anyhow!("a key that rustls does not read: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)
            .context("a certificate that rustls does not take")?;
        Ok(Arc::new(config))
    }
}

/// The certificate of a CA that signed nothing.
pub fn another_ca() -> Result<String> {
    Ok(authority("another CA")?.0)
}

fn authority(name: &str) -> Result<(String, Issuer<'static, KeyPair>)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pem = params.self_signed(&key)?.pem();
    Ok((pem, Issuer::new(params, key)))
}
