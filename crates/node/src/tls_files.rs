//! The files of the node's certificate, which whoever renews it may replace at any time.

use std::path::{Path, PathBuf};

use gateway::{Tls, TlsError};

use crate::config::TlsConfig;
use crate::watched_files::{LOOK_EVERY, WatchedFiles};

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
    files: WatchedFiles<2>,
    tls: Tls,
}

impl TlsFiles {
    /// Loads what is configured, if anything is.
    pub fn load(config: &TlsConfig) -> Result<Option<Self>, TlsFilesError> {
        let (Some(certificate), Some(private_key)) = (config.certificate.clone(), config.private_key.clone()) else {
            return Ok(None);
        };
        let files = WatchedFiles::new([certificate.clone(), private_key.clone()]);
        let tls = Tls::new(&read(&certificate)?, &read(&private_key)?);
        let tls = tls.map_err(|error| TlsFilesError::Content {
            path: certificate,
            error,
        })?;
        Ok(Some(Self { files, tls }))
    }

    /// What was loaded.
    pub fn tls(&self) -> Tls {
        self.tls.clone()
    }

    /// Takes over what the files become, until it is dropped. What can't be used leaves the old certificate in force.
    pub async fn follow(mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // Their disk may stall, and the threads that serve must not.
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match looked.await {
                Ok(files) => self = files,
                Err(_stopping) => return,
            }
        }
    }

    fn look(&mut self) {
        let looked = self.files.look(|[certificate, private_key]| {
            let (chain, key) = (read(certificate)?, read(private_key)?);
            let replaced = self.tls.replace(&chain, &key);
            replaced.map_err(|error| TlsFilesError::Content {
                path: certificate.clone(),
                error,
            })
        });
        match looked {
            None => {}
            Some(Ok(())) => {
                let [certificate, _] = self.files.paths();
                tracing::info!(path = %certificate.display(), "the certificate was replaced");
            }
            Some(Err(error)) => tracing::error!("failed to {error}; the old one stays in force"),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFilesError> {
    std::fs::read(path).map_err(|error| TlsFilesError::Read {
        path: path.to_owned(),
        error,
    })
}
