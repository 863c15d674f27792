//! All beds, each always at its place: large tiles where there are few, small tiles, and lines
//! where there are many; pages where even those do not fit. What is drawn is in `widgets::tile`.

use crate::alarm::Shown;
use crate::app::App;
use crate::bed::BedKey;
use crate::pen::Pen;
use crate::screens::Frame;
use crate::theme::Role;
use crate::widgets::tile::{self, LINE_WIDTH, Tile};
use crate::words;
use protocol::time::Now;
use std::collections::BTreeMap;

const SMALL: (u16, u16) = (20, 5);
const LARGE: (u16, u16) = (40, 10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Large,
    Small,
    Line,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grid {
    kind: Kind,
    columns: u16,
    rows: u16,
    width: u16,
    height: u16,
}

impl Grid {
    /// The densest look that is needed to show `beds` beds in this room.
    fn of(beds: usize, width: u16, height: u16) -> Self {
        let beds = words::small(beds.max(1));
        for columns in 1..=width / LARGE.0 {
            let rows = beds.div_ceil(columns);
            if rows * LARGE.1 <= height {
                return Self {
                    kind: Kind::Large,
                    columns,
                    rows,
                    width: width / columns,
                    height: height / rows,
                };
            }
        }
        let (columns, rows) = (width / SMALL.0, height / SMALL.1);
        if columns * rows >= beds {
            return Self {
                kind: Kind::Small,
                columns,
                rows,
                width: width / columns,
                height: SMALL.1,
            };
        }
        let columns = (width / (LINE_WIDTH + 1)).max(1);
        Self {
            kind: Kind::Line,
            columns,
            rows: height.saturating_sub(1).max(1),
            width: width / columns,
            height: 1,
        }
    }

    fn page(&self) -> usize {
        usize::from(self.columns) * usize::from(self.rows)
    }

    /// Tiles run along rows, lines down columns.
    fn place(&self, n: u16) -> (u16, u16) {
        match self.kind {
            Kind::Large | Kind::Small => (n % self.columns, n / self.columns),
            Kind::Line => (n / self.rows, n % self.rows),
        }
    }
}

/// How many beds an arrow up or down passes over.
pub(crate) fn columns(app: &App, (width, height): (u16, u16)) -> usize {
    let frame = Frame::of(app, width, height);
    let grid = Grid::of(app.beds().len(), width, frame.body_rows);
    match grid.kind {
        Kind::Large | Kind::Small => usize::from(grid.columns),
        Kind::Line => 1,
    }
}

pub(crate) fn draw(pen: &mut Pen<'_>, app: &App, alarms: &[Shown], now: Now) {
    if app.beds().is_empty() {
        pen.text(0, 1, "Nothing heard of any bed yet.", Role::Label);
        return;
    }
    let grid = Grid::of(app.beds().len(), pen.width(), pen.height());
    let mut worst: BTreeMap<&BedKey, &Shown> = BTreeMap::new();
    for alarm in alarms.iter().rev() {
        if let Some(key) = &alarm.bed {
            worst.insert(key, alarm);
        }
    }
    let page = app.selected_index() / grid.page();
    let pages = app.beds().len().div_ceil(grid.page());
    let top = u16::from(grid.kind == Kind::Line && pen.height() > 1);
    if top == 1 {
        for column in 0..grid.columns {
            let mut part = pen.part(column * grid.width, 0, grid.width, 1);
            tile::line_head(&mut part);
        }
        if pages > 1 {
            let text = format!(" page {} of {pages}", page + 1);
            pen.right(0, &text, Role::Plain);
        }
    }
    let shown = app.beds().iter().skip(page * grid.page()).take(grid.page());
    for (n, (key, bed)) in (0u16..).zip(shown) {
        let tile = Tile {
            key,
            bed,
            worst: worst.get(key).copied(),
            selected: app.selected().is_some_and(|(selected, _)| selected == key),
            now,
        };
        let (column, row) = grid.place(n);
        let (x, y) = (column * grid.width, top + row * grid.height);
        let width = grid.width.saturating_sub(1);
        let mut part = pen.part(x, y, width, grid.height);
        match grid.kind {
            Kind::Large => tile.large(&mut part),
            Kind::Small => tile.small(&mut part),
            Kind::Line => tile.line(&mut part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn density_follows_the_number_of_beds() {
        let kind = |beds, width, height| Grid::of(beds, width, height).kind;
        assert_eq!(kind(4, 80, 20), Kind::Large);
        assert_eq!(kind(16, 80, 20), Kind::Small);
        assert_eq!(kind(17, 80, 20), Kind::Line);
        assert_eq!(kind(40, 120, 36), Kind::Small);
        assert_eq!(kind(1000, 120, 36), Kind::Line);
        assert_eq!(kind(1, 20, 1), Kind::Line);
    }

    #[test]
    fn no_two_beds_share_a_place_and_none_is_outside() {
        for (beds, width, height) in [(4, 80, 20), (16, 80, 20), (40, 80, 21), (9, 3, 2)] {
            let grid = Grid::of(beds, width, height);
            let places: std::collections::BTreeSet<_> = (0..words::small(beds.min(grid.page())))
                .map(|n| grid.place(n))
                .collect();
            assert_eq!(places.len(), beds.min(grid.page()));
            assert!(
                places
                    .iter()
                    .all(|(c, r)| *c < grid.columns && *r < grid.rows)
            );
        }
    }
}
