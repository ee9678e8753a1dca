//! The command line. Each command is a struct of arguments with a `run`; this file only lists them.

mod commands;

mod account;
mod admin;
mod authority;
mod cluster;
mod connection;
mod exit;
mod lobster;
mod market;
mod names;
mod order;
mod reconcile;
mod region;
mod say;
mod sign;
mod table;
mod watch;
mod when;

mod demo;
mod demo_nodes;
mod edge;
mod init;
mod run;
mod signals;
mod tls;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use commands::ClientCommand;
use connection::ConnectionArguments;

use crate::journal::tools::JournalCommand;

/// A trading platform that a team can run itself. Without a command it runs the demo.
#[derive(Debug, Parser)]
#[command(name = "meridian", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    demo: DemoArguments,
    #[command(flatten)]
    connection: ConnectionArguments,
}

/// What the program can be asked.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run a simulated market on this machine's loopback address.
    Demo(DemoArguments),
    /// Make the data folder of a new cluster and its first admin key.
    Init(InitArguments),
    /// Run a node.
    Run(RunArguments),
    /// Run the witness of a cluster of two regions: it votes on which of them is active, and needs next to nothing.
    Witness(witness::WitnessArguments),
    /// List what a lost region had executed and the one that took over had not been sent.
    Reconcile(reconcile::ReconcileArguments),
    /// Run an edge: send clients to the active region, over TCP and by DNS.
    Edge(EdgeArguments),
    /// Show the configuration that a node runs with.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Make certificates for trying out TLS.
    Tls {
        #[command(subcommand)]
        command: TlsCommand,
    },
    /// Look at a stopped node's journal, and the repairs that an operator may make.
    Journal {
        #[command(subcommand)]
        command: JournalCommand,
    },
    /// Measure this program on this machine, each figure beside its floor.
    Bench {
        #[command(subcommand)]
        command: bench::BenchCommand,
    },
    #[command(flatten)]
    Client(ClientCommand),
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// The demo's data folder.
    #[arg(long, default_value = "meridian-data")]
    pub data: PathBuf,
    /// How many nodes: 1, or 3 or 5 that form a group, each a process of its own.
    #[arg(long, default_value = "1", value_parser = ["1", "3", "5"])]
    pub nodes: String,
    /// The first of the ports that are tried for several nodes.
    #[arg(long, hide = true, default_value_t = 7411)]
    pub first_port: u16,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// The data folder to make.
    #[arg(long)]
    pub data: PathBuf,
    /// The cluster's name, 1 to 32 of [a-z0-9-]; a random one if not given.
    #[arg(long)]
    pub cluster_id: Option<String>,
    /// Make the folder of a further node of a cluster that is there, under this number, never used before in it.
    #[arg(long, requires_all = ["cluster_id", "sealing_key"], value_parser = clap::value_parser!(u64).range(2..))]
    pub node: Option<u64>,
    /// A copy of the file sealing.key of the cluster's other nodes, for a further node.
    #[arg(long, requires = "node")]
    pub sealing_key: Option<PathBuf>,
    /// The node is the first one of a further region: its region's group begins with it.
    #[arg(long, requires = "node")]
    pub first_of_region: bool,
    /// A snapshot of a node of the active region, for when that one no longer has its journal from the start.
    #[arg(long, requires = "first_of_region")]
    pub snapshot: Option<PathBuf>,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The configuration file; `meridian config print-default` prints one to start from.
    #[arg(long)]
    pub config: PathBuf,
    /// Stop, too, when standard input ends.
    #[arg(long, hide = true)]
    pub until_input_ends: bool,
}

/// Arguments of `edge`.
#[derive(Debug, Args)]
pub struct EdgeArguments {
    /// The configuration file; `--print-config` prints one to start from.
    #[arg(long, required_unless_present = "print_config")]
    pub config: Option<PathBuf>,
    /// Print an example configuration with comments, and do nothing else.
    #[arg(long, conflicts_with = "config")]
    pub print_config: bool,
    /// Stop, too, when standard input ends.
    #[arg(long, hide = true)]
    pub until_input_ends: bool,
}

/// What `config` can be asked.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the default configuration with comments.
    PrintDefault,
}

/// What `tls` can be asked.
#[derive(Debug, Subcommand)]
pub enum TlsCommand {
    /// Make an authority that nobody else trusts, and a certificate of it, for a node on this machine.
    Development(TlsDevelopmentArguments),
}

/// Arguments of `tls development`.
#[derive(Debug, Args)]
pub struct TlsDevelopmentArguments {
    /// The folder for ca.pem, chain.pem and key.pem; it is made if it isn't there.
    #[arg(long)]
    pub out: PathBuf,
    /// The names and addresses by which clients will reach the node.
    #[arg(long = "name", default_values = ["localhost", "127.0.0.1", "::1"])]
    pub names: Vec<String>,
}

/// Parses the command line, runs the command, and says what went wrong.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // The default exit code of a wrong command line would read as a refusal by the exchange.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let result: anyhow::Result<()> = match arguments.command.unwrap_or(Command::Demo(arguments.demo)) {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Witness(arguments) => witness::run(&arguments),
        Command::Reconcile(arguments) => reconcile::run(&arguments),
        Command::Edge(arguments) => edge::run(&arguments),
        Command::Client(command) => commands::run(&arguments.connection, &command),
        Command::Tls {
            command: TlsCommand::Development(arguments),
        } => tls::development(&arguments),
        Command::Bench { command } => command.run(),
        Command::Journal { command } => command.run(&mut std::io::stdout().lock()),
        Command::Config {
            command: ConfigCommand::PrintDefault,
        } => say::say(format_args!("{}", crate::config::DEFAULT)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if say::reader_left(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meridian: {}", sentence(&error));
            ExitCode::from(exit::code_of(&error))
        }
    }
}

/// The error and its causes, each once: some messages hold that of their cause already.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
