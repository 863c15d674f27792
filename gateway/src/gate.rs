//! Whether what the line says is the pump's own: its chain, looked at before anything is stored.
//! Pure.
//!
//! Who does not hold the pump's tag secret sees that at a signed checkpoint alone, and each start
//! of a pump begins with one. Until it has come and holds, the events of that start are held back:
//! not stored, not acknowledged, not shown. After it an event is taken at once, and the next
//! checkpoint, an hour later at most, convicts what was not the pump's. With the secret each event
//! is looked at by itself.

use protocol::chain::{Broken, ChainCheck, Finding};
use protocol::event::{Head, Raw};
use protocol::hex::{PublicKey, Tag};
use protocol::link::WINDOW;
use protocol::topics::EventRow;

/// The pump's checkpoints are an hour apart; this long after one, by the pump's own tick, the next
/// is overdue.
const CHECKPOINT_OVERDUE_MS: u64 = 65 * 60_000;
/// Most events of a start that are held back.
const HELD_MAX: usize = 60;

const _: () = assert!(
    WINDOW > 60,
    "a pump that waits for an acknowledgement has sent all that is held"
);

/// Why an event is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not of this pump's chain.
    #[error("boot {boot} seq {seq} is not this pump's: {why}")]
    Forged {
        /// Its start.
        boot: u32,
        /// Its seq.
        seq: u64,
        /// How that was seen.
        why: Broken,
    },
    /// A start without the signed checkpoint that each begins with.
    #[error("boot {0} begins without a signed checkpoint")]
    Unsigned(u32),
}

/// The chain of one pump as far as it was let through.
#[derive(Debug)]
pub struct Gate {
    check: ChainCheck,
    /// `check` with what is held back.
    ahead: Option<ChainCheck>,
    held: Vec<EventRow>,
    /// The last start whose events are taken at once.
    open_boot: u32,
    let_through: u64,
    /// Start and tick of the last good checkpoint.
    signed_at: Option<(u32, u64)>,
    lost: bool,
}

impl Gate {
    /// Of a trial that begins.
    pub fn new(manifest: &[u8], key: PublicKey, tag_secret: Option<&[u8; 32]>) -> Self {
        Self {
            check: ChainCheck::new(manifest, key, tag_secret),
            ahead: None,
            held: Vec::new(),
            open_boot: 0,
            let_through: 0,
            signed_at: None,
            lost: false,
        }
    }

    /// An event that is on disk already; in order of seq, before any is taken from the line.
    ///
    /// # Errors
    /// Where it is not of this pump's chain: then what is stored was forged or altered.
    pub fn recall(&mut self, raw: &Raw, tag: &Tag) -> Result<(), Refused> {
        let head = head_of(raw);
        let finding = step(&mut self.check, raw, tag).0;
        self.let_through = self.let_through.max(head.seq);
        self.settle(finding, head)
    }

    /// The next event of the line. Gives what may be stored now, in order.
    ///
    /// # Errors
    /// Where it is not this pump's; what was held back with it is forgotten.
    pub fn take(&mut self, row: EventRow, raw: &Raw) -> Result<Vec<EventRow>, Refused> {
        let head = head_of(raw);
        if head.seq <= self.let_through {
            // A repeat: the store holds its bytes against what is there.
            return Ok(vec![row]);
        }
        if self.held.iter().any(|held| held.seq == head.seq) {
            return Ok(Vec::new());
        }
        let mut check = self.ahead.as_ref().unwrap_or(&self.check).clone();
        let (finding, hole) = step(&mut check, raw, &row.tag);
        self.lost |= hole;
        if let Err(refused) = self.settle(finding, head) {
            self.forget_held();
            return Err(refused);
        }
        self.held.push(row);
        // Behind a loss that the pump declares, a start's checkpoint may be gone with the rest.
        if head.boot <= self.open_boot || self.lost && self.held.len() >= HELD_MAX {
            self.check = check;
            self.ahead = None;
            self.lost = false;
            self.open_boot = self.open_boot.max(head.boot);
            self.let_through = head.seq;
            return Ok(std::mem::take(&mut self.held));
        }
        if self.held.len() >= HELD_MAX {
            self.forget_held();
            return Err(Refused::Unsigned(head.boot));
        }
        self.ahead = Some(check);
        Ok(Vec::new())
    }

    fn settle(&mut self, finding: Finding, head: Head) -> Result<(), Refused> {
        match finding {
            Finding::Broken(why) => Err(Refused::Forged {
                boot: head.boot,
                seq: head.seq,
                why,
            }),
            Finding::Proven => {
                self.open_boot = self.open_boot.max(head.boot);
                self.signed_at = Some((head.boot, head.tick_ms));
                Ok(())
            }
            Finding::Good | Finding::NotProven | Finding::Hole { .. } => Ok(()),
        }
    }

    /// The pump declared a loss behind what is held back: it holds none of it any more, and the
    /// checkpoint that would prove it may be gone as well. Gives what may be stored now, in order;
    /// the record says of it that nothing proves it.
    pub fn release_before_loss(&mut self) -> Vec<EventRow> {
        if let Some(check) = self.ahead.take() {
            self.check = check;
        }
        self.lost = false;
        let held = std::mem::take(&mut self.held);
        self.let_through = held.last().map_or(self.let_through, |row| row.seq);
        held
    }

    /// The line was opened again, or the store failed: what is held back comes again.
    pub fn forget_held(&mut self) {
        self.ahead = None;
        self.lost = false;
        self.held.clear();
    }

    /// Events of a start that wait for its checkpoint.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether a pump with nothing left to send should have signed something by this tick.
    pub fn is_overdue(&self, boot: u32, tick_ms: u64) -> bool {
        let signed = self
            .signed_at
            .filter(|(of, _)| *of == boot)
            .map_or(0, |(_, at)| at);
        !self.check.closed() && tick_ms.saturating_sub(signed) > CHECKPOINT_OVERDUE_MS
    }
}

fn head_of(raw: &Raw) -> Head {
    raw.head().unwrap_or(Head {
        boot: 0,
        seq: 0,
        tick_ms: 0,
    })
}

/// One event through a chain; and whether a hole lay before it.
fn step(check: &mut ChainCheck, raw: &Raw, tag: &Tag) -> (Finding, bool) {
    let first = check.next(raw, tag);
    if matches!(first, Finding::Hole { .. }) {
        return (check.next(raw, tag), true);
    }
    (first, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::chain::{ChainHead, TagKey, checkpoint_message};
    use protocol::event::{
        Body, BootReason, Checkpoint, Delivered, JournalLost, PoweredOn, TrialClosed,
    };
    use protocol::hex::Hex;
    use protocol::keys::KeyPair;
    use protocol::message::Source;

    const MANIFEST: &[u8] = b"{\"trial\":\"T-0001\"}";

    fn pump_pair() -> KeyPair {
        KeyPair::from_seed([3; 32])
    }

    /// A pump, or something that would like to be one.
    #[derive(Clone)]
    struct Pump {
        pair: KeyPair,
        genesis: ChainHead,
        head: ChainHead,
        key: TagKey,
        index: u32,
        boot: u32,
        seq: u64,
        tick_ms: u64,
    }

    impl Pump {
        fn new(pair: KeyPair, manifest: &[u8]) -> Self {
            let genesis = ChainHead::genesis(manifest);
            Self {
                key: TagKey::of_trial(&pair.tag_secret(), &genesis),
                pair,
                genesis,
                head: genesis,
                index: 0,
                boot: 0,
                seq: 0,
                tick_ms: 0,
            }
        }

        fn say(&mut self, body: impl Into<Body>) -> (EventRow, Raw) {
            self.seq += 1;
            self.tick_ms += 1_000;
            let at = Head {
                boot: self.boot,
                seq: self.seq,
                tick_ms: self.tick_ms,
            };
            let raw = body.into().encode(at).unwrap();
            self.head = self.head.after(&raw);
            let tag = self.key.tag(&self.head);
            let source = Source::new("EP-0193").unwrap();
            (EventRow::new(source, &raw, tag, 0, None, 0).unwrap(), raw)
        }

        fn turn(&mut self) {
            self.key = self.key.next();
            self.index += 1;
        }

        fn begin(&mut self) -> (EventRow, Raw) {
            self.boot += 1;
            self.turn();
            self.tick_ms = 0;
            self.say(PoweredOn {
                reason: BootReason::PowerOn,
                firmware: [0, 1, 0],
                own_clock_utc_ms: None,
            })
        }

        fn checkpoint(&mut self) -> (EventRow, Raw) {
            let through = self.seq;
            let message = checkpoint_message(
                &self.genesis,
                self.boot,
                self.tick_ms + 1_000,
                through,
                through,
                self.index,
                &self.head,
            );
            let said = self.say(Checkpoint {
                through_seq: through,
                count: through,
                key_index: self.index,
                head: self.head.0,
                signature: Hex(self.pair.sign(&message).0),
            });
            self.turn();
            said
        }

        fn stroke(&mut self) -> (EventRow, Raw) {
            self.say(Delivered {
                delivered_nl: self.seq,
                programmed_nl: self.seq,
                strokes: self.seq,
                encoder_counts: self.seq,
            })
        }
    }

    fn gate(secret: bool) -> Gate {
        let pair = pump_pair();
        let tag_secret = secret.then(|| pair.tag_secret());
        Gate::new(MANIFEST, pair.public(), tag_secret.as_ref())
    }

    /// Seqs that are let through.
    fn take(gate: &mut Gate, (row, raw): (EventRow, Raw)) -> Result<Vec<u64>, Refused> {
        let rows = gate.take(row, &raw)?;
        Ok(rows.iter().map(|row| row.seq).collect())
    }

    #[test]
    fn a_start_is_held_back_until_its_checkpoint_and_then_events_pass_at_once() {
        for secret in [false, true] {
            let (mut gate, mut pump) = (gate(secret), Pump::new(pump_pair(), MANIFEST));
            for first in [1, 5] {
                assert_eq!(take(&mut gate, pump.begin()), Ok(vec![]));
                assert_eq!(take(&mut gate, pump.stroke()), Ok(vec![]));
                assert_eq!(gate.held(), 2);
                let all = Ok(vec![first, first + 1, first + 2]);
                assert_eq!(take(&mut gate, pump.checkpoint()), all);
                assert_eq!(take(&mut gate, pump.stroke()), Ok(vec![first + 3]));
            }
        }
    }

    #[test]
    fn a_clone_without_the_key_gets_no_event_through() {
        for secret in [false, true] {
            // It knows everything but the key: manifest, serial number, how a pump speaks.
            let mut clone = Pump::new(KeyPair::from_seed([9; 32]), MANIFEST);
            let mut gate = gate(secret);
            let mut through = 0;
            let mut refused = 0;
            for event in [
                clone.begin(),
                clone.stroke(),
                clone.checkpoint(),
                clone.stroke(),
            ] {
                match take(&mut gate, event) {
                    Ok(seqs) => through += seqs.len(),
                    Err(Refused::Forged { .. }) => refused += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            assert_eq!(through, 0);
            assert!(refused > 0);
            // The pump itself is taken after it.
            gate.forget_held();
            let mut pump = Pump::new(pump_pair(), MANIFEST);
            take(&mut gate, pump.begin()).unwrap();
            assert_eq!(take(&mut gate, pump.checkpoint()), Ok(vec![1, 2]));
        }
    }

    #[test]
    fn a_clone_that_replays_the_start_of_the_pump_gets_nothing_of_its_own_through() {
        let (mut gate, mut pump) = (gate(false), Pump::new(pump_pair(), MANIFEST));
        let replayed = [pump.begin(), pump.checkpoint()];
        // A second start of its own behind the replayed first.
        let mut clone = pump.clone();
        clone.pair = KeyPair::from_seed([9; 32]);
        for event in replayed {
            take(&mut gate, event).unwrap();
        }
        assert_eq!(take(&mut gate, clone.begin()), Ok(vec![]));
        assert!(take(&mut gate, clone.checkpoint()).is_err());
        assert_eq!(
            take(&mut gate, pump.stroke()),
            Ok(vec![3]),
            "the pump goes on"
        );
    }

    #[test]
    fn a_clone_that_goes_on_within_a_start_is_stopped_by_the_tag_secret_at_its_first_event() {
        for secret in [false, true] {
            let (mut gate, mut pump) = (gate(secret), Pump::new(pump_pair(), MANIFEST));
            for event in [pump.begin(), pump.checkpoint(), pump.stroke()] {
                take(&mut gate, event).unwrap();
            }
            let mut clone = pump.clone();
            clone.pair = KeyPair::from_seed([9; 32]);
            clone.key = TagKey::from_bytes([7; 32]);
            let first = take(&mut gate, clone.stroke());
            let forged = |seq, why| {
                let boot = 1;
                Err(Refused::Forged { boot, seq, why })
            };
            if secret {
                assert_eq!(first, forged(4, Broken::Tag));
                assert_eq!(take(&mut gate, pump.stroke()), Ok(vec![4]));
                continue;
            }
            assert_eq!(first, Ok(vec![4]), "nobody can tell yet");
            let convicted = take(&mut gate, clone.checkpoint());
            assert_eq!(convicted, forged(5, Broken::Signature));
            assert!(!gate.is_overdue(1, 3_900_000));
            assert!(
                gate.is_overdue(1, 3_910_000),
                "and one that never comes is missed"
            );
        }
    }

    #[test]
    fn another_trials_events_do_not_pass() {
        let mut gate = gate(false);
        let mut other = Pump::new(pump_pair(), b"{\"trial\":\"T-0002\"}");
        assert_eq!(take(&mut gate, other.begin()), Ok(vec![]));
        let seen = take(&mut gate, other.checkpoint());
        let why = Broken::Signature;
        assert_eq!(
            seen,
            Err(Refused::Forged {
                boot: 1,
                seq: 2,
                why
            })
        );
    }

    #[test]
    fn a_start_that_is_never_signed_is_refused() {
        let (mut gate, mut pump) = (gate(false), Pump::new(pump_pair(), MANIFEST));
        take(&mut gate, pump.begin()).unwrap();
        for _ in 2..HELD_MAX {
            assert_eq!(take(&mut gate, pump.stroke()), Ok(vec![]));
        }
        assert_eq!(take(&mut gate, pump.stroke()), Err(Refused::Unsigned(1)));
        assert_eq!(gate.held(), 0);
    }

    #[test]
    fn behind_a_declared_loss_events_pass_though_the_checkpoint_is_gone() {
        let (mut gate, mut pump) = (gate(false), Pump::new(pump_pair(), MANIFEST));
        pump.begin();
        pump.checkpoint();
        for _ in 0..100 {
            pump.stroke();
        }
        let lost = pump.say(JournalLost {
            from_seq: 1,
            to_seq: 102,
        });
        assert_eq!(take(&mut gate, lost), Ok(vec![]));
        let mut through = Vec::new();
        for _ in 0..HELD_MAX {
            through.extend(take(&mut gate, pump.stroke()).unwrap());
        }
        let wanted: Vec<u64> = (104..104 + 60).collect();
        assert_eq!(through[1..], wanted[..through.len() - 1]);
        assert!(through.len() >= HELD_MAX, "{}", through.len());
        assert!(take(&mut gate, pump.checkpoint()).is_ok());
    }

    #[test]
    fn what_is_held_when_a_loss_is_declared_behind_it_is_let_through_and_the_chain_goes_on() {
        for secret in [false, true] {
            let (mut gate, mut pump) = (gate(secret), Pump::new(pump_pair(), MANIFEST));
            assert_eq!(take(&mut gate, pump.begin()), Ok(vec![]));
            let second = pump.stroke();
            assert_eq!(take(&mut gate, second.clone()), Ok(vec![]));
            // The start's checkpoint goes with the rest.
            pump.checkpoint();
            for _ in 0..100 {
                pump.stroke();
            }
            let lost = pump.say(JournalLost {
                from_seq: 1,
                to_seq: 103,
            });
            let released = gate.release_before_loss();
            let seqs: Vec<u64> = released.iter().map(|row| row.seq).collect();
            assert_eq!(seqs, [1, 2]);
            assert_eq!(gate.held(), 0);
            assert_eq!(gate.release_before_loss(), []);
            assert_eq!(take(&mut gate, second), Ok(vec![2]), "a repeat by now");
            // Not one event of that start passes at once for it: it is still not proven.
            assert_eq!(take(&mut gate, lost), Ok(vec![]));
            assert_eq!(take(&mut gate, pump.checkpoint()), Ok(vec![104, 105]));
            assert_eq!(take(&mut gate, pump.stroke()), Ok(vec![106]));
        }
    }

    #[test]
    fn what_is_on_disk_is_gone_on_from_and_repeats_are_the_stores_matter() {
        let (mut gate, mut pump) = (gate(true), Pump::new(pump_pair(), MANIFEST));
        let stored = [pump.begin(), pump.checkpoint(), pump.stroke()];
        for (row, raw) in &stored {
            gate.recall(raw, &row.tag).unwrap();
        }
        assert_eq!(take(&mut gate, stored[1].clone()), Ok(vec![2]));
        assert_eq!(take(&mut gate, pump.stroke()), Ok(vec![4]));
        let next = pump.begin();
        assert_eq!(take(&mut gate, next.clone()), Ok(vec![]));
        assert_eq!(take(&mut gate, next), Ok(vec![]), "held already");
        assert_eq!(take(&mut gate, pump.checkpoint()), Ok(vec![5, 6]));
    }

    #[test]
    fn a_closed_chain_owes_no_checkpoint() {
        let (mut gate, mut pump) = (gate(false), Pump::new(pump_pair(), MANIFEST));
        for event in [pump.begin(), pump.checkpoint()] {
            take(&mut gate, event).unwrap();
        }
        let reason = protocol::event::CloseReason::Planned;
        take(&mut gate, pump.say(TrialClosed { reason })).unwrap();
        take(&mut gate, pump.checkpoint()).unwrap();
        assert!(!gate.is_overdue(1, u64::MAX));
    }
}
