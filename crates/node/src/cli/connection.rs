//! Which exchange a command talks to, and as whom.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use client::{ClientError, Credentials, Endpoints, RestClient, RetryPolicy};
use serde::Serialize;

use super::say::{say, say_line};
use crate::demo::DemoFile;

const PUBLIC_URL: &str = "http://127.0.0.1:7411";
const ADMIN_URL: &str = "http://127.0.0.1:7412";

/// Which exchange, and as whom.
///
/// Credentials are, in this order: `--key` and `--secret`; those of the demo that `--as` names; the variables
/// `MERIDIAN_KEY` and `MERIDIAN_SECRET` (for operators `MERIDIAN_ADMIN_KEY` and `MERIDIAN_ADMIN_SECRET`); those of the
/// demo in the folder that `--demo` names.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Which exchange, and as whom (commands of clients and operators)")]
pub struct ConnectionArguments {
    /// Where the exchange listens; else MERIDIAN_URL, or where the demo listens, or http://127.0.0.1:7411. The URLs of
    /// several nodes of a group, with commas between them, are tried in turn until one answers.
    #[arg(long, global = true)]
    url: Option<String>,
    /// Where the exchange listens for operators; else MERIDIAN_ADMIN_URL, or where the demo does, or
    /// http://127.0.0.1:7412. Several as for --url.
    #[arg(long, global = true)]
    admin_url: Option<String>,
    /// The certificates of the authorities to trust, a PEM file, for a URL with https; else MERIDIAN_CA, or those that the
    /// operating system trusts.
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The key's number; else MERIDIAN_KEY, for operators MERIDIAN_ADMIN_KEY.
    #[arg(long, global = true)]
    key: Option<String>,
    /// The key's secret, ed25519:HEX or hmac:HEX; else MERIDIAN_SECRET, for operators MERIDIAN_ADMIN_SECRET. Unlike an
    /// argument a variable is not seen by other users of this machine.
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
    pub fn endpoint(&self) -> Result<Endpoints> {
        self.endpoint_of(self.url.as_deref(), "MERIDIAN_URL", |file| file.public, PUBLIC_URL)
    }

    /// Where operators connect.
    pub fn admin_endpoint(&self) -> Result<Endpoints> {
        self.endpoint_of(
            self.admin_url.as_deref(),
            "MERIDIAN_ADMIN_URL",
            |file| file.admin,
            ADMIN_URL,
        )
    }

    /// As whom a client's command acts.
    pub fn credentials(&self) -> Result<Credentials> {
        self.credentials_of("MERIDIAN", "trader")
    }

    /// As whom an operator's command acts.
    pub fn admin_credentials(&self) -> Result<Credentials> {
        self.credentials_of("MERIDIAN_ADMIN", "admin")
    }

    fn credentials_of(&self, variables: &str, demo_name: &str) -> Result<Credentials> {
        match (&self.key, &self.secret, &self.demo_name) {
            (Some(key), Some(secret), _) => return Ok(Credentials::parse(key, secret)?),
            (None, None, Some(name)) => return of_demo(&self.demo, name),
            (None, None, None) => {}
            _ => bail!("--key and --secret belong together; only one of them is given"),
        }
        let named = |what: &str| format!("{variables}_{what}");
        match (variable(&named("KEY")), variable(&named("SECRET"))) {
            (Some(key), Some(secret)) => Ok(Credentials::parse(&key, &secret)?),
            (None, None) => of_demo(&self.demo, demo_name),
            _ => bail!("{variables}_KEY and {variables}_SECRET belong together; only one of them is set"),
        }
    }

    fn endpoint_of(
        &self,
        argument: Option<&str>,
        name: &str,
        of_demo: fn(DemoFile) -> Option<String>,
        default: &str,
    ) -> Result<Endpoints> {
        let given = argument.map(str::to_owned).or_else(|| variable(name));
        let from_demo = || DemoFile::peek(&self.demo).ok().flatten().and_then(of_demo);
        let url = given.or_else(from_demo).unwrap_or_else(|| default.to_owned());
        let endpoint = Endpoints::parse(&url)?;
        let Some(path) = self.ca.clone().or_else(|| variable("MERIDIAN_CA").map(PathBuf::from)) else {
            return Ok(endpoint);
        };
        let authorities = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(endpoint.trusting(&authorities)?)
    }

    /// The cluster of the demo whose folder is named, if there is one and nothing else says where to connect.
    pub fn demo_cluster(&self) -> Option<String> {
        let given = |argument: &Option<String>, name: &str| argument.is_some() || variable(name).is_some();
        let elsewhere = given(&self.url, "MERIDIAN_URL") || given(&self.key, "MERIDIAN_KEY");
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
            say_line(format_args!("{}", serde_json::to_string_pretty(answer)?))
        } else {
            say(format_args!("{}", show(answer)))
        }
    }
}

async fn connect(endpoint: Endpoints, credentials: Option<Credentials>) -> Result<RestClient> {
    let url = endpoint.to_string();
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

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
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
