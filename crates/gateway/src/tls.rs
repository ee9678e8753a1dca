//! TLS for clients and operators (RFC 8446, and RFC 5246 for those who can't yet): one certificate, which can be replaced
//! while connections are open. Reading files is not done here.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

/// What the server says that it speaks (RFC 7301).
const PROTOCOL: &[u8] = b"http/1.1";

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain is not PEM, or has no certificate.
    #[error("the certificate chain is not PEM with at least one certificate{0}")]
    Chain(String),
    /// The private key is not PEM.
    #[error("the private key is not PEM: {0}")]
    Key(rustls::pki_types::pem::Error),
    /// The two don't belong together, or are of a kind that isn't supported.
    #[error("the certificate can't be used with its private key: {0}")]
    Unusable(#[from] rustls::Error),
}

/// The TLS of a node's listeners. Cheap to clone; clones share the certificate.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// The certificate in force.
#[derive(Debug)]
struct Certificate(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Tls {
    /// Takes a chain, the server's own certificate first, and the private key of that, both PEM.
    ///
    /// # Errors
    /// If they are malformed or don't belong together.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let certified = certified_key(chain, key)?;
        let certificate = Arc::new(Certificate(ArcSwap::from_pointee(certified)));
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let mut config = builder
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate) as _);
        config.alpn_protocols.push(PROTOCOL.to_vec());
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificate,
        })
    }

    /// Puts another certificate in force, for connections from now on.
    ///
    /// # Errors
    /// If it can't be used; then the old one stays in force.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        self.certificate.0.store(Arc::new(certified_key(chain, key)?));
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

fn certified_key(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let certificates = certificates.map_err(|error| TlsError::Chain(format!(": {error}")))?;
    if certificates.is_empty() {
        return Err(TlsError::Chain(String::new()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
    Ok(CertifiedKey::from_der(
        certificates,
        key,
        &aws_lc_rs::default_provider(),
    )?)
}
