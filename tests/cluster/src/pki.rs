//! Keys and certificates of all parts, made anew for each cluster.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;

use std::io::Write as _;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use crate::place::Place;

/// Who calls the API: the file's name, the user and the group.
const CLIENTS: [(&str, &str, &str); 7] = [
    ("admin", "kubernetes-admin", "system:masters"),
    (
        "kubelet-client",
        "kube-apiserver-kubelet-client",
        "system:masters",
    ),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("kubelet", "system:node:node", "system:nodes"),
    ("proxy", "system:kube-proxy", ""),
    ("dns", "system:coredns", ""),
];

/// Writes keys, certificates and the kubeconfig of each client.
pub(crate) fn make(place: &Place, node: Ipv4Addr, first_service: Ipv4Addr) -> Result<()> {
    let authority_key = KeyPair::generate()?;
    let mut params = subject("syncline test cluster", "", Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let authority = params.self_signed(&authority_key)?.pem();
    write(place, "pki/ca.crt", &authority)?;
    write(place, "pki/ca.key", &authority_key.serialize_pem())?;
    let issuer = Issuer::new(params, authority_key);

    let mut names: Vec<String> = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
    ]
    .map(str::to_owned)
    .to_vec();
    names.extend([node.to_string(), first_service.to_string()]);
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    issue(
        place,
        "apiserver",
        subject("kube-apiserver", "", names)?,
        (server.clone(), &issuer),
    )?;
    let names = vec!["node".to_owned(), node.to_string()];
    issue(
        place,
        "kubelet-server",
        subject("node", "", names)?,
        (server, &issuer),
    )?;
    for (name, user, group) in CLIENTS {
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        issue(
            place,
            name,
            subject(user, group, Vec::new())?,
            (usage, &issuer),
        )?;
        let file = match name {
            "admin" => "kubeconfig".to_owned(),
            name => format!("config/{name}.kubeconfig"),
        };
        write(place, &file, &kubeconfig(place, name, node)?)?;
    }

    let accounts = KeyPair::generate()?;
    write(place, "pki/accounts.key", &accounts.serialize_pem())?;
    write(place, "pki/accounts.pub", &accounts.public_key_pem())
}

fn subject(name: &str, group: &str, alternatives: Vec<String>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(alternatives)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    if !group.is_empty() {
        subject.push(DnType::OrganizationName, group);
    }
    params.distinguished_name = subject;
    Ok(params)
}

fn issue(
    place: &Place,
    name: &str,
    mut params: CertificateParams,
    (usage, issuer): (ExtendedKeyUsagePurpose, &Issuer<'_, KeyPair>),
) -> Result<()> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    write(place, &format!("pki/{name}.crt"), &certificate.pem())?;
    write(place, &format!("pki/{name}.key"), &key.serialize_pem())
}

/// Self-contained for people, who copy it elsewhere; JSON is YAML.
fn kubeconfig(place: &Place, name: &str, node: Ipv4Addr) -> Result<String> {
    let inline = |file: String| -> Result<String> {
        let content = fs::read(place.file(&file)).with_context(|| format!("cannot read {file}"))?;
        Ok(base64(&content))
    };
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "syncline-test",
        "clusters": [{"name": "syncline-test", "cluster": {
            "server": format!("https://{node}:{}", crate::config::API_PORT),
            "certificate-authority-data": inline("pki/ca.crt".to_owned())?,
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": inline(format!("pki/{name}.crt"))?,
            "client-key-data": inline(format!("pki/{name}.key"))?,
        }}],
        "contexts": [{"name": "syncline-test", "context": {
            "cluster": "syncline-test", "user": name, "namespace": "default",
        }}],
    });
    Ok(serde_json::to_string_pretty(&config)?)
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn write(place: &Place, name: &str, content: &str) -> Result<()> {
    let path = place.file(name);
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path);
    file.and_then(|mut file| file.write_all(content.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
