//! From a key press on a simulated pump at real speed to the dashboard's model: pump core, journal,
//! pty, gateway, disk, broker and decoding, all real.

use super::percentile;
use crate::bedside::said;
use crate::doctor::MicroClock;
use crate::provision::Plan;
use anyhow::{Context, anyhow, bail};
use device_sim::patient::LocalClock;
use device_sim::patient::kind::Kind;
use device_sim::run::{Manners, Remote};
use gateway::clock::{Mode, wall_utc};
use gateway::config::{BedConfig, Config};
use gateway::gateway::Gateway;
use gateway::watch::Heard;
use protocol::event::Key;
use protocol::keys::open_json;
use protocol::topics::{State, Topic};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const PRESSES: usize = 2_000;
const WARM_UP: usize = 20;
/// The bolus key counts when it is let go.
const HOLD_MS: u32 = 40;
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn bench(folder: &Path) -> anyhow::Result<()> {
    let runtime = crate::bedside::runtime()?;
    runtime.block_on(async {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let broker = gateway::broker::start(listen, None).await?;
        let url: gateway::mqtt::Url =
            format!("mqtt://{}", broker.address()).parse().map_err(|e| anyhow!("{e}"))?;
        let port = folder.join("latency-pump");
        let plan = Plan {
            bed_index: 0,
            trial: Some("T-LAT".into()),
            bed: Some("01".into()),
            kind: Kind::Responder,
            seed: 1,
            days: 4,
            speed: 1,
            zone: "UTC".into(),
            clock: LocalClock { origin_utc_ms: wall_utc().as_unix_millis(), offset_min: 0 },
        };
        let mut setup = plan.setup()?;
        setup.quiet_patient = true;
        let (remote, link) = (Remote::new(), port.clone());
        let runs = remote.clone();
        let pump = std::thread::spawn(move || {
            let manners = Manners { speed: 1, patience_ms: None };
            device_sim::run::run(setup, &link, manners, &runs, |_| {}).map(|_| ()).map_err(|e| e.to_string())
        });
        let gateway = Gateway::start(Config {
            site: "bench".into(),
            gw: "gw-01".into(),
            beds: vec![BedConfig { port, bed: "01".into(), trial: "T-LAT".into(), tag_key: None }],
            broker: url.clone(),
            spool: folder.join("latency.spool"),
            key: None,
            trust: None,
            clock: Mode::Wall,
        })
        .map_err(said)?;
        let (tell, seen) = channel();
        let pair = gateway::key_files::generate()?;
        let watch = gateway::watch::watch(url, "bench", "bench", pair, model(tell)).map_err(|e| anyhow!("{e}"))?;
        let presses = remote.clone();
        let measured = tokio::task::spawn_blocking(move || press(&presses, &seen)).await?;
        remote.stop();
        watch.disconnect().await;
        gateway.stop().await;
        broker.stop().await;
        let _ = tokio::task::spawn_blocking(move || pump.join()).await;
        let mut taken = measured?;
        taken.sort_unstable();
        println!(
            "latency  key let go to the dashboard's model, {} presses at real speed: p50 {} us, p99 {} us, most {} us",
            taken.len(), percentile(&taken, 50), percentile(&taken, 99), percentile(&taken, 100)
        );
        Ok(())
    })
}

/// The dashboard's own model, fed as in the dashboard; tells how many presses it knows of.
fn model(tell: std::sync::mpsc::Sender<u32>) -> impl FnMut(Heard) -> bool + Send + 'static {
    move |heard| {
        let Heard::Payload {
            topic: Topic::State { .. },
            payload,
            ..
        } = heard
        else {
            return true;
        };
        let text = String::from_utf8_lossy(&payload);
        match open_json::<State>(&text, |_| true) {
            Ok((state, _)) => tell.send(state.bolus.requested).is_ok(),
            Err(_) => true,
        }
    }
}

fn press(remote: &Remote, seen: &Receiver<u32>) -> anyhow::Result<Vec<u64>> {
    let mut known = seen
        .recv_timeout(PATIENCE)
        .context("the dashboard heard nothing")?;
    let clock = MicroClock::start();
    let mut taken = Vec::new();
    for i in 0..PRESSES + WARM_UP {
        let before = clock.micros();
        remote.press(Key::Bolus, HOLD_MS);
        let wanted = known + 1;
        while known < wanted {
            known = seen
                .recv_timeout(PATIENCE)
                .with_context(|| format!("press {i} never reached the dashboard"))?;
        }
        if known != wanted {
            bail!("one press counted {} times", known - wanted + 1);
        }
        if i >= WARM_UP {
            // The finger is part of the press, not of the way.
            taken.push((clock.micros() - before).saturating_sub(u64::from(HOLD_MS) * 1_000));
        }
    }
    Ok(taken)
}
