//! Numbers in words: `2*k`, `k/4`, `n-1`, and pairs of them, `kx3`.
//!
//! ```text
//! word := pair (',' pair)*      pair := sum ('x' sum)*
//! sum  := product (('+' | '-') product)*      product := operand (('*' | '/') operand)*
//! operand := a number or the name of a value
//! ```
//!
//! A word that is no such arithmetic stays as it is: the layer that reads it knows what it should have been.

use std::fmt;

/// A value of a constant or of a definition's parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Whole(i64),
    Decimal(f64),
}

impl Number {
    /// Reads a number without arithmetic.
    pub fn parse(text: &str) -> Option<Self> {
        if !text.ends_with(|letter: char| letter.is_ascii_digit() || letter == '.') {
            return None;
        }
        let decimal = || text.parse::<f64>().ok().filter(|value| value.is_finite()).map(Self::Decimal);
        text.parse().ok().map(Self::Whole).or_else(decimal)
    }

    fn decimal(self) -> f64 {
        match self {
            Self::Whole(value) => value as f64,
            Self::Decimal(value) => value,
        }
    }

    fn combined(self, operator: u8, other: Self) -> Result<Self, String> {
        if let (Self::Whole(left), Self::Whole(right)) = (self, other) {
            let whole = match operator {
                b'+' => left.checked_add(right),
                b'-' => left.checked_sub(right),
                b'*' => left.checked_mul(right),
                _ if right == 0 => return Err("division by zero".into()),
                _ if left % right == 0 => left.checked_div(right),
                _ => return Ok(Self::Decimal(left as f64 / right as f64)),
            };
            return whole.map(Self::Whole).ok_or_else(|| "the value is too large to count".into());
        }
        let (left, right) = (self.decimal(), other.decimal());
        let value = match operator {
            b'+' => left + right,
            b'-' => left - right,
            b'*' => left * right,
            _ => left / right,
        };
        if value.is_finite() { Ok(Self::Decimal(value)) } else { Err("the value is not finite".into()) }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(formatter),
            Self::Decimal(value) => value.fmt(formatter),
        }
    }
}

/// The values that names stand for at one place of the text.
pub(super) trait Values {
    /// The value of this name, if it has one there.
    fn value(&self, name: &str) -> Option<Number>;
}

/// The word with its arithmetic done, or as it was when it has none.
///
/// # Errors
/// The arithmetic has no value; without the word in front.
pub(super) fn substitute(word: &str, values: &dyn Values) -> Result<String, String> {
    let parts: Result<Vec<String>, String> = word.split(',').map(|part| substitute_part(part, values)).collect();
    Ok(parts?.join(","))
}

fn substitute_part(part: &str, values: &dyn Values) -> Result<String, String> {
    if Number::parse(part).is_some() {
        return Ok(part.to_owned());
    }
    let mut cursor = Cursor { text: part, next: 0, values, changed: false };
    match cursor.pair() {
        Ok(numbers) if cursor.changed => Ok(numbers.iter().map(Number::to_string).collect::<Vec<_>>().join("x")),
        Err(reason) if part.contains(['+', '-', '*', '/']) => Err(reason),
        _ => Ok(part.to_owned()),
    }
}

/// The one number that the word is.
///
/// # Errors
/// It is none; without the word in front.
pub(super) fn evaluate(word: &str, values: &dyn Values) -> Result<Number, String> {
    if let Some(number) = Number::parse(word) {
        return Ok(number);
    }
    let mut cursor = Cursor { text: word, next: 0, values, changed: false };
    match cursor.pair()?.as_slice() {
        [number] => Ok(*number),
        _ => Err("one number is expected".into()),
    }
}

struct Cursor<'a> {
    text: &'a str,
    next: usize,
    values: &'a dyn Values,
    /// Whether there was a name or an operator.
    changed: bool,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.next).copied()
    }

    fn take(&mut self, letters: &[u8]) -> Option<u8> {
        let letter = self.peek().filter(|letter| letters.contains(letter))?;
        self.next += 1;
        Some(letter)
    }

    fn pair(&mut self) -> Result<Vec<Number>, String> {
        let mut numbers = vec![self.sum()?];
        while self.take(b"x").is_some() {
            numbers.push(self.sum()?);
        }
        match self.peek() {
            None => Ok(numbers),
            Some(_) => Err(format!("'{}' is not understood", &self.text[self.next..])),
        }
    }

    fn sum(&mut self) -> Result<Number, String> {
        let mut value = self.product()?;
        while let Some(operator) = self.take(b"+-") {
            self.changed = true;
            value = value.combined(operator, self.product()?)?;
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<Number, String> {
        let mut value = self.operand()?;
        while let Some(operator) = self.take(b"*/") {
            self.changed = true;
            value = value.combined(operator, self.operand()?)?;
        }
        Ok(value)
    }

    fn operand(&mut self) -> Result<Number, String> {
        let rest = &self.text[self.next..];
        if rest.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.') {
            let length = literal_length(rest.as_bytes());
            self.next += length;
            return Number::parse(&rest[..length]).ok_or_else(|| format!("'{}' is not a number", &rest[..length]));
        }
        let letters = rest.bytes().take_while(|&letter| letter.is_ascii_alphanumeric() || letter == b'_').count();
        // `kxk` is a name if there is one, else k by k: the longest name behind which the arithmetic can go on.
        let goes_on = |length: &usize| matches!(rest.as_bytes().get(*length), None | Some(b'+' | b'-' | b'*' | b'/' | b'x'));
        let found = (1..=letters).rev().filter(goes_on).find_map(|length| Some((length, self.values.value(&rest[..length])?)));
        let Some((length, value)) = found else {
            return Err(match letters {
                0 => "a number is missing".into(),
                _ => format!("'{}' has no value; give it one above with 'let {} = …'", &rest[..letters], &rest[..letters]),
            });
        };
        self.next += length;
        self.changed = true;
        Ok(value)
    }
}

/// Bytes of the unsigned number that the text begins with; an exponent belongs to it only when it has digits.
fn literal_length(text: &[u8]) -> usize {
    let digits = |from: usize| text[from..].iter().take_while(|letter| letter.is_ascii_digit()).count();
    let mut length = digits(0);
    if text.get(length) == Some(&b'.') {
        length += 1;
        length += digits(length);
    }
    if matches!(text.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(length + 1), Some(b'+' | b'-')));
        let exponent = text.get(length + 1 + sign..).map_or(0, |_| digits(length + 1 + sign));
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two(&'static str);

    impl Values for Two {
        fn value(&self, name: &str) -> Option<Number> {
            match name {
                "k" => Some(Number::Whole(12)),
                "p" => Some(Number::Decimal(0.25)),
                name => (name == self.0).then_some(Number::Whole(7)),
            }
        }
    }

    fn substituted(word: &str) -> Result<String, String> {
        substitute(word, &Two("size"))
    }

    #[test]
    fn arithmetic_is_done_in_numbers_pairs_and_lists() {
        for (word, value) in [
            ("k", "12"),
            ("2*k", "24"),
            ("k/4", "3"),
            ("k/5", "2.4"),
            ("1+2*k-3", "22"),
            ("kxk", "12x12"),
            ("3xk+1", "3x13"),
            ("size", "7"),
            ("sizexk", "7x12"),
            ("0,k,2*k,1", "0,12,24,1"),
            ("2*p", "0.5"),
            ("1e-2*k", "0.12"),
            ("16*5*5", "400"),
        ] {
            assert_eq!(substituted(word).as_deref(), Ok(value), "{word}");
        }
    }

    #[test]
    fn words_without_arithmetic_stay_as_they_are() {
        for word in ["3x3", "03", "1e-6", "-0.1", "same", "kernel", "stride", "x", "1x", "q", "", "0,1,0,1", "inf", "nan"] {
            assert_eq!(substituted(word).as_deref(), Ok(word));
        }
    }

    #[test]
    fn arithmetic_without_a_value_says_why() {
        for (word, reason) in [
            ("2*q", "'q' has no value"),
            ("k/0", "division by zero"),
            ("k*", "a number is missing"),
            ("9223372036854775807+1", "too large"),
            ("1.5.2*k", "'.2*k' is not understood"),
            ("1e308*10", "not finite"),
        ] {
            let error = substituted(word).unwrap_err();
            assert!(error.contains(reason), "{word}: {error}");
        }
        assert!(evaluate("kxk", &Two("")).unwrap_err().contains("one number"));
    }

    #[test]
    fn a_longer_name_wins_over_a_pair() {
        assert_eq!(substitute("kxk", &Two("kxk")).as_deref(), Ok("7"));
    }
}
