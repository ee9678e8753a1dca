//! The TLS of the links (RFC 8446): both sides show a certificate of the cluster's authority, and what it says of a node is
//! what the node is. Files that change are taken over for new connections, and the links are made again with them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName,
    OtherError, PeerMisbehaved, RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
};
use types::{ClusterId, Timestamp};
use wire::journal::NodeId;
use wire::peer::Role;

use super::name::{NameError, Named, PeerName, name_of};
use crate::watched_files::WatchedFiles;

/// What both sides say that they speak (RFC 7301).
const PROTOCOL: &[u8] = b"meridian-peer";
/// What the side that dials would ask for if it went by names of hosts. It is not sent.
const SERVER_NAME: &str = "peer.meridian.invalid";

/// Where the certificates are, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFiles {
    /// The node's chain, its own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub private_key: PathBuf,
    /// The authorities whose certificates are believed: one, or two while one replaces the other.
    pub ca: PathBuf,
}

/// Why the certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PeerTlsError {
    /// A file could not be read.
    #[error("load the certificates of the links: read {}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file is not PEM, or lacks what should be in it.
    #[error("load the certificates of the links: {} {reason}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key don't fit, or are of a kind that isn't supported.
    #[error("load the certificates of the links: {} can't be used with its private key: {error}", path.display())]
    Unusable {
        /// The chain.
        path: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// The certificate says that this is another node.
    #[error("load the certificates of the links: {} is of {found}, and this node is {expected}", path.display())]
    OtherNode {
        /// The chain.
        path: PathBuf,
        /// Whose it is.
        found: Box<PeerName>,
        /// Whose it should be: cluster, node and role.
        expected: String,
    },
}

/// The certificates of the links. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct PeerTls(Arc<Shared>);

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerTls({})", self.name())
    }
}

struct Shared {
    own: Own,
    files: Mutex<WatchedFiles<3>>,
    material: ArcSwap<Material>,
}

/// What the certificate must say.
#[derive(Clone, Copy)]
struct Own {
    cluster: ClusterId,
    node: NodeId,
    role: Role,
}

/// What was made of one version of the files.
pub(super) struct Material {
    /// Rises with each version.
    pub(super) generation: u64,
    /// What the own certificate says.
    pub(super) own: Named,
    key: Arc<CertifiedKey>,
    server: Arc<ServerConfig>,
    verifier: PeerVerifier,
}

impl PeerTls {
    /// Loads the files of this node.
    pub fn load(files: &PeerFiles, cluster: ClusterId, node: NodeId, role: Role) -> Result<Self, PeerTlsError> {
        let PeerFiles {
            certificate,
            private_key,
            ca,
        } = files.clone();
        let watched = WatchedFiles::new([certificate, private_key, ca]);
        let own = Own { cluster, node, role };
        let material = Material::load(watched.paths(), own, 0)?;
        Ok(Self(Arc::new(Shared {
            own,
            files: Mutex::new(watched),
            material: ArcSwap::from_pointee(material),
        })))
    }

    /// What the certificate in force says of this node.
    pub fn name(&self) -> PeerName {
        self.material().own.name
    }

    /// Until when the certificate in force holds.
    pub fn expires_at(&self) -> Timestamp {
        self.material().own.expires_at
    }

    pub(super) fn material(&self) -> Arc<Material> {
        self.0.material.load_full()
    }

    /// Takes over what the files became. What can't be used leaves the old certificates in force.
    pub(super) fn look(&self) {
        let mut files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.material().generation + 1;
        let looked = files.look(|paths| {
            let material = Material::load(paths, self.0.own, generation)?;
            self.0.material.store(Arc::new(material));
            Ok::<_, PeerTlsError>(())
        });
        match looked {
            None => {}
            Some(Ok(())) => {
                let path = files.paths()[0].display();
                tracing::info!(%path, "the certificates of the links were replaced; the links are made again");
            }
            Some(Err(error)) => tracing::error!("failed to {error}; the old ones stay in force"),
        }
    }
}

impl Material {
    fn load([certificate, private_key, ca]: &[PathBuf; 3], own: Own, generation: u64) -> Result<Self, PeerTlsError> {
        let chain = certificates(certificate)?;
        let named = name_of(&chain[0]).map_err(|error| content(certificate, format!("can't be used: {error}")))?;
        let name = named.name;
        if (name.cluster, name.node, name.role) != (own.cluster, own.node, own.role) {
            return Err(PeerTlsError::OtherNode {
                path: certificate.clone(),
                found: Box::new(name),
                expected: format!("{} {} of cluster {}", own.role, own.node, own.cluster),
            });
        }
        let key = PrivateKeyDer::from_pem_slice(&read(private_key)?);
        let key = key.map_err(|error| content(private_key, format!("is not a private key: {error}")))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let unusable = |error| PeerTlsError::Unusable {
            path: certificate.clone(),
            error,
        };
        let intermediates = chain[1..].to_vec();
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(unusable)?;
        key.keys_match().map_err(unusable)?;
        let verifier = PeerVerifier::new(ca, own.cluster, &provider)?;
        match verifier.check_chain(&key.cert[0], &intermediates, UnixTime::now()) {
            Ok(()) => {}
            // It will be refused by the others until it is renewed. A node that runs may be the one to renew it.
            Err(error) if is_about_time(&error) => {
                tracing::error!(path = %certificate.display(), "{}", explain_own(&error));
            }
            Err(_) => {
                let reason = format!("is not of an authority in {}", ca.display());
                return Err(content(certificate, reason));
            }
        }
        let key = Arc::new(key);
        let server = server_config(&provider, &verifier, &key).map_err(unusable)?;
        Ok(Self {
            generation,
            own: named,
            key,
            server: Arc::new(server),
            verifier,
        })
    }

    /// The TLS of a connection that was accepted.
    pub(super) fn accept(&self) -> Result<rustls::Connection, rustls::Error> {
        Ok(ServerConnection::new(Arc::clone(&self.server))?.into())
    }

    /// The TLS of a connection to this node.
    pub(super) fn dial(&self, node: NodeId) -> Result<rustls::Connection, rustls::Error> {
        let mut verifier = self.verifier.clone();
        verifier.called = Some(node);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.key))));
        // A resumed session would not look at certificates again.
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        let name = ServerName::try_from(SERVER_NAME).expect("it is a name");
        Ok(ClientConnection::new(Arc::new(config), name)?.into())
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    verifier: &PeerVerifier,
    key: &Arc<CertifiedKey>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier.clone()))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key))));
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

/// What the certificate says with which the other side of a connection has shown who it is.
pub(super) fn peer_named(connection: &rustls::Connection) -> Result<Named, NameError> {
    match connection.peer_certificates() {
        Some([certificate, ..]) => name_of(certificate),
        _ => Err(NameError::None),
    }
}

/// Believes certificates of the cluster's authorities that name a node of the cluster.
#[derive(Clone)]
struct PeerVerifier {
    cluster: ClusterId,
    /// The only node that is believed, if one was called.
    called: Option<NodeId>,
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerVerifier")
    }
}

/// Why a certificate that is genuine is not believed.
#[derive(Debug, thiserror::Error)]
enum Disbelief {
    #[error("{0}")]
    Name(#[from] NameError),
    #[error("its certificate is of cluster {found}, and this node is of {expected}: check the addresses of the peers")]
    OtherCluster { found: ClusterId, expected: ClusterId },
    #[error("its certificate is of {found}, and node {called} was called: check the addresses of the peers")]
    OtherNode { found: PeerName, called: NodeId },
}

impl From<Disbelief> for rustls::Error {
    fn from(disbelief: Disbelief) -> Self {
        CertificateError::Other(OtherError(Arc::new(disbelief))).into()
    }
}

impl PeerVerifier {
    fn new(ca: &Path, cluster: ClusterId, provider: &Arc<CryptoProvider>) -> Result<Self, PeerTlsError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(ca)? {
            let added = roots.add(authority);
            added.map_err(|error| content(ca, format!("has a certificate that can't be an authority's: {error}")))?;
        }
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider)).build();
        Ok(Self {
            cluster,
            called: None,
            roots,
            clients: clients.map_err(|error| content(ca, format!("can't be used: {error}")))?,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    fn check_chain(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, self.algorithms.all)
    }

    fn check_name(&self, certificate: &CertificateDer<'_>) -> Result<(), Disbelief> {
        let found = name_of(certificate)?.name;
        if found.cluster != self.cluster {
            return Err(Disbelief::OtherCluster {
                found: found.cluster,
                expected: self.cluster,
            });
        }
        match self.called {
            Some(called) if called != found.node => Err(Disbelief::OtherNode { found, called }),
            _ => Ok(()),
        }
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check_chain(certificate, intermediates, now)?;
        self.check_name(certificate)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.clients.verify_client_cert(certificate, intermediates, now)?;
        self.check_name(certificate)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}

/// True if a certificate would be believed at another time.
fn is_about_time(error: &rustls::Error) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(
        error,
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
    )
}

fn explain_own(error: &rustls::Error) -> &'static str {
    use CertificateError::{NotValidYet, NotValidYetContext};
    match error {
        rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
            "the certificate of the links does not hold yet: the other nodes refuse it; check this machine's clock"
        }
        _ => "the certificate of the links has expired: the other nodes refuse it; issue another one",
    }
}

/// What an error of TLS means here, and what to do.
pub(super) fn explain(error: &rustls::Error) -> String {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext, Other, UnknownIssuer};
    match error {
        rustls::Error::InvalidCertificate(Other(OtherError(reason))) => reason.to_string(),
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => {
            "its certificate has expired: issue another one".to_owned()
        }
        rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
            "its certificate does not hold yet: check the clocks".to_owned()
        }
        rustls::Error::InvalidCertificate(UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is not of an authority in peers.ca".to_owned()
        }
        rustls::Error::NoCertificatesPresented => "it showed no certificate".to_owned(),
        rustls::Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::DecryptError) => {
            "it does not know the authority of this node's certificate: add that to its peers.ca".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "it says that this node's certificate has expired, or does not hold yet: check clocks and certificate"
                .to_owned()
        }
        rustls::Error::AlertReceived(
            AlertDescription::CertificateUnknown
            | AlertDescription::BadCertificate
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired,
        ) => "it does not believe this node's certificate: its log says why".to_owned(),
        other => format!("TLS: {other}"),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PeerTlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let chain = chain.map_err(|error| content(path, format!("is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(content(path, "has no certificate".to_owned()));
    }
    Ok(chain)
}

fn content(path: &Path, reason: String) -> PeerTlsError {
    let path = path.to_owned();
    PeerTlsError::Content { path, reason }
}

fn read(path: &Path) -> Result<Vec<u8>, PeerTlsError> {
    std::fs::read(path).map_err(|error| PeerTlsError::Read {
        path: path.to_owned(),
        error,
    })
}
