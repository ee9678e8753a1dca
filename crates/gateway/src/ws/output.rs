//! What a session is about to write, and when it was made.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use bytes::BytesMut;
use futures_util::Sink as _;
use types::Timestamp;

use super::REQUESTS_IN_FLIGHT_MAX;
use super::session::Gone;

/// Room for texts that is asked for at once.
const TEXT_BYTES: usize = 32 << 10;

/// What is to be written, bounded by who adds to it.
#[derive(Debug)]
pub(super) struct Output {
    messages: VecDeque<Message>,
    bytes: usize,
    /// Of the answers to commands, for those that have not left yet.
    built: Vec<Built>,
    /// True while something that was handed to the socket may not have left.
    unflushed: bool,
    /// True if the socket took something since the last tick.
    progressed: bool,
    /// Where texts are made, one behind the other.
    texts: BytesMut,
    /// Where the next text is made.
    text: Vec<u8>,
}

/// The answer to a command that was executed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Built {
    /// When the bytes of the command came in.
    pub received_at: Timestamp,
    /// When the command had been applied.
    pub applied_at: Timestamp,
    /// When the answer was there as text.
    pub built_at: Timestamp,
}

impl Output {
    pub fn new() -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            built: Vec::new(),
            unflushed: false,
            progressed: true,
            texts: BytesMut::new(),
            text: Vec::new(),
        }
    }

    pub fn push(&mut self, text: Utf8Bytes) {
        self.push_message(Message::Text(text));
    }

    pub fn push_message(&mut self, message: Message) {
        if self.is_empty() {
            self.progressed = true;
        }
        self.bytes += size(&message);
        self.messages.push_back(message);
    }

    /// Adds a text that is made in place.
    pub fn write(&mut self, make: impl FnOnce(&mut Vec<u8>)) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        make(&mut text);
        if self.texts.capacity() < text.len() {
            self.texts.reserve(TEXT_BYTES.max(text.len()));
        }
        self.texts.extend_from_slice(&text);
        self.text = text;
        let made = self.texts.split().freeze();
        self.push(Utf8Bytes::try_from(made).expect("JSON is text"));
    }

    /// Remembers that the answer to a command was added. Behind a client that never takes all of its output at once, later
    /// ones are not measured.
    pub fn add_built(&mut self, built: Built) {
        if self.built.len() < REQUESTS_IN_FLIGHT_MAX {
            self.built.push(built);
        }
    }

    /// The answers that were added behind the first so many, and how many there are.
    pub fn built_behind(&mut self, count: usize) -> &mut [Built] {
        &mut self.built[count..]
    }

    pub fn built_len(&self) -> usize {
        self.built.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && !self.unflushed
    }

    /// True if something waits and the socket took nothing since this was last asked.
    pub fn is_stuck(&mut self) -> bool {
        let progressed = std::mem::take(&mut self.progressed);
        !progressed && !self.is_empty()
    }

    /// Writes what the socket takes. Once all has left, `left` is told of the answers that were among it.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut WebSocket,
        left: impl FnOnce(&mut Vec<Built>),
    ) -> Result<(), Gone> {
        let mut socket = Pin::new(socket);
        while let Some(message) = self.messages.front() {
            match socket.as_mut().poll_ready(context) {
                Poll::Pending => break,
                Poll::Ready(ready) => ready.map_err(|_| Gone)?,
            }
            self.bytes -= size(message);
            let message = self.messages.pop_front().expect("it has a front");
            self.progressed = true;
            self.unflushed = true;
            socket.as_mut().start_send(message).map_err(|_| Gone)?;
        }
        if self.unflushed
            && self.messages.is_empty()
            && let Poll::Ready(flushed) = socket.as_mut().poll_flush(context)
        {
            flushed.map_err(|_| Gone)?;
            self.unflushed = false;
            self.progressed = true;
            left(&mut self.built);
            self.built.clear();
        }
        Ok(())
    }
}

fn size(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}
