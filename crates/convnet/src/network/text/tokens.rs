//! From characters to tokens, each with its place in the text.

use crate::error::TextError;

/// The largest number of bytes of a text.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// The largest number of bytes of a word. Names have at most 128, numbers far fewer.
const MAX_WORD: usize = 256;

/// A part of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// First byte.
    pub offset: usize,
    /// Bytes.
    pub length: usize,
}

impl Place {
    /// From the beginning of this part to the end of that one.
    pub fn to(self, last: Self) -> Self {
        Self { offset: self.offset, length: (last.offset + last.length).saturating_sub(self.offset) }
    }

    /// The byte behind the part.
    pub fn end(self) -> usize {
        self.offset + self.length
    }

    /// The mistake at this place.
    pub fn error(self, text: &str, message: impl Into<String>) -> TextError {
        TextError::new(text, self.offset, self.length, message)
    }
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Letters, digits and `_ . + - * /`.
    Word,
    /// A Lua string.
    Quoted,
    /// One or more ends of lines.
    Newline,
    /// `->`, with the ends of lines around it.
    Arrow,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `[`
    OpenSquare,
    /// `]`
    CloseSquare,
    /// `|`
    Bar,
    /// `,`
    Comma,
    /// `=`
    Equals,
    /// `:`
    Colon,
    /// `*` behind `]`
    Times,
    /// Behind the last token.
    End,
}

/// A token and its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub kind: Kind,
    pub place: Place,
}

/// Cuts the text into tokens; the last is always [`Kind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, TextError> {
    if text.len() > MAX_BYTES {
        let message = format!("the text has {} bytes; a network's text has at most {MAX_BYTES}", text.len());
        return Err(Place { offset: 0, length: 0 }.error("", message));
    }
    let mut lexer = Lexer { text, next: 0, tokens: Vec::new(), line: 0, lua: false };
    while let Some(letter) = lexer.peek() {
        lexer.token(letter)?;
    }
    lexer.push(Kind::End, 0);
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    /// The byte that comes next; always between characters.
    next: usize,
    tokens: Vec<Token>,
    /// Number of tokens before this line.
    line: usize,
    /// Whether a word of this line belongs to Lua.
    lua: bool,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.next..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn last(&self) -> Option<Kind> {
        self.tokens.last().map(|token| token.kind)
    }

    /// Adds a token of the next `length` bytes.
    fn push(&mut self, kind: Kind, length: usize) {
        self.tokens.push(Token { kind, place: Place { offset: self.next, length } });
        self.next += length;
    }

    fn token(&mut self, letter: char) -> Result<(), TextError> {
        match letter {
            '\n' => self.newline(),
            '#' => self.comment(),
            '-' if self.rest().starts_with("->") => self.arrow(),
            '-' if self.rest().starts_with("--") && self.is_lua() => self.comment(),
            '(' => self.push(Kind::Open, 1),
            ')' => self.push(Kind::Close, 1),
            '[' => self.push(Kind::OpenSquare, 1),
            ']' => self.push(Kind::CloseSquare, 1),
            '|' => self.push(Kind::Bar, 1),
            ',' => self.push(Kind::Comma, 1),
            '=' => self.push(Kind::Equals, 1),
            ':' => self.push(Kind::Colon, 1),
            '*' if self.last() == Some(Kind::CloseSquare) => self.push(Kind::Times, 1),
            '\'' | '"' => return self.quoted(letter),
            letter if letter.is_whitespace() || letter == '\u{feff}' => self.next += letter.len_utf8(),
            letter if is_word(letter) => return self.word(),
            letter => return Err(Place { offset: self.next, length: letter.len_utf8() }.error(self.text, foreign(letter))),
        }
        Ok(())
    }

    /// An end of a line ends a statement, but not beside an arrow, and many count as one.
    fn newline(&mut self) {
        if matches!(self.last(), None | Some(Kind::Arrow | Kind::Newline)) {
            self.next += 1;
        } else {
            self.push(Kind::Newline, 1);
        }
        self.line = self.tokens.len();
        self.lua = false;
    }

    fn arrow(&mut self) {
        if self.last() == Some(Kind::Newline) {
            self.tokens.pop();
            self.line = self.line.min(self.tokens.len());
        }
        self.push(Kind::Arrow, 2);
    }

    fn comment(&mut self) {
        self.next += self.rest().find('\n').unwrap_or(self.rest().len());
    }

    fn quoted(&mut self, quote: char) -> Result<(), TextError> {
        let inside = &self.rest()[1..];
        let length = inside.find([quote, '\n']).unwrap_or(inside.len());
        if !inside[length..].starts_with(quote) {
            let place = Place { offset: self.next, length: length + 1 };
            return Err(place.error(self.text, format!("{quote} has no second {quote} in this line")));
        }
        self.push(Kind::Quoted, length + 2);
        Ok(())
    }

    fn word(&mut self) -> Result<(), TextError> {
        let rest = self.rest();
        let ends = |(at, letter): (usize, char)| !is_word(letter) || rest[at..].starts_with("->");
        let length = rest.char_indices().find(|&at| ends(at)).map_or(rest.len(), |(at, _)| at);
        if length > MAX_WORD {
            let place = Place { offset: self.next, length };
            return Err(place.error(self.text, format!("a word of {length} letters; words have at most {MAX_WORD}")));
        }
        self.lua |= is_lua_word(&rest[..length]);
        self.push(Kind::Word, length);
        Ok(())
    }

    /// Whether this line is Lua so far, or empty: only there `--` begins a comment.
    fn is_lua(&self) -> bool {
        self.lua || self.tokens.len() == self.line
    }
}

/// Whether a word belongs to Lua and not to the language.
fn is_lua_word(word: &str) -> bool {
    ["nn.", "cudnn."].iter().any(|prefix| word.starts_with(prefix)) || ["local", "require", "return"].contains(&word)
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '+' | '-' | '*' | '/')
}

/// What to say of a character that no token begins with.
fn foreign(letter: char) -> String {
    match letter {
        '→' | '⟶' | '⇒' => "an arrow is written '->'".into(),
        '×' => "sizes are written with the letter x, as 3x32x32".into(),
        '>' => "'>' alone means nothing; an arrow is written '->'".into(),
        '?' => {
            "'?' stands for 'or not' in a pattern; a network has the layer or it has not: leave it out, or write it, as 'maxpool 2'".into()
        }
        '{' | '}' => "braces mean nothing here; branches stand in add( … | … ) or concat( … | … ), repetitions in [ … ]*2".into(),
        ';' => "';' means nothing here; statements end with the line or are joined by '->'".into(),
        letter => format!("{letter:?} means nothing here; comments begin with '#'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokens(text).unwrap().iter().map(|token| token.kind).collect()
    }

    #[test]
    fn ends_of_lines_count_once_and_not_beside_arrows() {
        use Kind::{Arrow, End, Newline, Word};
        assert_eq!(kinds("\n\na\n\n# comment\nb\n"), [Word, Newline, Word, Newline, End]);
        assert_eq!(kinds("a ->\n\nb\n -> c->d"), [Word, Arrow, Word, Arrow, Word, Arrow, Word, End]);
    }

    #[test]
    fn a_star_repeats_behind_a_bracket_and_multiplies_in_a_word() {
        use Kind::{CloseSquare, End, OpenSquare, Times, Word};
        assert_eq!(kinds("[a 2*k] * n-1"), [OpenSquare, Word, Word, CloseSquare, Times, Word, End]);
    }

    #[test]
    fn two_dashes_begin_a_comment_in_lua_only() {
        use Kind::{Close, End, Newline, Open, Word};
        assert_eq!(kinds("-- all\nnn.ReLU() -- one\nrelu --pad"), [Word, Open, Close, Newline, Word, Word, End]);
    }

    #[test]
    fn foreign_characters_are_named_with_what_to_write() {
        let error = tokens("a\nb → c").unwrap_err();
        assert_eq!((error.line, error.column, error.length), (2, 3, 3));
        assert!(error.message.contains("'->'"), "{error}");
        assert!(tokens("POOL?").unwrap_err().message.contains("maxpool 2"));
        assert!(tokens("a 'b\nc'").unwrap_err().message.contains("no second '"));
        assert!(tokens(&"a".repeat(300)).unwrap_err().message.contains("at most 256"));
        assert!(tokens(&" ".repeat(MAX_BYTES + 1)).unwrap_err().message.contains("1048577 bytes"));
    }
}
