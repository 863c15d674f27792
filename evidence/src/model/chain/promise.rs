//! What must hold in every state, and what must be possible.

use super::{Action, Chain, Seqs, State};
use stateright::{Model, Property};

impl Chain {
    /// What is left when all faults end and everybody does what is due: broken processes are
    /// started again, every message arrives.
    fn settle(&self, from: &State) -> State {
        let mut state = *from;
        (state.crashes, state.sync_errors, state.starts) = (0, 0, 0);
        (state.write_errors, state.forged_acks, state.lost_records) = (0, 0, 0);
        let restart = |state: &mut State| {
            if state.gateway.broken {
                self.gateway_opens(state);
            }
            for r in self.recorders() {
                if state
                    .recorders
                    .get(usize::from(r))
                    .is_some_and(|s| s.broken)
                {
                    self.recorder_opens(state, r);
                }
            }
        };
        restart(&mut state);
        // Each round moves at least one event a hop further.
        for _ in 0..=2 * self.size.events {
            let before = state;
            state.pump.acked = state.gateway.stored.min(state.pump.last());
            let newest = state.pump.last();
            for seq in state.pump.acked + 1..=newest.min(state.pump.acked + self.size.window) {
                state = self.after(&state, Action::Sends(seq));
            }
            for seq in state.frames.iter() {
                if self.takes(&state, seq) {
                    state = self.after(&state, Action::GatewayTakes(seq));
                }
            }
            state = self.after(&state, Action::GatewaySyncs);
            state = self.after(&state, Action::GatewayTells);
            for r in self.recorders() {
                state = self.after(&state, Action::RecorderReceipts(r));
                let store = state
                    .recorders
                    .get(usize::from(r))
                    .copied()
                    .unwrap_or_default();
                // A recorder that has nothing of a trial says nothing about it.
                if !store.view.is_empty() {
                    state = self.after(&state, Action::ReceiptHeard(store.stored));
                }
                let due: Seqs = state
                    .gateway
                    .view
                    .through(state.gateway.stored)
                    .iter()
                    .filter(|s| *s > state.outbox.recorded && *s > state.outbox.pruned)
                    .collect();
                for seq in due.iter() {
                    state = self.after(&state, Action::Publishes(seq));
                    // Sent again, it also arrives again.
                    state = self.after(&state, Action::RecorderTakes(r, seq));
                }
                state = self.after(&state, Action::RecorderSyncs(r));
            }
            if state == before {
                break;
            }
        }
        state
    }

    /// Every event that the pump showed as done is at a recorder, or was declared lost. (Of two
    /// recorders one is enough: a receipt is a receipt.)
    fn settles(&self, from: &State) -> bool {
        let end = self.settle(from);
        let pump = &end.pump;
        let destroyed = from.lost_records < self.size.lost_records;
        self.recorders().any(|r| {
            let store = end
                .recorders
                .get(usize::from(r))
                .copied()
                .unwrap_or_default();
            let excused = destroyed && (store.view.is_empty() || end.outbox.pruned > 0);
            excused
                || self.recorder_through(&end, store.disk) == pump.last()
                    && end.gateway.view.without(store.disk).is_empty()
        })
    }

    fn nothing_is_lost(&self, state: &State) -> bool {
        let State {
            pump,
            gateway,
            outbox,
            ..
        } = state;
        let declared = pump.declared(self, pump.held);
        let destroyed = state.lost_records < self.size.lost_records;
        (1..=pump.last()).all(|seq| {
            pump.held.has(seq)
                || declared.has(seq)
                || gateway.disk.has(seq) && seq > outbox.pruned
                || self
                    .recorders()
                    .filter_map(|r| state.recorders.get(usize::from(r)))
                    .any(|store| store.disk.has(seq))
                || destroyed && seq <= outbox.pruned
        })
    }

    fn order_holds(_: &Self, state: &State) -> bool {
        let pump = &state.pump;
        let place = |seq| (pump.boot_of(seq), pump.tick_of(seq));
        let rows: Vec<u8> = state.gateway.view.iter().collect();
        !pump.twofold
            && rows
                .iter()
                .zip(rows.iter().skip(1))
                .all(|(a, b)| place(*a) < place(*b))
    }

    fn spent(&self, state: &State) -> bool {
        state.crashes == 0
            && state.sync_errors == 0
            && state.starts == 0
            && state.write_errors == 0
            && state.forged_acks == 0
            && state.lost_records == 0
            && state.pump.last() == self.size.events
    }

    fn delivered(&self, state: &State) -> bool {
        let last = state.pump.last();
        self.recorders()
            .filter_map(|r| state.recorders.get(usize::from(r)))
            .all(|store| self.recorder_through(state, store.disk) == last)
            && state.outbox.recorded == last
    }
}

/// The end that must be reachable.
pub(crate) const ALL_DELIVERED: &str = "all is delivered after the most faults";

impl Model for Chain {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        Some(self.after(last, action)).filter(|next| next != last)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "the spool has no hole but declared ones",
                |m: &Self, s: &State| {
                    let through = m.gateway_through(s, s.gateway.view);
                    let ahead = s.gateway.view.without(s.gateway.view.through(through));
                    ahead.iter().all(|seq| s.pump.declares(m, seq).is_some())
                },
            ),
            Property::always(
                "the pump forgets only where the ring turns over",
                |_, s: &State| s.pump.held.count() + s.pump.erased == s.pump.all.count(),
            ),
            Property::always(
                "what was acknowledged is on the gateway's medium",
                |m: &Self, s: &State| s.told <= m.gateway_through(s, s.gateway.disk),
            ),
            Property::always(
                "a receipt says what a recorder had on its medium",
                |_, s: &State| s.receipted <= s.had,
            ),
            Property::always(
                "the outbox forgets only under a recorder's receipt",
                |_, s: &State| s.outbox.most <= s.had && s.outbox.pruned <= s.had,
            ),
            Property::always(
                "every event is somewhere, or declared lost",
                Self::nothing_is_lost,
            ),
            Property::always("nothing stands twice or was forged", |_, s: &State| {
                s.recorders
                    .iter()
                    .all(|store| !store.twice && !store.forged)
            }),
            Property::always(
                "the order by seq is the order in which it happened",
                Self::order_holds,
            ),
            Property::always(
                "no event is declared lost while the pump holds it",
                |_, s: &State| !s.wasted,
            ),
            Property::always("without further faults everything arrives", Self::settles),
            Property::sometimes(ALL_DELIVERED, |m: &Self, s: &State| {
                m.spent(s) && m.delivered(s)
            }),
        ]
    }
}
