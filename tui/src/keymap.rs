//! Keys and what they do: one table that drives dispatch, footer and help.

/// A key, as a terminal gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// Enter.
    Enter,
    /// Escape.
    Esc,
    /// Arrow.
    Up,
    /// Arrow.
    Down,
    /// Arrow.
    Left,
    /// Arrow.
    Right,
    /// Control and C: leave without a question.
    Interrupt,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// One row up.
    Up,
    /// One row down.
    Down,
    /// One bed back on the ward.
    Left,
    /// One bed on, on the ward.
    Right,
    /// Open the bed that is chosen, or whose number was typed.
    Open,
    /// Back to where one came from.
    Back,
    /// To the bed in the banner.
    GoToAlarm,
    /// To the bed before.
    PreviousBed,
    /// To the next bed.
    NextBed,
    /// A shorter time on the axis.
    ZoomIn,
    /// A longer time on the axis.
    ZoomOut,
    /// This help.
    Help,
    /// Leave.
    Quit,
}

/// Where a key is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The ward.
    Ward,
    /// One bed.
    Bed,
    /// The help.
    Help,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The keys.
    pub keys: &'static [Key],
    /// How they are written.
    pub shown: &'static str,
    /// What they do, in a word or two.
    pub words: &'static str,
    /// What they do.
    pub action: Action,
    /// Where.
    pub places: &'static [Place],
}

const WARD: &[Place] = &[Place::Ward];
const BED: &[Place] = &[Place::Bed];
const BEDS: &[Place] = &[Place::Ward, Place::Bed];
const AWAY: &[Place] = &[Place::Bed, Place::Help];
const ALL: &[Place] = &[Place::Ward, Place::Bed, Place::Help];

/// The table. The order is that of the footer.
pub const TABLE: &[Binding] = &[
    bind(&[Key::Esc], "Esc", "back", Action::Back, AWAY),
    bind(&[Key::Enter], "Enter", "open bed", Action::Open, WARD),
    bind(
        &[Key::Char('g')],
        "g",
        "go to alarm",
        Action::GoToAlarm,
        BEDS,
    ),
    bind(
        &[Key::Char('['), Key::Char('p')],
        "[",
        "before",
        Action::PreviousBed,
        BED,
    ),
    bind(
        &[Key::Char(']'), Key::Char('n')],
        "]",
        "next",
        Action::NextBed,
        BED,
    ),
    bind(
        &[Key::Char('+'), Key::Char('=')],
        "+",
        "zoom in",
        Action::ZoomIn,
        BED,
    ),
    bind(&[Key::Char('-')], "-", "zoom out", Action::ZoomOut, BED),
    bind(&[Key::Char('?')], "?", "help", Action::Help, BEDS),
    bind(&[Key::Char('q')], "q", "quit", Action::Quit, ALL),
    bind(
        &[Key::Left, Key::Char('h')],
        "left h",
        "bed to the left",
        Action::Left,
        WARD,
    ),
    bind(
        &[Key::Right, Key::Char('l')],
        "right l",
        "bed to the right",
        Action::Right,
        WARD,
    ),
    bind(
        &[Key::Up, Key::Char('k')],
        "up k",
        "row up",
        Action::Up,
        WARD,
    ),
    bind(
        &[Key::Down, Key::Char('j')],
        "down j",
        "row down",
        Action::Down,
        WARD,
    ),
    bind(
        &[Key::Enter],
        "Enter",
        "after digits: go to bed",
        Action::Open,
        BED,
    ),
];

/// Lines of the table up to here stand in the footer.
pub const IN_FOOTER: usize = 9;

const fn bind(
    keys: &'static [Key],
    shown: &'static str,
    words: &'static str,
    action: Action,
    places: &'static [Place],
) -> Binding {
    Binding {
        keys,
        shown,
        words,
        action,
        places,
    }
}

/// What a key does at a place.
pub fn action(key: Key, place: Place) -> Option<Action> {
    let mut valid = valid(place);
    valid.find(|b| b.keys.contains(&key)).map(|b| b.action)
}

/// The lines that are valid at a place.
pub fn valid(place: Place) -> impl Iterator<Item = &'static Binding> {
    TABLE.iter().filter(move |b| b.places.contains(&place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things_at_one_place() {
        for place in ALL {
            let keys: Vec<Key> = valid(*place).flat_map(|b| b.keys.iter().copied()).collect();
            for (i, key) in keys.iter().enumerate() {
                assert!(!keys[..i].contains(key), "{key:?} at {place:?}");
            }
        }
    }

    #[test]
    fn digits_are_free_for_bed_numbers() {
        for binding in TABLE {
            for key in binding.keys {
                assert!(!matches!(key, Key::Char('0'..='9')), "{binding:?}");
            }
        }
    }
}
