//! The bytes of a file: durable, and what was done to them since.

use std::collections::BTreeMap;

use crate::random::Random;

/// What a disk writes as one: it is old or new, never a mixture.
pub(crate) const SECTOR_BYTES: usize = 512;

type Sector = [u8; SECTOR_BYTES];

/// The bytes of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Data {
    /// As processes see them.
    pub current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize { size: usize },
}

/// How a cut chooses among what is pending in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice {
    /// Nothing of it is kept.
    Nothing,
    /// All of it is.
    Everything,
    /// What was done up to some moment.
    Prefix,
    /// Each sector, and the size, goes its own way: this many in a hundred are the newest, the others any earlier one.
    Sectors(u64),
}

impl Choice {
    pub fn random(random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 | 3 => Self::Prefix,
            4 => Self::Sectors(90),
            5 | 6 => Self::Sectors(50),
            _ => Self::Sectors(10),
        }
    }
}

impl Data {
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let change = Change::Write {
            offset,
            bytes: bytes.to_vec(),
        };
        apply(&mut self.current, &change);
        self.pending.push(change);
    }

    pub fn resize(&mut self, size: usize) {
        if size == self.current.len() {
            return;
        }
        let change = Change::Resize { size };
        apply(&mut self.current, &change);
        self.pending.push(change);
    }

    pub fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Loses what `choice` says; true if anything differs from what processes saw.
    pub fn cut(&mut self, choice: Choice, random: &mut Random) -> bool {
        match choice {
            Choice::Nothing => {}
            Choice::Everything => self.durable.clone_from(&self.current),
            Choice::Prefix => {
                let kept = random.below(self.pending.len() + 1);
                for change in &self.pending[..kept] {
                    apply(&mut self.durable, change);
                }
            }
            Choice::Sectors(newest_percent) => self.durable = self.mixture(newest_percent, random),
        }
        self.pending.clear();
        let lost = self.durable != self.current;
        self.current.clone_from(&self.durable);
        lost
    }

    /// Each sector as it was at some moment since the last sync, and the size likewise.
    fn mixture(&self, newest_percent: u64, random: &mut Random) -> Vec<u8> {
        let mut state = self.durable.clone();
        let mut sizes = vec![state.len()];
        let mut versions: BTreeMap<usize, Vec<Sector>> = BTreeMap::new();
        for change in &self.pending {
            let (first, end) = match change {
                Change::Write { offset, bytes } => (*offset, offset + bytes.len()),
                Change::Resize { size } => (*size.min(&state.len()), state.len()),
            };
            let sectors = first / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
            for sector in sectors.clone() {
                versions
                    .entry(sector)
                    .or_insert_with(|| vec![sector_of(&state, sector)]);
            }
            apply(&mut state, change);
            for sector in sectors {
                let version = sector_of(&state, sector);
                versions.entry(sector).or_default().push(version);
            }
            if sizes.last() != Some(&state.len()) {
                sizes.push(state.len());
            }
        }
        let mut choose = |count: usize| {
            if random.percent(newest_percent) {
                count - 1
            } else {
                random.below(count)
            }
        };
        let size = sizes[choose(sizes.len())];
        let mut result = self.durable.clone();
        result.resize(size, 0);
        for (sector, versions) in &versions {
            let start = sector * SECTOR_BYTES;
            let version = versions[choose(versions.len())];
            if start < size {
                let end = size.min(start + SECTOR_BYTES);
                result[start..end].copy_from_slice(&version[..end - start]);
            }
        }
        result
    }
}

fn apply(to: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => {
            let end = offset + bytes.len();
            if to.len() < end {
                to.resize(end, 0);
            }
            to[*offset..end].copy_from_slice(bytes);
        }
        Change::Resize { size } => to.resize(*size, 0),
    }
}

fn sector_of(bytes: &[u8], sector: usize) -> Sector {
    let mut result = [0; SECTOR_BYTES];
    let start = sector * SECTOR_BYTES;
    if start < bytes.len() {
        let end = bytes.len().min(start + SECTOR_BYTES);
        result[..end - start].copy_from_slice(&bytes[start..end]);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(data: &Data) -> Vec<Vec<u8>> {
        (0..400)
            .map(|seed| {
                let mut random = Random::new(seed);
                let mut data = data.clone();
                data.cut(Choice::random(&mut random), &mut random);
                data.current
            })
            .collect()
    }

    #[test]
    fn what_was_synced_is_never_lost() {
        let mut data = Data::default();
        data.write(0, &[1; 2000]);
        data.sync();
        data.write(2000, &[2; 100]);
        for cut in cuts(&data) {
            assert_eq!(&cut[..2000], &[1; 2000]);
        }
    }

    #[test]
    fn what_was_not_synced_is_dropped_torn_and_reordered() {
        let mut data = Data::default();
        data.write(0, &[1; 2048]);
        data.sync();
        data.write(0, &[2; 1024]);
        data.write(1024, &[3; 1024]);
        let cuts = cuts(&data);
        let sectors = |cut: &Vec<u8>| [0, 1, 2, 3].map(|sector| cut[sector * SECTOR_BYTES]);
        let seen = |wanted: [u8; 4]| cuts.iter().any(|cut| sectors(cut) == wanted);
        assert!(seen([1, 1, 1, 1]), "dropped");
        assert!(seen([2, 2, 3, 3]), "kept");
        assert!(seen([1, 2, 1, 1]), "torn");
        assert!(seen([1, 1, 3, 3]), "reordered");
        for cut in &cuts {
            for sector in 0..4 {
                let sector = &cut[sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES];
                assert!(
                    sector.iter().all(|byte| *byte == sector[0]),
                    "a sector is never torn within"
                );
            }
        }
    }

    #[test]
    fn two_appends_in_one_sector_never_lose_the_first_alone() {
        let mut data = Data::default();
        data.write(0, &[1; 100]);
        data.write(100, &[2; 100]);
        for cut in cuts(&data) {
            let first = cut.first().copied().unwrap_or(0);
            let second = cut.get(100).copied().unwrap_or(0);
            assert!(matches!((first, second), (0, 0) | (1, 0) | (1, 2)), "{first} {second}");
        }
    }

    #[test]
    fn an_unsynced_truncation_may_be_undone() {
        let mut data = Data::default();
        data.write(0, &[1; 1500]);
        data.sync();
        data.resize(0);
        let lengths: Vec<_> = cuts(&data).iter().map(Vec::len).collect();
        assert!(lengths.contains(&1500) && lengths.contains(&0));
    }
}
