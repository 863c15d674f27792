//! The end of the stack on both boards' images in QEMU, looked at with a debugger's protocol. `./test.sh`
//! builds the images and runs this; by hand: `firmware/scripts/build.sh mps2` and `lm3s`, then
//! `cargo test -p firmware --test stack -- --ignored`.
#![expect(
    clippy::unwrap_used,
    reason = "helper functions of a test stop it where they fail"
)]

mod emulated;

use emulated::{Board, Folder, image, lm3s, lm3s_folder};
use firmware::provisioning::Pace;
use protocol::event::BootReason;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

/// Of the board's memory, as QEMU wants it.
const MEMORY_LEN: usize = 16 * 1024 * 1024;
/// Behind the journal.
const GIVEN_AT: usize = 8 * 1024 * 1024;

/// A processor that stands still, by the debugger's serial protocol. Dropped, it goes on.
struct Debugger(UnixStream);

impl Debugger {
    const STACK: u8 = 13;
    const NEXT: u8 = 15;

    fn at(board: &mut Board) -> Self {
        let path = board.folder.join("gdb");
        let serve = format!("gdbserver unix:{},server=on,wait=off", path.display());
        board.command(&format!(
            "{{\"execute\":\"human-monitor-command\",\"arguments\":{{\"command-line\":\"{serve}\"}}}}"
        ));
        let stream = UnixStream::connect(&path).unwrap();
        let patience = Some(Duration::from_mins(1));
        stream.set_read_timeout(patience).unwrap();
        let mut debugger = Self(stream);
        // Registers have numbers for who asked what they are.
        debugger.ask("qXfer:features:read:target.xml:0,fff", |said| {
            said.starts_with(['l', 'm'])
        });
        debugger
    }

    /// The first answer that is as wanted: when it came to a stop is said unasked too.
    fn ask(&mut self, packet: &str, wanted: impl Fn(&str) -> bool) -> String {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        write!(self.0, "${packet}#{sum:02x}").unwrap();
        loop {
            let mut said = String::new();
            while !said.ends_with('#') {
                let mut byte = [0];
                self.0.read_exact(&mut byte).unwrap();
                said.push(char::from(byte[0]));
            }
            self.0.read_exact(&mut [0; 2]).unwrap();
            self.0.write_all(b"+").unwrap();
            let (_, said) = said.trim_end_matches('#').split_once('$').unwrap();
            if wanted(said) {
                return said.to_owned();
            }
        }
    }

    fn set(&mut self, register: u8, value: u32) {
        let value: String = value.to_le_bytes().map(|b| format!("{b:02x}")).concat();
        self.ask(&format!("P{register:x}={value}"), |said| said == "OK");
    }

    fn get(&mut self, register: u8) -> u32 {
        let said = self.ask(&format!("p{register:x}"), |said| said.len() == 8);
        u32::from_str_radix(&said, 16).unwrap().swap_bytes()
    }

    /// One instruction.
    fn step(&mut self) {
        self.ask("s", |said| said.starts_with('T'));
    }
}

impl Drop for Debugger {
    fn drop(&mut self) {
        self.ask("D", |said| said == "OK");
    }
}

/// Where the image has this.
fn symbol(board: &str, name: &str) -> u32 {
    let said = Command::new("readelf")
        .arg("-sW")
        .arg(image(board))
        .output();
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    let mut lines = said.lines().map(|l| l.split_whitespace());
    let value = lines.find_map(|mut words| {
        let value = words.nth(1)?;
        (words.last() == Some(name)).then(|| value.to_owned())
    });
    u32::from_str_radix(&value.unwrap(), 16).unwrap()
}

fn ends_in_a_reset(name: &str, board: &mut Board) {
    board.starts_after(None);
    let mut debugger = Debugger::at(board);
    // What begins with saving two registers, with room for them, and then with room for one.
    let (end, main) = (symbol(name, "_stack_end"), symbol(name, "main") & !1);
    for (room, next) in [(8, main + 2), (4, symbol(name, "HardFault") & !1)] {
        debugger.set(Debugger::STACK, end + room);
        debugger.set(Debugger::NEXT, main);
        debugger.step();
        let seen = debugger.get(Debugger::NEXT);
        assert_eq!(seen, next, "{room} bytes of room: at {seen:#x}");
    }
    drop(debugger);
    board.starts_after(Some(BootReason::Fault));
    let reasons = board.reasons();
    assert_eq!(reasons, [BootReason::PowerOn, BootReason::Fault]);
}

#[test]
#[ignore = "needs qemu-system-arm"]
fn a_stack_that_runs_out_resets_the_board_before_it_reaches_what_the_pump_knows() {
    let folder = Folder::new("stack", MEMORY_LEN, GIVEN_AT, Pace::Rig);
    let memory = format!(
        "memory-backend-file,id=nv,share=on,size={MEMORY_LEN},mem-path={}",
        folder.memory().display()
    );
    let machine = ["-M", "mps2-an386,memory-backend=nv", "-object", &memory];
    let mut board = Board::start(&folder, "mps2", &machine.map(str::to_owned));
    ends_in_a_reset("mps2", &mut board);
}

#[test]
#[ignore = "needs qemu-system-arm"]
fn the_second_boards_stack_that_runs_out_is_a_reset_too() {
    let folder = lm3s_folder("stack2", Pace::Rig);
    ends_in_a_reset("lm3s", &mut lm3s(&folder));
}
