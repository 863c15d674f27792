//! Writes SVG: a few shapes, numbers cut to a tenth, every text escaped. No scripts, no links.

use crate::num::nearest;
use std::fmt::Write;

/// Pain 0 to 3.
pub const MILD: &str = "#2a9173";
/// Pain 4 to 6.
pub const MODERATE: &str = "#d9982b";
/// Pain 7 to 10.
pub const SEVERE: &str = "#c4432f";
/// The drug.
pub const DRUG: &str = "#36558f";
/// Ink.
pub const INK: &str = "#1d2733";
/// Words beside the ink.
pub const GREY: &str = "#66707c";
/// Hairlines.
pub const HAIR: &str = "#d9dde2";
/// The ground of the baseline.
pub const GROUND: &str = "#f0f2f5";
/// The ground of a goal.
pub const GOAL: &str = "#e4f1ec";

/// A drawing.
#[derive(Clone, Debug)]
pub struct Svg {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

/// Where a text is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// At its start.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Color.
    pub fill: &'static str,
    /// Size.
    pub size: f64,
    /// Where it is held.
    pub anchor: Anchor,
    /// Bold.
    pub bold: bool,
}

/// Small grey words, held at their start.
pub const LABEL: Style = Style {
    fill: GREY,
    size: 8.0,
    anchor: Anchor::Start,
    bold: false,
};

impl Style {
    /// Held elsewhere.
    pub const fn at(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    /// Of another color.
    pub const fn fill(self, fill: &'static str) -> Self {
        Self { fill, ..self }
    }

    /// Of another size.
    pub const fn size(self, size: f64) -> Self {
        Self { size, ..self }
    }

    /// Bold.
    pub const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }
}

impl Svg {
    /// Of a size; the title is read aloud.
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        Self {
            width,
            height,
            title: escape(title),
            body: String::new(),
        }
    }

    /// A line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str, width: f64) {
        self.dashed(from, to, stroke, width, "");
    }

    /// A line of dashes, such as `3 2`.
    pub fn dashed(&mut self, a: (f64, f64), b: (f64, f64), stroke: &str, width: f64, dash: &str) {
        let dash = if dash.is_empty() {
            String::new()
        } else {
            format!(r#" stroke-dasharray="{dash}""#)
        };
        let _ = write!(
            self.body,
            r#"<line x1="{}" y1="{}" x2="{}" y2="{}" stroke="{stroke}" stroke-width="{}"{dash}/>"#,
            n(a.0),
            n(a.1),
            n(b.0),
            n(b.1),
            n(width)
        );
    }

    /// A filled rectangle; nothing where it has no area.
    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        if width > 0.0 && height > 0.0 {
            let _ = write!(
                self.body,
                r#"<rect x="{}" y="{}" width="{}" height="{}" fill="{fill}"/>"#,
                n(x),
                n(y),
                n(width),
                n(height)
            );
        }
    }

    /// A hatched rectangle: nothing is known here.
    pub fn hatched(&mut self, x: f64, y: f64, width: f64, height: f64) {
        let width = width.max(1.0);
        self.rect(x, y, width, height, "#eceef1");
        let mut at = x - height;
        let mut path = String::new();
        while at < x + width {
            let from = at.max(x);
            let to = (at + height).min(x + width);
            if to > from {
                let _ = write!(
                    path,
                    "M{} {}L{} {}",
                    n(from),
                    n(y + height - (from - at)),
                    n(to),
                    n(y + height - (to - at))
                );
            }
            at += 4.0;
        }
        let _ = write!(
            self.body,
            r##"<path d="{path}" stroke="#aab1ba" stroke-width="0.6" fill="none"/>"##
        );
    }

    /// A line through points.
    pub fn polyline(&mut self, points: &[(f64, f64)], stroke: &str, width: f64) {
        let list: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{},{}", n(*x), n(*y)))
            .collect();
        let _ = write!(
            self.body,
            r#"<polyline points="{}" fill="none" stroke="{stroke}" stroke-width="{}" stroke-linejoin="round"/>"#,
            list.join(" "),
            n(width)
        );
    }

    /// A filled polygon with a title that is shown on hovering.
    pub fn polygon(&mut self, points: &[(f64, f64)], fill: &str, stroke: &str, title: &str) {
        let list: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{},{}", n(*x), n(*y)))
            .collect();
        let _ = write!(
            self.body,
            r#"<polygon points="{}" fill="{fill}" stroke="{stroke}" stroke-width="0.8">{}</polygon>"#,
            list.join(" "),
            title_element(title)
        );
    }

    /// A circle with a title.
    pub fn circle(&mut self, (x, y): (f64, f64), r: f64, fill: &str, stroke: &str, title: &str) {
        let _ = write!(
            self.body,
            r#"<circle cx="{}" cy="{}" r="{}" fill="{fill}" stroke="{stroke}" stroke-width="0.8">{}</circle>"#,
            n(x),
            n(y),
            n(r),
            title_element(title)
        );
    }

    /// A text.
    pub fn text(&mut self, (x, y): (f64, f64), text: &str, style: Style) {
        let anchor = match style.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if style.bold {
            r#" font-weight="600""#
        } else {
            ""
        };
        let _ = write!(
            self.body,
            r#"<text x="{}" y="{}" fill="{}" font-size="{}" text-anchor="{anchor}"{weight}>{}</text>"#,
            n(x),
            n(y),
            style.fill,
            n(style.size),
            escape(text)
        );
    }

    /// A text that reads upward.
    pub fn upward(&mut self, (x, y): (f64, f64), text: &str, style: Style) {
        let _ = write!(
            self.body,
            r#"<g transform="translate({} {}) rotate(-90)">"#,
            n(x),
            n(y)
        );
        self.text((0.0, 0.0), text, style);
        self.body.push_str("</g>");
    }

    /// The mark of a score: circle, diamond or triangle by its range, so that a print without
    /// color says the same. Hollow where it does not count.
    pub fn score(&mut self, (x, y): (f64, f64), score: f64, counts: bool, title: &str) {
        let (color, r) = (range_color(score), 2.7);
        let fill = if counts { color } else { "#ffffff" };
        if score < 4.0 {
            self.circle((x, y), r, fill, color, title);
        } else if score < 7.0 {
            let d = r * 1.25;
            self.polygon(
                &[(x, y - d), (x + d, y), (x, y + d), (x - d, y)],
                fill,
                color,
                title,
            );
        } else {
            let d = r * 1.2;
            self.polygon(
                &[(x, y - d), (x + d, y + d * 0.8), (x - d, y + d * 0.8)],
                fill,
                color,
                title,
            );
        }
    }

    /// The mark of a bolus: full where granted.
    pub fn bolus(&mut self, (x, y): (f64, f64), granted: bool, title: &str) {
        let fill = if granted { DRUG } else { "#ffffff" };
        self.polygon(
            &[(x, y - 3.5), (x + 2.8, y + 2.5), (x - 2.8, y + 2.5)],
            fill,
            DRUG,
            title,
        );
    }

    /// The whole as an element to be set in a page.
    pub fn finish(self) -> String {
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{}">{}</svg>"#,
            self.title,
            self.body,
            w = n(self.width),
            h = n(self.height)
        )
    }
}

/// The color of a score's range.
pub fn range_color(score: f64) -> &'static str {
    if score < 4.0 {
        MILD
    } else if score < 7.0 {
        MODERATE
    } else {
        SEVERE
    }
}

fn title_element(title: &str) -> String {
    if title.is_empty() {
        String::new()
    } else {
        format!("<title>{}</title>", escape(title))
    }
}

/// Text made harmless inside an element or an attribute.
pub fn escape(text: &str) -> String {
    protocol::text::clean(text, 400)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// A number to a tenth, without a tail of zeros.
fn n(value: f64) -> String {
    let tenths = nearest(value * 10.0);
    let sign = if tenths < 0 { "-" } else { "" };
    let (whole, tenth) = (tenths.abs() / 10, tenths.abs() % 10);
    if tenth == 0 {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{tenth}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_text_cannot_leave_its_element() {
        assert_eq!(
            [n(1.0), n(-0.04), n(-1.26), n(0.5)],
            ["1", "0", "-1.3", "0.5"]
        );
        let mut svg = Svg::new(10.0, 10.0, "\"><script>");
        svg.text((0.0, 0.0), "</text><script>x\u{202e}", LABEL);
        svg.circle((1.0, 1.0), 1.0, "red", "red", "<&>");
        let text = svg.finish();
        assert!(
            !text.contains("<script>") && !text.contains('\u{202e}'),
            "{text}"
        );
        assert_eq!(text.matches('<').count(), text.matches('>').count());
    }

    #[test]
    fn a_print_without_color_tells_the_ranges_apart() {
        let mark = |score| {
            let mut svg = Svg::new(1.0, 1.0, "");
            svg.score((0.0, 0.0), score, true, "");
            svg.finish().replace(range_color(score), "")
        };
        let (mild, moderate, severe) = (mark(3.0), mark(4.0), mark(7.0));
        assert!(mild != moderate && moderate != severe && mild != severe);
    }
}
