//! What a run of several steps comes to.

use std::time::Instant;

use anyhow::Result;

/// The steps of a run and what came of each.
#[derive(Default)]
pub struct Summary {
    steps: Vec<Step>,
}

struct Step {
    name: String,
    outcome: Outcome,
    seconds: f64,
}

/// What came of a step.
pub enum Outcome {
    /// All is well; what was looked at.
    Passed(String),
    /// It isn't: one line for each fault.
    Failed(Vec<String>),
}

impl Outcome {
    /// Passed if there are no faults.
    pub fn from_faults(faults: Vec<String>, what: String) -> Self {
        if faults.is_empty() {
            Self::Passed(what)
        } else {
            Self::Failed(faults)
        }
    }
}

impl Summary {
    /// Runs a step and keeps what came of it. A step that can't be run has failed.
    pub fn step(&mut self, name: &str, step: impl FnOnce() -> Result<Outcome>) {
        println!("== {name}");
        let start = Instant::now();
        let outcome = step().unwrap_or_else(|error| Outcome::Failed(vec![format!("{error:#}")]));
        if let Outcome::Failed(faults) = &outcome {
            for fault in faults {
                println!("  {fault}");
            }
        }
        self.steps.push(Step {
            name: name.to_owned(),
            outcome,
            seconds: start.elapsed().as_secs_f64(),
        });
    }

    /// Prints a line for each step; true if none failed.
    pub fn print(&self) -> bool {
        println!("\n== summary");
        let mut passed_all = true;
        for step in &self.steps {
            let (word, text) = match &step.outcome {
                Outcome::Passed(what) => ("ok", what.clone()),
                Outcome::Failed(faults) => {
                    passed_all = false;
                    ("FAILED", format!("{} fault(s)", faults.len()))
                }
            };
            println!("{word:8} {:10} {:6.1} s  {text}", step.name, step.seconds);
        }
        passed_all
    }

    /// How many steps passed, and how many failed.
    pub fn counts(&self) -> (usize, usize) {
        let passed = self
            .steps
            .iter()
            .filter(|step| matches!(step.outcome, Outcome::Passed(_)))
            .count();
        (passed, self.steps.len() - passed)
    }
}
