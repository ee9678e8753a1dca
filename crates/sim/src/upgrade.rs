//! A rolling upgrade: nodes begin with programs of two releases, an operator restarts the older ones one by one with the newer
//! program, and then switches on the newer behaviour, in the middle of everything else that happens.

use engine::ENGINE_VERSION;
use types::{Action, Command, EngineVersion, SelfTradePrevention, StateMachine as _};
use wire::journal::NodeId;

use crate::coverage::Point;
use crate::events::{Call, Event, MILLISECOND, Time};
use crate::market::{self, TRADERS};
use crate::mutation::{Mutated, Mutation};
use crate::random::Dice;
use crate::shared::Shared;
use crate::world::World;

/// Who asks to switch on: nobody who waits for an answer.
const OPERATOR: u32 = TRADERS + 1;
/// When the upgrade begins at the earliest.
const BEGINS: Time = 1_000 * MILLISECOND;

/// True of a call whose answer nobody waits for.
pub(crate) fn is_operators(call: Call) -> bool {
    call.client == OPERATOR
}

/// The release that a node of the first group begins with.
pub(crate) fn first_release(dice: &mut Dice) -> EngineVersion {
    if dice.below(3) < 2 {
        EngineVersion::FIRST
    } else {
        ENGINE_VERSION
    }
}

/// Has a new order ask for what was switched on, at times.
pub(crate) fn use_what_is_new(command: &mut Command, shared: &mut Shared, dice: &mut Dice) {
    if shared.in_force < EngineVersion::DECREMENT_AND_CANCEL {
        return;
    }
    if let Action::Place(order) = &mut command.action
        && dice.one_in(3)
    {
        order.self_trade_prevention = SelfTradePrevention::DecrementAndCancel;
        shared.hit(Point::NewBehaviour);
    }
}

impl World {
    /// When the operator begins.
    pub(crate) fn plan_upgrade(&mut self) {
        let begins = BEGINS + self.upgrade_dice.below(4_000) * MILLISECOND;
        self.shared.after(begins, Event::Upgrade);
    }

    /// The operator goes on.
    pub(crate) fn upgrade(&mut self) {
        if self.heals() || self.shared.in_force == ENGINE_VERSION {
            return;
        }
        let wait = self.upgrade_dice.between(60, 500) * MILLISECOND;
        self.shared.after(wait, Event::Upgrade);
        let too_early = self.shared.mutation.is(Mutation::SwitchedOnTooEarly);
        let mut there = self.hosts.iter_mut().filter(|host| !host.removed);
        if let Some(older) = there.find(|host| host.reads < ENGINE_VERSION)
            && !too_early
        {
            // Whatever starts it next starts the newer program.
            older.next_reads = ENGINE_VERSION;
            let node = older.id;
            self.shared.hit(Point::MixedReleases);
            return self.shared.after(0, Event::Restart { node });
        }
        let Some(leader) = self.leader() else { return };
        let utc = self.hosts[leader.0 as usize - 1].utc(&self.shared);
        if self.is_in_force_at(leader) {
            self.shared.in_force = ENGINE_VERSION;
            self.shared.hit(Point::SwitchedOn);
            return self.shared.say(|| "the newer behaviour is switched on".to_owned());
        }
        let command = market::switch_on(utc);
        let call = Call {
            client: OPERATOR,
            request: 0,
            attempt: 0,
        };
        let shared = &mut self.shared;
        self.hosts[leader.0 as usize - 1].called(call, command, shared);
    }

    fn is_in_force_at(&self, node: NodeId) -> bool {
        let market = self.hosts[node.0 as usize - 1].market();
        market.is_some_and(|market| market.engine_version() == ENGINE_VERSION)
    }
}
