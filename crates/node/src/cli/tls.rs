//! `meridian tls development`: an authority and a certificate to try out TLS with. The authority's own key is not kept, so
//! that it can't sign for anybody else.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::TlsDevelopmentArguments;
use super::say::say;

/// What the authority calls itself.
const AUTHORITY: &str = "Meridian development";

/// Runs the command.
pub fn development(arguments: &TlsDevelopmentArguments) -> Result<()> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, AUTHORITY);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate()?;
    let names = arguments.names.clone();
    let certificate = CertificateParams::new(names).context("take the names into a certificate")?;
    let certificate = certificate.signed_by(&key, &issuer)?;

    let folder = &arguments.out;
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    write(&folder.join("ca.pem"), &authority_certificate.pem(), 0o644)?;
    write(&folder.join("chain.pem"), &certificate.pem(), 0o644)?;
    write(&folder.join("key.pem"), &key.serialize_pem(), 0o600)?;
    say(format_args!(
        "ca.pem, chain.pem and key.pem are in {path}. In the node's configuration:\n\n\
         [tls]\ncertificate = {chain:?}\nprivate_key = {key:?}\n\n\
         Then clients reach it with --url https://{name}:7411 --ca {ca:?}.\n",
        path = folder.display(),
        chain = folder.join("chain.pem"),
        key = folder.join("key.pem"),
        name = arguments.names.first().map_or("localhost", String::as_str),
        ca = folder.join("ca.pem"),
    ))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let file = options.open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("write {}", path.display()))
}
