//! The one table of errors: every refusal of the gateway and every reject of the engine, with what it means over HTTP
//! and FIX, what became of the request, and what the client and the operator do. `docs/errors.md` is rendered from it.

mod render;
mod table;

pub use render::markdown;
pub use table::Refusal;

use types::RejectReason;

use crate::json::{AppliesTo, Outcome};

/// Any error that an answer can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorCode {
    /// The gateway refused the request, or can't say what became of it.
    Refusal(Refusal),
    /// The engine refused the request.
    Reject(RejectReason),
}

impl From<Refusal> for ErrorCode {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<RejectReason> for ErrorCode {
    fn from(reason: RejectReason) -> Self {
        Self::Reject(reason)
    }
}

impl ErrorCode {
    /// Every code, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        let refusals = Refusal::ALL.iter().map(|refusal| Self::Refusal(*refusal));
        let rejects = RejectReason::ALL.iter().map(|reason| Self::Reject(*reason));
        refusals.chain(rejects)
    }

    /// The code's row of the table.
    pub fn entry(self) -> ErrorEntry {
        match self {
            Self::Refusal(refusal) => table::of_refusal(refusal),
            Self::Reject(reason) => table::of_reject(reason),
        }
    }

    /// The code of a text, as it stands in a problem's `code`.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::all().find(|candidate| candidate.entry().code == code)
    }
}

/// A row of the table of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorEntry {
    /// The code for programs.
    pub code: &'static str,
    /// What it means: one sentence.
    pub meaning: &'static str,
    /// The HTTP status.
    pub http_status: u16,
    /// What it is called in FIX.
    pub fix: FixFields,
    /// What became of the request.
    pub outcome: Outcome,
    /// What the outcome speaks of.
    pub applies_to: AppliesTo,
    /// What the client does.
    pub client: &'static str,
    /// What the operator does.
    pub operator: &'static str,
}

/// The fields of FIX 4.4 and later that name an error: which one is sent depends on the message that is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixFields {
    /// `OrdRejReason` (103) of an execution report that rejects a new order.
    pub order_reject_reason: Option<u16>,
    /// `CxlRejReason` (102) of an order cancel reject.
    pub cancel_reject_reason: Option<u16>,
    /// `BusinessRejectReason` (380) of a business message reject.
    pub business_reject_reason: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_rows_are_whole() {
        let entries: Vec<ErrorEntry> = ErrorCode::all().map(ErrorCode::entry).collect();
        for (index, entry) in entries.iter().enumerate() {
            assert!((400..600).contains(&entry.http_status), "{}", entry.code);
            for sentence in [entry.meaning, entry.client, entry.operator] {
                assert!(sentence.ends_with('.'), "{}: {sentence}", entry.code);
            }
            assert_ne!(entry.fix, FixFields::default(), "{}", entry.code);
            for other in &entries[index + 1..] {
                assert_ne!(entry.code, other.code);
            }
        }
    }

    #[test]
    fn what_the_gateway_refuses_is_never_final_for_the_id() {
        for refusal in Refusal::ALL {
            let entry = ErrorCode::from(*refusal).entry();
            assert_eq!(entry.applies_to, AppliesTo::Attempt, "{}", entry.code);
            assert_ne!(entry.outcome, Outcome::Executed, "{}", entry.code);
        }
    }

    #[test]
    fn the_page_in_the_docs_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
        let rendered = markdown();
        if std::env::var_os("MERIDIAN_REGENERATE").is_some() {
            std::fs::write(path, &rendered).expect("write docs/errors.md");
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == rendered,
            "docs/errors.md differs from the table in code; make it again with: \
             MERIDIAN_REGENERATE=1 cargo test -p wire errors"
        );
    }
}
