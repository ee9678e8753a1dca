//! The table of errors as a page of the documentation.

use std::fmt::Write as _;

use super::{ErrorCode, ErrorEntry};
use crate::json::{AppliesTo, Outcome};

const INTRODUCTION: &str = "\
# Errors

This page is made from the table in `crates/wire/src/errors`; a test compares the two.

Errors are `application/problem+json` (RFC 9457). `code` is for programs. `outcome` says what became of the request, and
`applies_to` of what it speaks:

| outcome | applies_to | what it means |
| --- | --- | --- |
| `not_executed` | `order` | Final: nothing under this request id has executed or will. |
| `not_executed` | `attempt` | This attempt was not executed. An earlier one under the same id may have been: to find out, send the same request again with the same id. |
| `unknown` | `attempt` | It may have executed. Send the same request again with the same id: it executes at most once, and you get its answer. |

No answer at all, or one without `outcome` (a proxy's, a cut line), is `unknown` too.

The FIX column names `OrdRejReason` (103), `CxlRejReason` (102) and `BusinessRejectReason` (380).
";

/// The page.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    let (refusals, rejects): (Vec<ErrorCode>, Vec<ErrorCode>) =
        ErrorCode::all().partition(|code| matches!(code, ErrorCode::Refusal(_)));
    page.push_str("\n## Refused before sequencing, or unknown\n\nThese do not use up the request id.\n\n");
    table(&mut page, &refusals);
    page.push_str("\n## Refused by the exchange\n\nThese were sequenced: they have a position and a time.\n\n");
    table(&mut page, &rejects);
    page
}

fn table(page: &mut String, codes: &[ErrorCode]) {
    page.push_str(
        "| code | meaning | HTTP | FIX | outcome | applies_to | what the client does | what the operator does |\n",
    );
    page.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for code in codes {
        row(page, &code.entry());
    }
}

fn row(page: &mut String, entry: &ErrorEntry) {
    let outcome = match entry.outcome {
        Outcome::Executed => "executed",
        Outcome::NotExecuted => "not_executed",
        Outcome::Unknown => "unknown",
    };
    let applies_to = match entry.applies_to {
        AppliesTo::Order => "order",
        AppliesTo::Attempt => "attempt",
    };
    let fix = [
        (103, entry.fix.order_reject_reason),
        (102, entry.fix.cancel_reject_reason),
        (380, entry.fix.business_reject_reason),
    ];
    let fix: Vec<String> = fix
        .into_iter()
        .filter_map(|(tag, value)| value.map(|value| format!("{tag}={value}")))
        .collect();
    let ErrorEntry {
        code,
        meaning,
        http_status,
        client,
        operator,
        ..
    } = entry;
    let fix = fix.join(" ");
    writeln!(
        page,
        "| <a id=\"{code}\"></a>`{code}` | {meaning} | {http_status} | {fix} | `{outcome}` | `{applies_to}` | {client} | {operator} |"
    )
    .expect("writing to a string does not fail");
}
