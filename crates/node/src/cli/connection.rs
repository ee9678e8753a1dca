//! Which exchange a command talks to, and as whom.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use client::{ClientError, Credentials, Endpoint, RestClient, RetryPolicy};
use serde::Serialize;

use crate::demo::DemoFile;

const PUBLIC_URL: &str = "http://127.0.0.1:7411";
const ADMIN_URL: &str = "http://127.0.0.1:7412";
/// The name of an operator's key in a demo's folder.
const ADMIN: &str = "admin";

/// Which exchange, and as whom.
///
/// Credentials are, in this order: `--key` and `--secret`; the variables `MERIDIAN_KEY` and `MERIDIAN_SECRET`; those of
/// the demo whose folder `--demo` names.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Which exchange, and as whom (commands of clients and operators)")]
pub struct ConnectionArguments {
    /// Where the exchange listens; else MERIDIAN_URL, or http://127.0.0.1:7411.
    #[arg(long, global = true)]
    url: Option<String>,
    /// Where the exchange listens for operators; else MERIDIAN_ADMIN_URL, or http://127.0.0.1:7412.
    #[arg(long, global = true)]
    admin_url: Option<String>,
    /// The key's number; else MERIDIAN_KEY.
    #[arg(long, global = true)]
    key: Option<String>,
    /// The key's secret, ed25519:HEX or hmac:HEX; else MERIDIAN_SECRET, which other users of this machine don't see.
    #[arg(long, global = true)]
    secret: Option<String>,
    /// The folder of a demo, whose keys are used if none is given.
    #[arg(long, global = true, default_value = "meridian-data", value_name = "FOLDER")]
    demo: PathBuf,
    /// Which of the demo's keys: trader, maker-1, ... or admin.
    #[arg(long = "as", global = true, value_name = "NAME")]
    demo_name: Option<String>,
    /// Print JSON as the exchange answered it.
    #[arg(long, global = true)]
    pub json: bool,
}

impl ConnectionArguments {
    /// Where clients connect.
    pub fn endpoint(&self) -> Result<Endpoint> {
        endpoint(self.url.as_deref(), "MERIDIAN_URL", PUBLIC_URL)
    }

    /// Where operators connect.
    pub fn admin_endpoint(&self) -> Result<Endpoint> {
        endpoint(self.admin_url.as_deref(), "MERIDIAN_ADMIN_URL", ADMIN_URL)
    }

    /// As whom a client's command acts.
    pub fn credentials(&self) -> Result<Credentials> {
        self.credentials_of(self.demo_name.as_deref().unwrap_or("trader"))
    }

    /// As whom an operator's command acts.
    pub fn admin_credentials(&self) -> Result<Credentials> {
        self.credentials_of(self.demo_name.as_deref().unwrap_or(ADMIN))
    }

    fn credentials_of(&self, demo_name: &str) -> Result<Credentials> {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let key = self.key.clone().or_else(|| variable("MERIDIAN_KEY"));
        let secret = self.secret.clone().or_else(|| variable("MERIDIAN_SECRET"));
        match (key, secret) {
            (Some(key), Some(secret)) => Ok(Credentials::parse(&key, &secret)?),
            (None, None) => of_demo(&self.demo, demo_name),
            _ => bail!("a key and its secret belong together; only one of them is given"),
        }
    }

    /// The cluster of the demo whose folder is named, if there is one and nothing else says where to connect.
    pub fn demo_cluster(&self) -> Option<String> {
        let elsewhere = self.url.is_some() || self.key.is_some();
        let file = DemoFile::peek(&self.demo).ok().flatten();
        file.filter(|_| !elsewhere).map(|file| file.cluster_id)
    }

    /// A client without credentials, for what everybody may see.
    pub async fn public_client(&self) -> Result<RestClient> {
        connect(self.endpoint()?, None).await
    }

    /// A client that signs.
    pub async fn client(&self) -> Result<RestClient> {
        connect(self.endpoint()?, Some(self.credentials()?)).await
    }

    /// An operator's client.
    pub async fn admin_client(&self) -> Result<RestClient> {
        connect(self.admin_endpoint()?, Some(self.admin_credentials()?)).await
    }

    /// Prints an answer: as JSON, or as the text that `show` makes of it.
    pub fn print<T: Serialize>(&self, answer: &T, show: impl FnOnce(&T) -> String) -> Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(answer)?);
        } else {
            print!("{}", show(answer));
        }
        Ok(())
    }
}

async fn connect(endpoint: Endpoint, credentials: Option<Credentials>) -> Result<RestClient> {
    let url = endpoint.url("");
    let connecting = RestClient::connect(endpoint, credentials, policy()).await;
    connecting.with_context(|| format!("connect to {url} (is a node running there? `meridian demo` starts one)"))
}

/// People wait less long than programs.
pub fn policy() -> RetryPolicy {
    RetryPolicy {
        give_up_after: std::time::Duration::from_secs(10),
        ..RetryPolicy::default()
    }
}

fn endpoint(argument: Option<&str>, variable: &str, default: &str) -> Result<Endpoint> {
    let variable = env::var(variable).ok();
    let url = argument.or(variable.as_deref()).unwrap_or(default);
    Ok(Endpoint::parse(url)?)
}

fn of_demo(folder: &Path, name: &str) -> Result<Credentials> {
    let file = DemoFile::peek(folder)?.ok_or_else(|| {
        let what = "give --key and --secret, set MERIDIAN_KEY and MERIDIAN_SECRET, or name a demo's folder with --demo";
        anyhow!("there are no credentials: {what} ({} is none)", folder.display())
    })?;
    let found = file.keys.iter().find(|key| key.name == name);
    let key = found.ok_or_else(|| {
        let names: Vec<&str> = file.keys.iter().map(|key| key.name.as_str()).collect();
        anyhow!(
            "the demo in {} has no {name:?}; it has {}",
            folder.display(),
            names.join(", ")
        )
    })?;
    let malformed = || ClientError::Usage(format!("the key of {name} in {} is malformed", folder.display()));
    Ok(key.credentials().ok_or_else(malformed)?)
}
