//! What a node's certificate says of it, as a URI among its names (RFC 5280, section 4.2.1.6):
//!
//! ```text
//!  spiffe://meridian/CLUSTER/REGION/NODE/ROLE      a node's:  spiffe://meridian/my-exchange/uae/2/node
//!  spiffe://meridian/CLUSTER                       its authority's, if `meridian cluster init-ca` made that
//! ```
//!
//! Names of hosts play no part: a node may move to another address and keeps its certificate.

use std::fmt;
use std::str::FromStr;

use types::{ClusterId, ShortText, TextError, Timestamp};
use wire::journal::NodeId;
use wire::peer::Role;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// What the names begin with.
const PREFIX: &str = "spiffe://meridian/";

/// A region: 1 to 32 of `[a-z0-9-]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region(ShortText<32>);

impl Region {
    /// Its text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Region {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        ShortText::new(text, |byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
        })
        .map(Self)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Whose a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerName {
    /// The cluster.
    pub cluster: ClusterId,
    /// Where the node is.
    pub region: Region,
    /// The node.
    pub node: NodeId,
    /// What it may be.
    pub role: Role,
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cluster,
            region,
            node,
            role,
        } = self;
        write!(f, "{PREFIX}{cluster}/{region}/{node}/{role}")
    }
}

/// Why a certificate names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is no certificate.
    #[error("the certificate can't be read")]
    Unreadable,
    /// It has no such name.
    #[error("the certificate has no name of the form {PREFIX}CLUSTER/REGION/NODE/ROLE")]
    None,
    /// It has more than one.
    #[error("the certificate names more than one node")]
    Several,
    /// It is no authority's.
    #[error("the certificate was not made as a cluster's authority")]
    NoAuthority,
    /// A name of ours can't be.
    #[error("the certificate's name {0:?} is not of the form {PREFIX}CLUSTER/REGION/NODE/ROLE")]
    Malformed(String),
}

impl FromStr for PeerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parse = || {
            let mut parts = text.strip_prefix(PREFIX)?.split('/');
            let name = Self {
                cluster: parts.next()?.parse().ok()?,
                region: parts.next()?.parse().ok()?,
                node: NodeId(parts.next()?.parse().ok()?),
                role: Role::from_name(parts.next()?)?,
            };
            // One spelling only: no signs, no leading zeros, nothing behind.
            (parts.next().is_none() && name.to_string() == text && name.node != NodeId(0)).then_some(name)
        };
        parse().ok_or_else(|| NameError::Malformed(text.to_owned()))
    }
}

/// What is read out of a node's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Whose it is.
    pub name: PeerName,
    /// Until when it holds.
    pub expires_at: Timestamp,
}

/// Reads whose certificate this is. That it is genuine must have been verified.
pub fn name_of(der: &[u8]) -> Result<Named, NameError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| NameError::Unreadable)?;
    let uris = uris(&certificate)?;
    let name = match uris[..] {
        [] => return Err(NameError::None),
        [uri] => uri.parse()?,
        _ => return Err(NameError::Several),
    };
    let expires_at = expires_at(&certificate);
    Ok(Named { name, expires_at })
}

fn expires_at(certificate: &X509Certificate<'_>) -> Timestamp {
    let seconds = certificate.validity().not_after.timestamp();
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Timestamp(seconds.saturating_mul(Timestamp::SECOND))
}

/// The cluster whose authority this is, if `meridian cluster init-ca` made it, and until when it holds.
pub fn authority_of(der: &[u8]) -> Result<(ClusterId, Timestamp), NameError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| NameError::Unreadable)?;
    let cluster = match uris(&certificate)?[..] {
        [uri] => uri.strip_prefix(PREFIX).and_then(|cluster| cluster.parse().ok()),
        _ => None,
    };
    Ok((cluster.ok_or(NameError::NoAuthority)?, expires_at(&certificate)))
}

/// True if the certificate is of this public key (DER, `SubjectPublicKeyInfo`).
pub fn is_key_of(der: &[u8], public_key: &[u8]) -> Result<bool, NameError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| NameError::Unreadable)?;
    Ok(certificate.public_key().raw == public_key)
}

/// The name of a cluster's authority.
pub fn authority_name(cluster: ClusterId) -> String {
    format!("{PREFIX}{cluster}")
}

/// The names of ours that a certificate has.
fn uris<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, NameError> {
    let names = certificate.subject_alternative_name();
    let names = names.map_err(|_| NameError::Unreadable)?;
    let names = names.into_iter().flat_map(|names| &names.value.general_names);
    Ok(names
        .filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with(PREFIX) => Some(*uri),
            _ => None,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        let text = "spiffe://meridian/my-exchange/uae/2/node";
        let name: PeerName = text.parse().unwrap();
        assert_eq!((name.node, name.role), (NodeId(2), Role::Node));
        assert_eq!(name.to_string(), text);
        for wrong in [
            "",
            "spiffe://other/my-exchange/uae/2/node",
            "spiffe://meridian/my-exchange/uae/2",
            "spiffe://meridian/my-exchange/uae/2/node/",
            "spiffe://meridian/my-exchange/uae/2/admin",
            "spiffe://meridian/my-exchange/uae/02/node",
            "spiffe://meridian/my-exchange/uae/+2/node",
            "spiffe://meridian/my-exchange/uae/0/node",
            "spiffe://meridian/my-exchange//2/node",
            "spiffe://meridian/My/uae/2/node",
        ] {
            assert_eq!(wrong.parse::<PeerName>(), Err(NameError::Malformed(wrong.to_owned())));
        }
    }
}
