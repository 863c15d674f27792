//! A pump's memory that age, power cuts or anything else have changed anywhere: the pump starts or
//! says why not, what it still gives is what it journaled, and it goes on.

use device_sim::board::SimBoard;
use device_sim::memory::Memory;
use device_sim::plant::Plant;
use firmware::acts::Act;
use firmware::board::Board;
use firmware::program::Program;
use firmware::provision::{Limits, Provision};
use firmware::pump::{Input, Pump};
use protocol::event::{BootReason, Key, Purpose, Raw};
use protocol::hex::Tag;
use protocol::keys::KeyPair;
use protocol::message::Source;
use protocol::units::{Concentration, FlowRate, Volume};
use std::sync::OnceLock;

/// Bytes of the memory.
const SIZE: u32 = 96 * 1_024;

struct Image {
    provision: Provision,
    bytes: Vec<u8>,
    events: Vec<(Raw, Tag)>,
}

fn keys() -> KeyPair {
    KeyPair::from_seed([5; 32])
}

fn board() -> SimBoard {
    let plant = Plant::new(1, 800_000, 9_000_000, 500);
    SimBoard::new(plant, Memory::in_ram(SIZE), keys(), 1_772_434_800_000)
}

fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let limits = Limits {
            bolus: Volume::from_nanoliters(50_000),
            lockout_ms: 3_600_000,
            max_1h: Volume::from_nanoliters(200_000),
            max_4h: Volume::from_nanoliters(650_000),
            max_24h: Volume::from_nanoliters(3_500_000),
        };
        let provision = Provision::new(
            Source::new("EP-1").expect("a name"),
            keys().public(),
            b"a manifest",
            limits,
            Program::constant(FlowRate::from_nanoliters_per_hour(80_000)),
            Concentration::from_micrograms_per_milliliter(500),
        )
        .expect("fits");
        let mut board = board();
        let secret = keys().tag_secret();
        Pump::format(&mut board, &provision, &secret).expect("a new memory");
        let pump = Pump::start(board, &provision, BootReason::PowerOn, 0);
        let mut pump = pump.expect("starts");
        let start = Act::Start {
            purpose: Purpose::Therapy,
            until: None,
        };
        let act = pump.handle(1_000, Input::Act(start));
        act.expect("nothing forbids it");
        for (i, key) in [Key::Bolus, Key::Digit7, Key::Confirm].iter().enumerate() {
            let at = 5_000 + 2_000 * u64::try_from(i).expect("few");
            press(&mut pump, at, *key);
        }
        pump.handle_time(3 * 3_600_000);
        let events = (1..=pump.last_seq()).filter_map(|seq| pump.event(seq));
        let events = events.collect();
        let board = pump.into_board();
        let mut bytes = vec![0; usize::try_from(SIZE).expect("small")];
        board.nv_read(0, &mut bytes).expect("readable");
        Image {
            provision,
            bytes,
            events,
        }
    })
}

fn press(pump: &mut Pump<SimBoard>, at: u64, key: Key) {
    for (at, pressed) in [(at, true), (at + 150, false)] {
        // Keys are never refused.
        let _ = pump.handle(at, Input::Key { key, pressed });
    }
}

/// Five bytes a change: where, what is turned over, and for how many bytes.
pub(crate) fn body(input: &[u8]) -> bool {
    let image = image();
    let mut bytes = image.bytes.clone();
    for change in input.chunks_exact(5).take(64) {
        let at = u32::from_le_bytes([change[0], change[1], change[2], 0]);
        let at = usize::try_from(at).expect("small") % bytes.len();
        for byte in bytes
            .iter_mut()
            .skip(at)
            .take(usize::from(change[4] % 64) + 1)
        {
            *byte ^= change[3];
        }
    }
    let mut board = board();
    board.nv_write(0, &bytes).expect("erased before");
    // The second start is on what the first one left.
    for boot in 0..2_u64 {
        board.power_on();
        let pump = Pump::start(board, &image.provision, BootReason::BrownOut, 0);
        let mut pump = match pump {
            Ok(pump) => pump,
            Err(refused) => {
                assert!(!refused.error.to_string().is_empty());
                return false;
            }
        };
        let is_as_journaled = |seq: u64| {
            let at = usize::try_from(seq - 1).ok();
            pump.event(seq).as_ref() == at.and_then(|at| image.events.get(at))
        };
        let all = 1..=u64::try_from(image.events.len()).expect("few");
        let newest = all.clone().rev().find(|seq| is_as_journaled(*seq));
        for seq in all {
            let Some((seen, _)) = pump.event(seq) else {
                continue;
            };
            // A slot behind the newest whole one looks as if power had gone while it was written:
            // nobody was shown its tick then, and the next start uses its seq.
            let torn = newest.is_none_or(|newest| seq > newest);
            let of_a_later_start = seen.head().expect("whole").boot > 1;
            assert!(
                is_as_journaled(seq) || torn && of_a_later_start,
                "seq {seq} is another event: {seen:?}"
            );
        }
        let before = pump.last_seq();
        press(&mut pump, 1_000 + boot, Key::Digit5);
        press(&mut pump, 2_000 + boot, Key::Confirm);
        pump.handle_time(70_000);
        assert!(pump.last_seq() >= before);
        assert!(pump.infusing().is_none(), "infuses though nobody said so");
        board = pump.into_board();
    }
    true
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    vec![
        Vec::new(),
        vec![0, 0x40, 0, 1, 0],
        vec![
            0, 0, 0, 0xff, 63, 0, 0x10, 0, 0x80, 3, 0x20, 0x45, 0, 0x7f, 40,
        ],
        vec![
            0x10, 0x41, 0, 1, 0, 0x10, 0x42, 0, 2, 0, 0x10, 0x43, 0, 4, 0, 0, 0x50, 1, 0xff, 9,
        ],
    ]
}
