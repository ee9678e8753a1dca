//! The REST client: each call is tried until its outcome is known, always under the same id and with the same body, at
//! whichever node of the exchange answers.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};
use types::ClusterId;
use wire::errors::{ErrorCode, Refusal};
use wire::json::{self, Problem};

use crate::backoff::Backoff;
use crate::clock::ExchangeClock;
use crate::credentials::{Credentials, random_bytes};
use crate::endpoints::{Chosen, Endpoints};
use crate::error::ClientError;
use crate::random::Random;
use crate::retry::{Attempts, Next, RetryPolicy};
use crate::signing::{RequestParts, SignedAt};
use crate::tls::Trust;

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// By how much the node's time may differ from a request's stamp, in milliseconds.
const WINDOW_MS: u64 = wire::signing::WINDOW_MS_DEFAULT;

/// Where an exchange listens: `http://HOST:PORT` or `https://HOST:PORT`, without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    authority: String,
    /// Whom to trust; none for a plain connection.
    trust: Option<Trust>,
}

impl Endpoint {
    /// Takes the text of a URL.
    pub fn parse(url: &str) -> Result<Self, ClientError> {
        let usage = |why: &str| ClientError::Usage(format!("{url:?} is not the URL of an exchange: {why}"));
        let uri: Uri = url.parse().map_err(|_| usage("it is not a URL"))?;
        let trust = match uri.scheme_str() {
            Some("http" | "ws") => None,
            Some("https" | "wss") => Some(Trust::default()),
            _ => return Err(usage("it must start with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| usage("it names no host"))?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(usage("it must have no path"));
        }
        Ok(Self {
            authority: authority.to_string(),
            trust,
        })
    }

    /// The same, trusting the authorities of a PEM file alone instead of those that the operating system trusts.
    ///
    /// # Errors
    /// If there is no certificate in it, or the connection is a plain one, for which no trust would be asked.
    pub fn trusting(self, authorities: &[u8]) -> Result<Self, ClientError> {
        if self.trust.is_none() {
            let why = "a certificate authority was given, but the URL does not start with https://";
            return Err(ClientError::Usage(why.to_owned()));
        }
        let trust = Some(Trust::parse(authorities)?);
        Ok(Self { trust, ..self })
    }

    /// `HOST:PORT`, to connect to.
    pub fn address(&self) -> String {
        let has_port = self
            .authority
            .rsplit(':')
            .next()
            .is_some_and(|port| port.parse::<u16>().is_ok());
        if has_port {
            self.authority.clone()
        } else {
            let port = if self.trust.is_some() { 443 } else { 80 };
            format!("{}:{port}", self.authority)
        }
    }

    /// The host alone, as its certificate names it.
    pub(crate) fn host(&self) -> String {
        let uri: Option<Uri> = self.url("/").parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        host.trim_matches(['[', ']']).to_owned()
    }

    /// The settings of TLS; none for a plain connection.
    pub(crate) fn tls(&self) -> Result<Option<ClientConfig>, ClientError> {
        self.trust.as_ref().map(Trust::config).transpose()
    }

    fn scheme(&self, plain: &'static str, secure: &'static str) -> &'static str {
        if self.trust.is_some() { secure } else { plain }
    }

    /// The URL of a target for `http`.
    pub fn url(&self, target: &str) -> String {
        format!("{}://{}{target}", self.scheme("http", "https"), self.authority)
    }

    /// The URL of the WebSocket.
    pub fn websocket_url(&self) -> String {
        format!("{}://{}/v1/ws", self.scheme("ws", "wss"), self.authority)
    }
}

/// Which order is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The one of this id, `group.epoch.sequence`.
    OrderId(String),
    /// The one that the client called so.
    ClientOrderId(String),
}

impl Target {
    fn path(&self) -> String {
        match self {
            Self::OrderId(id) => format!("/v1/orders/{id}"),
            Self::ClientOrderId(id) => format!("/v1/orders/by-client-id/{id}"),
        }
    }
}

/// A request id that nobody has used before: 128 random bits in hex.
pub fn new_request_id() -> String {
    wire::signing::to_hex(&random_bytes::<16>())
}

/// A client of one exchange. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct RestClient {
    nodes: Chosen,
    cluster: ClusterId,
    credentials: Option<Credentials>,
    policy: RetryPolicy,
    clock: ExchangeClock,
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What came of one attempt.
enum Attempt {
    Answer(Bytes),
    Problem(Box<Problem>),
    NotSent(String),
    Lost(String),
}

impl RestClient {
    /// Asks the exchange for its time and its cluster id, which is part of every signature.
    pub async fn connect(
        endpoints: impl Into<Endpoints>,
        credentials: Option<Credentials>,
        policy: RetryPolicy,
    ) -> Result<Self, ClientError> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(policy.attempt_timeout));
        connector.enforce_http(false);
        let nodes = Chosen::first_of(endpoints.into());
        // Their trust is the same.
        let tls = match nodes.get().1.tls()? {
            Some(tls) => tls,
            // Not used: a plain endpoint has plain URLs alone.
            None => Trust::Authorities(Vec::new()).config()?,
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let mut client = Self {
            nodes,
            cluster: "unknown".parse().expect("it is a cluster id"),
            credentials: None,
            policy,
            clock: ExchangeClock::default(),
            http: Client::builder(TokioExecutor::new()).build(connector),
        };
        let time = client.time().await?;
        let not_understood = |what: &str| ClientError::NotUnderstood(format!("its {what} is malformed"));
        client.cluster = time.cluster_id.parse().map_err(|_| not_understood("cluster id"))?;
        client.clock.set(time.now.time().ok_or_else(|| not_understood("time"))?);
        client.credentials = credentials;
        Ok(client)
    }

    /// The cluster for which requests are signed.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The exchange's clock.
    pub fn clock(&self) -> &ExchangeClock {
        &self.clock
    }

    /// The same client with other credentials.
    #[must_use]
    pub fn with_credentials(&self, credentials: Credentials) -> Self {
        Self {
            credentials: Some(credentials),
            ..self.clone()
        }
    }

    fn valid_until(&self) -> json::TimeText {
        self.clock.valid_until(self.policy.valid_for)
    }

    /// Asks for something that changes nothing. `target` is the path and query.
    pub async fn read<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        self.call(Method::GET, target, None, Bytes::new()).await
    }

    /// Asks for a change, under an id, with a JSON body (or none).
    pub async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        request_id: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| ClientError::Usage(error.to_string()))?,
            None => Vec::new(),
        };
        self.call(method, target, Some(request_id), body.into()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        request_id: Option<&str>,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let others = self.nodes.endpoints().are_several();
        let mut attempts = Attempts::new(request_id.map(str::to_owned), others);
        let give_up_at = Instant::now() + self.policy.give_up_after;
        let mut clock_corrected = false;
        let random = Random::from_system();
        let mut backoff = Backoff::new(self.policy.wait_first, self.policy.wait_longest, random);
        loop {
            let (node, _) = self.nodes.get();
            let attempt = self.attempt(node, &method, target, request_id.unwrap_or_default(), body.clone());
            let next = match attempt.await? {
                Attempt::Answer(answer) => match serde_json::from_slice(&answer) {
                    Ok(answer) => return Ok(answer),
                    Err(error) => attempts.lost(format!("the answer is not understood: {error}")),
                },
                Attempt::Problem(problem) if !clock_corrected && is_about_the_clock(&problem) => {
                    clock_corrected = true;
                    self.correct_clock(node).await?;
                    continue;
                }
                Attempt::Problem(problem) => attempts.refused(*problem),
                Attempt::NotSent(why) => attempts.not_sent(why),
                Attempt::Lost(why) => attempts.lost(why),
            };
            let at_least = match next {
                Next::Stop(error) => return Err(error),
                Next::RetryElsewhere(_) if others => {
                    self.nodes.leave(node);
                    None
                }
                Next::Retry(at_least) | Next::RetryElsewhere(at_least) => at_least,
            };
            let wait = backoff.wait(at_least);
            if Instant::now() + wait >= give_up_at {
                return Err(attempts.give_up());
            }
            sleep(wait).await;
        }
    }

    /// This machine's clock was set since the exchange last said what its time is.
    async fn correct_clock(&self, node: usize) -> Result<(), ClientError> {
        if let Attempt::Answer(answer) = self.attempt(node, &Method::GET, "/v1/time", "", Bytes::new()).await?
            && let Ok(time) = serde_json::from_slice::<json::ServerTime>(&answer)
            && let Some(now) = time.now.time()
        {
            self.clock.set(now);
        }
        Ok(())
    }

    async fn attempt(
        &self,
        node: usize,
        method: &Method,
        target: &str,
        id: &str,
        body: Bytes,
    ) -> Result<Attempt, ClientError> {
        let request = self.request(node, method, target, id, body)?;
        let exchange = async {
            match self.http.request(request).await {
                Ok(response) => {
                    let status = response.status();
                    match Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await {
                        Ok(body) => understand(status, body.to_bytes()),
                        Err(error) => Attempt::Lost(format!("the answer was cut: {error}")),
                    }
                }
                Err(error) if error.is_connect() => Attempt::NotSent(with_sources(&error)),
                Err(error) => Attempt::Lost(with_sources(&error)),
            }
        };
        let attempt = timeout(self.policy.attempt_timeout, exchange).await;
        Ok(attempt.unwrap_or_else(|_| Attempt::Lost("there was no answer in time".into())))
    }

    fn request(
        &self,
        node: usize,
        method: &Method,
        target: &str,
        id: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let usage = |error: http::Error| ClientError::Usage(format!("{method} {target:?} is not a request: {error}"));
        let endpoint = self.nodes.endpoints().get(node);
        let uri: Uri = endpoint
            .url(target)
            .parse()
            .map_err(|error| usage(http::Error::from(error)))?;
        let mut request = Request::builder().method(method).uri(uri);
        if !body.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        if let Some(credentials) = &self.credentials {
            let parts = RequestParts {
                method: method.as_str(),
                target,
                request_id: id,
                body: &body,
            };
            let at = SignedAt {
                timestamp_ms: self.clock.now().0 / 1_000_000,
                window_ms: WINDOW_MS,
            };
            for (name, value) in credentials.headers(&self.cluster, &parts, at) {
                request = request.header(name, value);
            }
        }
        request.body(Full::new(body)).map_err(usage)
    }
}

/// Reads an answer: of the exchange if it is JSON with an outcome, of something in between otherwise.
fn understand(status: StatusCode, body: Bytes) -> Attempt {
    if status.is_success() {
        return Attempt::Answer(body);
    }
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => Attempt::Problem(Box::new(problem)),
        Err(_) => Attempt::Lost(format!("something answered {status} that is not the exchange")),
    }
}

fn is_about_the_clock(problem: &Problem) -> bool {
    problem.code == ErrorCode::from(Refusal::TimestampOutsideWindow).entry().code
}

/// An error and what caused it, in one line.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Market data.
impl RestClient {
    /// `GET /v1/time`.
    pub async fn time(&self) -> Result<json::ServerTime, ClientError> {
        self.read("/v1/time").await
    }

    /// Every instrument, page by page.
    pub async fn instruments(&self) -> Result<Vec<json::Instrument>, ClientError> {
        let mut all = Vec::new();
        let mut target = "/v1/instruments".to_owned();
        loop {
            let page: json::Instruments = self.read(&target).await?;
            all.extend(page.instruments);
            match page.next_cursor {
                Some(cursor) => target = format!("/v1/instruments?cursor={cursor}"),
                None => return Ok(all),
            }
        }
    }

    /// `GET /v1/instruments/{symbol}`.
    pub async fn instrument(&self, symbol: &str) -> Result<json::Instrument, ClientError> {
        self.read(&format!("/v1/instruments/{symbol}")).await
    }

    /// The best levels of a book.
    pub async fn book(&self, symbol: &str, depth: u32) -> Result<json::Book, ClientError> {
        self.read(&format!("/v1/instruments/{symbol}/book?depth={depth}")).await
    }

    /// The newest trades.
    pub async fn trades(&self, symbol: &str, limit: u32) -> Result<json::Trades, ClientError> {
        self.read(&format!("/v1/instruments/{symbol}/trades?limit={limit}"))
            .await
    }
}

/// The account.
impl RestClient {
    /// `GET /v1/balances`.
    pub async fn balances(&self) -> Result<json::Balances, ClientError> {
        self.read("/v1/balances").await
    }

    /// The newest fills.
    pub async fn fills(&self, limit: u32) -> Result<json::Fills, ClientError> {
        self.read(&format!("/v1/fills?limit={limit}")).await
    }

    /// `GET /v1/limits`.
    pub async fn limits(&self) -> Result<json::Limits, ClientError> {
        self.read("/v1/limits").await
    }

    /// The account's open orders, all pages, the oldest first.
    pub async fn open_orders(&self, symbol: Option<&str>) -> Result<Vec<json::Order>, ClientError> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let symbol = symbol.map(|symbol| format!("symbol={symbol}"));
            let cursor_part = cursor.map(|cursor| format!("cursor={cursor}"));
            let parts: Vec<String> = symbol.into_iter().chain(cursor_part).collect();
            let query = if parts.is_empty() {
                String::new()
            } else {
                format!("?{}", parts.join("&"))
            };
            let page: json::Orders = self.read(&format!("/v1/orders{query}")).await?;
            all.extend(page.orders);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// One order, open or closed.
    pub async fn order(&self, target: &Target) -> Result<json::Order, ClientError> {
        self.read(&target.path()).await
    }
}

/// Orders. Each call fills in `valid_until` where it is missing.
impl RestClient {
    /// Places an order.
    pub async fn place(&self, mut order: json::NewOrder) -> Result<json::OrderAnswer, ClientError> {
        order.valid_until.get_or_insert_with(|| self.valid_until());
        let id = order.client_order_id.clone();
        self.change(Method::POST, "/v1/orders", &id, Some(&order)).await
    }

    /// Asks whether an order would be taken as things are now.
    pub async fn validate(&self, mut order: json::NewOrder) -> Result<json::ValidationAnswer, ClientError> {
        order.validate_only = true;
        let id = order.client_order_id.clone();
        self.change(Method::POST, "/v1/orders", &id, Some(&order)).await
    }

    /// Changes an order.
    pub async fn replace(
        &self,
        target: &Target,
        request_id: &str,
        mut change: json::Replace,
    ) -> Result<json::OrderAnswer, ClientError> {
        change.valid_until.get_or_insert_with(|| self.valid_until());
        self.change(Method::PATCH, &target.path(), request_id, Some(&change))
            .await
    }

    /// Cancels an order.
    pub async fn cancel(&self, target: &Target, request_id: &str) -> Result<json::OrderAnswer, ClientError> {
        let path = format!("{}?valid_until={}", target.path(), self.valid_until().0);
        self.change(Method::DELETE, &path, request_id, None::<&()>).await
    }

    /// Cancels all of the account's orders, or those of one instrument.
    pub async fn cancel_all(
        &self,
        symbol: Option<&str>,
        request_id: &str,
    ) -> Result<json::CancelAllAnswer, ClientError> {
        let symbol = symbol.map(|symbol| format!("symbol={symbol}&")).unwrap_or_default();
        let path = format!("/v1/orders?{symbol}valid_until={}", self.valid_until().0);
        self.change(Method::DELETE, &path, request_id, None::<&()>).await
    }

    /// Sets, moves or (0) switches off the deadline at which all of the account's orders are cancelled.
    pub async fn cancel_after(
        &self,
        after: Duration,
        request_id: &str,
    ) -> Result<json::CancelAfterAnswer, ClientError> {
        let request = json::CancelAfterRequest {
            after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            valid_until: Some(self.valid_until()),
        };
        self.change(Method::POST, "/v1/cancel-after", request_id, Some(&request))
            .await
    }

    /// An operator's request: `POST` to `/v1/admin/…`, on the operators' listener.
    pub async fn admin(
        &self,
        path: &str,
        request_id: &str,
        body: &impl Serialize,
    ) -> Result<json::AdminAnswer, ClientError> {
        self.change(Method::POST, path, request_id, Some(body)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_hosts_without_paths() {
        let endpoint = Endpoint::parse("http://127.0.0.1:7411/").unwrap();
        assert_eq!(endpoint.address(), "127.0.0.1:7411");
        assert_eq!(endpoint.url("/v1/time?x"), "http://127.0.0.1:7411/v1/time?x");
        assert_eq!(endpoint.websocket_url(), "ws://127.0.0.1:7411/v1/ws");
        assert_eq!(
            Endpoint::parse("http://exchange.example").unwrap().address(),
            "exchange.example:80"
        );
        let secure = Endpoint::parse("https://exchange.example").unwrap();
        assert_eq!(secure.address(), "exchange.example:443");
        assert_eq!(secure.websocket_url(), "wss://exchange.example/v1/ws");
        assert_eq!(Endpoint::parse("https://[::1]:7411").unwrap().host(), "::1");
        let plain = Endpoint::parse("http://exchange.example").unwrap();
        assert!(matches!(plain.trusting(b""), Err(ClientError::Usage(_))));
        for wrong in ["", "127.0.0.1:7411", "ftp://h", "http://h/path", "http://h?x=1"] {
            assert!(matches!(Endpoint::parse(wrong), Err(ClientError::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn an_answer_without_an_outcome_is_no_answer() {
        let read = |status: u16, body: &'static str| {
            understand(
                StatusCode::from_u16(status).unwrap(),
                Bytes::from_static(body.as_bytes()),
            )
        };
        assert!(matches!(read(200, "x"), Attempt::Answer(_)));
        assert!(matches!(read(502, "<html>"), Attempt::Lost(_)));
        assert!(matches!(read(409, r#"{"error":"x"}"#), Attempt::Lost(_)));
        let problem = serde_json::to_string(&Problem::new(types::RejectReason::OrderUnknown.into())).unwrap();
        let attempt = understand(StatusCode::NOT_FOUND, problem.into());
        assert!(matches!(attempt, Attempt::Problem(problem) if problem.code == "order_unknown"));
    }
}
