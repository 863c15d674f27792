//! The rig's messages: the bytes of one example of each, kept for ever, and what damage does.
#![expect(
    clippy::unwrap_used,
    reason = "helper functions of a test stop it where they fail"
)]

use firmware::acts::{Act, Refused};
use firmware::board::{NvError, Sensors};
use firmware::face::Face;
use firmware::program::{DayPart, Program};
use firmware::pump::{Input, StartError};
use firmware::rig::{
    Deframer, Done, FRAME_MAX, FromRig, Health, Kept, LineState, NotStarted, Seen, ToRig, decode,
    encode,
};
use firmware::texts::{Language, Message};
use proptest::prelude::*;
use protocol::event::{
    AlarmCode, BootReason, CloseReason, Condition, Key, Priority, Purpose, RAW_MAX, Refusal,
};
use protocol::hex::Hex;
use protocol::units::{Concentration, FlowRate, Volume};

fn seen() -> Seen {
    Seen {
        encoder: 800,
        sensors: Sensors {
            pressure_mbar: Some(12),
            measured_reservoir_nl: Some(9_990_000),
            battery_percent: 99,
            battery_minutes: 17_000,
            ..Sensors::default()
        },
        keys_down: 0b100,
        own_clock_utc_ms: Some(1_772_434_800_000),
    }
}

fn hex(bytes: &[u8]) -> String {
    protocol::hex::vec::encode(bytes)
}

fn input(input: Input) -> FromRig {
    FromRig::Input {
        tick_ms: 61_000,
        input,
        seen: None,
    }
}

fn part(from_min: u16, nl_per_h: u32) -> DayPart {
    DayPart {
        from_min,
        rate: FlowRate::from_nanoliters_per_hour(nl_per_h),
    }
}

/// Each message with the bytes of its frame.
fn from_rig() -> Vec<(FromRig, &'static str)> {
    vec![
        (
            FromRig::Start {
                reason: BootReason::BrownOut,
                tick_ms: 0,
                seen: Some(seen()),
            },
            "0102010601a006010c0601f0dee104011163e88401040180fbe2eaca334bfd4e0a00",
        ),
        (
            FromRig::Wake {
                tick_ms: 60_000,
                seen: None,
            },
            "0501e0d40305591d99c500",
        ),
        (
            FromRig::Input {
                tick_ms: 61_000,
                input: Input::Key {
                    key: Key::Confirm,
                    pressed: true,
                },
                seen: None,
            },
            "0502c8dc03030a0105390bf8f300",
        ),
        (
            FromRig::Input {
                tick_ms: 61_000,
                input: Input::Act(Act::Start {
                    purpose: Purpose::Prime,
                    until: Some(Volume::from_nanoliters(900_000)),
                }),
                seen: None,
            },
            "0602c8dc0303060101a0f73605b06fc6ce00",
        ),
        (input(Input::Act(Act::Stop)), "0702c8dc03030105e27d6f7100"),
        (
            input(Input::Act(Act::ChangeRate(
                FlowRate::from_nanoliters_per_hour(120_000),
            ))),
            "0a02c8dc030302c0a90705df7396fe00",
        ),
        (
            input(Input::Act(Act::ChangeProgram {
                program: Program::new(&[part(0, 100_000), part(480, 80_000)]).unwrap(),
                bolus: Volume::from_nanoliters(50_000),
                lockout_ms: 3_600_000,
            })),
            "0702c8dc03030309a08d06e00380f10404a08d0604a08d0604a08d0604a08d0604a08d060ca08d0602d0860380dddb01058f6e9c1800",
        ),
        (
            input(Input::Act(Act::ChangeReservoir {
                volume: Volume::from_nanoliters(20_000_000),
                concentration: Concentration::from_micrograms_per_milliliter(500),
            })),
            "0d02c8dc03030480dac409f40305dd665cd400",
        ),
        (
            input(Input::Act(Act::SetClock {
                utc_ms: 1_772_434_800_000,
                offset_min: -210,
            })),
            "0f02c8dc03030580fbe2eaca33a303051092d96200",
        ),
        (
            input(Input::Act(Act::ReleaseLatch)),
            "0702c8dc03030605a7b4020b00",
        ),
        (
            input(Input::Act(Act::Close(CloseReason::PatientsWish))),
            "0802c8dc03030702053822f3a600",
        ),
        (input(Input::Sensors), "0602c8dc030105de45ba7400"),
        (input(Input::PowerFailing), "0602c8dc03020547ed5d4000"),
        (FromRig::Time { tick_ms: 62_000 }, "0903b0e403f47e011600"),
        (FromRig::Event { seq: 18_274 }, "0904e28e01c7cf5f2c00"),
        (FromRig::Face { tick_ms: 62_000 }, "0905b0e403866c44d200"),
        (FromRig::Health, "0606b9b4dc7400"),
        (
            FromRig::Seen(seen()),
            "0607a006010c0601f0dee104011163e88401040180fbe2eaca334caeb25a00",
        ),
    ]
}

fn to_rig() -> Vec<(ToRig, &'static str)> {
    vec![
        (
            ToRig::Ready {
                reset: Some(BootReason::Watchdog),
            },
            "01070102fa4bfd9200",
        ),
        (
            ToRig::NotStarted(NotStarted::NotProvisioned),
            "020105a5efc3e200",
        ),
        (
            ToRig::NotStarted(NotStarted::Memory(StartError::OtherTrial)),
            "08010101702aec2400",
        ),
        (
            ToRig::Done(Done {
                next_wake_ms: 120_000,
                last_seq: 7,
                boot: 2,
                closed: false,
                refused: Some(Refused::NotInfusing),
            }),
            "0702c0a9070702070102ae8aaff500",
        ),
        (
            ToRig::NotStarted(NotStarted::Memory(StartError::Memory(NvError::Failed))),
            "0901010401de91828c00",
        ),
        (
            ToRig::Done(Done {
                next_wake_ms: 120_000,
                last_seq: 7,
                boot: 2,
                closed: true,
                refused: Some(Refused::Condition(AlarmCode::SupervisorStop)),
            }),
            "0f02c0a90707020101030bae6fd50b00",
        ),
        (
            ToRig::Face(Face {
                language: Language::German,
                asking: Some(Condition::Movement),
                typed: Some(7),
                condition: Condition::Rest,
                correcting: false,
                saved: true,
                infusing: Some((
                    Purpose::Therapy,
                    FlowRate::from_nanoliters_per_hour(100_000),
                )),
                giving_bolus: false,
                lockout_left_ms: 1_800_000,
                alarms: heapless::Vec::from_slice(&[
                    (AlarmCode::ReservoirLow, Priority::Low),
                    (AlarmCode::KeyStuck, Priority::Low),
                ])
                .unwrap(),
                message: Some(Message::BolusRefused {
                    reason: Refusal::Lockout,
                    wait_ms: Some(90_000),
                }),
                monitored: true,
                closed: false,
            }),
            "070501010101070103010104a08d0606c0ee6d0203020a030106060190bf0501052c0661a700",
        ),
        (
            ToRig::Line(LineState {
                acked_seq: 6,
                monitored: true,
            }),
            "0803060138b1ee1100",
        ),
        (
            ToRig::Event(Some(Kept {
                raw: heapless::Vec::from_slice(&[1, 0x40, 3, 2, 7, 0]).unwrap(),
                tag: Hex([0xA5; 16]),
            })),
            "09040106014003020715a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a54ea9012900",
        ),
        (ToRig::Event(None), "0204050e16ebbf00"),
        (
            ToRig::Health(Health {
                stack_high_water: 9_000,
                line_dropped: 1,
                line_bad_frames: 2,
                rig_bad_frames: 3,
            }),
            "0b06a846010203559c897000",
        ),
        (ToRig::Motor { microsteps: 320 }, "0807c002198b7bf100"),
        (
            ToRig::OwnClock {
                utc_ms: 1_772_434_800_000,
            },
            "0c0880fbe2eaca3381447c7f00",
        ),
        (ToRig::Look, "06099d88cf2a00"),
    ]
}

#[test]
fn every_message_has_the_bytes_that_it_always_had() {
    let mut wrong = Vec::new();
    for (message, bytes) in from_rig() {
        let frame = encode(&message).unwrap();
        let between = frame.as_bytes().split_last().unwrap().1;
        assert_eq!(decode::<FromRig>(between), Some(message));
        if hex(frame.as_bytes()) != bytes {
            wrong.push(hex(frame.as_bytes()));
        }
    }
    for (message, bytes) in to_rig() {
        let frame = encode(&message).unwrap();
        let between = frame.as_bytes().split_last().unwrap().1;
        assert_eq!(decode::<ToRig>(between), Some(message));
        if hex(frame.as_bytes()) != bytes {
            wrong.push(hex(frame.as_bytes()));
        }
    }
    assert!(wrong.is_empty(), "other bytes:\n{}", wrong.join("\n"));
}

#[test]
fn the_longest_event_fits_in_a_frame() {
    let longest = ToRig::Event(Some(Kept {
        raw: heapless::Vec::from_slice(&[0xFF; RAW_MAX]).unwrap(),
        tag: Hex([0xFF; 16]),
    }));
    assert!(encode(&longest).unwrap().as_bytes().len() <= FRAME_MAX);
}

#[test]
fn no_single_bit_error_is_taken_and_the_next_frame_is_good() {
    for (message, _) in from_rig() {
        let frame = encode(&message).unwrap();
        let frame = frame.as_bytes();
        for bit in 0..8 * frame.len() {
            let mut bent = frame.to_vec();
            if let Some(byte) = bent.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            let mut deframer = Deframer::default();
            let mut taken = Vec::new();
            // A zero ends what a bent closing zero left open.
            for byte in bent.iter().chain(&[0]).chain(frame) {
                taken.extend(deframer.push::<FromRig>(*byte));
            }
            assert_eq!(taken, std::slice::from_ref(&message), "bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_no_message_or_one_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut deframer = Deframer::default();
        for byte in bytes {
            let _ = deframer.push::<FromRig>(byte);
            let _ = deframer.push::<ToRig>(byte);
        }
    }
}

/// The image signs with another library than everybody else.
#[test]
fn the_images_signatures_are_the_ones_that_everybody_checks() {
    let mut seed = [0_u8; 32];
    for round in 0..40_u8 {
        for (i, byte) in (0_u8..).zip(&mut seed) {
            *byte = byte.wrapping_mul(31).wrapping_add(round ^ i);
        }
        let message: Vec<u8> = (0..round.wrapping_mul(7)).collect();
        let theirs = protocol::keys::KeyPair::from_seed(seed).sign(&message);
        let ours = salty::Keypair::from(&seed).sign(&message).to_bytes();
        assert_eq!(ours, theirs.0, "round {round}");
    }
}
