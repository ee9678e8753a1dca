//! Passes bytes on between a client and a node, in both directions, until both have said that they send no more, or nothing
//! moves for too long.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use metrics::Counter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::ConnectionsConfig;
use crate::figures::Ended;

/// What holds for a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PipeSettings {
    buffer_bytes: usize,
    idle_timeout: Duration,
    half_close_timeout: Duration,
}

impl From<&ConnectionsConfig> for PipeSettings {
    fn from(config: &ConnectionsConfig) -> Self {
        Self {
            buffer_bytes: config.buffer_bytes,
            idle_timeout: Duration::from_secs(config.idle_timeout_seconds),
            half_close_timeout: Duration::from_secs(config.half_close_timeout_seconds),
        }
    }
}

/// When something last moved, and whether one side has ended.
#[derive(Debug)]
struct Activity {
    started: Instant,
    last_ms: AtomicU64,
    half_closed: AtomicBool,
    changed: Notify,
}

impl Activity {
    fn moved(&self) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Ordering::Relaxed);
    }

    fn half_close(&self) {
        self.moved();
        self.half_closed.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Returns once nothing has moved for as long as is allowed.
    async fn idle(&self, settings: PipeSettings) {
        loop {
            let allowed = match self.half_closed.load(Ordering::Relaxed) {
                false => settings.idle_timeout,
                true => settings.half_close_timeout.min(settings.idle_timeout),
            };
            let until = self.started + Duration::from_millis(self.last_ms.load(Ordering::Relaxed)) + allowed;
            if until <= Instant::now() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

/// Passes bytes on. `from_client` and `from_node` count them.
pub(crate) async fn pipe(
    client: &mut TcpStream,
    node: &mut TcpStream,
    settings: PipeSettings,
    from_client: &Counter,
    from_node: &Counter,
) -> Ended {
    let activity = Activity {
        started: Instant::now(),
        last_ms: AtomicU64::new(0),
        half_closed: AtomicBool::new(false),
        changed: Notify::new(),
    };
    let (client_reads, client_writes) = client.split();
    let (node_reads, node_writes) = node.split();
    let bytes = settings.buffer_bytes;
    let both = async {
        tokio::try_join!(
            one_way(client_reads, node_writes, bytes, &activity, from_client),
            one_way(node_reads, client_writes, bytes, &activity, from_node),
        )
    };
    tokio::select! {
        result = both => match result {
            Ok(_) => Ended::Finished,
            Err(_) => Ended::Broken,
        },
        () = activity.idle(settings) => Ended::Idle,
    }
}

async fn one_way(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    buffer_bytes: usize,
    activity: &Activity,
    counted: &Counter,
) -> io::Result<()> {
    let mut buffer = vec![0; buffer_bytes];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            activity.half_close();
            return to.shutdown().await;
        }
        activity.moved();
        counted.increment(count as u64);
        let mut written = 0;
        while written < count {
            match to.write(&buffer[written..count]).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                more => written += more,
            }
            activity.moved();
        }
    }
}
