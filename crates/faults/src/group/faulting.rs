//! A fault comes, lasts, and goes.

use std::io;
use std::time::{Duration, Instant};

use harness::{Network, Node};
use powerloss::Syncs;

use super::prober::Prober;
use super::rounds::{LOOK_EVERY, Rounds};
use super::sessions::{ELSEWHERE, Round};
use super::{GroupFault, What};

/// How long a node stands still, is cut off, or has trouble with its disk: three times what an election takes.
const FAULT_LASTS: Duration = Duration::from_millis(1_200);
/// How long a disk stays full: the node looks at it once a second, and is to notice.
const FULL_LASTS: Duration = Duration::from_millis(2_200);
/// How long a killed node stays away at the most, in milliseconds.
const AWAY_MS_MAX: u64 = 1_200;
/// How long what a node sends takes, and what it receives: together a way around the world.
const DELAY: Duration = Duration::from_millis(55);
/// How long a sync of a slow disk takes.
const SLOW_SYNC: Duration = Duration::from_millis(300);
/// How long a node may take to end when asked to.
pub(super) const STOPPED_WITHIN: Duration = Duration::from_secs(20);
/// How long a node may take until it is ready again.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(30);

impl Rounds {
    /// The fault comes, lasts, and goes. Gives how long each surviving node that clients use took to answer, or what broke.
    pub(super) async fn fault(
        &mut self,
        fault: GroupFault,
        node: usize,
        round: &Round,
        prober: Prober,
    ) -> io::Result<Result<Vec<Option<Duration>>, String>> {
        let is_transfer = fault.what == What::Transfer;
        let used = self.used();
        let survivors = used.clone().filter(|other| *other != node || is_transfer);
        let survivors: Vec<usize> = survivors.map(|node| node - used.start).collect();
        // Of a transfer no node may notice anything.
        let is_seen = used.contains(&node) && !is_transfer;
        round.fault_at(if is_seen { node - used.start } else { ELSEWHERE });
        if fault.forgets() {
            round.may_forget(node - used.start);
        }
        if let Err(what) = self.begin_fault(fault, node).await? {
            return Ok(Err(what));
        }
        let fault_at = Instant::now();
        let probe = tokio::spawn(prober.probe(survivors, fault_at));
        let ended = self.end_fault(fault, node).await?;
        let recovered = probe.await?;
        Ok(ended.map(|()| recovered))
    }

    async fn begin_fault(&mut self, fault: GroupFault, node: usize) -> io::Result<Result<(), String>> {
        match fault.what {
            What::Kill => self.kill(node)?,
            What::Power => {
                self.kill(node)?;
                self.disks[node].cut(self.random.number());
            }
            What::DiskFails => self.disks[node].set_syncs(Syncs::Failing),
            What::DiskFull => {
                let mut store = self.disks[node].store();
                let bytes = store.bytes();
                store.set_bytes_max(Some(bytes));
            }
            What::DiskSlow => self.disks[node].set_sync_takes(SLOW_SYNC),
            What::Pause => self.running(node)?.pause()?,
            What::Stop => self.running(node)?.ask_to_stop()?,
            What::Transfer => {
                let mut operator = self.operator(node).await?;
                if let Err(error) = operator.transfer_leadership(None).await {
                    return Ok(Err(format!("leadership was not handed over: {error}")));
                }
            }
            What::Delay => self.group.delay_links(node, DELAY, DELAY),
            What::Cut | What::CannotSend | What::CannotReceive => self.network()?.lose(&self.pairs(fault, node))?,
        }
        Ok(Ok(()))
    }

    async fn end_fault(&mut self, fault: GroupFault, node: usize) -> io::Result<Result<(), String>> {
        match fault.what {
            What::Kill | What::Power => {
                let away = self.random.number() % AWAY_MS_MAX;
                tokio::time::sleep(Duration::from_millis(away)).await;
            }
            What::Stop => return self.wait_until_stopped(node).await,
            What::DiskFull => tokio::time::sleep(FULL_LASTS).await,
            // It is over as soon as it was asked for.
            What::Transfer => {}
            _ => tokio::time::sleep(FAULT_LASTS).await,
        }
        match fault.what {
            What::Pause => self.running(node)?.resume()?,
            What::DiskFull => {
                self.disks[node].store().set_bytes_max(None);
                if !self.nodes[node].as_mut().is_some_and(Node::is_running) {
                    return self.start(node).await;
                }
                // It looks at its disk now and then.
                return self.wait_until_ready(node).await;
            }
            What::DiskFails => {
                self.kill(node)?;
                self.disks[node].set_syncs(Syncs::Honest);
                return self.start(node).await;
            }
            What::DiskSlow => self.disks[node].set_sync_takes(Duration::ZERO),
            What::Kill | What::Power => return self.start(node).await,
            What::Delay => self.group.delay_links(node, Duration::ZERO, Duration::ZERO),
            What::Cut | What::CannotSend | What::CannotReceive => self.network()?.heal(&self.pairs(fault, node))?,
            What::Stop | What::Transfer => {}
        }
        Ok(Ok(()))
    }

    fn kill(&mut self, node: usize) -> io::Result<()> {
        self.nodes[node].take().map_or(Ok(()), Node::kill)
    }

    /// Waits until a node that was asked to has ended, and starts it again.
    async fn wait_until_stopped(&mut self, node: usize) -> io::Result<Result<(), String>> {
        let until = Instant::now() + STOPPED_WITHIN;
        loop {
            let running = self.nodes[node].as_mut();
            match running.map_or(Ok(None), Node::ended)? {
                Some(true) => return self.start(node).await,
                Some(false) => return Ok(Err("the node ended with an error when asked to end".into())),
                None if Instant::now() > until => {
                    let within = STOPPED_WITHIN.as_secs();
                    return Ok(Err(format!("the node did not stop within {within} s")));
                }
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    async fn start(&mut self, node: usize) -> io::Result<Result<(), String>> {
        self.nodes[node] = Some(self.group.nodes[node].start()?);
        self.wait_until_ready(node).await
    }

    async fn wait_until_ready(&mut self, node: usize) -> io::Result<Result<(), String>> {
        let running = self.nodes[node].as_mut();
        let running = running.ok_or_else(|| io::Error::other("the node doesn't run"))?;
        let until = Instant::now() + READY_WITHIN;
        loop {
            match running.is_ready() {
                Ok(true) => return Ok(Ok(())),
                Ok(false) if Instant::now() > until => return Ok(Err(running.not_ready(READY_WITHIN).to_string())),
                Ok(false) => tokio::time::sleep(LOOK_EVERY).await,
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
    }

    fn running(&self, node: usize) -> io::Result<&Node> {
        let running = self.nodes[node].as_ref();
        running.ok_or_else(|| io::Error::other("the node doesn't run"))
    }

    fn network(&self) -> io::Result<&Network> {
        let network = self.network.as_deref();
        network.ok_or_else(|| io::Error::other("there is no network to cut"))
    }

    /// Who doesn't hear whom.
    fn pairs(&self, fault: GroupFault, node: usize) -> Vec<(usize, usize)> {
        let others = || (0..self.group.nodes.len()).filter(move |other| *other != node);
        let sends = others().map(|other| (node, other));
        let receives = others().map(|other| (other, node));
        match fault.what {
            What::Cut => sends.chain(receives).collect(),
            What::CannotSend => sends.collect(),
            What::CannotReceive => receives.collect(),
            _ => Vec::new(),
        }
    }
}
