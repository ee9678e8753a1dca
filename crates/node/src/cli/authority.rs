//! `meridian cluster init-ca` and `issue`: the authority of a cluster, and the certificates with which its nodes know each other.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use wire::journal::NodeId;
use wire::peer::Role;

use super::say::say;
use crate::peers::authority::{Authority, Pair, Validity};
use crate::peers::name::{PeerName, Region};

/// How long an authority holds: ten years.
const AUTHORITY_DAYS: u32 = 3_652;
/// The longest that a node's certificate may hold.
const CERTIFICATE_DAYS_MAX: i64 = 3_652;

/// What of `cluster` needs no node.
#[derive(Debug, Subcommand)]
pub enum AuthorityCommand {
    /// Make an authority that signs the certificates of a cluster's nodes. Nothing that runs needs its key: keep it offline.
    InitCa(InitCaArguments),
    /// Make the certificate with which a node shows the others who it is.
    Issue(IssueArguments),
}

/// Arguments of `cluster init-ca`.
#[derive(Debug, Args)]
pub struct InitCaArguments {
    /// The folder for ca.pem and ca.key; it is made if it isn't there.
    #[arg(long)]
    out: PathBuf,
    /// The cluster's name, as given to `init`.
    #[arg(long)]
    cluster: String,
}

/// Arguments of `cluster issue`.
#[derive(Debug, Args)]
pub struct IssueArguments {
    /// The folder with ca.pem and ca.key.
    #[arg(long)]
    ca: PathBuf,
    /// The node's number.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    /// Where the node is, 1 to 32 of [a-z0-9-].
    #[arg(long)]
    region: String,
    /// What it may be: `node` with a journal and a vote, `gateway`, or `witness` of a cluster of two regions.
    #[arg(long, default_value = "node", value_parser = role)]
    role: Role,
    /// The folder for node.pem, node.key and ca.pem; it is made if it isn't there.
    #[arg(long)]
    out: PathBuf,
    /// For how many days.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=CERTIFICATE_DAYS_MAX))]
    days: u32,
}

fn role(text: &str) -> Result<Role, String> {
    Role::from_name(text).ok_or_else(|| "it is neither `node` nor `gateway` nor `witness`".to_owned())
}

impl AuthorityCommand {
    /// Runs the command.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::InitCa(arguments) => init_ca(arguments),
            Self::Issue(arguments) => issue(arguments),
        }
    }
}

fn init_ca(arguments: &InitCaArguments) -> Result<()> {
    let id = &arguments.cluster;
    let cluster = id.parse().with_context(|| format!("take {id:?} as the cluster's id"))?;
    let (_, pair) = Authority::generate(cluster, Validity::days(AUTHORITY_DAYS))?;
    let (certificate, private_key) = (arguments.out.join("ca.pem"), arguments.out.join("ca.key"));
    write_pair(&pair, &certificate, &private_key)?;
    say(format_args!(
        "The authority of cluster {cluster} is in {out}, for ten years.\n\n\
         ca.key signs whatever claims to be a node of the cluster. No node needs it: keep the folder on a machine that is \
         not on the network, and a copy.\n\n\
         Next, for each node: meridian cluster issue --ca {out} --node NUMBER --region REGION --out FOLDER\n",
        out = arguments.out.display(),
    ))
}

fn issue(arguments: &IssueArguments) -> Result<()> {
    let region = &arguments.region;
    let region: Region = region.parse().with_context(|| format!("take {region:?} as a region"))?;
    let ca = Pair {
        certificate: read(&arguments.ca.join("ca.pem"))?,
        private_key: read(&arguments.ca.join("ca.key"))?,
    };
    let authority = Authority::load(&ca)?;
    let name = PeerName {
        cluster: authority.cluster(),
        region,
        node: NodeId(arguments.node),
        role: arguments.role,
    };
    let pair = authority.issue(&name, Validity::days(arguments.days))?;
    let file = |name: &str| arguments.out.join(name);
    let (certificate, private_key, bundle) = (file("node.pem"), file("node.key"), file("ca.pem"));
    write_pair(&pair, &certificate, &private_key)?;
    // A bundle that is there may hold another authority, too.
    if !bundle.exists() {
        write_new(&bundle, &ca.certificate, 0o644)?;
    }
    say(format_args!(
        "node.pem, node.key and ca.pem of {name} are in {out}, for {days} days.\n\n\
         Bring them to the node, node.key for its user alone, and name them in its configuration:\n\n\
         [peers]\ncertificate = {certificate:?}\nprivate_key = {private_key:?}\nca = {bundle:?}\n\n\
         To renew: issue into another folder, then put node.pem and node.key in place of the old ones. The node takes them \
         over by itself.\n",
        out = arguments.out.display(),
        days = arguments.days,
    ))
}

/// Writes both files, or refuses to if one of them is there.
fn write_pair(pair: &Pair, certificate: &Path, private_key: &Path) -> Result<()> {
    for path in [certificate, private_key] {
        ensure!(
            !path.exists(),
            "{} is there already; nothing was changed",
            path.display()
        );
    }
    if let Some(folder) = certificate.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    write_new(private_key, &pair.private_key, 0o600)?;
    write_new(certificate, &pair.certificate, 0o644)
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.with_context(|| format!("write {}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
