//! SIGTERM and SIGINT: the first one stops the node in order, a second one ends the process at once.

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Signals that come within this time of the first one are the same wish to stop: a terminal, a shell and a supervisor may
/// each send one.
const SAME_WISH: Duration = Duration::from_millis(250);
/// The exit code of a process that was told twice to stop.
const EXIT_AT_ONCE: i32 = 130;

/// Stops this process as SIGTERM does, once nothing more comes on standard input: whoever holds its other end is gone.
pub fn stop_when_input_ends() -> std::io::Result<()> {
    let read = || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        // It can't fail: the process is this one.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
    };
    std::thread::Builder::new().name("input".into()).spawn(read)?;
    Ok(())
}

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
