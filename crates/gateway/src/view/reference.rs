//! What changes seldom and is read with every request: assets, instruments, accounts' status, keys, rules.
//!
//! One pointer to an immutable table; the publisher replaces it. Keys and accounts, of which there may be many, have
//! tables of their own behind short locks.

use std::collections::HashMap;
use std::sync::Arc;

use types::{Asset, AssetId, EngineVersion, Instrument, InstrumentId, Rules, Sequence, Symbol};

/// Assets, instruments and rules at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    assets: Vec<Asset>,
    instruments: Vec<InstrumentHistory>,
    by_symbol: HashMap<Symbol, InstrumentId>,
    rules: Rules,
    engine_version: EngineVersion,
}

/// An instrument, and how it was before: the past is told in the ticks and lots of its time.
#[derive(Clone, Debug)]
struct InstrumentHistory {
    current: Arc<Instrument>,
    /// Earlier forms: the sequence from which each held, and the form; only where the scale differs from the next one.
    earlier: Vec<(Sequence, Arc<Instrument>)>,
    /// From which sequence the current scale holds, as far as it is known.
    since: Sequence,
}

impl Reference {
    /// All assets, by id.
    pub fn assets(&self) -> &[Asset] {
        &self.assets
    }

    /// The asset of an id.
    pub fn asset(&self, id: AssetId) -> Option<Asset> {
        self.assets.get(usize::from(id.0)).copied()
    }

    /// The asset of a name.
    pub fn asset_by_symbol(&self, symbol: &str) -> Option<Asset> {
        self.assets
            .iter()
            .find(|asset| asset.symbol.as_str() == symbol)
            .copied()
    }

    /// All instruments, by id.
    pub fn instruments(&self) -> impl ExactSizeIterator<Item = &Arc<Instrument>> {
        self.instruments.iter().map(|history| &history.current)
    }

    /// The instrument of an id.
    pub fn instrument(&self, id: InstrumentId) -> Option<&Arc<Instrument>> {
        self.instruments.get(id.0 as usize).map(|history| &history.current)
    }

    /// The instrument of a name.
    pub fn instrument_by_symbol(&self, symbol: &str) -> Option<&Arc<Instrument>> {
        let symbol: Symbol = symbol.parse().ok()?;
        self.instrument(*self.by_symbol.get(&symbol)?)
    }

    /// The instrument with the tick and lot that it had at a sequence, as far as that is still known.
    pub fn instrument_at(&self, id: InstrumentId, sequence: Sequence) -> Option<&Arc<Instrument>> {
        let history = self.instruments.get(id.0 as usize)?;
        if sequence >= history.since || history.earlier.is_empty() {
            return Some(&history.current);
        }
        let index = history.earlier.partition_point(|(since, _)| *since <= sequence);
        Some(&history.earlier[index.saturating_sub(1)].1)
    }

    /// The limits in force.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// The version of the exchange's behaviour that is in force.
    pub fn engine_version(&self) -> EngineVersion {
        self.engine_version
    }

    pub(super) fn set_engine_version(&mut self, version: EngineVersion) {
        self.engine_version = version;
    }

    pub(super) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    pub(super) fn add_asset(&mut self, asset: Asset) {
        let index = usize::from(asset.id.0);
        if index < self.assets.len() {
            self.assets[index] = asset;
        } else {
            assert_eq!(index, self.assets.len(), "assets are numbered densely");
            self.assets.push(asset);
        }
    }

    pub(super) fn set_instrument(&mut self, instrument: Instrument, at: Sequence) {
        let index = instrument.id.0 as usize;
        let new = Arc::new(instrument);
        if let Some(history) = self.instruments.get_mut(index) {
            if history.current.scale_version != new.scale_version {
                history.earlier.push((history.since, Arc::clone(&history.current)));
                history.since = at;
            }
            history.current = new;
            return;
        }
        assert_eq!(index, self.instruments.len(), "instruments are numbered densely");
        self.by_symbol.insert(instrument.symbol, instrument.id);
        self.instruments.push(InstrumentHistory {
            current: new,
            earlier: Vec::new(),
            since: Sequence(0),
        });
    }

    /// Learns from the past, read from its start on, how an instrument was at a sequence.
    pub(super) fn recall_instrument(&mut self, instrument: Instrument, at: Sequence) {
        let Some(history) = self.instruments.get_mut(instrument.id.0 as usize) else {
            return;
        };
        if instrument.scale_version == history.current.scale_version {
            if !history.earlier.is_empty() && history.since == Sequence(0) {
                history.since = at;
            }
            return;
        }
        let known = history.earlier.last();
        if known.is_none_or(|(_, last)| last.scale_version != instrument.scale_version) {
            let since = if history.earlier.is_empty() { Sequence(0) } else { at };
            history.earlier.push((since, Arc::new(instrument)));
        }
    }
}
