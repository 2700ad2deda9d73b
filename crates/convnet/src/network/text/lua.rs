//! The few forms of Lua in which networks were written for Torch: `nn.X(…)`, `net:add(nn.X(…))`, and the lines around them.

use super::program::{Item, LayerItem, Word};
use super::syntax::{Parser, Part};
use super::tokens::{Kind, Place};
use crate::error::TextError;

/// `nn.SpatialConvolution(3, 64, 5, 5):noBias()`
#[derive(Debug)]
pub(super) struct Module {
    /// The name without `nn.` or `cudnn.`.
    pub name: String,
    pub arguments: Vec<Word>,
    /// What is called on it: `noBias` and so on, with arguments.
    pub methods: Vec<(Word, Vec<Word>)>,
    pub place: Place,
}

/// Whether this word names a module of Torch.
pub(super) fn is_module(word: &str) -> bool {
    module_name(word).is_some()
}

fn module_name(word: &str) -> Option<&str> {
    ["nn.", "cudnn."].iter().find_map(|prefix| word.strip_prefix(prefix))
}

/// Reads a line that is Lua, if it is one, and adds what it says to the network.
pub(super) fn statement(parser: &mut Parser<'_>, parts: &mut Vec<Part>) -> Result<bool, TextError> {
    let word = |parser: &Parser<'_>, ahead: usize| {
        let token = parser.ahead(ahead);
        if token.kind == Kind::Word { parser.text_of(token).to_owned() } else { String::new() }
    };
    if word(parser, 0) == "require" && parser.ahead(1).kind != Kind::Colon {
        parser.advance();
        required(parser)?;
        return Ok(true);
    }
    if word(parser, 0) == "return" && parser.ahead(1).kind == Kind::Word {
        parser.advance();
        let name = parser.single("the network's variable")?;
        the_container(parser, &name)?;
        return Ok(true);
    }
    if word(parser, 0) == "local" && parser.ahead(1).kind == Kind::Word {
        parser.advance();
        assignment(parser, parts)?;
        return Ok(true);
    }
    if parser.ahead(1).kind == Kind::Equals && is_module(&word(parser, 2)) {
        assignment(parser, parts)?;
        return Ok(true);
    }
    let touching =
        parser.ahead(0).place.end() == parser.ahead(1).place.offset && parser.ahead(1).place.end() == parser.ahead(2).place.offset;
    let adds = parser.ahead(1).kind == Kind::Colon && word(parser, 2) == "add" && parser.ahead(3).kind == Kind::Open;
    if touching && adds && is_module(&word(parser, 4)) {
        let name = parser.single("the network's variable")?;
        the_container(parser, &name)?;
        parts.extend(children(parser)?.into_iter().flatten());
        return Ok(true);
    }
    Ok(false)
}

/// `require 'nn'` or `require('nn')`, behind the first word.
fn required(parser: &mut Parser<'_>) -> Result<(), TextError> {
    let open = parser.take(Kind::Open);
    parser.expect(Kind::Quoted, "a package, as in require 'nn'")?;
    if open.is_some() {
        parser.expect(Kind::Close, "')'")?;
    }
    Ok(())
}

/// `net = nn.Sequential()`, with what is added to it at once; or `nn = require 'nn'`.
fn assignment(parser: &mut Parser<'_>, parts: &mut Vec<Part>) -> Result<(), TextError> {
    let name = parser.single("a variable")?;
    parser.expect(Kind::Equals, "'=' behind the variable")?;
    if parser.is_word("require") {
        parser.advance();
        return required(parser);
    }
    let token = parser.token();
    if module_name(parser.text_of(token)) != Some("Sequential") {
        let message = format!("'{}' can only be nn.Sequential(); write other modules where they are added", name.text);
        return Err(parser.error(name.place, message));
    }
    the_container(parser, &name)?;
    parts.extend(self::parts(parser)?);
    Ok(())
}

/// Checks that all lines speak of one network.
fn the_container(parser: &mut Parser<'_>, name: &Word) -> Result<(), TextError> {
    match &parser.container {
        Some(known) if *known != name.text => {
            let message = format!("this is '{}' and the lines above are about '{known}'; a text is one network", name.text);
            Err(parser.error(name.place, message))
        }
        Some(_) => Ok(()),
        None => {
            parser.container = Some(name.text.clone());
            Ok(())
        }
    }
}

/// A module and what is called on it; a container is what it contains.
pub(super) fn parts(parser: &mut Parser<'_>) -> Result<Vec<Part>, TextError> {
    let word = parser.single("a module of Torch, as nn.ReLU()")?;
    let Some(name) = module_name(&word.text) else {
        return Err(parser.error(word.place, format!("'{}' is not a module of Torch, as nn.ReLU()", word.text)));
    };
    parser.expect(Kind::Open, "'(' behind the module's name")?;
    let (arguments, close) = arguments(parser)?;
    let place = word.place.to(close);
    match name {
        "Sequential" => Ok(children(parser)?.into_iter().flatten().collect()),
        "Concat" => {
            along_channels(parser, &arguments, 2, place)?;
            let branches = branches(parser)?;
            let layer = LayerItem { label: None, kind: "concat", words: Vec::new(), branches: Some(branches), place };
            Ok(vec![Part::Item(Item::Layer(layer))])
        }
        "ConcatTable" => Ok(vec![Part::Table(branches(parser)?, place)]),
        "CAddTable" => Ok(vec![Part::Join("add", place)]),
        "JoinTable" => {
            let features = arguments.get(1).is_some_and(|dimensions| dimensions.text == "3");
            along_channels(parser, &arguments, if features { 1 } else { 2 }, place)?;
            Ok(vec![Part::Join("concat", place)])
        }
        "Identity" => Ok(Vec::new()),
        _ => {
            let methods = methods(parser)?;
            Ok(vec![Part::Item(Item::Torch(None, Module { name: name.to_owned(), arguments, methods, place }))])
        }
    }
}

/// Checks that a container joins along the channels, the second axis of N×C×H×W.
fn along_channels(parser: &Parser<'_>, arguments: &[Word], axis: usize, place: Place) -> Result<(), TextError> {
    match arguments.first() {
        Some(word) if word.text == axis.to_string() => Ok(()),
        found => {
            let found = found.map_or("no axis", |word| word.text.as_str());
            Err(parser.error(place, format!("only joining along the channels can be done, axis {axis}; found {found}")))
        }
    }
}

/// What is added to a `ConcatTable` or a `Concat`: one branch each.
fn branches(parser: &mut Parser<'_>) -> Result<Vec<Vec<Item>>, TextError> {
    let children = children(parser)?;
    children.into_iter().map(|parts| parser.joined(parts)).collect()
}

/// `:add(…):add(…)`, also on lines of their own.
fn children(parser: &mut Parser<'_>) -> Result<Vec<Vec<Part>>, TextError> {
    let mut children = Vec::new();
    while follows(parser, Kind::Colon) {
        parser.skip_newlines();
        parser.advance();
        children.push(added(parser)?);
    }
    Ok(children)
}

fn follows(parser: &Parser<'_>, kind: Kind) -> bool {
    parser.token().kind == kind || parser.token().kind == Kind::Newline && parser.ahead(1).kind == kind
}

/// `add(nn.X(…))`, behind the colon.
fn added(parser: &mut Parser<'_>) -> Result<Vec<Part>, TextError> {
    if !parser.is_word("add") {
        return Err(parser.unexpected("'add', the only call on a container that is understood"));
    }
    parser.advance();
    parser.expect(Kind::Open, "'(' behind 'add'")?;
    parser.skip_newlines();
    let parts = parser.nested(parts)?;
    parser.skip_newlines();
    parser.expect(Kind::Close, "')' behind the module; branches of the layer 'add' stand as in 'name: add( … | … )', with a space")?;
    Ok(parts)
}

/// `:noBias():ceil()`
fn methods(parser: &mut Parser<'_>) -> Result<Vec<(Word, Vec<Word>)>, TextError> {
    let mut methods = Vec::new();
    while parser.take(Kind::Colon).is_some() {
        let name = parser.single("a call, as ':noBias()'")?;
        parser.expect(Kind::Open, "'(' behind the call's name")?;
        methods.push((name, arguments(parser)?.0));
    }
    Ok(methods)
}

/// Values up to the closing parenthesis, and its place; `16 * 5 * 5` is one value.
fn arguments(parser: &mut Parser<'_>) -> Result<(Vec<Word>, Place), TextError> {
    const OPERATORS: [char; 4] = ['+', '-', '*', '/'];
    let mut arguments: Vec<Word> = Vec::new();
    loop {
        parser.skip_newlines();
        if let Some(close) = parser.take(Kind::Close) {
            return Ok((arguments, close));
        }
        if !arguments.is_empty() {
            parser.expect(Kind::Comma, "',' or ')' behind a value")?;
            parser.skip_newlines();
        }
        let mut word = parser.single("a number, true, false or nil")?;
        while parser.token().kind == Kind::Word {
            if !word.text.ends_with(OPERATORS) && !parser.text_of(parser.token()).starts_with(OPERATORS) {
                return Err(parser.unexpected("',' or ')' behind a value"));
            }
            let next = parser.single("a number")?;
            word = Word { text: word.text + &next.text, place: word.place.to(next.place) };
        }
        arguments.push(word);
    }
}
