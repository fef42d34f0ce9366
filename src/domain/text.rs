//! Cleaning and quoting of text from users. Lengths count characters.

use std::borrow::Cow;

/// Removes control characters other than `\n`, `\r` and `\t`, and surrounding whitespace. Returns
/// `Ok(None)` when nothing is left.
///
/// # Errors
/// The number of characters when there are more than `max`.
pub fn clean(raw: &str, max: usize) -> Result<Option<String>, usize> {
    let kept: String = raw.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t')).collect();
    let trimmed = kept.trim();
    let length = trimmed.chars().count();
    if length > max {
        return Err(length);
    }
    Ok((length > 0).then(|| trimmed.to_owned()))
}

/// Returns the form in which texts are compared without regard to case.
pub fn fold_case(text: &str) -> String {
    text.to_lowercase()
}

/// Cuts text to `max` characters, and marks the cut with an ellipsis.
pub fn shorten(text: &str, max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Escapes control characters, including line breaks.
pub fn escape_control(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

/// Parses a finite decimal number, without `inf`, `nan` or hexadecimal.
pub fn parse_decimal(text: &str) -> Option<f64> {
    let is_decimal =
        text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    text.parse().ok().filter(|number: &f64| is_decimal && number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_surrounding_blanks_are_removed_and_blank_text_becomes_none() {
        assert_eq!(clean(" \u{0}a\u{7}\tb\r\nc\u{85} ", 10), Ok(Some("a\tb\r\nc".into())));
        assert_eq!(clean(" \u{0} \u{3000}\n", 10), Ok(None));
        assert_eq!(clean("\u{2615}\u{2615}\u{2615}", 3), Ok(Some("\u{2615}\u{2615}\u{2615}".into())));
        assert_eq!(clean("\u{2615}\u{2615}\u{2615}\u{2615}", 3), Err(4));
    }
}
