//! Where each start of a pump lies in time, so that a tick becomes an instant.
//!
//! The one place where the pump's uptime and UTC are related.

use crate::input::Header;
use crate::load::{collect, ints, texts};
use polars::prelude::*;
use protocol::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The pump's own clock is believed where it agrees with the gateway's estimate to this, beyond
/// that estimate's uncertainty.
const WITNESS_AGREES_MS: i64 = 120_000;

/// UTC of tick 0 of each start of a pump: `source`, `boot`, `tick0_ms`.
///
/// The pump's own clock where it was set and agrees with the gateway's estimate, or the run is
/// simulated; else the gateway's estimate to the minute; else the earliest that the rows' own times
/// allow, to the minute: receipt can only be late.
pub(crate) fn anchors(
    events: &DataFrame,
    delivered: &DataFrame,
    header: &Header,
) -> PolarsResult<DataFrame> {
    let mut found: BTreeMap<(String, i64), Anchor> = BTreeMap::new();
    let mut pumps: BTreeSet<String> = header.pump.iter().cloned().collect();
    let words = collect(
        events
            .clone()
            .lazy()
            .filter(
                col("kind")
                    .eq(lit("powered_on"))
                    .or(col("kind").eq(lit("boot_anchored"))),
            )
            .sort(["source", "seq"], SortMultipleOptions::default()),
    )?;
    let (kinds, sources) = (texts(&words, "kind")?, texts(&words, "source")?);
    let (boots, ticks) = (ints(&words, "boot")?, ints(&words, "tick_ms")?);
    let clocks = ints(&words, "own_clock_utc_ms")?;
    let (about, about_boots) = (texts(&words, "about_source")?, ints(&words, "about_boot")?);
    let (estimates, widths) = (
        ints(&words, "anchor_utc_ms")?,
        ints(&words, "anchor_uncertainty_ms")?,
    );
    let all = kinds.iter().zip(sources).zip(boots.iter().zip(ticks));
    let rest = clocks
        .iter()
        .zip(about)
        .zip(about_boots.iter().zip(estimates.iter().zip(widths)));
    for (((kind, source), (boot, tick)), ((clock, about), (about_boot, (estimate, width)))) in
        all.zip(rest)
    {
        if kind.as_deref() == Some("powered_on") {
            let (Some(source), Some(boot)) = (source, *boot) else {
                continue;
            };
            pumps.insert(source.clone());
            found.entry((source, boot)).or_default().own = clock
                .zip(tick)
                .map(|(clock, tick)| clock.saturating_sub(tick));
        } else if let (Some(pump), Some(boot), Some(estimate)) = (about, *about_boot, *estimate) {
            pumps.insert(pump.clone());
            let width = width.unwrap_or(i64::MAX);
            let gateway = &mut found.entry((pump, boot)).or_default().gateway;
            if gateway.is_none_or(|(_, known)| width < known) {
                *gateway = Some((estimate, width));
            }
        }
    }
    for frame in [events, delivered] {
        let first = collect(
            frame
                .clone()
                .lazy()
                .select([
                    col("source"),
                    col("boot"),
                    (col("at_utc_ms") - col("tick_ms")).alias("tick0_ms"),
                ])
                .group_by([col("source"), col("boot")])
                .agg([col("tick0_ms").min()]),
        )?;
        let (sources, boots) = (texts(&first, "source")?, ints(&first, "boot")?);
        for ((source, boot), tick0) in sources
            .into_iter()
            .zip(boots)
            .zip(ints(&first, "tick0_ms")?)
        {
            let (Some(source), Some(boot), Some(start)) = (source, boot, tick0) else {
                continue;
            };
            if pumps.contains(&source) {
                let rows = &mut found.entry((source, boot)).or_default().rows;
                *rows = Some(rows.map_or(start, |known| known.min(start)));
            }
        }
    }
    let simulated = header.simulated.is_some();
    let known: Vec<((String, i64), i64)> = found
        .into_iter()
        .filter_map(|(start, anchor)| Some((start, anchor.tick0_ms(simulated)?)))
        .collect();
    let sources: Vec<&str> = known
        .iter()
        .map(|((source, _), _)| source.as_str())
        .collect();
    let boots: Vec<i64> = known.iter().map(|((_, boot), _)| *boot).collect();
    let starts: Vec<i64> = known.iter().map(|(_, start)| *start).collect();
    DataFrame::new(
        known.len(),
        vec![
            Column::new("source".into(), sources),
            Column::new("boot".into(), boots),
            Column::new("tick0_ms".into(), starts),
        ],
    )
}

/// What is known of where a start lies in time.
#[derive(Clone, Copy, Debug, Default)]
struct Anchor {
    own: Option<i64>,
    gateway: Option<(i64, i64)>,
    rows: Option<i64>,
}

impl Anchor {
    fn tick0_ms(self, simulated: bool) -> Option<i64> {
        let minute = |ms| {
            Timestamp::from_unix_millis(ms)
                .rounded_to_minute()
                .as_unix_millis()
        };
        let agrees = |own: i64| {
            self.gateway.is_some_and(|(estimate, width)| {
                own.abs_diff(estimate) <= width.saturating_add(WITNESS_AGREES_MS).unsigned_abs()
            })
        };
        self.own
            .filter(|own| simulated || agrees(*own))
            .or_else(|| self.gateway.map(|(estimate, _)| minute(estimate)))
            .or_else(|| self.rows.map(minute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_lies_where_the_better_witness_says() {
        let anchor = Anchor {
            own: Some(1_000_000_123),
            gateway: Some((1_000_050_000, 5_000)),
            rows: Some(7),
        };
        assert_eq!(anchor.tick0_ms(false), Some(1_000_000_123));
        let far = Anchor {
            gateway: Some((1_000_125_124, 5_000)),
            ..anchor
        };
        assert_eq!(far.tick0_ms(false), Some(1_000_140_000));
        assert_eq!(far.tick0_ms(true), Some(1_000_000_123));
        let only_rows = Anchor {
            own: Some(1_000_000_123),
            gateway: None,
            rows: Some(999_990_000),
        };
        assert_eq!(only_rows.tick0_ms(false), Some(1_000_020_000));
        assert_eq!(Anchor::default().tick0_ms(true), None);
    }
}
