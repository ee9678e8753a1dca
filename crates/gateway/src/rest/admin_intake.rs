//! From operators' JSON to actions.

use std::sync::Arc;

use secrecy::ExposeSecret as _;
use types::{
    AccountId, Action, Asset, Decimal, FeeRate, Instrument, InstrumentRules, KeyMaterial, NewKey, Price, Quantity,
    Scopes, Symbol, Transfer,
};
use wire::errors::Refusal;
use wire::json::{self, DecimalText};
use wire::signing;

use crate::failure::Failure;
use crate::gateway::Shared;
use crate::intake;
use crate::sealing::SealingKey;

/// The name of something new.
pub(super) fn symbol(text: &str) -> Result<Symbol, Failure> {
    text.parse().map_err(|error: types::TextError| {
        Failure::new(Refusal::BodyInvalid)
            .field("symbol")
            .detail(error.to_string())
    })
}

/// A new instrument.
pub(super) async fn instrument(shared: &Shared, request: &json::InstrumentRequest) -> Result<Action, Failure> {
    let base = intake::asset(shared, &request.base, "base").await?;
    let quote = intake::asset(shared, &request.quote, "quote").await?;
    Ok(Action::CreateInstrument {
        symbol: symbol(&request.symbol)?,
        base: base.id,
        quote: quote.id,
        rules: rules(&request.rules, &quote)?,
    })
}

/// New rules of an instrument.
pub(super) async fn instrument_rules(
    shared: &Shared,
    instrument: &Arc<Instrument>,
    request: &json::InstrumentRules,
) -> Result<Action, Failure> {
    let quote = shared.view.reference().asset(instrument.quote);
    let quote = quote.ok_or_else(|| Failure::new(Refusal::InternalError))?;
    Ok(Action::SetInstrumentRules {
        instrument: instrument.id,
        rules: rules(request, &quote)?,
    })
}

fn rules(request: &json::InstrumentRules, quote: &Asset) -> Result<InstrumentRules, Failure> {
    let tick_size = intake::decimal(&request.tick_size, "tick_size")?;
    let lot_size = intake::decimal(&request.lot_size, "lot_size")?;
    let lots = |text: &DecimalText, field: &str| lots(text, lot_size, field);
    let units = |text: &DecimalText, field: &str| intake::amount_units(text, quote.decimals, field);
    let reference = request.reference_price.as_ref();
    let reference = reference.map(|price| intake::steps(&price.0, tick_size, "reference_price", Refusal::PriceOffTick));
    Ok(InstrumentRules {
        tick_size,
        lot_size,
        quantity_min: lots(&request.quantity_min, "quantity_min")?,
        quantity_max: lots(&request.quantity_max, "quantity_max")?,
        notional_min: units(&request.notional_min, "notional_min")?.0,
        notional_max: units(&request.notional_max, "notional_max")?.0,
        collar_ppm: request.collar_ppm,
        reference_price: Price(reference.transpose()?.unwrap_or(0)),
        maker_fee: FeeRate(request.maker_fee_ppm),
        taker_fee: FeeRate(request.taker_fee_ppm),
    })
}

fn lots(text: &DecimalText, lot_size: Decimal, field: &str) -> Result<Quantity, Failure> {
    intake::steps(&text.0, lot_size, field, Refusal::QuantityOffLot).map(Quantity)
}

/// An account's id as text.
pub(super) fn account_id(text: &str) -> Result<AccountId, Failure> {
    let refused = |error: types::ParseIdError| {
        Failure::new(Refusal::BodyInvalid)
            .field("account_id")
            .detail(error.to_string())
    };
    text.parse().map_err(refused)
}

/// Money in or out.
pub(super) async fn transfer(shared: &Shared, request: &json::TransferRequest) -> Result<Transfer, Failure> {
    let asset = intake::asset(shared, &request.asset, "asset").await?;
    Ok(Transfer {
        account: account_id(&request.account_id)?,
        asset: asset.id,
        amount: intake::amount_units(&request.amount, asset.decimals, "amount")?,
    })
}

/// A new key. The secret of an HMAC key is made here and sealed before it is sequenced.
pub(super) fn key(shared: &Shared, request: &json::KeyRequest) -> Result<Action, Failure> {
    let material = match (request.key_type, &request.public_key) {
        (json::KeyType::Ed25519, Some(public)) => {
            let bytes = signing::from_hex(public).and_then(|bytes| bytes.try_into().ok());
            let refused = || {
                Failure::new(Refusal::BodyInvalid)
                    .field("public_key")
                    .detail("it is not 32 bytes in lower-case hex")
            };
            KeyMaterial::Ed25519(bytes.ok_or_else(refused)?)
        }
        (json::KeyType::HmacSha256, None) => KeyMaterial::HmacSha256 {
            sealed: new_sealed_secret(&shared.sealing)?,
        },
        (json::KeyType::Ed25519, None) => {
            return Err(intake::contradiction("public_key", "an ed25519 key needs it"));
        }
        (json::KeyType::HmacSha256, Some(_)) => {
            return Err(intake::contradiction("public_key", "an hmac_sha256 key has none"));
        }
    };
    let scopes = request.scopes.iter().map(|scope| scope.bit());
    Ok(Action::CreateKey(NewKey {
        account: account_id(&request.account_id)?,
        scopes: scopes.fold(Scopes::default(), Scopes::with),
        material,
    }))
}

fn new_sealed_secret(sealing: &SealingKey) -> Result<Vec<u8>, Failure> {
    let sealed = SealingKey::generate_secret().and_then(|secret| sealing.seal(&secret));
    sealed.map_err(|error| {
        tracing::error!(%error, "a key's secret could not be made");
        Failure::new(Refusal::InternalError)
    })
}

/// The secret of a key, as it is shown in the answer to its creation.
pub(super) fn secret_of(sealing: &SealingKey, key: &types::Key) -> Option<String> {
    let KeyMaterial::HmacSha256 { sealed } = &key.material else {
        return None;
    };
    match sealing.unseal(sealed) {
        Ok(secret) => Some(signing::to_hex(secret.expose_secret())),
        Err(error) => {
            tracing::error!(key = %key.id, %error, "a key's secret could not be opened");
            None
        }
    }
}

/// The instrument of an optional name.
pub(super) async fn optional_instrument(
    shared: &Shared,
    symbol: Option<&str>,
) -> Result<Option<types::InstrumentId>, Failure> {
    match symbol {
        Some(symbol) => Ok(Some(intake::instrument(shared, symbol).await?.id)),
        None => Ok(None),
    }
}
