//! What a demo's exchange starts with. Each step is a request with a fixed id, so that doing all of it again changes
//! nothing: a demo that was killed while it was set up goes on with the same keys.

use gateway::handle::{CoreHandle, History};
use types::{
    AccountId, Action, Amount, AssetId, Decimal, Event, FeeRate, InstrumentId, InstrumentRules, InstrumentStatus, Key,
    KeyId, KeyMaterial, NewKey, Price, Quantity, Scopes, Transfer,
};

use super::{DemoFile, DemoKey};
use crate::data_folder::DataFolder;
use crate::execute::{ExecuteError, execute};

/// Assets: name, digits after the point, what each participant gets, in whole ones.
const ASSETS: [(&str, u8, i64); 4] = [
    ("USD", 6, 100_000_000),
    ("BTC", 8, 2_000),
    ("ETH", 8, 40_000),
    ("AAPL", 0, 500_000),
];

/// Instruments of the demo: name, base, tick, lot, and the price that they start around.
pub const INSTRUMENTS: [(&str, &str, Decimal, Decimal, &str); 3] = [
    ("BTC-USD", "BTC", Decimal::new(1, 2), Decimal::new(1, 4), "50000"),
    ("ETH-USD", "ETH", Decimal::new(1, 2), Decimal::new(1, 3), "3000"),
    ("AAPL-USD", "AAPL", Decimal::new(1, 2), Decimal::new(1, 0), "200"),
];

const QUOTE: &str = "USD";

/// Why a demo could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A request was not executed.
    #[error("set the demo up: {0}")]
    Execute(#[from] ExecuteError),
    /// A request was answered by something else than was expected.
    #[error("set the demo up: {0} was answered by {1:?}")]
    Answer(String, Box<Event>),
    /// The keys could not be stored.
    #[error("set the demo up: {0}")]
    Folder(#[from] crate::data_folder::DataFolderError),
}

/// Makes the assets, instruments, accounts and keys that the exchange lacks, and completes the file.
pub fn complete(
    core: &dyn CoreHandle,
    history: &dyn History,
    folder: &DataFolder,
    file: &mut DemoFile,
) -> Result<(), SetupError> {
    if file.complete {
        return Ok(());
    }
    let first = Setup {
        core,
        history,
        admin: KeyId::SYSTEM,
    };
    let admin = first.key(
        "init",
        AccountId::OPERATOR,
        Scopes::ADMIN.with(Scopes::READ),
        file.admin(),
    )?;
    file.keys[0].key = admin.0;
    let setup = Setup { admin, ..first };
    let assets = setup.assets()?;
    setup.instruments(&assets)?;
    for key in &mut file.keys[1..] {
        let account = setup.account(&key.name)?;
        key.account = account.0;
        let scopes = Scopes::READ.with(Scopes::TRADE);
        key.key = setup.key(&format!("demo-key-{}", key.name), account, scopes, key)?.0;
        for ((name, decimals, whole), asset) in ASSETS.into_iter().zip(&assets) {
            let transfer = Transfer {
                account,
                asset: *asset,
                amount: Amount(whole * 10_i64.pow(u32::from(decimals))),
            };
            setup.execute(&format!("demo-deposit-{}-{name}", key.name), Action::Deposit(transfer))?;
        }
    }
    file.complete = true;
    file.write(folder)?;
    Ok(())
}

struct Setup<'a> {
    core: &'a dyn CoreHandle,
    history: &'a dyn History,
    admin: KeyId,
}

impl Setup<'_> {
    fn execute(&self, request_id: &str, action: Action) -> Result<Event, SetupError> {
        Ok(execute(self.core, self.history, self.admin, request_id, action)?)
    }

    fn assets(&self) -> Result<Vec<AssetId>, SetupError> {
        let create = |(name, decimals, _): (&str, u8, i64)| {
            let symbol = name.parse().expect("the demo's names are well formed");
            let request_id = format!("demo-asset-{name}");
            match self.execute(&request_id, Action::CreateAsset { symbol, decimals })? {
                Event::AssetCreated(asset) => Ok(asset.id),
                event => Err(SetupError::Answer(request_id, Box::new(event))),
            }
        };
        ASSETS.into_iter().map(create).collect()
    }

    fn instruments(&self, assets: &[AssetId]) -> Result<(), SetupError> {
        let asset = |name: &str| {
            let index = ASSETS.iter().position(|(known, ..)| *known == name);
            assets[index.expect("the demo's instruments are of its assets")]
        };
        for (name, base, tick_size, lot_size, price) in INSTRUMENTS {
            let price: Decimal = price.parse().expect("the demo's prices are well formed");
            let create = Action::CreateInstrument {
                symbol: name.parse().expect("the demo's names are well formed"),
                base: asset(base),
                quote: asset(QUOTE),
                rules: InstrumentRules {
                    tick_size,
                    lot_size,
                    quantity_min: Quantity(1),
                    quantity_max: Quantity(10_000_000),
                    notional_min: 1_000_000,
                    notional_max: 50_000_000_000_000,
                    collar_ppm: 100_000,
                    reference_price: Price(price.in_steps(tick_size).expect("the demo's prices are in ticks")),
                    maker_fee: FeeRate(-50),
                    taker_fee: FeeRate(250),
                },
            };
            let request_id = format!("demo-instrument-{name}");
            let instrument: InstrumentId = match self.execute(&request_id, create)? {
                Event::InstrumentChanged(instrument) => instrument.id,
                event => return Err(SetupError::Answer(request_id, Box::new(event))),
            };
            let status = InstrumentStatus::Trading;
            self.execute(
                &format!("demo-open-{name}"),
                Action::SetInstrumentStatus { instrument, status },
            )?;
        }
        Ok(())
    }

    fn account(&self, name: &str) -> Result<AccountId, SetupError> {
        let request_id = format!("demo-account-{name}");
        match self.execute(&request_id, Action::CreateAccount)? {
            Event::AccountChanged(account) => Ok(account.id),
            event => Err(SetupError::Answer(request_id, Box::new(event))),
        }
    }

    fn key(&self, request_id: &str, account: AccountId, scopes: Scopes, key: &DemoKey) -> Result<KeyId, SetupError> {
        let credentials = key.credentials().expect("the file was checked");
        let public = credentials.secret.public_key().expect("the demo's keys are Ed25519");
        let new = NewKey {
            account,
            scopes,
            material: KeyMaterial::Ed25519(public),
        };
        match self.execute(request_id, Action::CreateKey(new))? {
            Event::KeyChanged(Key { id, .. }) => Ok(id),
            event => Err(SetupError::Answer(request_id.to_owned(), Box::new(event))),
        }
    }
}
