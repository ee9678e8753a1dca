//! What operators do, and what holds for keys and accounts.

use engine::book::{FastBook, PlainBook};
use types::*;

use crate::check::{ADMIN, World, account, check, key, new_key, rules};

#[test]
fn the_system_makes_the_first_operator_key_and_nothing_else() {
    let mut world = World::<FastBook>::empty();
    let ask = |world: &mut World<FastBook>, id: &str, action: Action| {
        let command = world.command(AccountId::OPERATOR, KeyId::SYSTEM, id, action);
        world.apply(&command)
    };
    assert_eq!(ask(&mut world, "asset", Action::CreateAccount), "rejected key_unknown");
    let first = new_key(AccountId::OPERATOR, Scopes::ADMIN);
    assert_eq!(ask(&mut world, "init", first.clone()), "key 1 active");
    assert_eq!(ask(&mut world, "init", first.clone()), "repeat of 2");
    assert_eq!(ask(&mut world, "again", first.clone()), "rejected initialised_already");
    // Should the last one be revoked, the system can help again.
    assert_eq!(world.operate(Action::RevokeKey { key: ADMIN }), "key 1 revoked");
    assert_eq!(world.operate(Action::CreateAccount), "rejected key_revoked");
    assert_eq!(ask(&mut world, "help", first), "key 2 active");
}

#[test]
fn a_sealed_secret_is_no_part_of_what_makes_two_requests_the_same() {
    let mut world = World::<FastBook>::new();
    let sealed = |byte| {
        Action::CreateKey(NewKey {
            account: account("alice"),
            scopes: Scopes::READ,
            material: KeyMaterial::HmacSha256 { sealed: vec![byte; 60] },
        })
    };
    let mut ask = |action| {
        let command = world.command(AccountId::OPERATOR, ADMIN, "k", action);
        world.apply(&command)
    };
    assert_eq!(ask(sealed(1)), "key 5 active");
    assert_eq!(ask(sealed(2)), "repeat of 18");
    assert_eq!(
        ask(new_key(account("alice"), Scopes::READ)),
        "rejected request_id_reused"
    );
}

#[test]
fn a_suspended_account_is_out_and_a_restricted_one_may_cancel() {
    check(
        "
        alice buy 1@10 #a1            -> placed a1
        alice buy 1@11 #a2            -> placed a2
        operator restrict alice       -> account 2 CancelOnly
        alice buy 1@10                -> rejected account_cancel_only
        alice replace a1 2@_          -> rejected account_cancel_only
        alice cancel a1               -> a1 Cancelled Requested 1
        operator suspend alice        -> account 2 Suspended; a2 Cancelled Operator 1
        alice cancel-all              -> rejected account_suspended
        // Money still can be brought to it or taken from it.
        operator withdraw alice USD 10000 -> Withdrawal 0 + 0
        operator deposit alice USD 7  -> Deposit 7 + 0
        operator activate alice       -> account 2 Active
        alice buy 1@5 #a3             -> placed a3
        operator cancel-all alice     -> all cancelled 1; a3 Cancelled Operator 1
        ",
    );
}

#[test]
fn a_halted_instrument_takes_cancels_only() {
    check(
        "
        alice buy 1@10 #a1            -> placed a1
        alice buy 1@11 #a2            -> placed a2
        operator halt                 -> instrument X Halted scale 1
        bob sell 1@10                 -> rejected instrument_halted
        alice replace a1 2@_          -> rejected instrument_halted
        alice cancel a1               -> a1 Cancelled Requested 1
        operator rules tick=2         -> rejected not_halted_and_empty
        // The same numbers, written otherwise, are no change.
        operator rules tick=1.0 lot=1.00 -> instrument X Halted scale 1
        operator cancel-all alice     -> all cancelled 1; a2 Cancelled Operator 1
        operator rules tick=2         -> instrument X Halted scale 2
        operator trade                -> instrument X Trading scale 2
        operator rules tick=1         -> rejected not_halted_and_empty
        alice buy 1@10                -> rejected instrument_scale_changed
        alice buy 1@10 scale:2 #a3    -> placed a3
        balance alice USD: 9980 + 20
        operator close                -> instrument X Closed scale 2; a3 Cancelled Operator 1
        operator halt                 -> rejected instrument_closed
        operator rules tick=2         -> rejected instrument_closed
        ",
    );
}

#[test]
fn the_facts_rebuild_what_there_is() {
    let mut world = World::<FastBook>::new();
    world.run("alice buy 10@100 #a -> placed a");
    world.run("bob buy 1@101 #b -> placed b");
    world.run("carol sell 4@101 #c -> placed c; 1@101 with b filled");
    world.run("carol cancel-after 60 -> cancel after 60");
    let mut facts = Vec::new();
    world.exchange.facts(&mut facts);
    let told = |wanted: &dyn Fn(&Event) -> bool| facts.iter().filter(|fact| wanted(fact)).count();
    assert_eq!(told(&|fact| matches!(fact, Event::RulesChanged(_))), 1);
    assert_eq!(told(&|fact| matches!(fact, Event::AssetCreated(_))), 2);
    assert_eq!(told(&|fact| matches!(fact, Event::InstrumentChanged(_))), 1);
    assert_eq!(told(&|fact| matches!(fact, Event::AccountChanged(_))), 5);
    assert_eq!(told(&|fact| matches!(fact, Event::KeyChanged(_))), 4);
    assert_eq!(told(&|fact| matches!(fact, Event::CancelAfterSet { .. })), 1);
    assert_eq!(told(&|fact| matches!(fact, Event::BalanceChanged { .. })), 6);
    let orders: Vec<String> = facts
        .iter()
        .filter_map(|fact| match fact {
            Event::OrderPlaced(order) => Some(format!("{} {}", order.client_order_id, order.remaining().0)),
            _ => None,
        })
        .collect();
    assert_eq!(orders, ["a 10", "c 3"]);
}

#[test]
fn a_snapshot_makes_the_same_exchange_whatever_the_book() {
    let mut world = World::<FastBook>::new();
    for line in [
        "alice buy 10@100 #a -> placed a",
        "bob buy 1@101 #b gtd:60 -> placed b",
        "carol sell 4@103 #c day -> placed c",
        "alice cancel-after 30 -> cancel after 30",
    ] {
        world.run(line);
    }
    let restored =
        engine::Exchange::<PlainBook>::restore(world.exchange.snapshot(), world.exchange.engine_version()).unwrap();
    restored.check_invariants();
    assert_eq!(restored.state_hash(), world.exchange.state_hash());
    assert_eq!(restored.next_deadline(), world.exchange.next_deadline());
}

#[test]
fn the_first_engine_version_leaves_no_trace_in_hash_and_snapshot() {
    let mut world = World::<FastBook>::new();
    assert_eq!(world.exchange.engine_version(), EngineVersion::FIRST);
    let position = world.exchange.position();
    let state = |world: &World<FastBook>| format!("{:?}", world.exchange.snapshot());
    assert!(
        !state(&world).contains("version: EngineVersion"),
        "it stands beside the state"
    );
    let restored =
        |world: &World<FastBook>, version| engine::Exchange::<PlainBook>::restore(world.exchange.snapshot(), version);
    // The same state under two versions has two hashes.
    let first = restored(&world, EngineVersion(1)).unwrap().state_hash();
    let second = restored(&world, EngineVersion(2)).unwrap();
    assert_eq!(first, world.exchange.state_hash());
    assert_ne!(first, second.state_hash());
    assert_eq!(second.state_hash(), second.recompute_state_hash());
    for unknown in [0, 3] {
        assert!(restored(&world, EngineVersion(unknown)).is_err(), "{unknown}");
    }
    world.run("operator engine-version 2 -> engine version 2");
    assert!(world.exchange.position() > position);
    let again = restored(&world, world.exchange.engine_version()).unwrap();
    assert_eq!(again.state_hash(), world.exchange.state_hash());
}

#[test]
fn an_instrument_of_one_asset_for_itself_is_refused() {
    let mut world = World::<FastBook>::new();
    let outcome = world.operate(Action::CreateInstrument {
        symbol: "Y".parse().unwrap(),
        base: AssetId(0),
        quote: AssetId(0),
        rules: rules(),
    });
    assert_eq!(outcome, "rejected rules_invalid");
    assert_eq!(key("alice"), KeyId(2));
}
