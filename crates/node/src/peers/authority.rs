//! An authority of a cluster's own, for those who have none: it signs the certificates with which nodes know each other.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData as _, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use types::ClusterId;

use super::name::{NameError, PeerName, authority_name, authority_of, is_key_of};

/// How long before it was made a certificate holds, for clocks that are behind.
const CLOCKS_BEHIND: Duration = Duration::from_secs(3_600);

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub private_key: String,
}

/// From when and until when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From when.
    pub from: SystemTime,
    /// Until when.
    pub until: SystemTime,
}

impl Validity {
    /// From now on, for so many days.
    pub fn days(days: u32) -> Self {
        let now = SystemTime::now();
        Self {
            from: now - CLOCKS_BEHIND,
            until: now + Duration::from_secs(86_400) * days,
        }
    }
}

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The authority's certificate was not made by `meridian cluster init-ca`.
    #[error("use the authority: {0}; make one with `meridian cluster init-ca`")]
    NotOurs(#[from] NameError),
    /// The certificate is not PEM.
    #[error("read the authority's certificate: {0}")]
    Pem(rustls::pki_types::pem::Error),
    /// The key is another one's.
    #[error("use the authority: its private key does not belong to its certificate")]
    OtherKey,
    /// Something in it can't be.
    #[error("make the certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// An authority and its key.
pub struct Authority {
    cluster: ClusterId,
    /// Until when it holds. No certificate of it holds longer.
    until: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one.
    pub fn generate(cluster: ClusterId, validity: Validity) -> Result<(Self, Pair), AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let common_name = format!("Meridian cluster {cluster}");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = vec![SanType::URI(authority_name(cluster).try_into()?)];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, validity);
        let pair = Pair {
            certificate: params.self_signed(&key)?.pem(),
            private_key: key.serialize_pem(),
        };
        let authority = Self {
            cluster,
            until: validity.until,
            issuer: Issuer::new(params, key),
        };
        Ok((authority, pair))
    }

    /// Takes one that was made earlier.
    pub fn load(pair: &Pair) -> Result<Self, AuthorityError> {
        let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).map_err(AuthorityError::Pem)?;
        let (cluster, expires_at) = authority_of(&der)?;
        let key = KeyPair::from_pem(&pair.private_key)?;
        if !is_key_of(&der, &key.subject_public_key_info())? {
            return Err(AuthorityError::OtherKey);
        }
        Ok(Self {
            cluster,
            until: SystemTime::UNIX_EPOCH + Duration::from_nanos(expires_at.0),
            issuer: Issuer::from_ca_cert_der(&der, key)?,
        })
    }

    /// The cluster that it is of.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Until when it holds.
    pub fn until(&self) -> SystemTime {
        self.until
    }

    /// Makes a node's certificate. It holds no longer than the authority does.
    pub fn issue(&self, name: &PeerName, validity: Validity) -> Result<Pair, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let common_name = format!("Meridian {} {} of {}", name.role, name.node, name.cluster);
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = vec![SanType::URI(name.to_string().try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A node dials, and is dialed.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let until = validity.until.min(self.until);
        set_validity(&mut params, Validity { until, ..validity });
        Ok(Pair {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            private_key: key.serialize_pem(),
        })
    }
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let time = |time: SystemTime| {
        let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        rcgen::date_time_ymd(1970, 1, 1) + since_1970
    };
    params.not_before = time(validity.from);
    params.not_after = time(validity.until);
}
