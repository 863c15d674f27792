//! The dashboard with made-up beds, to look at and to press keys on:
//! `cargo run -p tui --example gallery -- [beds] [mono|ansi16|rgb] [ascii] [lines] [sim] [panic]`.
//! Bed 4 falls silent after 20 s, bed 2 raises an alarm after 8 s; `panic`
//! shows after 3 s that the terminal is given back.
#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "an example for one's own terminal"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use protocol::event::Priority;
use protocol::time::Timestamp;
use protocol::topics::{State, Topic};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tui::{Incoming, Options, Palette};

fn main() -> Result<(), tui::Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let beds = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(4);
    let has = |word: &str| arguments.iter().any(|a| a == word);
    let start = Instant::now();
    let trial_now = move || {
        let ms = i64::try_from(start.elapsed().as_millis()).expect("less than ages");
        common::TRIAL_NOW + ms
    };
    let (sender, incoming) = mpsc::channel();
    let (simulated, panics) = (has("sim"), has("panic"));
    std::thread::spawn(move || {
        let connected = Incoming::Broker {
            connected: true,
            detail: "made up".into(),
        };
        let _ = sender.send(connected);
        for second in 0.. {
            for n in (1..=beds).filter(|n| *n != 4 || second < 20) {
                let state = State {
                    simulated,
                    ..common::state(n, trial_now())
                };
                if sender.send(common::payload(&state, false)).is_err() {
                    return;
                }
            }
            assert!(!(panics && second == 3), "as asked for");
            if second == 8 {
                let text = "RESP RATE 7 /min (limit 8)";
                let row = common::row("resp_rate_low", Priority::High, false, text, trial_now());
                let alarms = common::alarms(2, trial_now(), vec![row]);
                let _ = sender.send(Incoming::Payload {
                    topic: Topic::Alarms {
                        gw: alarms.gw.clone(),
                        bed: alarms.bed.clone(),
                    },
                    retained: false,
                    text: common::key().sign_json(&alarms).into_bytes(),
                });
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let options = Options {
        site: "gallery".into(),
        id: "gallery".into(),
        beds: Vec::new(),
        trial_now: Box::new(move || Timestamp::from_unix_millis(trial_now())),
        speed: 1,
        trust: Box::new(|key| *key == common::key().public()),
        palette: tui::choose_palette(arguments.iter().find_map(|a| Palette::of_name(a))),
        ascii: has("ascii"),
        lines: has("lines"),
        stop: None,
    };
    let exit = tui::run(options, incoming, |_| {})?;
    println!("ended: {exit:?}");
    Ok(())
}
