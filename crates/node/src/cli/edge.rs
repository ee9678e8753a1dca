//! `meridian edge`: sends clients to the active region.

use anyhow::{Context as _, Result};
use edge::{Config, Edge};

use super::{EdgeArguments, say, signals};
use crate::config::{LogFormat, LogsConfig};
use crate::{logging, open_files};

/// Runs the command.
pub fn run(arguments: &EdgeArguments) -> Result<()> {
    let Some(path) = arguments.config.as_ref().filter(|_| !arguments.print_config) else {
        return say::say(format_args!("{}", edge::config::EXAMPLE));
    };
    let mut config = Config::read(path)?;
    logging::start(&LogsConfig {
        format: match config.logs.format {
            edge::config::LogFormat::Text => LogFormat::Text,
            edge::config::LogFormat::Json => LogFormat::Json,
        },
        level: config.logs.level.clone(),
    });
    // There is room for three files a connection, of which it takes two.
    config.connections.connections_max = open_files::make_room(config.connections.connections_max);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.edge.worker_threads())
        .thread_name("edge")
        .enable_all()
        .build()
        .context("start the threads that serve connections")?;
    if arguments.until_input_ends {
        signals::stop_when_input_ends().context("watch standard input")?;
    }
    runtime.block_on(async {
        let stop = signals::stop_on_signals()?;
        let edge = Edge::bind(config).await?;
        tracing::info!(
            fronts = ?edge.front_addresses(),
            dns = ?edge.dns_addresses(),
            operations = %edge.operations_address()?,
            "serving"
        );
        edge.serve(stop).await;
        Ok(())
    })
}
