//! The demo's market: a few makers and takers that trade with each other through the public WebSocket API, like any
//! other client, at a leisurely pace. Of several nodes each participant begins with another one. Prices walk at random around where they started.

use std::time::Duration;

use client::{ClientError, Credentials, Endpoints, Random, RestClient, RetryPolicy, WsClient, new_request_id};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use types::Decimal;
use wire::json::{CancelItem, DecimalText, Instrument, InstrumentStatus, NewOrder, OrderType, Side, TimeInForce};
use wire::ws::{CancelAll, Request};

use super::DemoFile;

/// The time between two actions of anybody: some 25 actions a second, a replaced quote being two requests.
const PAUSE: Duration = Duration::from_millis(40);
/// Quotes that a maker has in an instrument before it moves old ones.
const QUOTES_MAX: usize = 8;
/// Of ten actions this many are a taker's.
const TAKER_TENTHS: u64 = 2;
/// An order is worth about so many dollars.
const WORTH: (i64, i64) = (200, 12_000);
/// How far from the fair price a quote may be, in parts of a million of it.
const QUOTE_PPM: (i64, i64) = (20, 900);
/// How far a taker is ready to go, in parts of a million.
const TAKE_PPM: i64 = 2_000;
/// By how much the fair price moves at most in one step, in parts of a million.
const STEP_PPM: i64 = 60;
/// How far the fair price may wander from home, in parts of a million.
const WANDER_PPM: i64 = 20_000;

/// The market, which ends when it is told to stop. What goes wrong is logged, and the market goes on.
pub async fn run(endpoints: Endpoints, file: DemoFile, mut stop: watch::Receiver<bool>) {
    let told = stop.clone();
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        result = trade(endpoints, &file) => {
            if let Err(error) = result && !*told.borrow() {
                tracing::warn!(%error, "the simulated market came to its end");
            }
        }
    }
}

async fn trade(endpoints: Endpoints, file: &DemoFile) -> Result<(), ClientError> {
    let policy = RetryPolicy::default();
    let mut market = Market {
        random: Random::from_system(),
        venues: venues(&endpoints, policy).await?,
        makers: Vec::new(),
        takers: Vec::new(),
    };
    for (index, key) in file.keys.iter().enumerate() {
        let Some(credentials) = key.credentials() else {
            continue;
        };
        let venues = market.venues.len();
        let endpoints = endpoints.clone().beginning_with(index);
        if key.name.starts_with("maker-") {
            let maker = Participant::join(endpoints, credentials, venues).await?;
            maker.cancel_all().await?;
            market.makers.push(maker);
        } else if key.name.starts_with("taker-") {
            market
                .takers
                .push(Participant::join(endpoints, credentials, venues).await?);
        }
    }
    if market.venues.is_empty() || market.makers.is_empty() || market.takers.is_empty() {
        return Ok(());
    }
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match market.act().await {
            // A refusal (no liquidity, a post-only order that would take, ...) is part of the game.
            Ok(()) | Err(ClientError::Refused(_)) => {}
            Err(error @ (ClientError::Unknown { .. } | ClientError::Unavailable(_))) => {
                tracing::info!(%error, "the simulated market waits");
                tokio::time::sleep(policy.wait_longest).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What trades, with where its price is.
async fn venues(endpoints: &Endpoints, policy: RetryPolicy) -> Result<Vec<Venue>, ClientError> {
    let client = RestClient::connect(endpoints.clone(), None, policy).await?;
    let mut venues = Vec::new();
    for (symbol, ..) in super::INSTRUMENTS {
        let instrument = client.instrument(symbol).await?;
        let last = client.trades(symbol, 1).await?.trades.into_iter().next();
        if instrument.status == InstrumentStatus::Trading {
            venues.extend(Venue::new(&instrument, last.map(|trade| trade.price)));
        }
    }
    Ok(venues)
}

struct Market {
    random: Random,
    venues: Vec<Venue>,
    makers: Vec<Participant>,
    takers: Vec<Participant>,
}

impl Market {
    /// Lets one participant do one thing in one instrument.
    async fn act(&mut self) -> Result<(), ClientError> {
        let index = below(&mut self.random, self.venues.len());
        let venue = &mut self.venues[index];
        venue.step(&mut self.random);
        let side = if self.random.below(2) == 0 {
            Side::Buy
        } else {
            Side::Sell
        };
        if self.random.below(10) < TAKER_TENTHS {
            let taker = below(&mut self.random, self.takers.len());
            let order = venue.taking_order(side, &mut self.random);
            return self.takers[taker].place(order).await;
        }
        let maker = below(&mut self.random, self.makers.len());
        let maker = &mut self.makers[maker];
        if maker.quotes[index].len() >= QUOTES_MAX {
            let oldest = maker.quotes[index].remove(0);
            match maker.cancel(oldest).await {
                // It was filled meanwhile.
                Ok(()) | Err(ClientError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let order = venue.quote(side, &mut self.random);
        let id = order.client_order_id.clone();
        maker.place(order).await?;
        maker.quotes[index].push(id);
        Ok(())
    }
}

/// An account that trades.
struct Participant {
    client: WsClient,
    /// Client order ids of its quotes, the oldest first, by instrument.
    quotes: Vec<Vec<String>>,
}

impl Participant {
    async fn join(endpoints: Endpoints, credentials: Credentials, venues: usize) -> Result<Self, ClientError> {
        let (client, events) = WsClient::connect(endpoints, Some(credentials), RetryPolicy::default()).await?;
        tokio::spawn(drain(events));
        Ok(Self {
            client,
            quotes: vec![Vec::new(); venues],
        })
    }

    /// Takes back what an earlier life left in the books.
    async fn cancel_all(&self) -> Result<(), ClientError> {
        let cancel = CancelAll {
            request_id: new_request_id(),
            symbol: None,
            valid_until: None,
        };
        self.client.request(Request::CancelAll(cancel)).await?;
        Ok(())
    }

    async fn place(&self, order: NewOrder) -> Result<(), ClientError> {
        self.client.place(order).await?;
        Ok(())
    }

    async fn cancel(&self, client_order_id: String) -> Result<(), ClientError> {
        let cancel = CancelItem {
            request_id: new_request_id(),
            client_order_id: Some(client_order_id),
            ..CancelItem::default()
        };
        self.client.cancel(cancel).await?;
        Ok(())
    }
}

/// Nobody follows a stream here; only that the connection came and went is told.
async fn drain(mut events: mpsc::Receiver<client::StreamEvent>) {
    while let Some(event) = events.recv().await {
        tracing::debug!(?event, "the simulated market's connection");
    }
}

/// An instrument, and what its price should be.
struct Venue {
    symbol: String,
    tick_size: Decimal,
    lot_size: Decimal,
    /// Where it started, in ticks.
    home: i64,
    /// Where it is, in ticks.
    fair: i64,
}

impl Venue {
    /// None for an instrument without any price to start from.
    fn new(instrument: &Instrument, last: Option<DecimalText>) -> Option<Self> {
        let rules = &instrument.rules;
        let tick_size = rules.tick_size.decimal().ok()?;
        let in_ticks = |price: &DecimalText| price.in_steps(tick_size).ok();
        let home = rules.reference_price.as_ref().or(last.as_ref()).and_then(in_ticks)?;
        Some(Self {
            symbol: instrument.symbol.clone(),
            tick_size,
            lot_size: rules.lot_size.decimal().ok()?,
            home,
            fair: last.as_ref().and_then(in_ticks).unwrap_or(home),
        })
    }

    /// Lets the fair price walk. Far from home it rather walks back.
    fn step(&mut self, random: &mut Random) {
        let reach = parts(self.home, WANDER_PPM);
        let step = parts(self.fair, random.between(-STEP_PPM, STEP_PPM));
        let away = self.fair - self.home;
        let outward = away.signum() == step.signum() && away.abs() > reach;
        self.fair = (self.fair + if outward { -step } else { step }).max(1);
    }

    /// A quote near the fair price that only makes.
    fn quote(&self, side: Side, random: &mut Random) -> NewOrder {
        let distance = parts(self.fair, random.between(QUOTE_PPM.0, QUOTE_PPM.1)).max(1);
        let price = match side {
            Side::Buy => self.fair - distance,
            Side::Sell => self.fair + distance,
        };
        let order = self.order(side, price, random);
        NewOrder {
            time_in_force: Some(TimeInForce::Gtc),
            post_only: true,
            ..order
        }
    }

    /// An order that takes what there is near the fair price.
    fn taking_order(&self, side: Side, random: &mut Random) -> NewOrder {
        let distance = parts(self.fair, TAKE_PPM);
        let price = match side {
            Side::Buy => self.fair + distance,
            Side::Sell => self.fair - distance,
        };
        let order = self.order(side, price, random);
        NewOrder {
            time_in_force: Some(TimeInForce::Ioc),
            ..order
        }
    }

    fn order(&self, side: Side, price: i64, random: &mut Random) -> NewOrder {
        let lots = self.lots_worth(random.between(WORTH.0, WORTH.1));
        NewOrder {
            client_order_id: new_request_id(),
            symbol: self.symbol.clone(),
            side,
            order_type: OrderType::Limit,
            time_in_force: None,
            expires_at: None,
            price: Some(DecimalText::of_steps(self.tick_size, price.max(1))),
            quantity: DecimalText::of_steps(self.lot_size, lots),
            post_only: false,
            self_trade_prevention: None,
            valid_until: None,
            validate_only: false,
        }
    }

    /// How many lots are worth about so many whole units of the quote asset, at least one.
    fn lots_worth(&self, worth: i64) -> i64 {
        let scale = u32::from(self.tick_size.scale) + u32::from(self.lot_size.scale);
        let lot_price = i128::from(self.fair) * i128::from(self.tick_size.units) * i128::from(self.lot_size.units);
        let lots = i128::from(worth) * 10_i128.pow(scale) / lot_price.max(1);
        i64::try_from(lots).unwrap_or(i64::MAX).max(1)
    }
}

/// `ppm` parts of a million of a number.
fn parts(of: i64, ppm: i64) -> i64 {
    let parts = i128::from(of) * i128::from(ppm) / 1_000_000;
    i64::try_from(parts).unwrap_or(0)
}

fn below(random: &mut Random, count: usize) -> usize {
    usize::try_from(random.below(count as u64)).expect("it is below a usize")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn venue() -> Venue {
        Venue {
            symbol: "BTC-USD".into(),
            tick_size: Decimal::new(1, 2),
            lot_size: Decimal::new(1, 4),
            home: 5_000_000,
            fair: 5_000_000,
        }
    }

    #[test]
    fn prices_walk_and_stay_near_home() {
        let (mut venue, mut random) = (venue(), Random::seeded(3));
        let (mut lowest, mut highest) = (i64::MAX, 0);
        for _ in 0..1_000_000 {
            venue.step(&mut random);
            lowest = lowest.min(venue.fair);
            highest = highest.max(venue.fair);
        }
        let reach = parts(venue.home, WANDER_PPM + 2 * STEP_PPM);
        assert!(
            lowest >= venue.home - reach && highest <= venue.home + reach,
            "{lowest} {highest}"
        );
        assert!(
            highest - lowest > parts(venue.home, 10_000),
            "it walks: {lowest} {highest}"
        );
    }

    #[test]
    fn quotes_never_cross_the_fair_price_and_are_worth_what_they_should() {
        let (venue, mut random) = (venue(), Random::seeded(4));
        for _ in 0..1_000 {
            let bid = venue.quote(Side::Buy, &mut random);
            let ask = venue.quote(Side::Sell, &mut random);
            let ticks = |order: &NewOrder| order.price.as_ref().unwrap().in_steps(venue.tick_size).unwrap();
            assert!(ticks(&bid) < venue.fair && venue.fair < ticks(&ask));
            assert!(bid.post_only && ask.post_only);
        }
        // 50,000 dollars a coin, so a lot of 0.0001 is worth 5.
        assert_eq!(venue.lots_worth(200), 40);
        assert_eq!(venue.lots_worth(1), 1);
    }
}
