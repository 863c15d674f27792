//! Durable events a second into one gateway's spool, beside the disk's own sync rate in the same
//! run: one pump that waits for each acknowledgement, and 64 pumps with a window of 64 each.

use super::{per_second, percentile};
use crate::doctor::{MicroClock, probe_sync};
use anyhow::{Context, anyhow};
use gateway::store::Store;
use protocol::event::{Body, Delivered, Head};
use protocol::hex::Hex;
use protocol::link::WINDOW;
use protocol::message::Source;
use protocol::topics::EventRow;
use record::Spool;
use std::path::Path;

const PROBES: u32 = 400;
const ALONE: u64 = 400;
const PUMPS: u64 = 64;
const BATCHES: u64 = 40;

pub(crate) fn bench(folder: &Path) -> anyhow::Result<()> {
    // Probed before and after: the machine may change under us.
    let before = probe_sync(folder, PROBES).context("probing the disk")?;
    let alone = one_pump(folder)?;
    let after = probe_sync(folder, PROBES).context("probing the disk")?;
    let probed = per_second(2, before + after);
    println!(
        "store    disk: {probed} syncs/s (append 256 bytes and sync, median of {})",
        PROBES * 2
    );
    println!(
        "store    1 pump, stop and wait: {alone} events/s durable, {}.{:02} of the probed rate",
        alone / probed.max(1),
        alone % probed.max(1) * 100 / probed.max(1)
    );
    let (rate, p50, p99) = many_pumps(folder)?;
    println!(
        "store    {PUMPS} pumps, window {WINDOW}: {rate} events/s durable; acknowledged after p50 {p50} us, p99 {p99} us"
    );
    Ok(())
}

fn rows(pump: u64, from: u64, count: u64) -> anyhow::Result<Vec<EventRow>> {
    let source = Source::new(&format!("EP-{pump:04}")).context("a name")?;
    (from..from + count)
        .map(|seq| {
            let nl = seq * 1_000;
            let body = Delivered {
                delivered_nl: nl,
                programmed_nl: nl,
                strokes: seq,
                encoder_counts: seq,
            };
            let raw = Body::from(body).encode(Head {
                boot: 1,
                seq,
                tick_ms: seq,
            })?;
            Ok(EventRow::new(source, &raw, Hex([0; 16]), 0, Some(0), 0)?)
        })
        .collect()
}

fn one_pump(folder: &Path) -> anyhow::Result<u64> {
    let store = Store::new(Box::new(Spool::open(&folder.join("one.spool"))?));
    let clock = MicroClock::start();
    for seq in 1..=ALONE {
        store.append("T", rows(0, seq, 1)?)?;
    }
    let micros = clock.micros();
    store.stop();
    Ok(per_second(ALONE, micros))
}

fn many_pumps(folder: &Path) -> anyhow::Result<(u64, u64, u64)> {
    let store = Store::new(Box::new(Spool::open(&folder.join("many.spool"))?));
    let clock = MicroClock::start();
    let pumps: Vec<_> = (0..PUMPS)
        .map(|pump| {
            let store = store.clone();
            std::thread::spawn(move || -> anyhow::Result<Vec<u64>> {
                let mut waited = Vec::new();
                for batch in 0..BATCHES {
                    // Decoding is part of the way from the line to the disk.
                    let rows = rows(pump, batch * WINDOW + 1, WINDOW)?;
                    let before = clock.micros();
                    store.append(&format!("T-{pump}"), rows)?;
                    waited.push(clock.micros() - before);
                }
                Ok(waited)
            })
        })
        .collect();
    let mut waited = Vec::new();
    for pump in pumps {
        waited.extend(
            pump.join()
                .map_err(|_| anyhow!("a pump's thread panicked"))??,
        );
    }
    let micros = clock.micros();
    store.stop();
    waited.sort_unstable();
    let rate = per_second(PUMPS * BATCHES * WINDOW, micros);
    Ok((rate, percentile(&waited, 50), percentile(&waited, 99)))
}
