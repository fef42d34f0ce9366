//! Cleaning of text from users: trimmed, without control characters, never empty. Lengths count characters.

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
