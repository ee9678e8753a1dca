//! The thread that accepts connections, and one thread for each of them that reads what a peer sends.

use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Instant;
use std::{io, panic};

use rustix::event::PollFlags;
use types::{GroupId, Timestamp};
use wire::journal::NodeId;
use wire::peer::{Frame, Pong, Role};

use super::connection::{Connection, LinkError};
use super::greeting::judge;
use super::limits::{ACCEPT_PAUSE, HANDSHAKE_MAX, READ_BYTES_MAX, SILENCE_MAX, TAKING_OVER_MAX};
use super::tls::peer_named;
use super::{Direction, Peer, Shared, lock, wait};

/// A connection whose other side is known and whose turn it is.
struct Accepted {
    connection: Connection,
    peer: Arc<Peer>,
    role: Role,
    generation: u64,
    /// When the first of the two certificates expires.
    valid_until: Timestamp,
}

pub(super) fn run(shared: &Arc<Shared>, listener: &TcpListener) {
    loop {
        let bell = (shared.accept_bell.fd(), PollFlags::IN);
        wait(&[bell, (listener.as_fd(), PollFlags::IN)], None);
        if shared.is_stopping() {
            return;
        }
        let accepted = listener
            .accept()
            .and_then(|(socket, address)| begin(shared, socket, address));
        match accepted {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                if shared.refused_log.may_log() {
                    tracing::warn!("a connection of a peer could not be accepted: {error}");
                }
                wait(&[bell], Some(ACCEPT_PAUSE));
            }
        }
    }
}

fn begin(shared: &Arc<Shared>, socket: TcpStream, address: SocketAddr) -> io::Result<()> {
    let id = lock(&shared.greetings).add(socket.try_clone()?);
    let serving = Arc::clone(shared);
    let spawned = shared.spawn(move || serve(&serving, id, socket, address));
    if spawned.is_err() {
        lock(&shared.greetings).end(id);
    }
    spawned
}

fn serve(shared: &Shared, id: u64, socket: TcpStream, address: SocketAddr) {
    let greeted = panic::catch_unwind(panic::AssertUnwindSafe(|| greet(shared, socket)));
    lock(&shared.greetings).end(id);
    let mut accepted = match greeted {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => return note_refused(shared, address, &error),
        Err(panicked) => panic::resume_unwind(panicked),
    };
    let peer = Arc::clone(&accepted.peer);
    // Also after a panic of whoever takes the frames, the peer's next connection has its turn.
    let _turn = Turn(&peer);
    shared.came_up(&peer, Direction::In);
    shared.say_changed(&peer, Direction::In, true);
    let read = read(shared, &mut accepted);
    shared.went_down(&peer, Direction::In, read.err().as_ref());
    shared.say_changed(&peer, Direction::In, false);
}

struct Turn<'a>(&'a Peer);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.counts.lock().incoming.connected_since = None;
        self.0.free_incoming();
    }
}

fn note_refused(shared: &Shared, address: SocketAddr, error: &LinkError) {
    if shared.is_stopping() {
        return;
    }
    let text = format!("{address}: {error}");
    let mut refused = lock(&shared.refused);
    refused.add(shared.clock.now(), text);
    let connections = refused.connections;
    drop(refused);
    if shared.refused_log.may_log() {
        tracing::warn!(%address, connections, "a connection to the port of the peers was let go: {error}");
    }
}

fn greet(shared: &Shared, socket: TcpStream) -> Result<Accepted, LinkError> {
    let until = Instant::now() + HANDSHAKE_MAX;
    let material = shared.tls.material();
    let for_later = socket.try_clone()?;
    let mut connection = Connection::new(material.accept()?, socket)?;
    let handshake = connection.handshake(until, HANDSHAKE_MAX);
    if let Err(error) = handshake {
        linger(&for_later, until);
        return Err(error);
    }
    let other = match connection.expect_frame(until, HANDSHAKE_MAX)? {
        Frame::Hello(other) => other,
        Frame::Refused(refusal) => return Err(LinkError::RefusedByPeer(refusal)),
        _ => return Err(LinkError::Broken("it did not greet".to_owned())),
    };
    let named = peer_named(connection.tls()).map_err(|error| LinkError::Broken(error.to_string()))?;
    let peer = shared.peers.load().get(&named.name.node).cloned();
    let own = shared.hello();
    let judged = judge(
        &own,
        &other,
        &named.name,
        shared.expected.get(&named.name.node),
        peer.is_some(),
        shared.engine_version(),
    );
    let peer = match (judged, peer) {
        (Ok(_), Some(peer)) => peer,
        (Ok(_), None) => return Err(LinkError::Closed),
        (Err(refusal), _) => {
            let _ = connection.write_frame(&Frame::Refused(refusal.clone()));
            connection.close_sending();
            linger(&for_later, until);
            return Err(LinkError::Refused(refusal));
        }
    };
    // Only then is it told that it may send, so that its frames keep their order.
    if !peer.take_incoming(shared, for_later) {
        return Err(LinkError::TimedOut(
            "what came by the connection before",
            TAKING_OVER_MAX,
        ));
    }
    let told = connection.write_frame(&Frame::Hello(own));
    let told = told.and_then(|_| connection.set_silence_max(SILENCE_MAX));
    if let Err(error) = told {
        peer.free_incoming();
        return Err(error);
    }
    connection.set_known();
    Ok(Accepted {
        connection,
        peer,
        role: named.name.role,
        generation: material.generation,
        valid_until: named.expires_at.min(material.own.expires_at),
    })
}

/// Lets the other side read why it is let go: a socket that is closed with something unread in it takes back what was
/// written.
fn linger(mut socket: &TcpStream, until: Instant) {
    let _ = socket.shutdown(Shutdown::Write);
    let mut ignored = [0; 4096];
    let mut ignored_bytes = 0;
    while ignored_bytes < READ_BYTES_MAX {
        let left = until.saturating_duration_since(Instant::now());
        if socket.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match socket.read(&mut ignored) {
            Ok(0) | Err(_) => return,
            Ok(count) => ignored_bytes += count,
        }
    }
}

/// Hands over what the peer sends, until the connection ends.
fn read(shared: &Shared, accepted: &mut Accepted) -> Result<(), LinkError> {
    let peer = Arc::clone(&accepted.peer);
    let mut bytes_counted = 0;
    let mut closing_since: Option<Instant> = None;
    loop {
        if peer.is_over(shared) {
            return Ok(());
        }
        let is_outdated =
            accepted.generation != shared.tls.material().generation || accepted.valid_until <= shared.clock.now();
        match closing_since {
            None if is_outdated => {
                // The peer makes another connection, and ends this one when it has written all that it took out for it.
                accepted.connection.close_sending();
                closing_since = Some(Instant::now());
            }
            Some(since) if since.elapsed() > SILENCE_MAX => {
                return Err(LinkError::TimedOut("the end of the connection", SILENCE_MAX));
            }
            _ => {}
        }
        if !accepted.connection.receive_or_time_out()? {
            return Err(LinkError::TimedOut("the next frame", SILENCE_MAX));
        }
        let mut frames = 0;
        while let Some(frame) = accepted.connection.next_frame() {
            frames += 1;
            if let Frame::Ping(ping) = frame {
                let received_at = shared.clock.now();
                if closing_since.is_none() {
                    let pong = Pong {
                        nonce: ping.nonce,
                        received_at,
                        sent_at: shared.clock.now(),
                    };
                    accepted.connection.write_frame(&Frame::Pong(pong))?;
                }
                continue;
            }
            check(&frame, peer.node, accepted.role, shared.own.node, shared.own.group)?;
            if peer.is_over(shared) {
                return Ok(());
            }
            (shared.on_frame)(peer.node, frame);
        }
        let mut counts = peer.counts.lock();
        counts.incoming.frames += frames;
        counts.incoming.bytes += accepted.connection.bytes_read - bytes_counted;
        bytes_counted = accepted.connection.bytes_read;
        drop(counts);
        if accepted.connection.has_ended() {
            return Ok(());
        }
    }
}

/// Whether a peer may say this, and says it as itself.
fn check(frame: &Frame, peer: NodeId, role: Role, own: NodeId, group: GroupId) -> Result<(), LinkError> {
    let kind = frame.kind().name();
    let message = match frame {
        Frame::Forward(_) | Frame::ControlRequest(_) | Frame::ControlAnswer(_) => return Ok(()),
        Frame::Refused(refusal) => return Err(LinkError::RefusedByPeer(refusal.clone())),
        Frame::Hello(_) | Frame::Ping(_) | Frame::Pong(_) => {
            return Err(LinkError::Broken(format!("it sent a {kind} frame where none belongs")));
        }
        Frame::Answers(_) | Frame::SnapshotChunk(_) | Frame::SnapshotEnd(_) => None,
        Frame::Raft(message) => Some(message),
        Frame::SnapshotBegin(begin) => Some(&begin.message),
    };
    let may_say = match frame {
        // It takes clients from anywhere, so it is believed the least.
        Frame::Raft(_) if role == Role::Witness => group == wire::site::LEASE_GROUP,
        Frame::Raft(message) => role == Role::Node || replica::is_a_followers(message),
        _ => role == Role::Node,
    };
    if !may_say {
        return Err(LinkError::Broken(format!("it is a {role} and sent a {kind} frame")));
    }
    match message {
        Some(message) if message.from != peer || message.to != own => Err(LinkError::Broken(format!(
            "it sent a message from node {} to node {}",
            message.from, message.to
        ))),
        _ => Ok(()),
    }
}
