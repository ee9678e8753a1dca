//! SIGTERM and SIGINT: the first one stops the node in order, a second one ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The exit code of a process that was told twice to stop.
const EXIT_AT_ONCE: i32 = 130;

/// Turns true at the first signal. Call it within a runtime.
pub fn stop_on_signals() -> std::io::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.send_replace(true) {
                eprintln!("meridian: told again to stop; ending at once");
                std::process::exit(EXIT_AT_ONCE);
            }
            tracing::info!("stopping; a second signal ends the process at once");
        }
    });
    Ok(stopped)
}
