//! The limits of the links, and how they hang together.

use std::time::Duration;

use wire::peer::FRAME_BYTES_MAX;

/// How long a connection may take to come about, for each address of the peer.
pub const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long the system may take to find the addresses of a peer's name.
pub const RESOLVE_MAX: Duration = Duration::from_secs(2);
/// How many addresses of a peer are tried, one after the other.
pub const ADDRESSES_TRIED_MAX: usize = 4;
/// How long handshake and greeting may take.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(2);
/// How long a write may get nowhere.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(2);
/// How long what was sent may stay unacknowledged by the other system (`TCP_USER_TIMEOUT`), in milliseconds.
pub const UNACKNOWLEDGED_MS_MAX: u32 = 2_000;
/// How often each side that dialed asks the other one for its time.
pub const PING_EVERY: Duration = Duration::from_secs(1);
/// How long nothing may come from the other side.
pub const SILENCE_MAX: Duration = Duration::from_secs(3);
/// The pause before the first attempt to connect again.
pub const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// The longest pause.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A connection that lived this long was a good one: the next pause is short again.
pub const CONNECTION_GOOD_AFTER: Duration = Duration::from_secs(5);

/// Frames that may wait for one peer.
pub const QUEUE_FRAMES_MAX: usize = 4_096;
/// Bytes that may wait for one peer.
pub const QUEUE_BYTES_MAX: usize = 32 << 20;
/// Bytes after which no further frame is taken into the same write.
pub const WRITE_BYTES_MAX: usize = 1 << 20;
/// Bytes that are encrypted before they are written.
pub const ENCRYPT_BYTES_MAX: usize = 256 << 10;
/// Bytes that are read at once.
pub const READ_BYTES_MAX: usize = 64 << 10;

/// Other nodes that a node may have.
pub const PEERS_MAX: usize = 64;
/// Connections that were accepted and have not yet said who they are. One more ends the oldest of them.
pub const GREETINGS_MAX: usize = 16;
/// Refused connections that are remembered, for whoever asks why.
pub const REFUSALS_KEPT_MAX: usize = 2 * GREETINGS_MAX;
/// How long a new connection of a peer waits until all is taken that came over the one before.
pub const TAKING_OVER_MAX: Duration = Duration::from_millis(1_500);
/// The pause after a connection could not be accepted.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long [`super::PeerLinks::stop`] waits for its threads.
pub const STOP_MAX: Duration = Duration::from_secs(5);
/// How often a fault that lasts is logged.
pub const LOG_EVERY: Duration = Duration::from_secs(10);
/// A certificate that expires sooner than this is complained of.
pub const EXPIRES_SOON: Duration = Duration::from_secs(30 * 86_400);
/// How often it is.
pub const COMPLAIN_EVERY: Duration = Duration::from_secs(86_400);

const _: () = assert!(QUEUE_BYTES_MAX >= 4 * FRAME_BYTES_MAX);
const _: () = assert!(PING_EVERY.as_millis() * 2 < SILENCE_MAX.as_millis());
const _: () = assert!(TAKING_OVER_MAX.as_millis() < HANDSHAKE_MAX.as_millis());
const _: () = assert!(BACKOFF_MIN.as_millis() < BACKOFF_MAX.as_millis());
