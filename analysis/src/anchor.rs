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
/// allow, to the minute: receipt can only be late. No start lies before the last tick of the one
/// before it, whatever a clock or a rounding says: see [`placed`].
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
                    col("tick_ms"),
                    (col("at_utc_ms") - col("tick_ms")).alias("tick0_ms"),
                ])
                .group_by([col("source"), col("boot")])
                .agg([col("tick0_ms").min(), col("tick_ms").max()]),
        )?;
        let (sources, boots) = (texts(&first, "source")?, ints(&first, "boot")?);
        let ticks = ints(&first, "tick_ms")?;
        let times = ints(&first, "tick0_ms")?.into_iter().zip(ticks);
        for ((source, boot), (tick0, last)) in sources.into_iter().zip(boots).zip(times) {
            let (Some(source), Some(boot), Some(start)) = (source, boot, tick0) else {
                continue;
            };
            if pumps.contains(&source) {
                let anchor = found.entry((source, boot)).or_default();
                anchor.rows = Some(anchor.rows.map_or(start, |known| known.min(start)));
                anchor.last_ms = anchor.last_ms.max(last.unwrap_or(0));
            }
        }
    }
    let simulated = header.simulated.is_some();
    let mut known: Vec<((&str, i64), i64)> = Vec::new();
    for pump in &pumps {
        let of_pump = found.range((pump.clone(), i64::MIN)..=(pump.clone(), i64::MAX));
        let (boots, starts): (Vec<i64>, Vec<Anchor>) =
            of_pump.map(|((_, boot), anchor)| (*boot, *anchor)).unzip();
        let all = boots.into_iter().zip(placed(&starts, simulated));
        known.extend(all.filter_map(|(boot, start)| Some(((pump.as_str(), boot), start?))));
    }
    let sources: Vec<&str> = known.iter().map(|((source, _), _)| *source).collect();
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
    /// The last tick of any row.
    last_ms: i64,
}

/// Where each of a pump's starts lies, in their order, UTC milliseconds of tick 0.
///
/// A start begins when the one before it has ended: its number and the pump's count of starts say
/// so, and they are under the chain, while a clock may have been set back when the power failed. Of
/// what is known of a start the best that allows this is taken. Where nothing does, the start that
/// only its rows' times place gives way, for receipt can only be late; else the later one begins
/// where the earlier one ended.
fn placed(starts: &[Anchor], simulated: bool) -> Vec<Option<i64>> {
    let mut all: Vec<Option<i64>> = starts
        .iter()
        .map(|start| start.tick0_ms(simulated, i64::MIN))
        .collect();
    let mut next = None;
    for (start, tick0) in starts.iter().zip(&mut all).rev() {
        if let (true, Some(own), Some(next)) = (start.has_only_rows(simulated), *tick0, next) {
            *tick0 = Some(own.min(i64::saturating_sub(next, start.last_ms)));
        }
        next = tick0.or(next);
    }
    let mut ended = i64::MIN;
    for (start, tick0) in starts.iter().zip(&mut all) {
        if tick0.is_some_and(|tick0| tick0 < ended) {
            *tick0 = start.tick0_ms(simulated, ended).or(Some(ended));
        }
        if let Some(tick0) = *tick0 {
            ended = ended.max(tick0.saturating_add(start.last_ms));
        }
    }
    all
}

impl Anchor {
    /// The best that is known of it, not before an instant.
    fn tick0_ms(self, simulated: bool, from_ms: i64) -> Option<i64> {
        let minute = |ms| {
            Timestamp::from_unix_millis(ms)
                .rounded_to_minute()
                .as_unix_millis()
        };
        let gateway = self.gateway.map(|(estimate, _)| estimate);
        let best = [
            self.believed(simulated),
            gateway.map(minute),
            gateway,
            self.rows.map(minute),
            self.rows,
        ];
        best.into_iter().flatten().find(|tick0| *tick0 >= from_ms)
    }

    fn has_only_rows(self, simulated: bool) -> bool {
        self.believed(simulated)
            .or(self.gateway.map(|g| g.0))
            .is_none()
    }

    /// Its own clock, where that is believed.
    fn believed(self, simulated: bool) -> Option<i64> {
        let agrees = |own: i64| {
            self.gateway.is_some_and(|(estimate, width)| {
                own.abs_diff(estimate) <= width.saturating_add(WITNESS_AGREES_MS).unsigned_abs()
            })
        };
        self.own.filter(|own| simulated || agrees(*own))
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
            last_ms: 0,
        };
        assert_eq!(placed(&[anchor], false)[0], Some(1_000_000_123));
        let far = Anchor {
            gateway: Some((1_000_125_124, 5_000)),
            ..anchor
        };
        assert_eq!(placed(&[far], false)[0], Some(1_000_140_000));
        assert_eq!(placed(&[far], true)[0], Some(1_000_000_123));
        let only_rows = Anchor {
            own: Some(1_000_000_123),
            gateway: None,
            rows: Some(999_990_000),
            last_ms: 0,
        };
        assert_eq!(placed(&[only_rows], false)[0], Some(1_000_020_000));
        assert_eq!(placed(&[Anchor::default()], true)[0], None);
    }

    #[test]
    fn a_start_never_lies_before_the_end_of_the_one_before_it() {
        // A clock that starts again at the same instant: the second start's is refuted.
        let first = Anchor {
            own: Some(60_000_000),
            gateway: Some((60_001_116, 2_000)),
            rows: None,
            last_ms: 45_436,
        };
        let second = Anchor {
            gateway: Some((60_047_854, 2_000)),
            ..first
        };
        let all = placed(&[first, second], false);
        assert_eq!(all, [Some(60_000_000), Some(60_060_000)]);
        // Rounded to the minute it would begin too early, and the exact estimate does not.
        let exact = Anchor {
            own: None,
            gateway: Some((60_080_000, 2_000)),
            ..first
        };
        let later = Anchor {
            own: Some(60_015_000),
            ..first
        };
        let all = placed(&[later, exact], false);
        assert_eq!(all, [Some(60_015_000), Some(60_080_000)]);
        // Nothing that is known of the third allows it: it begins where the second one ended.
        let early = Anchor {
            own: None,
            gateway: Some((60_030_000, 2_000)),
            ..first
        };
        let all = placed(&[first, early, exact], false);
        assert_eq!(all.first(), Some(&Some(60_000_000)));
        assert_eq!(all.get(1), Some(&Some(60_060_000)));
        assert_eq!(all.get(2), Some(&Some(60_060_000 + 45_436)));
    }

    #[test]
    fn a_start_that_only_receipt_places_gives_way() {
        // Its rows came in hours later, when the next start had been heard for long.
        let late = Anchor {
            own: None,
            gateway: None,
            rows: Some(96_000_000),
            last_ms: 3_000_000,
        };
        let known = Anchor {
            own: Some(60_000_000),
            gateway: Some((60_001_000, 2_000)),
            rows: Some(60_000_500),
            last_ms: 40_000_000,
        };
        let all = placed(&[late, known], false);
        assert_eq!(all, [Some(57_000_000), Some(60_000_000)]);
    }
}
