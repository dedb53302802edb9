//! Certificates of one cluster, and the kubeconfigs made of them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::address::API_SERVICE;
use crate::config::NODE;

/// Who talks to the API: the file's name, the user and the group.
const CLIENTS: [(&str, &str, &str); 7] = [
    ("admin", "kubernetes-admin", "system:masters"),
    (
        "apiserver-kubelet-client",
        "kube-apiserver",
        "system:masters",
    ),
    (
        "controller-manager",
        "system:kube-controller-manager",
        "syncline",
    ),
    ("scheduler", "system:kube-scheduler", "syncline"),
    ("proxy", "system:kube-proxy", "syncline"),
    ("csi", "csi", "system:masters"),
    ("dns", "dns", "system:masters"),
];

/// The authority that signs everything.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "cluster for tests");
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    /// Writes `NAME.crt` and `NAME.key` for a client.
    fn client(&self, folder: &Path, (name, user, group): (&str, &str, &str)) -> Result<()> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
        params.distinguished_name.push(DnType::CommonName, user);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(folder, name, &params)
    }

    fn server(&self, folder: &Path, name: &str, addresses: &[IpAddr]) -> Result<()> {
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "localhost",
            NODE,
        ];
        let mut params = CertificateParams::new(names.map(str::to_owned).to_vec())?;
        params
            .subject_alt_names
            .extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(folder, name, &params)
    }

    fn sign(&self, folder: &Path, name: &str, params: &CertificateParams) -> Result<()> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        fs::write(folder.join(format!("{name}.crt")), certificate.pem())?;
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }
}

/// Makes all certificates and the kubeconfigs `NAME.kubeconfig` of all clients in `folder`.
pub(crate) fn make(folder: &Path, api: Ipv4Addr) -> Result<()> {
    fs::create_dir_all(folder)?;
    let authority = Authority::new()?;
    fs::write(folder.join("ca.crt"), &authority.certificate)?;
    let addresses = [api.into(), API_SERVICE.into(), Ipv4Addr::LOCALHOST.into()];
    authority.server(folder, "apiserver", &addresses)?;
    authority.server(folder, "kubelet-server", &addresses)?;
    let node = format!("system:node:{NODE}");
    for client in CLIENTS
        .into_iter()
        .chain([("kubelet", node.as_str(), "system:nodes")])
    {
        authority.client(folder, client)?;
        let kubeconfig = kubeconfig(folder, client.0, api)?;
        fs::write(folder.join(format!("{}.kubeconfig", client.0)), kubeconfig)?;
    }
    // Signs the tokens of service accounts.
    fs::write(
        folder.join("accounts.key"),
        KeyPair::generate()?.serialize_pem(),
    )?;
    Ok(())
}

fn kubeconfig(folder: &Path, name: &str, api: Ipv4Addr) -> Result<String> {
    let data =
        |file: String| -> Result<String> { Ok(STANDARD.encode(fs::read(folder.join(file))?)) };
    Ok(format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: tests\n\
         clusters:\n- name: tests\n  cluster:\n    server: https://{api}:6443\n    certificate-authority-data: {}\n\
         users:\n- name: {name}\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n\
         contexts:\n- name: tests\n  context: {{cluster: tests, user: {name}}}\n",
        data("ca.crt".to_owned())?,
        data(format!("{name}.crt"))?,
        data(format!("{name}.key"))?
    ))
}
