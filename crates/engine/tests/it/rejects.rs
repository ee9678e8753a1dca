//! Every reason to refuse, at least once.

use engine::book::{FastBook, PlainBook};
use types::*;

use crate::check::{ADMIN, World, account, check, key, new_key, rules};

/// Refusals of orders and of what else is easily said in words: the reason, and the lines that lead to it.
const IN_WORDS: &[(RejectReason, &str)] = &[
    (
        RejectReason::RequestIdReused,
        "alice buy 1@10 #a -> placed a\nalice buy 2@10 #a",
    ),
    (RejectReason::ValidUntilPassed, "wait 9\nalice buy 1@10 valid-until:8"),
    (RejectReason::ValidUntilTooFar, "alice buy 1@10 valid-until:86401"),
    (
        RejectReason::RequestIdBurnt,
        "alice cancel a -> burnt a\nalice buy 2@10 #a",
    ),
    (
        RejectReason::AccountSuspended,
        "operator suspend alice -> account 2 Suspended\nalice buy 1@10",
    ),
    (
        RejectReason::AccountCancelOnly,
        "operator restrict alice -> account 2 CancelOnly\nalice buy 1@10",
    ),
    (RejectReason::InstrumentUnknown, "alice buy 1@10 of-Y"),
    (
        RejectReason::InstrumentHalted,
        "operator halt -> instrument X Halted scale 1\nalice buy 1@10",
    ),
    (
        RejectReason::InstrumentClosed,
        "operator close -> instrument X Closed scale 1\nalice buy 1@10",
    ),
    (RejectReason::InstrumentScaleChanged, "alice buy 1@10 scale:2"),
    (RejectReason::PriceOutOfRange, "alice buy 1@0"),
    (RejectReason::PriceOutOfRange, "alice buy 1@-7"),
    (RejectReason::PriceOutOfRange, "alice buy 1@9223372036854775807"),
    (
        RejectReason::PriceOutsideCollar,
        "operator rules collar=50000 reference=1000 -> instrument X Trading scale 1\n\
         alice buy 1@950 #a -> placed a\nalice buy 1@1050 #b -> placed b\nalice buy 1@1051 -> rejected \
         price_outside_collar\nalice buy 1@949",
    ),
    (RejectReason::QuantityTooSmall, "alice buy 0@10"),
    (RejectReason::QuantityTooSmall, "alice buy -5@10"),
    (RejectReason::QuantityTooLarge, "alice buy 501@10"),
    (RejectReason::QuantityTooLarge, "alice buy 9223372036854775807@10"),
    (RejectReason::NotionalTooSmall, "alice buy 1@4"),
    (
        RejectReason::NotionalTooSmall,
        "bob sell 9@1 #b -> placed b\nalice buy 1",
    ),
    (RejectReason::NotionalTooLarge, "alice buy 201@100"),
    (
        RejectReason::NotionalTooLarge,
        "operator rules notional-max=200 -> instrument X Trading scale 1\nbob sell 2@100 #b1 -> placed b1\n\
         bob sell 2@99 #b2 -> placed b2\nalice buy 3",
    ),
    (
        // Half of the most that there may be is filled; five quarters would be.
        RejectReason::NotionalTooLarge,
        "operator halt -> instrument X Halted scale 1\n\
         operator rules tick=4096 notional-max=1152921504606846976 -> instrument X Halted scale 2\n\
         operator trade -> instrument X Trading scale 2\n\
         operator deposit bob USD 600000000000000000 -> Deposit 600000000000010000 + 0\n\
         alice sell 2@140737488355328 #a scale:2 -> placed a\n\
         bob buy 1@140737488355328 #b scale:2 -> placed b; 1@140737488355328 with a\n\
         alice replace a 3@70368744177664 scale:2 -> replaced a 3@70368744177664 lost\n\
         alice replace a 4@70368744177664 scale:2",
    ),
    (RejectReason::InsufficientFunds, "alice buy 101@100"),
    (
        RejectReason::InsufficientFunds,
        "operator withdraw alice ACME 999 -> Withdrawal 1 + 0\nalice sell 2@100",
    ),
    (RejectReason::InsufficientFunds, "operator withdraw alice USD 10001"),
    (
        RejectReason::OpenOrdersLimit,
        "operator limits open=1 -> limits 2\nalice buy 1@5 #a -> placed a\nalice buy 1@6",
    ),
    (
        RejectReason::OpenOrdersLimit,
        "operator limits open=1 open-all=1 -> limits 2\nbob buy 1@5 #b -> placed b\nalice buy 1@6",
    ),
    (
        RejectReason::PostOnlyWouldTake,
        "bob sell 1@10 #b -> placed b\nalice buy 1@10 post-only",
    ),
    (
        RejectReason::FokNotFillable,
        "bob sell 1@10 #b -> placed b\nalice buy 2@10 fok",
    ),
    (RejectReason::NoLiquidity, "alice buy 1"),
    (RejectReason::ExpiryPassed, "wait 5\nalice buy 1@10 gtd:5"),
    (RejectReason::CombinationInvalid, "alice buy 1@10 ioc post-only"),
    (RejectReason::CombinationInvalid, "alice buy 1@10 fok post-only"),
    (RejectReason::CombinationInvalid, "alice buy 1 gtc"),
    (RejectReason::CombinationInvalid, "alice buy 1 day"),
    (RejectReason::CombinationInvalid, "alice buy 1 post-only"),
    (RejectReason::OrderUnknown, "alice cancel order:99"),
    (
        RejectReason::OrderClosed,
        "alice buy 1@10 ioc #a -> placed a; a Cancelled Unfilled 1\nalice cancel a",
    ),
    (
        RejectReason::QuantityNotAboveFilled,
        "alice buy 5@10 #a -> placed a\nbob sell 2@10 #b -> placed b; 2@10 with a\nalice replace a 2@_",
    ),
    (
        RejectReason::NothingToChange,
        "alice buy 5@10 #a -> placed a\nalice replace a _@_ post-only",
    ),
    (RejectReason::DeadlineTooFar, "alice cancel-after 86401"),
    (RejectReason::AmountOutOfRange, "operator deposit alice USD 0"),
    (RejectReason::AmountOutOfRange, "operator deposit alice USD -5"),
    (
        RejectReason::AmountOutOfRange,
        "operator withdraw alice USD 9223372036854775807",
    ),
    (
        RejectReason::AmountOutOfRange,
        "operator deposit alice USD 1152921504606846976",
    ),
    (RejectReason::AccountUnknown, "operator deposit nobody USD 5"),
    (RejectReason::AccountUnknown, "operator suspend fees"),
    (RejectReason::AccountUnknown, "operator cancel-all nobody"),
    (RejectReason::RulesInvalid, "operator rules maker=-200 taker=100"),
    (RejectReason::RulesInvalid, "operator rules taker=100001"),
    (RejectReason::RulesInvalid, "operator rules tick=0.5"),
    (RejectReason::RulesInvalid, "operator rules lot=0.5"),
    (RejectReason::RulesInvalid, "operator rules tick=0"),
    (
        RejectReason::RulesInvalid,
        "operator rules tick=1000000000 lot=2000000000",
    ),
    (RejectReason::RulesInvalid, "operator rules quantity-max=0"),
    (RejectReason::RulesInvalid, "operator rules notional-max=4"),
    (RejectReason::RulesInvalid, "operator limits version=1"),
    (RejectReason::RulesInvalid, "operator limits version=3"),
    (RejectReason::RulesInvalid, "operator limits expiries=0"),
    (RejectReason::RulesInvalid, "operator limits memory=1000"),
    (RejectReason::RulesInvalid, "operator limits open=10 open-all=9"),
    (
        RejectReason::NotHaltedAndEmpty,
        "alice buy 1@10 #a -> placed a\noperator halt -> instrument X Halted scale 1\noperator rules lot=2",
    ),
];

#[test]
fn each_reason_that_is_easily_said_in_words() {
    for (reason, lines) in IN_WORDS {
        check(&format!("{lines} -> rejected {}", reason.code()));
    }
}

/// Refusals of single actions of the operator.
fn of_operators() -> Vec<(RejectReason, Action)> {
    let create = |symbol: &str, base, quote, rules| Action::CreateInstrument {
        symbol: symbol.parse().unwrap(),
        base: AssetId(base),
        quote: AssetId(quote),
        rules,
    };
    let asset = |symbol: &str, decimals| Action::CreateAsset {
        symbol: symbol.parse().unwrap(),
        decimals,
    };
    let collar = InstrumentRules {
        collar_ppm: u32::MAX,
        ..rules()
    };
    let sealed = |bytes: usize| {
        Action::CreateKey(NewKey {
            account: account("alice"),
            scopes: Scopes::TRADE,
            material: KeyMaterial::HmacSha256 { sealed: vec![0; bytes] },
        })
    };
    let transfer = |account, asset| Transfer {
        account,
        asset,
        amount: Amount(1),
    };
    vec![
        (RejectReason::AssetUnknown, create("Y", 1, 7, rules())),
        (
            RejectReason::AssetUnknown,
            Action::Deposit(transfer(account("alice"), AssetId(7))),
        ),
        (
            RejectReason::AccountUnknown,
            Action::Deposit(transfer(AccountId::OPERATOR, AssetId(0))),
        ),
        (RejectReason::SymbolTaken, create("X", 1, 0, rules())),
        (RejectReason::SymbolTaken, asset("USD", 2)),
        (RejectReason::RulesInvalid, asset("EUR", 13)),
        (RejectReason::RulesInvalid, create("Y", 1, 0, collar)),
        (RejectReason::KeyInvalid, new_key(account("alice"), Scopes::ADMIN)),
        (RejectReason::KeyInvalid, new_key(account("alice"), Scopes::default())),
        (RejectReason::KeyInvalid, new_key(account("alice"), Scopes(64))),
        (RejectReason::KeyInvalid, new_key(AccountId::OPERATOR, Scopes::TRADE)),
        (RejectReason::KeyInvalid, new_key(AccountId::FEES, Scopes::READ)),
        (RejectReason::KeyInvalid, sealed(0)),
        (RejectReason::KeyInvalid, sealed(129)),
        (RejectReason::AccountUnknown, new_key(AccountId(99), Scopes::READ)),
        (RejectReason::KeyUnknown, Action::RevokeKey { key: KeyId(0) }),
        (RejectReason::KeyUnknown, Action::RevokeKey { key: KeyId(99) }),
        (
            RejectReason::CombinationInvalid,
            Action::CancelAllFor {
                account: None,
                instrument: None,
            },
        ),
        (
            RejectReason::InstrumentUnknown,
            Action::CancelAllFor {
                account: None,
                instrument: Some(InstrumentId(1)),
            },
        ),
    ]
}

#[test]
fn each_reason_for_operators() {
    for (reason, action) in of_operators() {
        let mut world = World::<FastBook>::new();
        assert_eq!(
            world.operate(action.clone()),
            format!("rejected {}", reason.code()),
            "{action:?}"
        );
        // Refusals that use up the id are remembered; the others leave it free.
        let command = world.command(AccountId::OPERATOR, ADMIN, "operator-18", action);
        let again = world.apply(&command);
        assert_eq!(again.starts_with("repeat of 18"), reason.uses_request_id(), "{again}");
    }
}

#[test]
fn the_limits_of_accounts_instruments_and_keys() {
    let mut world = World::<PlainBook>::new();
    world.run("operator limits accounts=5 instruments=1 keys=1 -> limits 2");
    let create = Action::CreateInstrument {
        symbol: "Y".parse().unwrap(),
        base: AssetId(1),
        quote: AssetId(0),
        rules: rules(),
    };
    for action in [Action::CreateAccount, create, new_key(account("alice"), Scopes::READ)] {
        assert_eq!(world.operate(action), "rejected limit_reached");
    }
    // A revoked key makes room for another.
    assert_eq!(world.operate(Action::RevokeKey { key: key("alice") }), "key 2 revoked");
    assert_eq!(
        world.operate(Action::RevokeKey { key: key("alice") }),
        "rejected key_revoked"
    );
    assert_eq!(world.operate(new_key(account("alice"), Scopes::READ)), "key 5 active");
}

#[test]
fn keys_act_for_their_account_within_their_scopes_until_they_are_revoked() {
    let mut world = World::<PlainBook>::new();
    world.operate(new_key(account("alice"), Scopes::READ));
    let buy = world.parse("alice buy 1@10 #a");
    let mut ask = |account: AccountId, key: u32| {
        let command = Command {
            account,
            key: KeyId(key),
            ..buy.clone()
        };
        world.apply(&command)
    };
    let alice = account("alice");
    assert_eq!(ask(alice, 99), "rejected key_unknown");
    assert_eq!(ask(alice, 0), "rejected key_unknown");
    assert_eq!(ask(alice, 5), "rejected key_scope_missing");
    assert_eq!(ask(alice, 3), "rejected key_scope_missing", "bob's key");
    assert_eq!(ask(alice, 1), "rejected key_scope_missing", "the operator's");
    assert_eq!(ask(AccountId::OPERATOR, 2), "rejected key_scope_missing");
    assert_eq!(ask(AccountId(99), 2), "rejected key_scope_missing");
    // None of these used up the id.
    assert_eq!(ask(alice, 2), "placed a");
    world.operate(Action::RevokeKey { key: KeyId(2) });
    // Not even the first answer is told to a key that was revoked.
    assert_eq!(world.apply(&buy), "rejected key_revoked");
    let mut deposit = world.command(alice, KeyId(3), "d", Action::CreateAccount);
    assert_eq!(world.apply(&deposit), "rejected key_scope_missing");
    deposit.account = account("bob");
    assert_eq!(world.apply(&deposit), "rejected key_scope_missing");
}

#[test]
fn no_reason_is_left_out() {
    // Tested elsewhere: by their own tests above, or in `requests`, `operators` and `trading`.
    let elsewhere = [
        RejectReason::RequestMemoryFull,
        RejectReason::KeyRevoked,
        RejectReason::KeyScopeMissing,
        RejectReason::LimitReached,
        RejectReason::InitialisedAlready,
        RejectReason::Quarantined,
        RejectReason::EngineVersionNotHigher,
        RejectReason::NotInForce,
    ];
    let operators = of_operators();
    for reason in RejectReason::ALL {
        let tested = elsewhere.contains(reason)
            || IN_WORDS.iter().any(|(tested, _)| tested == reason)
            || operators.iter().any(|(tested, _)| tested == reason);
        assert!(tested, "{reason:?} has no test");
    }
}
