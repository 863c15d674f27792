//! What can happen in a state.

use super::{Action, Chain, Plant, State};

impl Chain {
    /// All actions that are possible in a state and change it.
    pub(crate) fn possible(&self, state: &State, out: &mut Vec<Action>) {
        let State {
            pump,
            gateway,
            outbox,
            ..
        } = state;
        if self.has_room(pump) {
            out.push(Action::Happens);
            let room = pump.last() + pump.given_up + 2 < self.size.events;
            if state.write_errors > 0 && room && !self.turns(pump) {
                out.push(Action::FindsNoRoom);
            }
            if state.starts > 0 && !pump.all.is_empty() {
                out.push(Action::PumpStarts);
            }
        }
        let newest = pump.last();
        for seq in pump.acked + 1..=newest.min(pump.acked + self.size.window) {
            if self
                .frame_for(pump, seq)
                .is_some_and(|frame| !state.frames.has(frame))
            {
                out.push(Action::Sends(seq));
            }
        }
        let told = (0..=state.told.min(newest)).filter(|seq| *seq != pump.acked);
        out.extend(told.map(Action::PumpHears));
        if state.forged_acks > 0 {
            out.extend((pump.acked + 1..=newest).map(Action::ForgedAck));
        }
        if !gateway.broken {
            let takes = state.frames.iter().filter(|seq| self.takes(state, *seq));
            out.extend(takes.map(Action::GatewayTakes));
            let dirty = gateway.view != gateway.disk;
            if dirty && self.gateway_would_sync(state) {
                out.push(Action::GatewaySyncs);
            }
            if dirty && state.sync_errors > 0 && !gateway.ghosts {
                out.push(Action::GatewaySyncFails);
            }
        }
        if state.told < gateway.stored {
            out.push(Action::GatewayTells);
        }
        if state.crashes > 0 {
            out.push(Action::GatewayKilled);
            let dirty = gateway.view.without(gateway.disk);
            if !dirty.is_empty() || gateway.ghosts {
                out.push(Action::GatewayCut(0));
                out.extend(dirty.iter().map(Action::GatewayCut));
            }
        }
        let rows = gateway.view.through(gateway.stored);
        for seq in rows
            .iter()
            .filter(|s| *s > outbox.recorded && *s > outbox.pruned)
        {
            if !state.published.has(seq) {
                out.push(Action::Publishes(seq));
            }
        }
        for seq in 0..=state.receipted {
            let news = seq != outbox.recorded;
            if news && !(self.is(Plant::ReceiptNeverLess) && seq < outbox.recorded) {
                out.push(Action::ReceiptHeard(seq));
            }
        }
        if self.is(Plant::PubackAsDurable) {
            let acked = state.published.iter().filter(|s| *s > outbox.recorded);
            out.extend(acked.map(Action::Pubacked));
        }
        if self.is(Plant::ForgedReceiptTaken) || self.is(Plant::ForeignReceiptTaken) {
            out.extend((outbox.recorded + 1..=newest).map(Action::FalseReceipt));
        }
        if self.size.prunes && newest == self.size.events && outbox.pruned < outbox.most {
            out.push(Action::Prunes);
        }
        for r in self.recorders() {
            self.possible_at(state, r, out);
        }
        if self.is(Plant::ForgedEventTaken) && !state.recorders.iter().any(|s| s.forged) {
            out.push(Action::FalseBatch);
        }
    }

    fn gateway_would_sync(&self, state: &State) -> bool {
        !state.gateway.ghosts || state.gateway.stored != self.gateway_stored(state)
    }

    fn possible_at(&self, state: &State, r: u8, out: &mut Vec<Action>) {
        let Some(store) = state.recorders.get(usize::from(r)) else {
            return;
        };
        if !store.broken {
            for seq in state.published.iter() {
                let repeat = store.view.has(seq);
                if !repeat || self.is(Plant::RepeatsKept) && !store.twice {
                    out.push(Action::RecorderTakes(r, seq));
                }
            }
            let dirty = store.view != store.disk;
            let stored = self.recorder_stored(state, store.view);
            if dirty && (!store.ghosts || store.stored != stored) {
                out.push(Action::RecorderSyncs(r));
            }
            if dirty && state.sync_errors > 0 && !store.ghosts {
                out.push(Action::RecorderSyncFails(r));
            }
        }
        if state.crashes > 0 {
            out.push(Action::RecorderKilled(r));
            let dirty = store.view.without(store.disk);
            if !dirty.is_empty() || store.ghosts {
                out.extend(dirty.parts().map(|kept| Action::RecorderCut(r, kept)));
            }
        }
        if state.lost_records > 0 && !store.view.is_empty() {
            out.push(Action::RecordDestroyed(r));
        }
        if state.receipted < store.stored {
            out.push(Action::RecorderReceipts(r));
        }
    }
}
