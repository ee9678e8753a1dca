//! The thread that sends to one peer: it dials, greets, and writes what waits, as much of it at once as there is.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use types::Timestamp;
use wire::peer::Frame;

use super::clock::ClockEstimator;
use super::connection::{Connection, LinkError};
use super::greeting::judge;
use super::limits::{
    ADDRESSES_TRIED_MAX, BACKOFF_MAX, BACKOFF_MIN, CONNECT_MAX, CONNECTION_GOOD_AFTER, HANDSHAKE_MAX, PING_EVERY,
    RESOLVE_MAX, SILENCE_MAX, WRITE_BYTES_MAX,
};
use super::tls::peer_named;
use super::{Direction, Peer, Shared, lock, wait};

/// The pauses between attempts.
struct Backoff {
    next: Duration,
}

/// A connection that was greeted.
struct Dialed {
    connection: Connection,
    /// Of the certificates that it was made with.
    generation: u64,
    made_again: u64,
    /// When the first of the two certificates expires.
    valid_until: Timestamp,
}

/// Why a connection ended without a fault.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Another one is to take its place, and what waits is to go over that.
    Again,
    /// There is nothing more to say.
    Over,
}

pub(super) fn run(shared: &Shared, peer: &Peer) {
    let mut backoff = Backoff::new();
    let mut is_up = false;
    while !peer.is_over(shared) {
        let ended = dial(shared, peer).and_then(|mut dialed| {
            shared.came_up(peer, Direction::Out);
            if !is_up {
                is_up = true;
                peer.queue.open();
                shared.say_changed(peer, Direction::Out, true);
            }
            let since = Instant::now();
            let ended = pump(shared, peer, &mut dialed);
            if since.elapsed() >= CONNECTION_GOOD_AFTER {
                backoff = Backoff::new();
            }
            ended
        });
        shared.went_down(peer, Direction::Out, ended.as_ref().err());
        if is_up && !matches!(ended, Ok(End::Again)) {
            is_up = false;
            peer.queue.close();
            shared.say_changed(peer, Direction::Out, false);
        }
        pause(shared, peer, backoff.next());
    }
    if is_up {
        peer.queue.close();
        shared.say_changed(peer, Direction::Out, false);
    }
}

impl Backoff {
    fn new() -> Self {
        Self { next: BACKOFF_MIN }
    }

    /// The next pause: between half of it and all of it, so that nodes that lost each other don't dial in step.
    fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(BACKOFF_MAX);
        let mut random = [0; 4];
        // Without randomness the pause is the whole one.
        let _ = aws_lc_rs::rand::fill(&mut random);
        pause - pause.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX) / 2.0)
    }
}

fn pause(shared: &Shared, peer: &Peer, pause: Duration) {
    let until = Instant::now() + pause;
    while !peer.is_over(shared) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        wait(&[(peer.queue.bell().fd(), PollFlags::IN)], Some(left));
        peer.queue.bell().silence();
    }
}

fn dial(shared: &Shared, peer: &Peer) -> Result<Dialed, LinkError> {
    let made_again = peer.made_again.load(Ordering::SeqCst);
    let address = lock(&peer.address).clone();
    let socket = reach(&address, &peer.resolving)?;
    let mut dialing = lock(&peer.dialing);
    // Whoever stops this says so first and then looks for the socket.
    if peer.is_over(shared) {
        return Err(LinkError::Closed);
    }
    *dialing = Some(socket.try_clone()?);
    drop(dialing);
    let greeted = greet(shared, peer, socket, made_again);
    *lock(&peer.dialing) = None;
    greeted
}

fn reach(address: &str, resolving: &Arc<AtomicBool>) -> Result<TcpStream, LinkError> {
    let unreachable = |error: io::Error| LinkError::Broken(format!("reach {address}: {error}"));
    let addresses = resolve(address, resolving).map_err(unreachable)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses.iter().take(ADDRESSES_TRIED_MAX) {
        match TcpStream::connect_timeout(address, CONNECT_MAX) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(unreachable(last))
}

/// Finds the addresses of a name. The system may take as long as it likes for that, so a thread of its own asks, of which there
/// is one at a time.
fn resolve(address: &str, resolving: &Arc<AtomicBool>) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let too_slow = || io::Error::new(io::ErrorKind::TimedOut, "its name is not found in time");
    if resolving.swap(true, Ordering::SeqCst) {
        return Err(too_slow());
    }
    let (tell, told) = crossbeam_channel::bounded(1);
    let (name, done) = (address.to_owned(), Arc::clone(resolving));
    let asker = std::thread::Builder::new()
        .name("peer-resolve".to_owned())
        .spawn(move || {
            let found = name.to_socket_addrs().map(Iterator::collect);
            done.store(false, Ordering::SeqCst);
            let _ = tell.send(found);
        });
    if let Err(error) = asker {
        resolving.store(false, Ordering::SeqCst);
        return Err(error);
    }
    told.recv_timeout(RESOLVE_MAX).unwrap_or_else(|_| Err(too_slow()))
}

fn greet(shared: &Shared, peer: &Peer, socket: TcpStream, made_again: u64) -> Result<Dialed, LinkError> {
    let until = Instant::now() + HANDSHAKE_MAX;
    let material = shared.tls.material();
    let mut connection = Connection::new(material.dial(peer.node)?, socket)?;
    connection.handshake(until, HANDSHAKE_MAX)?;
    let own = shared.hello();
    let written = connection.write_frame(&Frame::Hello(own));
    let answer = match (connection.expect_frame(until, HANDSHAKE_MAX), written) {
        // Who does not let us in may have hung up before we spoke, and what it said before tells why.
        (Err(LinkError::Tls(error)), _) | (_, Err(LinkError::Tls(error))) => return Err(error.into()),
        (_, Err(error)) | (Err(error), _) => return Err(error),
        (Ok(answer), Ok(_)) => answer,
    };
    let other = match answer {
        Frame::Hello(other) => other,
        Frame::Refused(refusal) => return Err(LinkError::RefusedByPeer(refusal)),
        _ => return Err(LinkError::Broken("it did not greet".to_owned())),
    };
    let named = peer_named(connection.tls()).map_err(|error| LinkError::Broken(error.to_string()))?;
    let expected = shared.expected.get(&peer.node);
    if let Err(refusal) = judge(&own, &other, &named.name, expected, true, shared.engine_version()) {
        let _ = connection.write_frame(&Frame::Refused(refusal.clone()));
        connection.close_sending();
        return Err(LinkError::Refused(refusal));
    }
    connection.set_known();
    connection.set_silence_max(SILENCE_MAX)?;
    let mut counts = peer.counts.lock();
    counts.hello = Some(other);
    counts.region = Some(named.name.region);
    drop(counts);
    Ok(Dialed {
        connection,
        generation: material.generation,
        made_again,
        valid_until: named.expires_at.min(material.own.expires_at),
    })
}

impl Dialed {
    fn must_be_made_again(&self, shared: &Shared, peer: &Peer) -> bool {
        self.generation != shared.tls.material().generation
            || self.made_again != peer.made_again.load(Ordering::SeqCst)
            || self.valid_until <= shared.clock.now()
    }
}

/// Writes what waits, asks for the time, and reads the answers, until the connection ends.
fn pump(shared: &Shared, peer: &Peer, dialed: &mut Dialed) -> Result<End, LinkError> {
    let mut estimator = ClockEstimator::default();
    let (mut frames, mut bytes) = (Vec::new(), Vec::new());
    let mut ping_at = Instant::now();
    let mut heard_at = ping_at;
    loop {
        if peer.is_over(shared) {
            dialed.connection.close_sending();
            return Ok(End::Over);
        }
        if dialed.must_be_made_again(shared, peer) {
            dialed.connection.close_sending();
            return Ok(End::Again);
        }
        peer.queue.take(&mut frames);
        let now = Instant::now();
        if now >= ping_at {
            ping_at = now + PING_EVERY;
            frames.push(Frame::Ping(estimator.ask(shared.clock.now(), now)));
        }
        let has_written = !frames.is_empty();
        if has_written {
            write(peer, dialed, &mut frames, &mut bytes)?;
        }
        if heard_at.elapsed() > SILENCE_MAX {
            return Err(LinkError::TimedOut("an answer", SILENCE_MAX));
        }
        let limit = match has_written {
            true => Duration::ZERO,
            false => ping_at.saturating_duration_since(Instant::now()),
        };
        let bell = peer.queue.bell();
        let socket = dialed.connection.socket().as_fd();
        let [has_rung, can_read] = wait(&[(bell.fd(), PollFlags::IN), (socket, PollFlags::IN)], Some(limit));
        if has_rung {
            bell.silence();
        }
        if can_read {
            heard_at = Instant::now();
            hear(shared, peer, dialed, &mut estimator)?;
            if dialed.connection.has_ended() {
                // It wants another connection; everything that was written before this it still reads.
                dialed.connection.close_sending();
                return Ok(End::Again);
            }
        }
    }
}

fn write(peer: &Peer, dialed: &mut Dialed, frames: &mut Vec<Frame>, bytes: &mut Vec<u8>) -> Result<(), LinkError> {
    let encoded = frames.iter().try_for_each(|frame| frame.encode(bytes));
    let written = encoded
        .map_err(LinkError::from)
        .and_then(|()| dialed.connection.write(bytes));
    if let Err(error) = written {
        peer.queue.lost(frames.len());
        return Err(error);
    }
    let mut counts = peer.counts.lock();
    counts.outgoing.frames += frames.len() as u64;
    counts.outgoing.bytes += bytes.len() as u64;
    drop(counts);
    frames.clear();
    bytes.clear();
    // What one large message needed is not kept.
    bytes.shrink_to(2 * WRITE_BYTES_MAX);
    Ok(())
}

fn hear(shared: &Shared, peer: &Peer, dialed: &mut Dialed, estimator: &mut ClockEstimator) -> Result<(), LinkError> {
    dialed.connection.receive_or_time_out()?;
    while let Some(frame) = dialed.connection.next_frame() {
        match frame {
            Frame::Pong(pong) => {
                let estimate = estimator.answered(&pong, shared.clock.now(), Instant::now());
                if estimate.is_some() {
                    peer.counts.lock().clock = estimate;
                }
            }
            Frame::Refused(refusal) => return Err(LinkError::RefusedByPeer(refusal)),
            other => {
                let kind = other.kind().name();
                return Err(LinkError::Broken(format!(
                    "it sent a {kind} frame where only answers belong"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_never_beyond() {
        let mut backoff = Backoff::new();
        let mut whole = BACKOFF_MIN;
        for _ in 0..20 {
            let pause = backoff.next();
            assert!(whole / 2 <= pause && pause <= whole, "{pause:?} of {whole:?}");
            whole = (whole * 2).min(BACKOFF_MAX);
        }
    }
}
