//! The files of the node's certificate, which whoever renews it may replace at any time.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use gateway::{Tls, TlsError};

use crate::config::TlsConfig;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a certificate could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TlsFilesError {
    /// A file could not be read.
    #[error("load the certificate: read {}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// What is in them can't be used.
    #[error("load the certificate of {}: {error}", path.display())]
    Content {
        /// The chain.
        path: PathBuf,
        /// Why.
        error: TlsError,
    },
}

/// The two files, and the TLS that was made of them.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    certificate: PathBuf,
    private_key: PathBuf,
    tls: Tls,
    /// When the files were last changed, as far as that was taken over.
    changed: Changed,
}

type Changed = [Option<SystemTime>; 2];

impl TlsFiles {
    /// Loads what is configured, if anything is.
    pub fn load(config: &TlsConfig) -> Result<Option<Self>, TlsFilesError> {
        let (Some(certificate), Some(private_key)) = (config.certificate.clone(), config.private_key.clone()) else {
            return Ok(None);
        };
        let changed = [changed(&certificate), changed(&private_key)];
        let content = |error| TlsFilesError::Content {
            path: certificate.clone(),
            error,
        };
        let tls = Tls::new(&read(&certificate)?, &read(&private_key)?).map_err(content)?;
        Ok(Some(Self {
            certificate,
            private_key,
            tls,
            changed,
        }))
    }

    /// What was loaded.
    pub fn tls(&self) -> Tls {
        self.tls.clone()
    }

    /// Takes over what the files become, until it is dropped. What can't be used leaves the old certificate in force, and
    /// is looked at again when it changes; the two files may be replaced one after the other.
    pub async fn follow(mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.take_over() {
                Ok(true) => tracing::info!(path = %self.certificate.display(), "the certificate was replaced"),
                Ok(false) => {}
                Err(error) => tracing::error!("failed to {error}; the old one stays in force"),
            }
        }
    }

    /// True if the files have changed and were taken over.
    fn take_over(&mut self) -> Result<bool, TlsFilesError> {
        let changed = [changed(&self.certificate), changed(&self.private_key)];
        if changed == self.changed {
            return Ok(false);
        }
        self.changed = changed;
        let (chain, key) = (read(&self.certificate)?, read(&self.private_key)?);
        let replaced = self.tls.replace(&chain, &key);
        replaced.map_err(|error| TlsFilesError::Content {
            path: self.certificate.clone(),
            error,
        })?;
        Ok(true)
    }
}

fn changed(path: &PathBuf) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn read(path: &PathBuf) -> Result<Vec<u8>, TlsFilesError> {
    std::fs::read(path).map_err(|error| TlsFilesError::Read {
        path: path.clone(),
        error,
    })
}
