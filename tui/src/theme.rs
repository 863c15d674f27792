//! What things mean, and how a meaning looks. Colour appears for what is abnormal and only
//! repeats what the text says: each palette, `mono` included, shows the same words.

use protocol::event::Priority;
use ratatui::style::{Color, Modifier, Style};

/// A meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Words and numbers that may be relied on.
    Plain,
    /// Names of numbers, rules, keys' words.
    Label,
    /// Headings.
    Title,
    /// A value that is late.
    Late,
    /// A value that is stale.
    Stale,
    /// A value that is lost.
    Lost,
    /// A value that was never heard.
    Unknown,
    /// An alarm that nobody has acknowledged.
    Alarm(Priority),
    /// The same in the other half of its flash.
    AlarmFlash(Priority),
    /// An alarm that somebody has acknowledged.
    Acknowledged(Priority),
    /// The bed that keys act on.
    Selected,
    /// There is no patient.
    Simulated,
    /// A pain score in a plot.
    Score,
    /// The level that a score holds until the next.
    Hold,
    /// Baseline and half of it.
    Reference,
    /// Time without data.
    Gap,
    /// Drug delivered.
    Flow,
    /// A key in the footer.
    Key,
}

/// A set of colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Palette {
    /// None: bold, dim, underlined and reversed only.
    Mono,
    /// The 16 of any terminal.
    #[default]
    Ansi16,
    /// 24 bits, told apart also by who sees red and green alike.
    Rgb,
}

impl Palette {
    /// Of its name on the command line.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "mono" => Some(Self::Mono),
            "ansi16" => Some(Self::Ansi16),
            "rgb" => Some(Self::Rgb),
            _ => None,
        }
    }
}

/// How meanings look, and which characters may be used.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    style: fn(Role) -> Style,
    ascii: bool,
}

impl Theme {
    /// Of a palette; `ascii` keeps to ASCII characters.
    pub fn new(palette: Palette, ascii: bool) -> Self {
        let style = match palette {
            Palette::Mono => mono,
            Palette::Ansi16 => ansi16,
            Palette::Rgb => rgb,
        };
        Self { style, ascii }
    }

    /// With styles of one's own.
    pub fn with_styles(style: fn(Role) -> Style, ascii: bool) -> Self {
        Self { style, ascii }
    }

    /// How a meaning looks.
    pub fn style(&self, role: Role) -> Style {
        (self.style)(role)
    }

    /// Whether to keep to ASCII characters.
    pub fn ascii(&self) -> bool {
        self.ascii
    }
}

fn mono(role: Role) -> Style {
    let plain = Style::reset();
    match role {
        Role::Plain
        | Role::Late
        | Role::Score
        | Role::Flow
        | Role::AlarmFlash(Priority::Medium | Priority::Low)
        | Role::Alarm(Priority::Low)
        | Role::Acknowledged(_) => plain,
        Role::Label | Role::Stale | Role::Hold | Role::Reference | Role::Gap => {
            plain.add_modifier(Modifier::DIM)
        }
        Role::Title | Role::Key | Role::Lost | Role::Unknown | Role::AlarmFlash(Priority::High) => {
            plain.add_modifier(Modifier::BOLD)
        }
        Role::Alarm(Priority::High) => plain.add_modifier(Modifier::BOLD | Modifier::REVERSED),
        Role::Alarm(Priority::Medium) | Role::Selected => {
            plain.add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
        }
        Role::Simulated => plain.add_modifier(Modifier::REVERSED),
    }
}

fn ansi16(role: Role) -> Style {
    let plain = Style::reset();
    match role {
        Role::Plain
        | Role::Late
        | Role::Label
        | Role::Title
        | Role::Stale
        | Role::Score
        | Role::Hold
        | Role::Reference
        | Role::Gap
        | Role::Flow
        | Role::Key
        | Role::Selected => mono(role),
        Role::Lost | Role::Unknown => plain.fg(Color::Cyan).add_modifier(Modifier::BOLD),
        Role::Alarm(Priority::High) => plain
            .fg(Color::White)
            .bg(Color::Red)
            .add_modifier(Modifier::BOLD),
        Role::AlarmFlash(Priority::High) | Role::Acknowledged(Priority::High) => {
            plain.fg(Color::LightRed).add_modifier(Modifier::BOLD)
        }
        Role::Alarm(Priority::Medium) | Role::AlarmFlash(Priority::Medium) => {
            plain.fg(Color::Black).bg(Color::Yellow)
        }
        Role::Acknowledged(Priority::Medium) => plain.fg(Color::Yellow),
        Role::Alarm(Priority::Low)
        | Role::AlarmFlash(Priority::Low)
        | Role::Acknowledged(Priority::Low) => plain.fg(Color::Cyan),
        Role::Simulated => plain.fg(Color::Black).bg(Color::Gray),
    }
}

fn rgb(role: Role) -> Style {
    // Okabe and Ito's vermilion, yellow and sky blue (jfly.uni-koeln.de/color) keep apart for
    // every kind of colour vision; the greys differ in lightness.
    let red = Color::Rgb(0xd5, 0x3e, 0x0f);
    let yellow = Color::Rgb(0xf0, 0xe4, 0x42);
    let blue = Color::Rgb(0x56, 0xb4, 0xe9);
    let black = Color::Rgb(0x10, 0x12, 0x14);
    let white = Color::Rgb(0xff, 0xff, 0xff);
    let text = Color::Rgb(0xd6, 0xda, 0xde);
    let grey = Color::Rgb(0x8c, 0x94, 0x9c);
    let dark = Color::Rgb(0x5c, 0x64, 0x6c);
    let plain = Style::reset().fg(text);
    match role {
        Role::Plain | Role::Late => plain,
        Role::Label | Role::Stale | Role::Hold | Role::Flow => plain.fg(grey),
        Role::Reference | Role::Gap => plain.fg(dark),
        Role::Title | Role::Key | Role::Score => plain.fg(white).add_modifier(Modifier::BOLD),
        Role::Selected => plain
            .fg(white)
            .add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
        Role::Lost | Role::Unknown => plain.fg(blue).add_modifier(Modifier::BOLD),
        Role::Alarm(Priority::High) => plain.fg(white).bg(red).add_modifier(Modifier::BOLD),
        Role::AlarmFlash(Priority::High) | Role::Acknowledged(Priority::High) => plain
            .fg(Color::Rgb(0xff, 0x7a, 0x4d))
            .add_modifier(Modifier::BOLD),
        Role::Alarm(Priority::Medium) | Role::AlarmFlash(Priority::Medium) => {
            plain.fg(black).bg(yellow)
        }
        Role::Acknowledged(Priority::Medium) => plain.fg(yellow),
        Role::Alarm(Priority::Low)
        | Role::AlarmFlash(Priority::Low)
        | Role::Acknowledged(Priority::Low) => plain.fg(blue),
        Role::Simulated => plain.fg(black).bg(text),
    }
}
