//! The words of one layer in the text form: a cursor that layers read their settings from.

use std::fmt;

/// One word and where it stands in the whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The letters, with variables already replaced by their values.
    pub text: String,
    /// First byte in the whole text.
    pub offset: usize,
    /// Bytes in the whole text.
    pub length: usize,
}

/// What is wrong with which word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordError {
    /// The sentence for the reader.
    pub message: String,
    /// First byte of the wrong part.
    pub offset: usize,
    /// Bytes in the wrong part.
    pub length: usize,
}

/// A cursor over the words of one layer.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    words: &'a [Word],
    next: usize,
    /// Where the layer ends, for errors about a missing word.
    end: usize,
}

impl<'a> Words<'a> {
    /// Reads these words; `end` is the byte behind the layer.
    pub fn new(words: &'a [Word], end: usize) -> Self {
        Self { words, next: 0, end }
    }

    /// The next word, without taking it.
    pub fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).map(|word| word.text.as_str())
    }

    /// Takes the next word if it is this one.
    pub fn take(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.next += usize::from(found);
        found
    }

    /// Takes the next words if they are these, separated by one space.
    pub fn take_all(&mut self, words: &str) -> bool {
        let count = words.split(' ').count();
        let found = words.split(' ').enumerate().all(|(i, word)| self.words.get(self.next + i).is_some_and(|next| next.text == word));
        self.next += if found { count } else { 0 };
        found
    }

    /// Whether all words are read.
    pub fn is_done(&self) -> bool {
        self.next == self.words.len()
    }

    /// An error that points at the next word, or behind the layer when there is none.
    pub fn error_at_next(&self, message: impl Into<String>) -> WordError {
        let (offset, length) = self.words.get(self.next).map_or((self.end, 0), |word| (word.offset, word.length));
        WordError { message: message.into(), offset, length }
    }

    /// An error that points at the word that was taken last.
    pub fn error_at_last(&self, message: impl Into<String>) -> WordError {
        let last = self.next.checked_sub(1).and_then(|last| self.words.get(last));
        let (offset, length) = last.map_or((self.end, 0), |word| (word.offset, word.length));
        WordError { message: message.into(), offset, length }
    }

    /// An error for the next word, which is not an option of this layer; `options` lists those it has.
    pub fn unknown_option(&self, kind: &str, options: &str) -> WordError {
        let found = self.peek().unwrap_or("");
        self.error_at_next(format!("'{kind}' has no option '{found}'; it has {options}"))
    }

    fn parsed<V>(&mut self, what: &str, form: &str, parse: impl Fn(&str) -> Option<V>) -> Result<V, WordError> {
        let Some(word) = self.peek() else {
            return Err(self.error_at_next(format!("{what} is missing; expected {form}")));
        };
        let value = parse(word).ok_or_else(|| self.error_at_next(format!("'{word}' is not {what}; expected {form}")))?;
        self.next += 1;
        Ok(value)
    }

    /// A whole number. `what` names it with its article, `the number of filters`.
    ///
    /// # Errors
    /// The word is missing or not a whole number.
    pub fn whole(&mut self, what: &str) -> Result<usize, WordError> {
        self.parsed(what, "a whole number", |word| word.parse().ok())
    }

    /// A finite decimal number.
    ///
    /// # Errors
    /// The word is missing or not a finite number.
    pub fn decimal(&mut self, what: &str) -> Result<f64, WordError> {
        self.parsed(what, "a number", |word| word.parse::<f64>().ok().filter(|value| value.is_finite()))
    }

    /// Height and width as `3x5`, or one number for both.
    ///
    /// # Errors
    /// The word is missing or of another form.
    pub fn pair(&mut self, what: &str) -> Result<[usize; 2], WordError> {
        self.parsed(what, "a whole number or height x width, as 3x5", |word| match word.split_once('x') {
            Some((height, width)) => Some([height.parse().ok()?, width.parse().ok()?]),
            None => word.parse().ok().map(|value| [value, value]),
        })
    }

    /// Padding as `1`, as `1x2` (height x width) or per side as `0,1,2,1` (top, bottom, left, right).
    ///
    /// # Errors
    /// The word is missing or of another form.
    pub fn padding(&mut self) -> Result<[usize; 4], WordError> {
        self.parsed("the padding", "a whole number, height x width as 1x2, or top,bottom,left,right as 0,1,0,1", |word| {
            if let Some((height, width)) = word.split_once('x') {
                let (height, width) = (height.parse().ok()?, width.parse().ok()?);
                return Some([height, height, width, width]);
            }
            if word.contains(',') {
                let sides: Vec<usize> = word.split(',').map(|side| side.parse().ok()).collect::<Option<_>>()?;
                return sides.try_into().ok();
            }
            word.parse().ok().map(|pad| [pad; 4])
        })
    }
}

/// Writes height and width as one number when they are equal, `3x5` otherwise.
pub(super) fn pair_text(height: impl fmt::Display + PartialEq, width: impl fmt::Display + PartialEq) -> String {
    let (height, width) = (height.to_string(), width.to_string());
    if height == width { height } else { format!("{height}x{width}") }
}

/// Writes a padding as [`Words::padding`] reads it.
pub(super) fn padding_text([top, bottom, left, right]: [usize; 4]) -> String {
    if top == bottom && left == right { pair_text(top, left) } else { format!("{top},{bottom},{left},{right}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Word> {
        let offset = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
        text.split(' ').map(|word| Word { text: word.into(), offset: offset(word), length: word.len() }).collect()
    }

    #[test]
    fn numbers_pairs_and_paddings_are_read_in_turn() {
        let list = words("10 5x3 pad 1,0,2,2 0.5");
        let mut cursor = Words::new(&list, 22);
        assert_eq!(cursor.whole("the number of filters"), Ok(10));
        assert_eq!(cursor.pair("the kernel"), Ok([5, 3]));
        assert!(cursor.take("pad"));
        assert_eq!(cursor.padding(), Ok([1, 0, 2, 2]));
        assert_eq!(cursor.decimal("the probability"), Ok(0.5));
        assert!(cursor.is_done());
    }

    #[test]
    fn an_error_points_at_the_word_and_says_what_was_expected() {
        let list = words("ten");
        let error = Words::new(&list, 3).whole("the number of filters").unwrap_err();
        assert_eq!((error.offset, error.length), (0, 3));
        assert_eq!(error.message, "'ten' is not the number of filters; expected a whole number");
        let error = Words::new(&[], 3).whole("the number of filters").unwrap_err();
        assert_eq!((error.offset, error.message.as_str()), (3, "the number of filters is missing; expected a whole number"));
    }
}
