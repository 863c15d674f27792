//! When the patient is asked for a score. The pump's own plan: nothing from outside asks.
//!
//! With a clock that was set, prompts lie on a grid that begins where the quiet hours end, and
//! there are none in the quiet hours: a sleeping patient is not woken. Without one they lie on a
//! grid of ticks. Each prompt is open for a while, is asked once more, and is then not answered.

use crate::program::{DAY_MIN, LocalClock};
use crate::provision::PromptPlan;
use crate::score::OpenPrompt;
use protocol::event::{Condition, PromptNotAnswered};

const MINUTE_MS: u64 = 60_000;

#[derive(Clone, Copy, Debug)]
struct Open {
    prompt: OpenPrompt,
    again: bool,
    until: u64,
}

/// The plan and the prompt that is open.
#[derive(Clone, Debug)]
pub struct Prompts {
    plan: PromptPlan,
    clock: Option<LocalClock>,
    next: Option<(u64, Condition)>,
    open: Option<Open>,
    next_id: u32,
}

impl Prompts {
    /// Nothing asked yet. Numbers of prompts begin after `first_id`, so that no start uses one
    /// twice.
    pub fn new(plan: PromptPlan, tick_ms: u64, clock: Option<LocalClock>, first_id: u32) -> Self {
        let mut prompts = Self {
            plan,
            clock,
            next: None,
            open: None,
            next_id: first_id,
        };
        prompts.next = prompts.after(tick_ms);
        prompts
    }

    /// The clock was set: the grid moves, an open prompt stays.
    pub fn set_clock(&mut self, tick_ms: u64, clock: LocalClock) {
        self.clock = Some(clock);
        self.next = self.after(tick_ms);
    }

    /// The prompt that is open.
    pub fn open(&self) -> Option<OpenPrompt> {
        self.open.map(|o| o.prompt)
    }

    /// The open prompt was answered.
    pub fn note_answered(&mut self) {
        self.open = None;
    }

    /// When [`Self::handle_time`] is next due.
    pub fn next_due(&self) -> Option<u64> {
        // While one is open, the next one waits.
        let open = self.open.map(|o| o.until);
        open.or(self.next.map(|n| n.0))
    }

    /// Opens, asks again, gives up. Gives the prompt that was not answered.
    pub fn handle_time(&mut self, tick_ms: u64) -> Option<PromptNotAnswered> {
        if let Some(open) = self.open.filter(|o| o.until <= tick_ms) {
            let wakes = self.is_quiet(open.until);
            if !open.again && !wakes {
                self.open = Some(Open {
                    again: true,
                    until: open.until.saturating_add(u64::from(self.plan.open_ms)),
                    ..open
                });
                return None;
            }
            self.open = None;
            return Some(PromptNotAnswered {
                prompt_id: open.prompt.id,
                condition: open.prompt.condition,
                prompted_at_tick_ms: open.prompt.asked_at,
            });
        }
        let (_, condition) = self
            .next
            .filter(|n| n.0 <= tick_ms && self.open.is_none())?;
        self.next = self.after(tick_ms);
        self.next_id = self.next_id.saturating_add(1);
        self.open = Some(Open {
            prompt: OpenPrompt {
                id: self.next_id,
                condition,
                asked_at: tick_ms,
            },
            again: false,
            until: tick_ms.saturating_add(u64::from(self.plan.open_ms)),
        });
        None
    }

    /// The first prompt after a tick. Movement is asked for in the middle between two at rest.
    fn after(&self, tick_ms: u64) -> Option<(u64, Condition)> {
        let half = self.plan.rest_every_min / 2;
        let rest = (self.plan.rest_every_min > 0)
            .then(|| self.first_on_grid(tick_ms, self.plan.rest_every_min, 0))
            .flatten();
        let movement = (self.plan.movement_every_min > 0)
            .then(|| self.first_on_grid(tick_ms, self.plan.movement_every_min, half))
            .flatten();
        let rest = rest.map(|at| (at, Condition::Rest));
        let movement = movement.map(|at| (at, Condition::Movement));
        match (rest, movement) {
            (Some(r), Some(m)) => Some(if m.0 < r.0 { m } else { r }),
            (r, m) => r.or(m),
        }
    }

    fn first_on_grid(&self, tick_ms: u64, every_min: u16, offset_min: u16) -> Option<u64> {
        let Some(clock) = self.clock else {
            let every = u64::from(every_min) * MINUTE_MS;
            let offset = u64::from(offset_min) * MINUTE_MS;
            let passed = tick_ms.saturating_sub(offset) / every;
            let steps = if tick_ms < offset { 0 } else { passed + 1 };
            return Some(offset.saturating_add(steps.saturating_mul(every)));
        };
        let quiet_end = u32::from(self.plan.quiet_to_min % DAY_MIN);
        let grid = (0..DAY_MIN)
            .skip(usize::from(offset_min))
            .step_by(usize::from(every_min))
            .filter_map(|m| u16::try_from((quiet_end + u32::from(m)) % u32::from(DAY_MIN)).ok());
        grid.filter(|minute| !self.quiet_minute(*minute))
            .map(|minute| clock.next_tick_at(tick_ms, minute))
            .min()
    }

    fn is_quiet(&self, tick_ms: u64) -> bool {
        self.clock
            .is_some_and(|clock| self.quiet_minute(clock.minute_of_day(tick_ms)))
    }

    fn quiet_minute(&self, minute: u16) -> bool {
        let (from, to) = (self.plan.quiet_from_min, self.plan.quiet_to_min);
        if from <= to {
            (from..to).contains(&minute)
        } else {
            minute >= from || minute < to
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    /// 2026-01-01T00:00Z
    const MIDNIGHT: u64 = 1_767_225_600_000;

    /// Hours of the first day at which each condition is asked for, unanswered.
    fn day(clock: Option<LocalClock>) -> (Vec<(u64, Condition)>, Vec<PromptNotAnswered>) {
        let mut prompts = Prompts::new(PromptPlan::default(), 0, clock, 0);
        let (mut asked, mut missed) = (Vec::new(), Vec::new());
        while let Some(at) = prompts.next_due().filter(|at| *at < 24 * HOUR) {
            let before = prompts.open();
            missed.extend(prompts.handle_time(at));
            if let (None, Some(open)) = (before, prompts.open()) {
                assert_eq!(open.asked_at, at);
                asked.push((at / 60_000, open.condition));
            }
        }
        (asked, missed)
    }

    #[test]
    fn nobody_is_woken_in_quiet_hours() {
        let (asked, missed) = day(Some(LocalClock::new(0, MIDNIGHT, 0)));
        let at = |condition| -> Vec<u64> {
            let of = asked.iter().filter(|a| a.1 == condition);
            of.map(|a| a.0 / 60).collect()
        };
        assert_eq!(at(Condition::Rest), [7, 9, 11, 13, 15, 17, 19, 21]);
        assert_eq!(at(Condition::Movement), [8, 14, 20]);
        assert_eq!(missed.len(), 11);
        assert_eq!(missed[0].prompted_at_tick_ms, 7 * HOUR);
    }

    #[test]
    fn without_a_clock_prompts_run_on_ticks() {
        let (asked, _) = day(None);
        assert_eq!(asked[0], (60, Condition::Movement));
        assert_eq!(asked[1], (120, Condition::Rest));
        assert_eq!(asked.len(), 11 + 4);
    }

    #[test]
    fn a_prompt_is_asked_once_more_but_not_into_the_night() {
        let plan = PromptPlan {
            rest_every_min: 60,
            movement_every_min: 0,
            quiet_from_min: 21 * 60 + 3,
            ..PromptPlan::default()
        };
        let clock = LocalClock::new(0, MIDNIGHT, 0);
        let mut prompts = Prompts::new(plan, 20 * HOUR - 1, Some(clock), 70);
        assert_eq!(prompts.handle_time(20 * HOUR), None);
        assert_eq!(prompts.open().map(|p| p.id), Some(71));
        assert_eq!(prompts.handle_time(20 * HOUR + 300_000), None);
        assert!(prompts.handle_time(20 * HOUR + 600_000).is_some());
        assert_eq!(prompts.handle_time(21 * HOUR), None);
        assert!(prompts.handle_time(21 * HOUR + 300_000).is_some());
        assert_eq!(prompts.next_due(), Some(31 * HOUR));
    }
}
