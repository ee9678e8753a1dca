//! A line between whoever dials and whoever is dialled that takes as long as it is told to.
//!
//! ```text
//!  dialler ── TCP ──> reader ── queue of bytes, each with its time of arrival ──> writer ── TCP ──> target
//!          <── TCP ── writer <── queue ─────────────────────────────────────────── reader <── TCP ──
//! ```
//!
//! Bytes leave in the order in which they came, none is lost, and a queue that is full makes the reader wait, so that the
//! sender feels it as he would on a real line. A relay can stand in a network namespace: then what comes to it and what it
//! sends to its target is that namespace's.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The most bytes on the way in one direction of a connection: what 110 ms take at 500 Mbit/s.
const ON_THE_WAY_BYTES_MAX: usize = 7 << 20;
/// What is read at once.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// The most connections at the same time; one more is hung up on.
const CONNECTIONS_MAX: usize = 64;
/// How long the target may take to accept.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Where `ip netns` keeps its namespaces.
const NAMESPACES: &str = "/run/netns";

/// How long bytes take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delay {
    /// From whoever dialled to the target.
    pub there: Duration,
    /// From the target to whoever dialled.
    pub back: Duration,
}

impl Delay {
    /// The same in both directions.
    pub fn each_way(each: Duration) -> Self {
        Self {
            there: each,
            back: each,
        }
    }
}

/// A relay. All its connections end when it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    lines: Arc<Lines>,
    acceptor: Option<JoinHandle<()>>,
}

/// What the relay and its threads share.
#[derive(Debug, Default)]
struct Lines {
    is_over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    everyone: Delay,
    of: BTreeMap<IpAddr, Delay>,
    connections: Vec<Weak<Connection>>,
}

/// A connection to the relay, and the one to the target that it continues in.
#[derive(Debug)]
struct Connection {
    dialler: IpAddr,
    ends: [TcpStream; 2],
    there: Pipe,
    back: Pipe,
}

/// What a thread does for a connection.
type Work = fn(&Connection) -> io::Result<()>;

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    state: Mutex<PipeState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct PipeState {
    delay: Duration,
    chunks: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// When the sender had said everything.
    ended_at: Option<Instant>,
    is_broken: bool,
    /// True if nothing arrives any more.
    is_lost: bool,
    /// True if the sender ended while nothing arrived.
    is_abandoned: bool,
}

impl Relay {
    /// Listens at an address, in a namespace if one is named, and continues each connection to the target. Port 0 is any that
    /// is free.
    ///
    /// # Errors
    /// What the operating system says of the namespace or the address.
    pub fn new(namespace: Option<&str>, listen: SocketAddr, target: SocketAddr) -> io::Result<Self> {
        let lines = Arc::<Lines>::default();
        let (tell, told) = sync_channel(1);
        let (of_thread, namespace) = (Arc::clone(&lines), namespace.map(str::to_owned));
        // A thread enters a namespace for itself alone, and its sockets belong there, whoever uses them later.
        let acceptor = std::thread::Builder::new().name("relay".to_owned()).spawn(move || {
            let listener = namespace
                .as_deref()
                .map_or(Ok(()), enter)
                .and_then(|()| TcpListener::bind(listen));
            match listener.and_then(|listener| Ok((listener.local_addr()?, listener))) {
                Ok((address, listener)) => {
                    let _ = tell.send(Ok(address));
                    accept(&of_thread, &listener, target);
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                }
            }
        })?;
        let address = told.recv().map_err(io::Error::other)??;
        Ok(Self {
            address,
            lines,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets how long bytes take from now on, those that are on the way among them: on connections from this address, or on
    /// all that have no delay of their own.
    pub fn set_delay(&self, from: Option<IpAddr>, delay: Delay) {
        let mut state = lock(&self.lines.state);
        match from {
            Some(from) => {
                state.of.insert(from, delay);
            }
            None => state.everyone = delay,
        }
        for connection in state.connections.iter().filter_map(Weak::upgrade) {
            connection.set_delay(state.delay_of(connection.dialler));
        }
    }

    /// From now on everything on the connections that there are is lost, what is on the way among it, and neither end hears
    /// of it, as when whoever is at the other end is gone with all that was around it. From this address alone, if there is
    /// one. Later connections are as ever.
    pub fn swallow(&self, from: Option<IpAddr>) {
        let state = lock(&self.lines.state);
        let connections = state.connections.iter().filter_map(Weak::upgrade);
        for connection in connections.filter(|one| from.is_none_or(|from| from == one.dialler)) {
            for pipe in [&connection.there, &connection.back] {
                let mut state = lock(&pipe.state);
                state.is_lost = true;
                state.chunks.clear();
                state.bytes = 0;
                state.ended_at = None;
                pipe.changed.notify_all();
            }
        }
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        let state = lock(&self.lines.state);
        state.connections.iter().filter(|one| one.strong_count() > 0).count()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let mut state = lock(&self.lines.state);
        self.lines.is_over.store(true, Ordering::Release);
        for connection in state.connections.drain(..).filter_map(|one| one.upgrade()) {
            connection.break_off();
        }
        drop(state);
        // The acceptor's wait ends with a connection. If it can't be reached any more it is left to the end of the process.
        if TcpStream::connect_timeout(&self.address, CONNECT_WITHIN).is_ok()
            && let Some(acceptor) = self.acceptor.take()
        {
            let _ = acceptor.join();
        }
    }
}

impl State {
    fn delay_of(&self, dialler: IpAddr) -> Delay {
        self.of.get(&dialler).copied().unwrap_or(self.everyone)
    }
}

fn enter(namespace: &str) -> io::Result<()> {
    let file = File::open(Path::new(NAMESPACES).join(namespace))?;
    Ok(move_into_link_name_space(
        file.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?)
}

fn accept(lines: &Arc<Lines>, listener: &TcpListener, target: SocketAddr) {
    for accepted in listener.incoming() {
        if lines.is_over.load(Ordering::Acquire) {
            return;
        }
        // Who can't be served is hung up on, as the target itself would.
        let _ = accepted.and_then(|dialler| lines.relay(dialler, target));
    }
}

impl Lines {
    fn relay(self: &Arc<Self>, dialler: TcpStream, target: SocketAddr) -> io::Result<()> {
        let target = TcpStream::connect_timeout(&target, CONNECT_WITHIN)?;
        for end in [&dialler, &target] {
            end.set_nodelay(true)?;
        }
        let connection = Arc::new(Connection {
            dialler: dialler.peer_addr()?.ip(),
            ends: [dialler, target],
            there: Pipe::default(),
            back: Pipe::default(),
        });
        let mut state = lock(&self.state);
        state.connections.retain(|one| one.strong_count() > 0);
        if state.connections.len() >= CONNECTIONS_MAX || self.is_over.load(Ordering::Acquire) {
            return Err(io::Error::other("there are too many connections"));
        }
        connection.set_delay(state.delay_of(connection.dialler));
        state.connections.push(Arc::downgrade(&connection));
        drop(state);
        for work in Connection::WORK {
            let of_thread = Arc::clone(&connection);
            let started = std::thread::Builder::new().name("relay".to_owned()).spawn(move || {
                if work(&of_thread).is_err() {
                    of_thread.break_off();
                }
            });
            if let Err(error) = started {
                connection.break_off();
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Connection {
    const WORK: [Work; 4] = [
        |this| this.fill(&this.there, &this.ends[0]),
        |this| this.there.pour(&this.ends[1]),
        |this| this.fill(&this.back, &this.ends[1]),
        |this| this.back.pour(&this.ends[0]),
    ];

    /// Reads one end. One on which everything is lost ends only when both have.
    fn fill(&self, pipe: &Pipe, from: &TcpStream) -> io::Result<()> {
        let result = pipe.fill(from);
        let is_lost = {
            let mut state = lock(&pipe.state);
            state.is_abandoned |= state.is_lost;
            state.is_lost
        };
        if !is_lost {
            return result;
        }
        if [&self.there, &self.back]
            .iter()
            .all(|pipe| lock(&pipe.state).is_abandoned)
        {
            self.break_off();
        }
        Ok(())
    }

    fn set_delay(&self, delay: Delay) {
        for (pipe, delay) in [(&self.there, delay.there), (&self.back, delay.back)] {
            lock(&pipe.state).delay = delay;
            pipe.changed.notify_all();
        }
    }

    /// Ends it at once; what is on the way is lost.
    fn break_off(&self) {
        for pipe in [&self.there, &self.back] {
            lock(&pipe.state).is_broken = true;
            pipe.changed.notify_all();
        }
        for end in &self.ends {
            // It may be gone already.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Pipe {
    /// Reads until the sender has said everything.
    fn fill(&self, mut from: &TcpStream) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES_MAX];
        loop {
            let count = from.read(&mut buffer)?;
            let mut state = lock(&self.state);
            while state.bytes + count > ON_THE_WAY_BYTES_MAX && !state.is_broken {
                state = wait(&self.changed, state);
            }
            if state.is_broken {
                return Ok(());
            }
            if state.is_lost {
                if count == 0 {
                    return Ok(());
                }
                continue;
            }
            if count == 0 {
                state.ended_at = Some(Instant::now());
            } else {
                state.bytes += count;
                state.chunks.push_back((Instant::now(), buffer[..count].to_vec()));
            }
            self.changed.notify_all();
            if count == 0 {
                return Ok(());
            }
        }
    }

    /// Writes each chunk when its time has come, and at last that the sender has said everything.
    fn pour(&self, mut to: &TcpStream) -> io::Result<()> {
        loop {
            let Some(chunk) = self.next() else { return Ok(()) };
            if chunk.is_empty() {
                return to.shutdown(Shutdown::Write);
            }
            to.write_all(&chunk)?;
            let mut state = lock(&self.state);
            // What was lost meanwhile was counted out already.
            state.bytes = state.bytes.saturating_sub(chunk.len());
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits for the next chunk's time; empty: all has been said; none: it is over.
    fn next(&self) -> Option<Vec<u8>> {
        let mut state = lock(&self.state);
        loop {
            if state.is_broken {
                return None;
            }
            let came_at = state.chunks.front().map(|(came_at, _)| *came_at).or(state.ended_at);
            let Some(came_at) = came_at else {
                state = wait(&self.changed, state);
                continue;
            };
            let left = (came_at + state.delay).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(state.chunks.pop_front().map(|(_, chunk)| chunk).unwrap_or_default());
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
