//! From tokens to statements.

use std::collections::HashMap;

use super::kinds;
use super::numbers::{Number, evaluate};
use super::program::{Constants, ConstantsAt, Definition, Item, LayerItem, Program, Word};
use super::tokens::{Kind, Place, Token, tokens};
use super::{MAX_DEPTH, lua};
use crate::error::TextError;

/// What one item may turn out to be: Torch writes `add` and `concat` as two modules in a row.
#[derive(Debug)]
pub(super) enum Part {
    Item(Item),
    /// `nn.ConcatTable():add(…):add(…)`
    Table(Vec<Vec<Item>>, Place),
    /// `nn.CAddTable()`, `nn.JoinTable(2)`
    Join(&'static str, Place),
}

/// Reads a text. `classes` replaces the constant of that name.
pub(super) fn parse(text: &str, classes: Option<Number>) -> Result<Program, TextError> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        text,
        tokens,
        next: 0,
        depth: 0,
        classes,
        constants: Constants::default(),
        definitions: Vec::new(),
        names: HashMap::new(),
        defining: None,
        container: None,
    };
    parser.program()
}

pub(super) struct Parser<'a> {
    pub text: &'a str,
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    classes: Option<Number>,
    constants: Constants,
    definitions: Vec<Definition>,
    names: HashMap<String, usize>,
    /// The definition whose body is being read.
    defining: Option<String>,
    /// The name of the Lua variable that holds the network.
    pub container: Option<String>,
}

/// Where a chain of statements ends.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    /// With the line.
    Line,
    /// With a bracket, a parenthesis or a bar.
    Bracket,
}

impl Parser<'_> {
    pub fn token(&self) -> Token {
        self.tokens[self.next]
    }

    /// The token `ahead` places further on; the last one when there is none.
    pub fn ahead(&self, ahead: usize) -> Token {
        self.tokens[(self.next + ahead).min(self.tokens.len() - 1)]
    }

    pub fn text_of(&self, token: Token) -> &str {
        &self.text[token.place.offset..token.place.end()]
    }

    /// Moves on, but never behind the end.
    pub fn advance(&mut self) -> Token {
        let token = self.token();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    /// Moves over the next token if it is of this kind.
    pub fn take(&mut self, kind: Kind) -> Option<Place> {
        (self.token().kind == kind).then(|| self.advance().place)
    }

    pub fn is_word(&self, word: &str) -> bool {
        self.token().kind == Kind::Word && self.text_of(self.token()).eq_ignore_ascii_case(word)
    }

    pub fn expect(&mut self, kind: Kind, expected: &str) -> Result<Place, TextError> {
        self.take(kind).ok_or_else(|| self.unexpected(expected))
    }

    pub fn error(&self, place: Place, message: impl Into<String>) -> TextError {
        place.error(self.text, message)
    }

    /// The error for the next token, where something else is expected.
    pub fn unexpected(&self, expected: &str) -> TextError {
        let found = match self.token().kind {
            Kind::End => "the text ends here".into(),
            Kind::Newline => "the line ends here".into(),
            _ => format!("'{}' cannot stand here", self.text_of(self.token())),
        };
        self.error(self.token().place, format!("{found}; expected {expected}"))
    }

    pub fn skip_newlines(&mut self) {
        while self.take(Kind::Newline).is_some() {}
    }

    /// Reads what is nested one level deeper.
    pub fn nested<V>(&mut self, read: impl FnOnce(&mut Self) -> Result<V, TextError>) -> Result<V, TextError> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(self.token().place, format!("this is nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn program(&mut self) -> Result<Program, TextError> {
        let (mut input, mut parts) = (None, Vec::new());
        self.skip_newlines();
        while self.token().kind != Kind::End {
            if self.is_word("let") && self.ahead(1).kind != Kind::Colon {
                self.definition()?;
            } else if self.is_word("input") && self.ahead(1).kind != Kind::Colon {
                let place = self.token().place;
                if input.is_some() || !parts.is_empty() {
                    return Err(self.error(place, "'input' stands once, before the layers"));
                }
                input = Some(self.input()?);
            } else if !lua::statement(self, &mut parts)? {
                parts.extend(self.item()?);
            }
            self.separator()?;
        }
        let items = self.joined(parts)?;
        let (constants, definitions) = (std::mem::take(&mut self.constants), std::mem::take(&mut self.definitions));
        Ok(Program { input, constants, definitions, items, end: self.token().place })
    }

    /// Between two statements: an arrow that something follows, or the end of the line.
    fn separator(&mut self) -> Result<(), TextError> {
        match self.token().kind {
            Kind::Arrow => {
                self.advance();
                let keyword = self.is_word("let") && self.ahead(1).kind != Kind::Colon;
                if self.token().kind != Kind::Word && self.token().kind != Kind::OpenSquare || keyword {
                    return Err(self.unexpected("a layer behind '->'"));
                }
                Ok(())
            }
            Kind::Newline | Kind::End => {
                self.skip_newlines();
                Ok(())
            }
            Kind::Close | Kind::CloseSquare => {
                Err(self.error(self.token().place, format!("this '{}' closes nothing", self.text_of(self.token()))))
            }
            Kind::Bar => Err(self.unexpected("'|' only inside add( … | … ) or concat( … | … )")),
            _ => Err(self.unexpected("'->' or a new line")),
        }
    }

    fn input(&mut self) -> Result<(Option<Word>, Place), TextError> {
        let place = self.advance().place;
        if matches!(self.token().kind, Kind::Arrow | Kind::Newline | Kind::End) {
            return Ok((None, place));
        }
        let sizes = self.word("channels, height and width, as 3x32x32")?;
        let place = place.to(sizes.place);
        Ok((Some(sizes), place))
    }

    /// `let k = 64` or `let block(k, s) = …`
    fn definition(&mut self) -> Result<(), TextError> {
        self.advance();
        let name = self.name("a name behind 'let'")?;
        let parameters = if self.take(Kind::Open).is_some() { Some(self.parameters()?) } else { None };
        self.expect(Kind::Equals, "'=' behind the name, as in 'let k = 64' or 'let block(k, s) = conv k 3x3 stride s'")?;
        if self.constants.has(&name.text) || self.names.contains_key(&name.text) {
            return Err(self.error(name.place, format!("'{}' has a meaning already; choose another name", name.text)));
        }
        match parameters {
            None => self.constant(name),
            Some(parameters) => {
                self.defining = Some(name.text.clone());
                let body = self.chain(Ends::Line)?;
                self.defining = None;
                self.names.insert(name.text.clone(), self.definitions.len());
                self.definitions.push(Definition { name: name.text, parameters, body });
                Ok(())
            }
        }
    }

    fn constant(&mut self, name: Word) -> Result<(), TextError> {
        let word = self.word("a number behind '='")?;
        let value = match self.classes {
            Some(classes) if name.text == "classes" => Ok(classes),
            _ => evaluate(&word.text, &ConstantsAt(&self.constants, word.place.offset)),
        };
        let value = value.map_err(|reason| {
            let hint = format!("for layers write 'let {}() = {} …'", name.text, word.text);
            self.error(word.place, format!("'{}' is not a number: {reason}; {hint}", word.text))
        })?;
        if !matches!(self.token().kind, Kind::Newline | Kind::End) {
            let hint = format!("the end of the line; for layers write 'let {}() = {} …'", name.text, word.text);
            return Err(self.unexpected(&hint));
        }
        self.constants.define(name.text, value, word.place.end());
        Ok(())
    }

    fn parameters(&mut self) -> Result<Vec<String>, TextError> {
        let mut parameters: Vec<String> = Vec::new();
        while self.take(Kind::Close).is_none() {
            if !parameters.is_empty() {
                self.expect(Kind::Comma, "',' or ')' behind a parameter")?;
            }
            let name = self.name("the name of a parameter")?;
            if parameters.contains(&name.text) {
                return Err(self.error(name.place, format!("there are two parameters named '{}'", name.text)));
            }
            if parameters.len() == MAX_PARAMETERS {
                return Err(self.error(name.place, format!("a definition has at most {MAX_PARAMETERS} parameters")));
            }
            parameters.push(name.text);
        }
        Ok(parameters)
    }

    /// A word that names a constant, a definition or a parameter.
    fn name(&mut self, expected: &str) -> Result<Word, TextError> {
        let word = self.single(expected)?;
        let proper = word.text.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && word.text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        if !proper {
            let message = format!("'{}' cannot be a name; use letters, digits and '_', beginning with a letter", word.text);
            return Err(self.error(word.place, message));
        }
        if kinds::is_reserved(&word.text) {
            return Err(self.error(word.place, format!("'{}' is a word of the language; choose another name", word.text)));
        }
        Ok(word)
    }

    /// One word without commas.
    pub fn single(&mut self, expected: &str) -> Result<Word, TextError> {
        let place = self.expect(Kind::Word, expected)?;
        Ok(Word { text: self.text[place.offset..place.end()].to_owned(), place })
    }

    /// One word, with those that follow behind commas.
    fn word(&mut self, expected: &str) -> Result<Word, TextError> {
        let mut word = self.single(expected)?;
        while self.take(Kind::Comma).is_some() {
            let next = self.single("a number behind ','")?;
            word.text.extend([",", next.text.as_str()]);
            word.place = word.place.to(next.place);
        }
        Ok(word)
    }

    /// Statements up to the end of the line or up to a closing token, which is not taken.
    fn chain(&mut self, ends: Ends) -> Result<Vec<Item>, TextError> {
        let mut parts = Vec::new();
        if ends == Ends::Bracket {
            self.skip_newlines();
        }
        loop {
            parts.extend(self.item()?);
            match self.token().kind {
                Kind::Arrow => {
                    self.advance();
                }
                Kind::Newline if ends == Ends::Bracket => {
                    self.skip_newlines();
                    if matches!(self.token().kind, Kind::Close | Kind::CloseSquare | Kind::Bar) {
                        return self.joined(parts);
                    }
                }
                _ => return self.joined(parts),
            }
        }
    }

    /// Puts every table and what joins it together.
    pub fn joined(&self, parts: Vec<Part>) -> Result<Vec<Item>, TextError> {
        let (mut items, mut table) = (Vec::with_capacity(parts.len()), None);
        for part in parts {
            match (part, table.take()) {
                (Part::Item(item), None) => items.push(item),
                (Part::Table(branches, place), None) => table = Some((branches, place)),
                (Part::Join(kind, place), Some((branches, _))) => {
                    items.push(Item::Layer(LayerItem { label: None, kind, words: Vec::new(), branches: Some(branches), place }));
                }
                (Part::Join(_, place), None) => {
                    return Err(self.error(place, "nothing to join: nn.ConcatTable() with its branches must come just before"));
                }
                (_, Some((_, place))) => return Err(self.error(place, UNJOINED)),
            }
        }
        match table {
            Some((_, place)) => Err(self.error(place, UNJOINED)),
            None => Ok(items),
        }
    }

    fn item(&mut self) -> Result<Vec<Part>, TextError> {
        let token = self.token();
        match token.kind {
            Kind::OpenSquare => self.repeat().map(|item| vec![Part::Item(item)]),
            Kind::Word if self.ahead(1).kind == Kind::Colon => self.labelled().map(|item| vec![Part::Item(item)]),
            Kind::Word if lua::is_module(self.text_of(token)) => lua::parts(self),
            Kind::Word if self.is_word("identity") => {
                self.advance();
                Ok(Vec::new())
            }
            Kind::Word if self.is_word("from") => {
                self.advance();
                let name = self.single("the name of a layer, or 'input', behind 'from'")?;
                Ok(vec![Part::Item(Item::From(name))])
            }
            Kind::Word if self.is_word("input") || self.is_word("let") => {
                Err(self.error(token.place, format!("'{}' must begin a line, outside of brackets", self.text_of(token))))
            }
            Kind::Word => self.layer_or_call(None).map(|item| vec![Part::Item(item)]),
            Kind::Bar | Kind::Close => Err(self.unexpected("a layer; a branch that only passes its input on is written 'identity'")),
            _ => Err(self.unexpected("a layer")),
        }
    }

    /// `stem: conv 64 7x7`
    fn labelled(&mut self) -> Result<Item, TextError> {
        let label = self.single("a name")?;
        self.advance();
        if label.text == "input" {
            return Err(self.error(label.place, "'input' is the image; choose another name"));
        }
        if self.token().kind == Kind::Word && lua::is_module(self.text_of(self.token())) {
            return match lua::parts(self)?.pop() {
                Some(Part::Item(Item::Torch(None, module))) => Ok(Item::Torch(Some(label), module)),
                _ => Err(self.error(label.place, UNNAMABLE)),
            };
        }
        let unnamable = ["identity", "from"].iter().any(|word| self.is_word(word)) || self.token().kind == Kind::OpenSquare;
        if unnamable {
            return Err(self.error(label.place, UNNAMABLE));
        }
        if self.token().kind != Kind::Word {
            return Err(self.unexpected(&format!("a layer behind '{}:'", label.text)));
        }
        self.layer_or_call(Some(label))
    }

    fn repeat(&mut self) -> Result<Item, TextError> {
        let open = self.advance().place;
        let body = self.nested(|parser| parser.chain(Ends::Bracket))?;
        let close = self.expect(Kind::CloseSquare, "'->', a new line or ']'")?;
        if self.take(Kind::Times).is_none() {
            return Ok(Item::Repeat { body, count: None, place: open.to(close) });
        }
        let count = self.single("how often, as in ']*2'")?;
        let place = open.to(count.place);
        Ok(Item::Repeat { body, count: Some(count), place })
    }

    fn layer_or_call(&mut self, label: Option<Word>) -> Result<Item, TextError> {
        let mut words = Vec::new();
        while self.token().kind == Kind::Word {
            words.push(self.word("a word")?);
        }
        let place = words[0].place.to(words[words.len() - 1].place);
        let called = self.token().kind == Kind::Open;
        if let (true, [word], Some(&definition)) = (called, &words[..], self.names.get(&words[0].text)) {
            return match label {
                Some(label) => Err(self.error(label.place, UNNAMABLE)),
                None => self.call(definition, word.place),
            };
        }
        let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        let (kind, count) = kinds::find(&texts).map_err(|reason| self.unknown(&words[0], called, reason))?;
        words.drain(..count);
        let branches = if called { Some(self.branches(kind)?) } else { None };
        Ok(Item::Layer(LayerItem { label, kind, words, branches, place }))
    }

    /// The error for a word that is neither a layer nor a definition.
    fn unknown(&self, word: &Word, called: bool, reason: String) -> TextError {
        if self.defining.as_deref() == Some(&word.text) {
            return self.error(word.place, format!("'{}' cannot use itself", word.text));
        }
        if self.names.contains_key(&word.text) {
            return self.error(word.place, format!("'{}' is a definition; use it with its values, as '{}(…)'", word.text, word.text));
        }
        if !called {
            return self.error(word.place, reason);
        }
        let mut names: Vec<&str> = self.names.keys().map(String::as_str).collect();
        names.sort_unstable();
        match super::nearest::nearest(&word.text, names) {
            Some(name) => self.error(word.place, format!("'{}' is not defined above; did you mean '{name}'?", word.text)),
            None => self.error(word.place, format!("{reason}; and no line above says 'let {}(…) = …'", word.text)),
        }
    }

    fn call(&mut self, definition: usize, name: Place) -> Result<Item, TextError> {
        self.advance();
        let mut arguments = Vec::new();
        self.skip_newlines();
        while self.token().kind != Kind::Close {
            if !arguments.is_empty() {
                self.expect(Kind::Comma, "',' or ')' behind a value")?;
                self.skip_newlines();
            }
            arguments.push(self.single("a value")?);
            self.skip_newlines();
        }
        let place = name.to(self.advance().place);
        let Definition { name, parameters, .. } = &self.definitions[definition];
        if parameters.len() != arguments.len() {
            let message = format!("'{name}' takes {} values ({}), not {}", parameters.len(), parameters.join(", "), arguments.len());
            return Err(self.error(place, message));
        }
        Ok(Item::Call { definition, arguments, place })
    }

    fn branches(&mut self, kind: &str) -> Result<Vec<Vec<Item>>, TextError> {
        self.advance();
        let numeric = self.text_of(self.token()).starts_with(|letter: char| letter.is_ascii_digit());
        if numeric || self.token().kind == Kind::Close {
            let example = kinds::complete(kind).unwrap_or(kind);
            let branches = "in parentheses stand branches, as in add( conv 64 3x3 pad 1 | identity )";
            return Err(self.error(self.token().place, format!("a layer's numbers stand without parentheses, as '{example}'; {branches}")));
        }
        let mut branches = Vec::new();
        loop {
            branches.push(self.nested(|parser| parser.chain(Ends::Bracket))?);
            if self.take(Kind::Bar).is_none() {
                self.expect(Kind::Close, "'->', a new line, '|' or ')'")?;
                return Ok(branches);
            }
        }
    }
}

/// The largest number of parameters of a definition.
const MAX_PARAMETERS: usize = 64;

const UNJOINED: &str = "these branches must be joined by nn.CAddTable() or nn.JoinTable(2) just behind";

const UNNAMABLE: &str = "only a single layer can have a name; write the name before a layer inside";
