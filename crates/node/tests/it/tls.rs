//! Clients over TLS, with certificates of the program's own making.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use client::{ClientError, Credentials, Endpoint, RestClient, RetryPolicy, WsClient};
use harness::Installation;
use http::Method;
use wire::json;

/// Longer than the node takes to notice that its certificate was replaced.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

fn impatient() -> RetryPolicy {
    RetryPolicy {
        attempt_timeout: Duration::from_secs(5),
        give_up_after: Duration::ZERO,
        ..RetryPolicy::default()
    }
}

async fn connect(url: &str, authority: &Path, credentials: Option<Credentials>) -> Result<RestClient, ClientError> {
    let authority = std::fs::read(authority).unwrap();
    let endpoint = Endpoint::parse(url)?.trusting(&authority)?;
    RestClient::connect(endpoint, credentials, impatient()).await
}

#[tokio::test]
async fn clients_and_operators_are_served_over_tls() {
    let work = tempfile::tempdir().unwrap();
    let folder = |name: &str| work.path().join(name);
    let settings = format!(
        "[tls]\ncertificate = {:?}\nprivate_key = {:?}\n",
        folder("tls/chain.pem"),
        folder("tls/key.pem")
    );
    let meridian = Path::new(env!("CARGO_BIN_EXE_meridian"));
    let installation = Installation::new(meridian, &folder("data"), work.path(), &settings).unwrap();
    let certify = |out: &str| {
        let out = folder(out).to_string_lossy().into_owned();
        installation.command(&["tls", "development", "--out", &out]).unwrap();
    };
    certify("tls");
    std::fs::copy(folder("tls/ca.pem"), folder("first-ca.pem")).unwrap();
    let admin = installation.init().unwrap();
    let mut node = installation.start().unwrap();
    node.wait_until_ready().unwrap();
    let public = format!("https://localhost:{}", installation.public.port());
    let operators = format!("https://127.0.0.1:{}", installation.admin.port());

    let operator = connect(&operators, &folder("first-ca.pem"), Some(admin)).await.unwrap();
    let made: json::AdminAnswer = operator
        .change(Method::POST, "/v1/admin/accounts", "account-1", None::<&()>)
        .await
        .unwrap();
    assert!(made.account.is_some());
    connect(&public, &folder("first-ca.pem"), None).await.unwrap();
    let authority = std::fs::read(folder("first-ca.pem")).unwrap();
    let endpoint = Endpoint::parse(&public).unwrap().trusting(&authority).unwrap();
    WsClient::connect(endpoint, None, impatient()).await.unwrap();

    // Neither a stranger's authority nor a plain request gets anywhere, and the node goes on.
    certify("strange");
    let refused = connect(&public, &folder("strange/ca.pem"), None).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    let mut plain = TcpStream::connect(installation.public).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    plain
        .write_all(b"GET /v1/time HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    // The line may also be cut before all was read.
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));

    // A certificate that is replaced by another is in force soon after, without a restart; one that is damaged is not.
    std::fs::write(folder("tls/chain.pem"), "no certificate").unwrap();
    let until = Instant::now() + NOTICED_WITHIN;
    while installation.last_log_line("the old one stays in force").is_err() {
        assert!(Instant::now() < until, "the damaged certificate was not noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    connect(&public, &folder("first-ca.pem"), None).await.unwrap();
    certify("tls");
    while connect(&public, &folder("tls/ca.pem"), None).await.is_err() {
        assert!(Instant::now() < until, "the new certificate was not taken over");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(connect(&public, &folder("first-ca.pem"), None).await.is_err());
    assert!(node.stop().unwrap());
}
