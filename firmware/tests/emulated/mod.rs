//! A board's image in QEMU, with a rig that asks it and a person who gives QEMU commands.
#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "helper functions of a test stop it where they fail"
)]

use firmware::board::SECTOR;
use firmware::program::Program;
use firmware::provision::{Limits, Provision};
use firmware::provisioning::{self, FormatOrder, Given, Pace};
use firmware::rig::{Deframer, FromRig, Seen, ToRig, encode};
use protocol::event::{Body, BootReason, Raw, decode};
use protocol::keys::KeyPair;
use protocol::message::Source;
use protocol::units::{Concentration, FlowRate, Volume};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Looks, a fiftieth of a second apart, before something counts as not coming.
pub const LOOKS: u32 = 3_000;

/// Where the build puts a board's image.
pub fn image(board: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pump");
    folder.join(format!("{board}.elf"))
}

fn provision() -> Provision {
    let nl = Volume::from_nanoliters;
    let limits = Limits {
        bolus: nl(50_000),
        lockout_ms: 600_000,
        max_1h: nl(700_000),
        max_4h: nl(2_400_000),
        max_24h: nl(12_000_000),
    };
    Provision::new(
        Source::new("EP-0777").unwrap(),
        KeyPair::from_seed([7; 32]).public(),
        b"{\"schema\":\"thecal.manifest/1\",\"trial_id\":\"T-0001\"}",
        limits,
        Program::constant(FlowRate::from_nanoliters_per_hour(80_000)),
        Concentration::from_micrograms_per_milliliter(500),
    )
    .unwrap()
}

/// A folder with a memory as a pharmacy hands it out; gone when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    /// With a file of so many bytes, in which the board has its provisioning there.
    pub fn new(name: &str, len: usize, given_at: usize, pace: Pace) -> Self {
        let name = format!("thecal-image-{name}-{}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        let _ = std::fs::remove_dir_all(&folder.0);
        std::fs::create_dir(&folder.0).unwrap();
        std::fs::write(folder.memory(), memory(len, given_at, pace)).unwrap();
        folder
    }

    pub fn memory(&self) -> PathBuf {
        self.0.join("memory")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn memory(len: usize, given_at: usize, pace: Pace) -> Vec<u8> {
    let keys = KeyPair::from_seed([7; 32]);
    let given = Given {
        secret: keys.seed(),
        pace,
        provision: provision(),
    };
    let order = FormatOrder {
        tag_secret: keys.tag_secret(),
    };
    let mut bytes = vec![0xFF; len];
    let order_at = given_at + provisioning::SECTOR_LEN;
    let given = provisioning::given_to_sector(&given).unwrap();
    bytes[given_at..order_at].copy_from_slice(&given);
    let order = provisioning::order_to_sector(&order).unwrap();
    bytes[order_at..order_at + order.len()].copy_from_slice(&order);
    bytes
}

/// The board in QEMU. Dropped, its power is cut.
pub struct Board {
    qemu: Child,
    qmp: BufReader<UnixStream>,
    rig: UnixStream,
    deframer: Deframer,
    /// For what is asked of QEMU.
    pub folder: PathBuf,
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn accept(listener: &UnixListener, qemu: &mut Child) -> UnixStream {
    listener.set_nonblocking(true).unwrap();
    for _ in 0..LOOKS {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            let patience = Some(Duration::from_mins(1));
            stream.set_read_timeout(patience).unwrap();
            return stream;
        }
        assert_eq!(qemu.try_wait().unwrap(), None, "qemu-system-arm ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("qemu-system-arm does not open its ports");
}

impl Board {
    /// The board's image with what `machine` adds to QEMU's arguments.
    pub fn start(folder: &Folder, board: &str, machine: &[String]) -> Self {
        let image = image(board);
        assert!(
            image.is_file(),
            "there is no image; run: firmware/scripts/build.sh {board}"
        );
        let at = |name: &str| folder.0.join(name).display().to_string();
        let listen = |name: &str| {
            let _ = std::fs::remove_file(at(name));
            UnixListener::bind(at(name)).unwrap()
        };
        let (rig, qmp) = (listen("rig"), listen("qmp"));
        let mut command = Command::new("qemu-system-arm");
        command.args(machine);
        command.args(["-display", "none", "-monitor", "none"]);
        command.args(["-chardev", &format!("socket,id=rig,path={}", at("rig"))]);
        // Nobody is at the line: a socket that is not read would hold the board up.
        command.args(["-serial", "null", "-serial", "chardev:rig"]);
        command.args(["-qmp", &format!("unix:{}", at("qmp"))]);
        command.arg("-kernel").arg(&image);
        command.stdin(Stdio::null());
        let mut qemu = command.spawn().expect("qemu-system-arm is installed");
        let qmp = accept(&qmp, &mut qemu);
        let rig = accept(&rig, &mut qemu);
        let mut board = Self {
            qemu,
            qmp: BufReader::new(qmp),
            rig,
            deframer: Deframer::default(),
            folder: folder.0.clone(),
        };
        board.command("{\"execute\":\"qmp_capabilities\"}");
        // What is said to it before its ports are open is lost: a zero is the first that it says.
        let mut first = [1];
        board.rig.read_exact(&mut first).unwrap();
        assert_eq!(first, [0]);
        board
    }

    /// Gives QEMU a command and waits until it was carried out.
    pub fn command(&mut self, json: &str) {
        writeln!(self.qmp.get_mut(), "{json}").unwrap();
        let mut answer = String::new();
        loop {
            answer.clear();
            assert!(self.qmp.read_line(&mut answer).unwrap() > 0, "{json}");
            assert!(!answer.contains("\"error\""), "{json}: {answer}");
            if answer.contains("\"return\"") {
                return;
            }
        }
    }

    pub fn send(&mut self, message: &FromRig) {
        let frame = encode(message).unwrap();
        self.rig.write_all(frame.as_bytes()).unwrap();
    }

    pub fn receive(&mut self) -> ToRig {
        let mut byte = [0];
        loop {
            self.rig.read_exact(&mut byte).unwrap();
            if let Some(message) = self.deframer.push::<ToRig>(byte[0]) {
                return message;
            }
        }
    }

    pub fn ask(&mut self, message: &FromRig) -> ToRig {
        self.send(message);
        self.receive()
    }

    pub fn events(&mut self) -> Vec<Body> {
        let mut all = Vec::new();
        for seq in 1.. {
            match self.ask(&FromRig::Event { seq }) {
                ToRig::Event(Some(kept)) => {
                    let raw = Raw::parse(&kept.raw).unwrap().0;
                    all.push(decode(&raw).unwrap().1);
                }
                ToRig::Event(None) => return all,
                other => panic!("{other:?}"),
            }
        }
        all
    }

    /// Why it was started, each time.
    pub fn reasons(&mut self) -> Vec<BootReason> {
        let events = self.events();
        let of = |body: &Body| match body {
            Body::PoweredOn(on) => Some(on.reason),
            _ => None,
        };
        events.iter().filter_map(of).collect()
    }

    /// Waits until it is ready after this, and starts its pump.
    pub fn starts_after(&mut self, reset: Option<BootReason>) {
        assert_eq!(self.receive(), ToRig::Ready { reset });
        let started = self.ask(&FromRig::Start {
            reason: BootReason::PowerOn,
            tick_ms: 0,
            seen: Some(Seen::default()),
        });
        assert!(matches!(started, ToRig::Done(_)), "{started:?}");
    }
}

/// Bytes.
const EEPROM_LEN: usize = 64 * 1024;

/// A folder with the second board's EEPROM.
pub fn lm3s_folder(name: &str, pace: Pace) -> Folder {
    let given = usize::try_from(provisioning::SECTORS * SECTOR).unwrap();
    Folder::new(name, EEPROM_LEN, EEPROM_LEN - given, pace)
}

/// The second board.
pub fn lm3s(folder: &Folder) -> Board {
    let memory = folder.memory();
    let drive = format!("if=none,id=ee,format=raw,file={}", memory.display());
    let eeprom = "at24c-eeprom,bus=i2c,address=0x50,rom-size=65536,drive=ee";
    let machine = ["-M", "lm3s6965evb", "-drive", &drive, "-device", eeprom];
    Board::start(folder, "lm3s", &machine.map(str::to_owned))
}
