//! The commands that the operator quarantined: a file of sequences beside the segments.
//!
//! It is part of what a replay reads, so it is kept as long as the journal is.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use types::Sequence;

use super::files::Folder;
use super::{DiskError, JournalError};

const INTRODUCTION: &str = "# Commands that become rejects instead of being applied, one sequence a line. Written by \
                            `meridian journal quarantine`.\n# Every replay of the journal reads this file: keep it.\n";

/// The commands that the operator quarantined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quarantine(pub BTreeSet<Sequence>);

impl Quarantine {
    /// Reads the file of the journal in `folder`; no file is no quarantine.
    pub fn read(folder: &Path) -> Result<Self, JournalError> {
        let path = file(folder);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(DiskError::new("read", &path, error).into()),
        };
        let mut sequences = BTreeSet::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let sequence = line.parse().map_err(|_| JournalError::Quarantine {
                sequence: Sequence(0),
                reason: format!("the line {line:?} of {} is not a sequence", path.display()),
            })?;
            sequences.insert(sequence);
        }
        Ok(Self(sequences))
    }

    /// Adds a sequence and makes that durable.
    pub fn add(&mut self, folder: &Path, sequence: Sequence) -> Result<(), JournalError> {
        self.0.insert(sequence);
        let path = file(folder);
        let unfinished = path.with_extension("tmp");
        let mut text = INTRODUCTION.to_owned();
        for sequence in &self.0 {
            text.push_str(&format!("{sequence}\n"));
        }
        let written = std::fs::File::create(&unfinished).and_then(|mut out| {
            out.write_all(text.as_bytes())?;
            out.sync_all()
        });
        written.map_err(|error| DiskError::new("write", &unfinished, error))?;
        Folder::new(folder).rename(&unfinished, &path)?;
        Ok(())
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("quarantine")
}
