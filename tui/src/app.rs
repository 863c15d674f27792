//! What the dashboard knows and where the person is. Pure: [`App::update`] takes an event with
//! the time it came, and answers with what to do; drawing asks and changes nothing.

use crate::alarm;
use crate::bed::{Bed, BedKey};
use crate::feed::Event;
use crate::fresh::Came;
use crate::keymap::{self, Action, Key, Place};
use crate::screens::ward;
use crate::theme::Theme;
use protocol::event::Priority;
use protocol::text::clean;
use protocol::time::{Now, Uptime};
use protocol::topics::{Alarms, State, Status};
use std::collections::BTreeMap;

/// The most beds that are kept; further ones are refused and counted.
pub const BEDS_MAX: usize = 2_000;
/// A second press sooner than this is the same finger.
const REPEAT_GUARD_MS: u64 = 300;

/// What the model begins with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The site, for the status line.
    pub site: String,
    /// Beds that are expected, before anything is heard of them.
    pub beds: Vec<BedKey>,
    /// How many times faster than the wall the caller's trial clock runs.
    pub speed: u32,
    /// How it looks.
    pub theme: Theme,
}

/// What the surroundings are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Give the terminal back.
    Leave(Exit),
}

/// Why the dashboard ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A person, with `q`.
    Quit,
    /// The caller.
    Told,
    /// Control and C, a signal, or the caller's stop flag: everything is to end.
    Interrupted,
}

/// What the screen shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// All beds.
    Ward,
    /// The chosen bed.
    Bed,
    /// Keys and signs, over one of the others.
    Help {
        /// Where `Esc` leads.
        over_bed: bool,
    },
}

/// How much time is on the axis of a bed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zoom {
    /// From the beginning of the baseline.
    All,
    /// The last hours.
    Hours(u32),
}

const ZOOMS: [Zoom; 5] = [
    Zoom::All,
    Zoom::Hours(48),
    Zoom::Hours(24),
    Zoom::Hours(12),
    Zoom::Hours(6),
];

/// The connection to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Whether it is there.
    pub connected: bool,
    /// Since when.
    pub since: Uptime,
    /// Which, or why not.
    pub detail: String,
}

/// A gateway that said it goes, or whose will said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offline {
    /// When we heard of it.
    pub since: Uptime,
}

/// Payloads that were not taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many, since the start.
    pub count: u64,
    /// The latest: when, and why.
    pub last: Option<(Uptime, String)>,
}

/// The model.
#[derive(Clone, Debug)]
pub struct App {
    /// The site.
    pub site: String,
    /// How it looks.
    pub theme: Theme,
    /// What the screen shows.
    pub screen: Screen,
    /// The broker.
    pub broker: Broker,
    /// Payloads not taken.
    pub refused: Refused,
    /// A line for the person at the screen.
    pub notice: Option<String>,
    /// Since when the terminal takes nothing.
    pub display_behind: Option<Uptime>,
    beds: BTreeMap<BedKey, Bed>,
    offline: BTreeMap<String, Offline>,
    selected: Option<BedKey>,
    typed: String,
    asked_to_leave: Option<Uptime>,
    zoom: usize,
    speed: u32,
    size: (u16, u16),
}

impl App {
    /// A model that has heard nothing.
    pub fn new(setup: Setup, now: Now) -> Self {
        let beds = setup
            .beds
            .into_iter()
            .map(|key| (key, Bed::new(now.uptime)));
        let beds: BTreeMap<_, _> = beds.collect();
        Self {
            site: clean(&setup.site, 16),
            theme: setup.theme,
            screen: Screen::Ward,
            broker: Broker {
                connected: false,
                since: now.uptime,
                detail: String::new(),
            },
            refused: Refused::default(),
            notice: None,
            display_behind: None,
            selected: beds.keys().next().cloned(),
            beds,
            offline: BTreeMap::new(),
            typed: String::new(),
            asked_to_leave: None,
            zoom: 0,
            speed: setup.speed.max(1),
            size: (80, 24),
        }
    }

    /// Takes an event that came at `now`.
    pub fn update(&mut self, now: Now, event: Event) -> Vec<Effect> {
        match event {
            Event::Broker { connected, detail } => self.broker(now, connected, &detail),
            Event::State { state, retained } => self.state(now, *state, retained),
            Event::Alarms(alarms) => self.alarms(now, alarms),
            Event::Status(status) => self.status(now, &status),
            Event::Refused(why) => self.refuse(now, &why),
            Event::Notice(text) => self.notice = Some(clean(&text, 240)),
            Event::Resize(width, height) => self.size = (width, height),
            Event::DisplayBehind(behind) => {
                self.display_behind = behind.then(|| self.display_behind.unwrap_or(now.uptime));
            }
            Event::Resumed => {
                for heard in self.beds.values_mut().filter_map(|b| b.heard.as_mut()) {
                    if heard.came == Came::Live {
                        heard.came = Came::BeforeSleep;
                    }
                }
            }
            Event::Key(key) => return self.key(now, key),
            Event::Quit => return vec![Effect::Leave(Exit::Told)],
        }
        Vec::new()
    }

    fn broker(&mut self, now: Now, connected: bool, detail: &str) {
        if connected != self.broker.connected {
            self.broker.since = now.uptime;
        }
        self.broker.connected = connected;
        self.broker.detail = clean(detail, 80);
    }

    fn bed_mut(&mut self, now: Now, gw: &str, bed: &str) -> Option<&mut Bed> {
        let key = BedKey {
            gw: gw.into(),
            bed: bed.into(),
        };
        if self.beds.len() >= BEDS_MAX && !self.beds.contains_key(&key) {
            self.refuse(now, "more beds than a ward can have");
            return None;
        }
        if self.selected.is_none() {
            self.selected = Some(key.clone());
        }
        let bed = self.beds.entry(key);
        Some(bed.or_insert_with(|| Bed::new(now.uptime)))
    }

    fn state(&mut self, now: Now, state: State, retained: bool) {
        let our_speed = self.speed;
        let Some(bed) = self.bed_mut(now, &state.gw, &state.bed) else {
            return;
        };
        bed.hear(now.uptime, state, retained, our_speed);
    }

    fn alarms(&mut self, now: Now, alarms: Alarms) {
        if let Some(bed) = self.bed_mut(now, &alarms.gw, &alarms.bed) {
            bed.alarms = alarms.alarms;
        }
    }

    fn status(&mut self, now: Now, status: &Status) {
        if status.state == "online" {
            self.offline.remove(&status.gw);
        } else if self.offline.len() < BEDS_MAX {
            let offline = Offline { since: now.uptime };
            self.offline.entry(status.gw.clone()).or_insert(offline);
        }
    }

    fn refuse(&mut self, now: Now, why: &str) {
        self.refused.count = self.refused.count.saturating_add(1);
        self.refused.last = Some((now.uptime, clean(why, 80)));
    }

    fn key(&mut self, now: Now, key: Key) -> Vec<Effect> {
        if key == Key::Interrupt {
            return vec![Effect::Leave(Exit::Interrupted)];
        }
        let asked = self.asked_to_leave.take();
        if let Key::Char(digit @ '0'..='9') = key {
            if self.typed.len() < 8 && self.place() != Place::Help {
                self.typed.push(digit);
            }
            return Vec::new();
        }
        let typed = std::mem::take(&mut self.typed);
        let Some(action) = keymap::action(key, self.place()) else {
            return Vec::new();
        };
        match action {
            Action::Quit => return self.quit(now, asked),
            Action::Back if !typed.is_empty() => {}
            Action::Back => self.back(asked.is_some()),
            Action::Open if !typed.is_empty() => self.open_typed(&typed),
            Action::Open if self.selected.is_some() => self.screen = Screen::Bed,
            Action::Open => {}
            Action::GoToAlarm => {
                if let Some(bed) = alarm::all(self, now).into_iter().find_map(|a| a.bed) {
                    self.selected = Some(bed);
                    self.screen = Screen::Bed;
                }
            }
            Action::Left | Action::PreviousBed => self.step(-1),
            Action::Right | Action::NextBed => self.step(1),
            Action::Up => self.step(-self.row()),
            Action::Down => self.step(self.row()),
            Action::ZoomIn => self.zoom = (self.zoom + 1).min(ZOOMS.len() - 1),
            Action::ZoomOut => self.zoom = self.zoom.saturating_sub(1),
            Action::Help => {
                let over_bed = self.screen == Screen::Bed;
                self.screen = Screen::Help { over_bed };
            }
        }
        Vec::new()
    }

    fn quit(&mut self, now: Now, asked: Option<Uptime>) -> Vec<Effect> {
        let sure = asked.is_some_and(|at| now.uptime.millis_since(at) >= REPEAT_GUARD_MS);
        if sure || !alarm::all(self, now).iter().any(alarm::Shown::must_be_seen) {
            return vec![Effect::Leave(Exit::Quit)];
        }
        self.asked_to_leave = Some(asked.unwrap_or(now.uptime));
        Vec::new()
    }

    fn back(&mut self, only_the_question: bool) {
        if only_the_question {
            return;
        }
        self.screen = match self.screen {
            Screen::Help { over_bed: true } => Screen::Bed,
            Screen::Help { over_bed: false } | Screen::Bed | Screen::Ward => Screen::Ward,
        };
    }

    fn open_typed(&mut self, typed: &str) {
        let number = typed.parse::<u64>().ok();
        let same = |key: &&BedKey| key.bed == typed || (number == key.bed.parse().ok());
        if let Some(key) = self.beds.keys().find(same) {
            self.selected = Some(key.clone());
            self.screen = Screen::Bed;
        }
    }

    fn row(&self) -> isize {
        let columns = ward::columns(self, self.size);
        isize::try_from(columns).unwrap_or(1).max(1)
    }

    fn step(&mut self, by: isize) {
        let at = self.selected_index().saturating_add_signed(by);
        let at = at.min(self.beds.len().saturating_sub(1));
        if let Some(key) = self.beds.keys().nth(at) {
            self.selected = Some(key.clone());
        }
    }

    /// Where the person is, for keys.
    pub fn place(&self) -> Place {
        match self.screen {
            Screen::Ward => Place::Ward,
            Screen::Bed => Place::Bed,
            Screen::Help { .. } => Place::Help,
        }
    }

    /// All beds, in the order of the ward.
    pub fn beds(&self) -> &BTreeMap<BedKey, Bed> {
        &self.beds
    }

    /// Gateways that are offline.
    pub fn offline(&self) -> &BTreeMap<String, Offline> {
        &self.offline
    }

    /// The bed that keys act on.
    pub fn selected(&self) -> Option<(&BedKey, &Bed)> {
        self.beds.get_key_value(self.selected.as_ref()?)
    }

    /// Its place in the ward.
    pub fn selected_index(&self) -> usize {
        let is_it = |key: &BedKey| Some(key) == self.selected.as_ref();
        self.beds.keys().position(is_it).unwrap_or(0)
    }

    /// The bed number typed so far.
    pub fn typed(&self) -> &str {
        &self.typed
    }

    /// Whether the person was asked if they mean to leave.
    pub fn asks_to_leave(&self) -> bool {
        self.asked_to_leave.is_some()
    }

    /// How much time is on the axis.
    pub fn zoom(&self) -> Zoom {
        ZOOMS.get(self.zoom).copied().unwrap_or(Zoom::All)
    }

    /// Set where any bed has no patient.
    pub fn simulated(&self) -> bool {
        let mut states = self.beds.values().filter_map(|b| b.state.as_ref());
        states.any(|s| s.simulated)
    }

    /// Whether the picture changes four times a second.
    pub fn flashes(&self, now: Now) -> bool {
        let flashing = |a: &alarm::Shown| a.priority == Priority::High && a.is_unacknowledged();
        alarm::all(self, now).iter().any(flashing)
    }
}
