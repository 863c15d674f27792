//! Keys, from the key table, and what the signs mean.

use crate::keymap::{self, Place};
use crate::pen::Pen;
use crate::theme::Role;
use protocol::event::Priority;

const SIGNS: &[(&str, Role, &str)] = &[
    ("12s", Role::Label, "live: at most 2 s old"),
    ("~4s", Role::Late, "late: at most 10 s old"),
    ("(7)", Role::Stale, "stale: do not rely on it"),
    ("--", Role::Lost, "lost: nothing for a minute"),
    ("??", Role::Unknown, "never heard"),
    ("7u", Role::Plain, "score that was not confirmed"),
    ("v-6", Role::Plain, "points below the baseline, ^ above"),
    (
        "***",
        Role::Alarm(Priority::High),
        "patient or therapy: now",
    ),
    ("**", Role::Alarm(Priority::Medium), "soon"),
    ("*", Role::Alarm(Priority::Low), "know of it"),
    (
        "!!! !!",
        Role::Acknowledged(Priority::High),
        "the same, about this system",
    ),
    ("b x B", Role::Plain, "bolus given, refused, both"),
    ("R", Role::Plain, "rescue dose"),
    ("n ! N", Role::Plain, "not answered, pump alarm, both"),
    (":", Role::Gap, "no data; nothing is drawn across"),
    ("dlv", Role::Plain, "drug delivered of drug programmed"),
    ("flow", Role::Flow, "left the pump: at the spine not proven"),
];

pub(crate) fn draw(pen: &mut Pen<'_>, over_bed: bool) {
    let here = if over_bed { Place::Bed } else { Place::Ward };
    let title = if over_bed { "HELP  bed" } else { "HELP  ward" };
    pen.text(0, 0, title, Role::Title);
    let mut y = 1;
    for binding in keymap::valid(here) {
        pen.text(0, y, binding.shown, Role::Key);
        pen.text(9, y, binding.words, Role::Label);
        y += 1;
    }
    pen.text(0, y, "digits", Role::Key);
    pen.text(9, y, "a bed, then Enter", Role::Label);
    let two_columns = pen.width() >= 70;
    let (x, mut y) = if two_columns { (34, 0) } else { (0, y + 2) };
    for (sign, role, words) in SIGNS {
        pen.text(x, y, sign, *role);
        pen.text(x + 7, y, words, Role::Label);
        y += 1;
    }
}
