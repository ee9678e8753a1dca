//! SIGTERM and SIGINT: the first one stops the node in order, a second one ends the process at once.

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Signals that come within this time of the first one are the same wish to stop: a terminal, a shell and a supervisor may
/// each send one.
const SAME_WISH: Duration = Duration::from_millis(250);
/// The exit code of a process that was told twice to stop.
const EXIT_AT_ONCE: i32 = 130;

/// Turns true at the first signal. Call it within a runtime.
pub fn stop_on_signals() -> std::io::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        let mut first: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            match first {
                None => {
                    first = Some(Instant::now());
                    stop.send_replace(true);
                    tracing::info!("stopping; a second signal ends the process at once");
                }
                Some(first) if first.elapsed() < SAME_WISH => {}
                Some(_) => {
                    eprintln!("meridian: told again to stop; ending at once");
                    std::process::exit(EXIT_AT_ONCE);
                }
            }
        }
    });
    Ok(stopped)
}
