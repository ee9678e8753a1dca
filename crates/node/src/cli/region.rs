//! `meridian region …`: which region is active, and what is to change, asked on the operators' listener of a region's node.

use anyhow::Result;
use clap::Subcommand;
use client::new_request_id;
use http::Method;
use wire::json::{RegionLag, RegionOperated, RegionStatus};

use super::connection::ConnectionArguments;
use super::table::Table;

const REGION: &str = "/v1/admin/region";

/// What `region` can be asked.
#[derive(Debug, Subcommand)]
pub enum RegionCommand {
    /// Show which region is active, how far the other is behind, and why.
    Status,
    /// Make the other region active, without a loss. Ask the active region's leader.
    SwitchOver,
    /// Make this region active once the other one's lease has lapsed, whatever this one lacks. Ask its leader.
    Promote {
        /// Yes, also if that loses what the other region had acknowledged and this one was not sent.
        #[arg(long)]
        yes: bool,
    },
    /// Let the region's lease lapse, so that the other one takes over; or keep a standby from taking over by itself. Ask its
    /// leader.
    Demote {
        /// Yes: until another region is active, nothing is taken.
        #[arg(long)]
        yes: bool,
    },
}

/// Runs the command.
pub async fn run(connection: &ConnectionArguments, command: &RegionCommand) -> Result<()> {
    let client = connection.admin_client().await?;
    let path = match command {
        RegionCommand::Status => {
            let status: RegionStatus = client.read(REGION).await?;
            return connection.print(&status, text);
        }
        RegionCommand::SwitchOver => "switch-over",
        RegionCommand::Promote { yes: true } => "promote",
        RegionCommand::Demote { yes: true } => "demote",
        RegionCommand::Promote { yes: false } => {
            anyhow::bail!(
                "promote the region: look at `meridian region status` first; what `behind` counts is lost if the other \
                 region does not come back. Then say it again with --yes"
            )
        }
        RegionCommand::Demote { yes: false } => {
            anyhow::bail!("demote the region: nothing is taken here from then on. Say it again with --yes")
        }
    };
    // It is idempotent by its content; the id only names the request if its outcome stays unknown.
    let id = new_request_id();
    let operated: RegionOperated = client
        .change(Method::POST, &format!("{REGION}/{path}"), &id, None::<&()>)
        .await?;
    connection.print(&operated, |operated| text(&operated.status))
}

fn text(status: &RegionStatus) -> String {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let mut lines = vec![
        format!(
            "region      {} (incarnation {}): {}",
            status.region, status.incarnation, status.mode
        ),
        format!(
            "active      {} {}",
            or_dash(&status.active),
            status.active_url.clone().unwrap_or_default()
        ),
        format!("epoch       {}", status.epoch),
        format!(
            "lease       {} ms, holds for another {} ms",
            status.lease_ms, status.lease_remaining_ms
        ),
        format!(
            "durability  {}{}",
            status.durability,
            if status.answers_wait {
                ", answers wait for the standby"
            } else {
                ""
            }
        ),
    ];
    for (name, lag) in [("standby", &status.standby), ("behind", &status.behind)] {
        if let Some(lag) = lag {
            lines.push(format!("{name:<11} {}", lag_text(lag)));
        }
    }
    if let Some(why) = &status.why_not {
        lines.push(format!("not active  {why}"));
    }
    if status.void {
        lines
            .push("void        its log has what the present epoch has not: it is about to begin a new life".to_owned());
    }
    let mut table = Table::new(&["#epoch", "region", "#behind sequence", "by"]);
    for epoch in &status.epochs {
        let after = epoch
            .after
            .as_ref()
            .map_or_else(|| "-".to_owned(), |after| after.0.clone());
        table.row([epoch.epoch.to_string(), epoch.region.clone(), after, epoch.by.clone()]);
    }
    format!("{}\n\n{table}", lines.join("\n"))
}

fn lag_text(lag: &RegionLag) -> String {
    let heard = lag
        .heard_ms_ago
        .map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms ago"));
    format!(
        "has {}; lacks {} commands, {} bytes, for {} ms; heard of {heard}",
        lag.through.0, lag.sequences.0, lag.bytes.0, lag.ms
    )
}
