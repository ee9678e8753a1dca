//! Full load and no fault: nobody may be elected.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::report::CalmReport;
use super::rounds::{Rounds, Sessions};
use crate::history::History;
use crate::rounds::Answers;

/// Sessions of each account: more than two processors can answer at once.
const SESSIONS: Sessions = Sessions { rest: 4, websocket: 6 };

impl Rounds {
    /// Puts the group under full load for so long, and counts the terms that begin.
    pub(super) async fn calm(&mut self, lasts: Duration) -> io::Result<()> {
        let (leader, term) = match self.wait_until_equal().await? {
            Ok((leader, term, _)) => (leader, term),
            Err(what) => return self.broke_calm(what),
        };
        let traders = self.traders(leader).await?;
        let history = Arc::<Mutex<History>>::default();
        let round = self.begin_round().await?;
        // Nobody waits for these.
        let answers = Answers::new(usize::MAX / 2);
        let began_at = Instant::now();
        let sessions = self.load("calm", &round, &traders, &history, &answers, SESSIONS);
        // Each failed attempt counts: nothing is away.
        round.fault_at(super::sessions::ELSEWHERE);
        tokio::time::sleep(lasts).await;
        round.stop();
        sessions.await?;
        let lasted = began_at.elapsed();
        let history = history.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let term_after = match self.wait_until_equal().await? {
            Ok((_, term, _)) => term,
            Err(what) => return self.broke_calm(what),
        };
        let calm = CalmReport {
            lasted,
            requests: history.requests().count() as u64,
            elections: term_after - term,
            attempts_failed: round.attempts_failed(),
        };
        if calm.elections > 0 {
            self.broke_calm(format!("{} election(s) without a fault", calm.elections))?;
        }
        if calm.attempts_failed > 0 {
            self.broke_calm(format!("failed without a fault: {}", round.failures().join("; ")))?;
        }
        self.report.requests += calm.requests;
        self.report.calm = Some(calm);
        let rests = self.patient_clients().await?;
        let history = self.ask_again("calm", &rests, &traders, history).await?;
        for what in history.faults() {
            self.broke_calm(what.clone())?;
        }
        Ok(())
    }

    fn broke_calm(&mut self, what: String) -> io::Result<()> {
        self.report.broken.push(format!("calm: {what}"));
        Ok(())
    }
}
