//! The answerer's sockets.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::Instant;

use super::answers::{Answerer, Picture};
use super::rate::{RateLimit, Verdict};
use crate::admission::Admission;
use crate::board::Board;
use crate::config::DnsConfig;
use crate::figures::Figures;
use crate::front::ACCEPT_PAUSE;

/// Bytes of a question: more than any has, with all that EDNS may add.
const QUESTION_BYTES_MAX: usize = 4_096;
/// How long a connection may take from one whole question to the next, and to take an answer (RFC 7766, section 6.2.3).
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// Questions over one connection.
const TCP_QUESTIONS_MAX: usize = 100;

/// What answers need. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Server {
    answerer: Arc<Answerer>,
    board: Arc<Board>,
    figures: Arc<Figures>,
    rate: Arc<Mutex<RateLimit>>,
    admission: Admission,
    started: Instant,
}

impl Server {
    pub fn new(config: &DnsConfig, answerer: Arc<Answerer>, board: &Arc<Board>, figures: &Arc<Figures>) -> Self {
        Self {
            answerer,
            board: Arc::clone(board),
            figures: Arc::clone(figures),
            rate: Arc::new(Mutex::new(RateLimit::of(config))),
            admission: Admission::new(config.connections_max, config.connections_per_source_max),
            started: Instant::now(),
        }
    }

    fn answer(&self, question: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let (region, epoch, is_static) = self.board.dns_region();
        self.figures.dns_static(is_static);
        let replied = self.answerer.answer(question, over_tcp, Picture { region, epoch })?;
        self.figures.dns(replied.outcome);
        Some(replied.bytes)
    }

    fn verdict(&self, source: IpAddr) -> Verdict {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.verdict(source, self.started.elapsed())
    }

    /// Answers one question that came over UDP.
    fn answer_udp(&self, question: &[u8], source: IpAddr) -> Option<Vec<u8>> {
        let answer = self.answer(question, false)?;
        match self.verdict(source) {
            Verdict::Send => Some(answer),
            Verdict::Truncate => {
                self.figures.dns_truncated.increment(1);
                self.answerer.truncated(question)
            }
            Verdict::Drop => {
                self.figures.dns_dropped.increment(1);
                None
            }
        }
    }

    /// Answers over UDP until it is dropped.
    pub async fn serve_udp(self, socket: UdpSocket) {
        let mut buffer = vec![0; QUESTION_BYTES_MAX];
        loop {
            let (count, source) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // Such as that somebody can't be reached who was answered before.
                    tracing::debug!(%error, "a question could not be received");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            if let Some(answer) = self.answer_udp(&buffer[..count], source.ip()) {
                // It waits for nobody: what doesn't fit into the system's buffer is lost, as any datagram may be.
                let _ = socket.try_send_to(&answer, source);
            }
        }
    }

    /// Answers over TCP until it is dropped.
    pub async fn serve_tcp(self, listener: TcpListener) {
        loop {
            let Ok((stream, source)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(place) = self.admission.enter(source.ip()) else {
                self.figures.dns_connections_refused.increment(1);
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                server.converse(stream).await;
                drop(place);
            });
        }
    }

    /// One connection: each message has its length before it (RFC 1035, section 4.2.2).
    async fn converse(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut buffer = vec![0; QUESTION_BYTES_MAX];
        for _ in 0..TCP_QUESTIONS_MAX {
            let question = async {
                let length = usize::from(stream.read_u16().await.ok()?);
                let question = buffer.get_mut(..length)?;
                stream.read_exact(question).await.ok()?;
                let answer = self.answer(question, true)?;
                let length = u16::try_from(answer.len()).ok()?;
                let mut message = length.to_be_bytes().to_vec();
                message.extend_from_slice(&answer);
                stream.write_all(&message).await.ok()
            };
            match tokio::time::timeout(TCP_TIMEOUT, question).await {
                Ok(Some(())) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}
