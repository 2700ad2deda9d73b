//! What a text says: statements, constants and definitions, before any number is known to fit.

use std::collections::HashMap;

use super::lua;
use super::numbers::{Number, Values};
use super::tokens::Place;

/// A word as written; words around commas are one.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub text: String,
    pub place: Place,
}

/// What stands between two arrows.
#[derive(Debug)]
pub(super) enum Item {
    /// `stem: conv 64 7x7 stride 2` or `add( … | … )`.
    Layer(LayerItem),
    /// `nn.SpatialConvolution(3, 64, 5, 5)`.
    Torch(Option<Word>, lua::Module),
    /// `[ … ]*2`
    Repeat { body: Vec<Item>, count: Option<Word>, place: Place },
    /// `block(256, 2)`
    Call { definition: usize, arguments: Vec<Word>, place: Place },
    /// `from stem`
    From(Word),
}

/// A layer in the language's own words.
#[derive(Debug)]
pub(super) struct LayerItem {
    /// The name before the colon.
    pub label: Option<Word>,
    pub kind: &'static str,
    /// What follows the kind.
    pub words: Vec<Word>,
    /// What stands in parentheses; an empty branch is `identity`.
    pub branches: Option<Vec<Vec<Item>>>,
    pub place: Place,
}

/// `let block(k, s) = …`
#[derive(Debug)]
pub(super) struct Definition {
    pub name: String,
    pub parameters: Vec<String>,
    pub body: Vec<Item>,
}

/// `let k = 64`: the value, and the byte behind which it can be used.
#[derive(Debug)]
struct Constant {
    value: Number,
    from: usize,
}

/// All constants of a text.
#[derive(Debug, Default)]
pub(super) struct Constants(HashMap<String, Constant>);

impl Constants {
    /// The value that this name has at that byte of the text.
    pub fn value(&self, name: &str, offset: usize) -> Option<Number> {
        self.0.get(name).filter(|constant| constant.from <= offset).map(|constant| constant.value)
    }

    /// Gives this name a value from that byte of the text on.
    pub fn define(&mut self, name: String, value: Number, from: usize) {
        self.0.insert(name, Constant { value, from });
    }

    /// Whether the text has a constant of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// The constants as they are at one byte of the text.
pub(super) struct ConstantsAt<'a>(pub &'a Constants, pub usize);

impl Values for ConstantsAt<'_> {
    fn value(&self, name: &str) -> Option<Number> {
        self.0.value(name, self.1)
    }
}

/// A whole text.
#[derive(Debug)]
pub(super) struct Program {
    /// The sizes behind `input`; the word is missing when only `input` is written.
    pub input: Option<(Option<Word>, Place)>,
    pub constants: Constants,
    pub definitions: Vec<Definition>,
    pub items: Vec<Item>,
    /// Behind the text.
    pub end: Place,
}
