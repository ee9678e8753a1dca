//! TLS: whom the client trusts, and the connection that comes of it.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::ClientError;

/// Whose word about an exchange's name is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trust {
    /// That of the authorities that the operating system trusts.
    #[default]
    System,
    /// That of these alone.
    Authorities(Vec<CertificateDer<'static>>),
}

impl Trust {
    /// Takes authorities' certificates, PEM.
    pub fn parse(pem: &[u8]) -> Result<Self, ClientError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let usage = |why: String| ClientError::Usage(format!("the authority's certificate can't be used: {why}"));
        match certificates {
            Ok(certificates) if certificates.is_empty() => Err(usage("there is none in it".to_owned())),
            Ok(certificates) => Ok(Self::Authorities(certificates)),
            Err(error) => Err(usage(error.to_string())),
        }
    }

    /// The settings that follow from it.
    pub fn config(&self) -> Result<ClientConfig, ClientError> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::System => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
            }
            Self::Authorities(certificates) => {
                for certificate in certificates {
                    let added = roots.add(certificate.clone());
                    added.map_err(|error| ClientError::Usage(format!("an authority's certificate: {error}")))?;
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.expect("the provider has what its own versions need");
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

/// A connection, plain or not.
pub(crate) trait Line: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Line for S {}

/// Agrees on keys with `host` over a connection to it.
pub(crate) async fn secure(config: Arc<ClientConfig>, host: &str, stream: TcpStream) -> std::io::Result<Box<dyn Line>> {
    let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(Box::new(stream))
}
