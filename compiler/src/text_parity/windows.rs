//! Cuts the tokens of a text into windows that are run independently of each other.
//!
//! Window `i` holds tokens `i n .. i n + n`, and its next tokens are the same one further: each of the `n` positions is scored, the
//! first ones with little before them. Nothing is put before a window; whatever the tokenizer adds stands at the text's beginning only.
//! Tokens after the last whole window are left out. Other conventions (strides, half windows) give other perplexities.
//!
//! ```text
//! window 4: [a b c d e] f g h i j ...   scores b|a  c|ab  d|abc  e|abcd  f|e  g|ef ...
//! ```

use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::location::Location;

/// Tokens per window when the user says none.
pub const WINDOW_DEFAULT: usize = 256;

/// Windows of a text.
#[derive(Clone, Debug)]
pub struct Windows {
    ids: Vec<u32>,
    length: usize,
    count: usize,
}

impl Windows {
    /// Cuts `ids` into windows of `length` tokens, of at most `limit` tokens together (but at least one window).
    ///
    /// # Errors
    /// When the text does not fill one window.
    pub fn new(ids: Vec<u32>, length: usize, limit: Option<usize>) -> Result<Windows, Diagnostic> {
        let whole = ids.len().saturating_sub(1).checked_div(length).unwrap_or(0);
        if whole == 0 {
            let what = format!(
                "the text has {} tokens, a window of {length} needs {}",
                ids.len(),
                length.saturating_add(1)
            );
            return Err(Diagnostic::error(Location::Unknown, what)
                .with_help("give a longer text, or --window with a number from 1 up"));
        }
        let limit = limit.map_or(whole, |limit| (limit / length).max(1));
        Ok(Windows { ids, length, count: whole.min(limit) })
    }

    /// How many windows there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Tokens of one window.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Tokens that are scored.
    pub fn tokens(&self) -> usize {
        self.count * self.length
    }

    /// A window's tokens, and the token that follows each.
    ///
    /// # Panics
    /// When there is no such window.
    pub fn get(&self, index: usize) -> (&[u32], &[u32]) {
        let start = index * self.length;
        (&self.ids[start..start + self.length], &self.ids[start + 1..start + 1 + self.length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_each_other_and_need_a_next_token() {
        let windows = Windows::new((0..9).collect(), 4, None).unwrap();
        assert_eq!((windows.count(), windows.tokens()), (2, 8));
        assert_eq!(windows.get(1), (&[4, 5, 6, 7][..], &[5, 6, 7, 8][..]));
        assert_eq!(Windows::new((0..8).collect(), 4, None).unwrap().count(), 1);
        assert_eq!(Windows::new((0..90).collect(), 4, Some(13)).unwrap().count(), 3);
        assert_eq!(Windows::new((0..90).collect(), 4, Some(1)).unwrap().count(), 1);
    }

    #[test]
    fn a_short_text_is_refused() {
        let what = |count: u32, length| Windows::new((0..count).collect(), length, None).unwrap_err().what;
        assert_eq!(what(4, 4), "the text has 4 tokens, a window of 4 needs 5");
        assert!(what(0, 1).contains("0 tokens") && what(3, 0).contains("window of 0"));
    }
}
