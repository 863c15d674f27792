//! The program as a library in this process.

use super::{Hung, Machine};
use crate::board::SimBoard;
use firmware::acts::Refused;
use firmware::face::Face;
use firmware::line::Line;
use firmware::provision::Provision;
use firmware::pump::{Input, Pump, StartError};
use firmware::rig::Health;
use protocol::event::{BootReason, Raw};
use protocol::hex::Tag;
use protocol::time::Uptime;

pub(crate) struct NativePump {
    pump: Pump<SimBoard>,
    line: Line,
}

impl NativePump {
    pub(crate) fn start(
        board: SimBoard,
        provision: &Provision,
        reason: BootReason,
        now: Uptime,
    ) -> Result<Self, (StartError, Box<SimBoard>)> {
        match Pump::start(board, provision, reason, 0) {
            Ok(pump) => {
                let line = Line::new(now, &pump);
                Ok(Self { pump, line })
            }
            Err(failed) => Err((failed.error, Box::new(failed.board))),
        }
    }
}

impl Machine for NativePump {
    fn handle(&mut self, tick_ms: u64, input: Input) -> Result<(), Refused> {
        self.pump.handle(tick_ms, input)
    }

    fn handle_time(&mut self, tick_ms: u64) {
        self.pump.handle_time(tick_ms);
    }

    fn next_wake(&self) -> u64 {
        self.pump.next_wake()
    }

    fn last_seq(&self) -> u64 {
        self.pump.last_seq()
    }

    fn boot(&self) -> u32 {
        self.pump.boot()
    }

    fn closed(&self) -> bool {
        self.pump.closed()
    }

    fn event(&self, seq: u64) -> Option<(Raw, Tag)> {
        self.pump.event(seq)
    }

    fn face(&self, tick_ms: u64, now: Uptime) -> Option<Face> {
        Some(self.pump.face(tick_ms, self.line.monitored(now)))
    }

    fn bytes_in(&mut self, now: Uptime, tick_ms: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.line.bytes_in(now, tick_ms, bytes, &self.pump);
        }
    }

    fn bytes_out(&mut self, now: Uptime, tick_ms: u64) -> Vec<u8> {
        let mut room = [0; 512];
        let n = self.line.poll_out(now, tick_ms, &self.pump, &mut room);
        room.get(..n).unwrap_or(&[]).to_vec()
    }

    fn acked_seq(&self) -> u64 {
        let unacknowledged = self.line.unacknowledged();
        self.pump.last_seq().saturating_sub(unacknowledged)
    }

    fn monitored(&self, now: Uptime) -> bool {
        self.line.monitored(now)
    }

    fn turn(&mut self, now: Uptime, tick_ms: u64, hung: Hung) -> bool {
        if !hung.program {
            self.pump.handle_time(tick_ms);
        }
        if !hung.line {
            self.line.turn(now, &self.pump);
        }
        self.pump.serve_watchdog(self.line.turns());
        self.pump.board_mut().take_fed()
    }

    fn take_reset(&mut self) -> Option<BootReason> {
        None
    }

    fn start_again(&mut self, _: BootReason) {}

    fn broken(&self) -> Option<String> {
        None
    }

    fn health(&self) -> Option<Health> {
        None
    }

    fn board(&self) -> &SimBoard {
        self.pump.board()
    }

    fn board_mut(&mut self) -> &mut SimBoard {
        self.pump.board_mut()
    }

    fn into_board(self: Box<Self>) -> Box<SimBoard> {
        Box::new(self.pump.into_board())
    }
}
