//! Text that came from outside: made harmless for a terminal, a page and a table.

/// Whether a character may be shown: no control character, no bidirectional override, nothing
/// without width.
pub fn shows(c: char) -> bool {
    !(c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fe00}'..='\u{fe0f}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'))
}

/// `text` without what may not be shown, cut after `most` characters.
pub fn clean(text: &str, most: usize) -> String {
    text.chars().filter(|c| shows(*c)).take(most).collect()
}

/// Whether `text` is a name of ours: `[A-Za-z0-9._-]{1,32}`, and neither `.` nor `..`.
pub fn is_name(text: &str) -> bool {
    crate::message::Source::new(text).is_some() && text != "." && text != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_or_turns_text_around_is_left() {
        let hostile = "a\u{1b}[2J\u{7}\u{9b}31m\u{202e}b\u{200b}\r\nc\u{85}";
        assert_eq!(clean(hostile, 99), "a[2J31mbc");
        assert_eq!(clean("abcdef", 3), "abc");
    }

    #[test]
    fn names_cannot_climb_out_of_a_folder() {
        for bad in ["", ".", "..", "a/b", "a b", "ä", "x\0", &"x".repeat(33)] {
            assert!(!is_name(bad), "{bad:?}");
        }
        assert!(is_name("T-0042") && is_name("gw-07.T-0042"));
    }
}
