//! The files of the node's certificate, which whoever renews it may replace at any time.

use std::os::unix::fs::MetadataExt as _;
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
    /// What the files were when they were last taken over, and when they last could not be.
    taken: Version,
    refused: Option<Version>,
}

/// What tells two versions of the files from each other.
type Version = [Option<FileVersion>; 2];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileVersion {
    changed: SystemTime,
    bytes: u64,
    inode: u64,
}

impl TlsFiles {
    /// Loads what is configured, if anything is.
    pub fn load(config: &TlsConfig) -> Result<Option<Self>, TlsFilesError> {
        let (Some(certificate), Some(private_key)) = (config.certificate.clone(), config.private_key.clone()) else {
            return Ok(None);
        };
        let taken = [version(&certificate), version(&private_key)];
        let content = |error| TlsFilesError::Content {
            path: certificate.clone(),
            error,
        };
        let tls = Tls::new(&read(&certificate)?, &read(&private_key)?).map_err(content)?;
        Ok(Some(Self {
            certificate,
            private_key,
            tls,
            taken,
            refused: None,
        }))
    }

    /// What was loaded.
    pub fn tls(&self) -> Tls {
        self.tls.clone()
    }

    /// Takes over what the files become, until it is dropped. What can't be used leaves the old certificate in force, and
    /// is tried again, since the two files may be replaced one after the other and be half written when they are read.
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
        let version = [version(&self.certificate), version(&self.private_key)];
        if version == self.taken {
            return;
        }
        match self.take_over() {
            Ok(()) => {
                self.taken = version;
                self.refused = None;
                tracing::info!(path = %self.certificate.display(), "the certificate was replaced");
            }
            // Once for each version of them.
            Err(error) if self.refused != Some(version) => {
                self.refused = Some(version);
                tracing::error!("failed to {error}; the old one stays in force");
            }
            Err(_) => {}
        }
    }

    fn take_over(&self) -> Result<(), TlsFilesError> {
        let (chain, key) = (read(&self.certificate)?, read(&self.private_key)?);
        let replaced = self.tls.replace(&chain, &key);
        replaced.map_err(|error| TlsFilesError::Content {
            path: self.certificate.clone(),
            error,
        })
    }
}

/// None if there is no file.
fn version(path: &PathBuf) -> Option<FileVersion> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(FileVersion {
        changed: metadata.modified().ok()?,
        bytes: metadata.len(),
        inode: metadata.ino(),
    })
}

fn read(path: &PathBuf) -> Result<Vec<u8>, TlsFilesError> {
    std::fs::read(path).map_err(|error| TlsFilesError::Read {
        path: path.clone(),
        error,
    })
}
