//! The screens. Whatever is shown, at whatever size, the worst alarm comes first, then how things
//! are, then whether there is a patient at all; what is left is the screen's.

pub(crate) mod bed;
pub(crate) mod help;
pub(crate) mod ward;

use crate::alarm;
use crate::app::{App, Screen};
use crate::keymap;
use crate::pen::Pen;
use crate::theme::Role;
use crate::widgets::banner;
use crate::words;
use protocol::event::Priority;
use protocol::time::Now;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// From this size on there is a footer, and the status line stands on top.
pub(crate) const ROOMY: (u16, u16) = (60, 12);

/// Draws everything.
pub fn view(app: &App, now: Now, area: Rect, buffer: &mut Buffer) {
    let alarms = alarm::all(app, now);
    let mut pen = Pen::new(buffer, area, app.theme);
    for y in 0..pen.height() {
        pen.fill(y, ' ', Role::Plain);
    }
    let (width, height) = (pen.width(), pen.height());
    let frame = Frame::of(app, width, height);
    let has_alarm = !alarms.is_empty();
    if height == 1 && !has_alarm {
        banner::status(&mut pen.part(0, 0, width, 1), app, &alarms, now);
        return;
    }
    banner::banner(&mut pen.part(0, frame.banner, width, 1), &alarms, now);
    if let Some(y) = frame.status {
        banner::status(&mut pen.part(0, y, width, 1), app, &alarms, now);
    }
    if let Some(y) = frame.context {
        context(&mut pen.part(0, y, width, 1), app);
    }
    if let Some(y) = frame.footer {
        footer(&mut pen.part(0, y, width, 1), app);
    }
    let mut body = pen.part(0, frame.body, width, frame.body_rows);
    match app.screen {
        Screen::Ward => ward::draw(&mut body, app, &alarms, now),
        Screen::Bed => bed::draw(&mut body, app, &alarms, now),
        Screen::Help { over_bed } => help::draw(&mut body, over_bed),
    }
}

/// Which row is whose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    banner: u16,
    status: Option<u16>,
    context: Option<u16>,
    body: u16,
    pub(crate) body_rows: u16,
    footer: Option<u16>,
}

impl Frame {
    pub(crate) fn of(app: &App, width: u16, height: u16) -> Self {
        let roomy = width >= ROOMY.0 && height >= ROOMY.1;
        let has_context = height >= 3 && (app.simulated() || app.notice.is_some());
        let body = 2 + u16::from(has_context);
        let has_footer = roomy || app.asks_to_leave() && height > body;
        Self {
            banner: u16::from(roomy),
            status: (height >= 2).then_some(u16::from(!roomy)),
            context: has_context.then_some(2),
            body,
            body_rows: height.saturating_sub(body + u16::from(has_footer)),
            footer: has_footer.then_some(height.saturating_sub(1)),
        }
    }
}

fn context(pen: &mut Pen<'_>, app: &App) {
    let mut x = 0;
    if app.simulated() {
        let short = pen.width() < 25;
        let text = if short {
            "SIM, NOT A PATIENT"
        } else {
            " SIMULATED, NOT A PATIENT "
        };
        x = pen.text(0, 0, text, Role::Simulated) + 2;
        let mut states = app.beds().values().filter_map(|b| b.state.as_ref());
        if let Some(fast) = states.find(|s| s.speed > 1)
            && pen.width() >= 60
        {
            let text = format!("clock x{}", fast.speed);
            x = pen.text(x, 0, &text, Role::Label) + 2;
        }
    }
    if let Some(notice) = &app.notice {
        pen.text(x, 0, notice, Role::Plain);
    }
}

fn footer(pen: &mut Pen<'_>, app: &App) {
    if app.asks_to_leave() {
        let text = "*** is not acknowledged. q again: leave.  Esc: stay.";
        pen.text(0, 0, text, Role::Alarm(Priority::Medium));
        return;
    }
    if !app.typed().is_empty() {
        let text = format!("go to bed {}_   Enter go   Esc stay", app.typed());
        pen.text(0, 0, &text, Role::Title);
        return;
    }
    let mut x = 0;
    let in_footer = keymap::TABLE.iter().take(keymap::IN_FOOTER);
    for binding in in_footer.filter(|b| b.places.contains(&app.place())) {
        let next = x + words::columns(binding.shown) + 1 + words::columns(binding.words);
        if next > pen.width() {
            break;
        }
        let pieces = [
            (binding.shown, Role::Key),
            (" ", Role::Label),
            (binding.words, Role::Label),
        ];
        x = pen.pieces(x, 0, &pieces) + 2;
    }
    if app.place() == keymap::Place::Ward {
        let text = "digits Enter go to bed";
        if x + words::columns(text) <= pen.width() {
            pen.pieces(
                x,
                0,
                &[("digits Enter", Role::Key), (" go to bed", Role::Label)],
            );
        }
    }
}
