//! From statements to layers: repetitions unrolled, definitions filled in, every layer read and wired.

use std::collections::HashMap;

use super::numbers::{Number, Values, evaluate, substitute};
use super::program::{ConstantsAt, Definition, Item, LayerItem, Program, Word};
use super::tokens::Place;
use super::{MAX_DEPTH, TextArguments, kinds, lua};
use crate::error::{Error, Result, TextError};
use crate::layer::{self, Layer, LayerRules, Words};
use crate::network::{MAX_LAYERS, Network, NetworkBuilder, NodeId, torch};
use crate::shape::Shape;

/// The largest number of statements, branches and values that the unrolled text may have; layers are fewer.
const MAX_STEPS: usize = 16 * MAX_LAYERS;

/// The network that the program says.
pub(super) fn build(text: &str, program: &Program, arguments: &TextArguments) -> Result<Network> {
    if arguments.classes.is_some() && !program.constants.has("classes") {
        let message = "the number of classes cannot be set: the text has no constant 'classes'; begin it with 'let classes = 10' and \
                       write 'fc classes' at its end";
        return Err(Error::Argument(message.into()));
    }
    let input = input(text, program, arguments)?;
    let scope = Scope { program, parameters: &[], values: Vec::new() };
    let mut measure = Measure { text, steps: 0, layers: 0 };
    measure.items(&program.items, &scope, 0)?;
    let mut build = Build { text, builder: Network::builder(input), strict: arguments.strict, named: HashMap::new(), places: Vec::new() };
    let output = build.items(&program.items, NodeId::IMAGE, &scope)?;
    build.finish(output, program.end)
}

fn input(text: &str, program: &Program, arguments: &TextArguments) -> Result<[usize; 3]> {
    const EXAMPLE: &str = "channels, height and width, as in 'input 3x32x32'";
    if let Some([c, h, w]) = arguments.input {
        Shape::new(1, c, h, w).check().map_err(|reason| Error::Argument(format!("input {c}x{h}x{w}: {reason}")))?;
        return Ok([c, h, w]);
    }
    let Some((sizes, place)) = &program.input else {
        let start = Place { offset: 0, length: 0 };
        return Err(start.error(text, format!("the text must begin with the image's {EXAMPLE}")).into());
    };
    let Some(word) = sizes else {
        return Err(place.error(text, format!("'input' needs {EXAMPLE}")).into());
    };
    let error = |reason: String| place.error(text, format!("'{}' is not {EXAMPLE}: {reason}", word.text));
    let substituted = substitute(&word.text, &ConstantsAt(&program.constants, word.place.offset)).map_err(error)?;
    let sizes: Vec<usize> = substituted
        .to_ascii_lowercase()
        .split('x')
        .map(|size| size.parse().map_err(|_| error(format!("'{size}' is not a whole number"))))
        .collect::<Result<_, TextError>>()?;
    let [c, h, w] = sizes[..] else {
        return Err(error(format!("it has {} sizes, 3 are expected", sizes.len())).into());
    };
    Shape::new(1, c, h, w).check().map_err(error)?;
    Ok([c, h, w])
}

/// The values that names have inside one use of a definition, or outside of all.
struct Scope<'a> {
    program: &'a Program,
    parameters: &'a [String],
    values: Vec<Number>,
}

/// A scope at one byte of the text: constants count from their line on.
struct ScopeAt<'a>(&'a Scope<'a>, usize);

impl Values for ScopeAt<'_> {
    fn value(&self, name: &str) -> Option<Number> {
        let Self(scope, offset) = self;
        let parameter = scope.parameters.iter().position(|parameter| parameter == name);
        parameter.map(|place| scope.values[place]).or_else(|| scope.program.constants.value(name, *offset))
    }
}

impl<'a> Scope<'a> {
    fn evaluate(&self, text: &str, word: &Word) -> Result<Number, TextError> {
        let message = |reason: String| word.place.error(text, format!("'{}' is not a number: {reason}", word.text));
        evaluate(&word.text, &ScopeAt(self, word.place.offset)).map_err(message)
    }

    /// How often a repetition is repeated.
    fn count(&self, text: &str, count: Option<&Word>) -> Result<usize, TextError> {
        let Some(word) = count else { return Ok(1) };
        match self.evaluate(text, word)? {
            Number::Whole(count) if count >= 0 => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
            number => Err(word.place.error(text, format!("{number} is not how often something can be repeated; expected a whole number"))),
        }
    }

    /// The scope inside of a definition that is used with these values.
    fn inside(&self, text: &str, definition: usize, arguments: &[Word]) -> Result<(&'a Definition, Scope<'a>), TextError> {
        let definition = &self.program.definitions[definition];
        let values = arguments.iter().map(|word| self.evaluate(text, word)).collect::<Result<_, _>>()?;
        Ok((definition, Scope { program: self.program, parameters: &definition.parameters, values }))
    }
}

/// Counts what the text will unroll to, before anything is made of it.
struct Measure<'a> {
    text: &'a str,
    steps: usize,
    layers: usize,
}

impl Measure<'_> {
    fn items(&mut self, items: &[Item], scope: &Scope<'_>, depth: usize) -> Result<(), TextError> {
        items.iter().try_for_each(|item| self.item(item, scope, depth))
    }

    fn item(&mut self, item: &Item, scope: &Scope<'_>, depth: usize) -> Result<(), TextError> {
        let place = place(item);
        if depth > MAX_DEPTH {
            return Err(place.error(self.text, format!("this is nested more than {MAX_DEPTH} deep, with the definitions that are used")));
        }
        self.step(1, place)?;
        match item {
            Item::Layer(layer) => {
                self.step(layer.branches.as_ref().map_or(0, Vec::len), place)?;
                for branch in layer.branches.iter().flatten() {
                    self.items(branch, scope, depth + 1)?;
                }
                self.layer(place)
            }
            Item::Torch(_, module) => {
                self.step(module.arguments.len() + module.methods.len(), place)?;
                self.layer(place)
            }
            Item::From(_) => Ok(()),
            Item::Repeat { body, count, .. } => {
                for _ in 0..scope.count(self.text, count.as_ref())? {
                    self.step(1, place)?;
                    self.items(body, scope, depth + 1)?;
                }
                Ok(())
            }
            Item::Call { definition, arguments, .. } => {
                self.step(arguments.len(), place)?;
                let (definition, inner) = scope.inside(self.text, *definition, arguments)?;
                self.items(&definition.body, &inner, depth + 1)
            }
        }
    }

    fn step(&mut self, count: usize, place: Place) -> Result<(), TextError> {
        self.steps += count;
        if self.steps <= MAX_STEPS { Ok(()) } else { Err(self.too_many(place)) }
    }

    fn layer(&mut self, place: Place) -> Result<(), TextError> {
        self.layers += 1;
        if self.layers <= MAX_LAYERS { Ok(()) } else { Err(self.too_many(place)) }
    }

    fn too_many(&self, place: Place) -> TextError {
        place.error(
            self.text,
            format!("written out, the text has more than {MAX_LAYERS} layers up to here; that is the most a network may have"),
        )
    }
}

/// Where an item stands.
fn place(item: &Item) -> Place {
    match item {
        Item::Layer(layer) => layer.place,
        Item::Torch(_, module) => module.place,
        Item::Repeat { place, .. } | Item::Call { place, .. } => *place,
        Item::From(name) => name.place,
    }
}

struct Build<'a> {
    text: &'a str,
    builder: NetworkBuilder,
    strict: bool,
    /// The layers that the text gives a name, for `from`.
    named: HashMap<String, NodeId>,
    /// Where each layer stands.
    places: Vec<Place>,
}

impl Build<'_> {
    fn error(&self, place: Place, message: impl Into<String>) -> TextError {
        place.error(self.text, message)
    }

    /// Adds the layers of a chain that begins at `value`; the value of the chain.
    fn items(&mut self, items: &[Item], mut value: NodeId, scope: &Scope<'_>) -> Result<NodeId, TextError> {
        for item in items {
            value = match item {
                Item::Layer(layer) => self.layer(layer, value, scope)?,
                Item::Torch(label, module) => self.torch(label.as_ref(), module, value, scope)?,
                Item::From(name) => self.from(name)?,
                Item::Repeat { body, count, .. } => {
                    let mut value = value;
                    for _ in 0..scope.count(self.text, count.as_ref())? {
                        value = self.items(body, value, scope)?;
                    }
                    value
                }
                Item::Call { definition, arguments, .. } => {
                    let (definition, inner) = scope.inside(self.text, *definition, arguments)?;
                    self.items(&definition.body, value, &inner)?
                }
            };
        }
        Ok(value)
    }

    fn from(&self, name: &Word) -> Result<NodeId, TextError> {
        if name.text == "input" {
            return Ok(NodeId::IMAGE);
        }
        self.named.get(&name.text).copied().ok_or_else(|| {
            let mut names: Vec<&str> = self.named.keys().map(String::as_str).collect();
            names.sort_unstable();
            let meant = super::nearest::nearest(&name.text, names).map(|name| format!("; did you mean '{name}'?"));
            let remedy = meant.unwrap_or_else(|| format!("; name it, as in '{}: conv 64 3x3'", name.text));
            self.error(name.place, format!("no layer above is named '{}'{remedy}", name.text))
        })
    }

    fn layer(&mut self, item: &LayerItem, value: NodeId, scope: &Scope<'_>) -> Result<NodeId, TextError> {
        let kind = item.kind;
        let mut list: Vec<layer::Word> = kind.split(' ').map(|word| placed(word.to_owned(), item.place)).collect();
        for word in &item.words {
            let replaced = substitute(&word.text, &ScopeAt(scope, word.place.offset));
            let replaced = replaced.map_err(|reason| self.error(word.place, format!("'{}' has no value: {reason}", word.text)))?;
            list.push(placed(replaced.to_ascii_lowercase(), word.place));
        }
        let layer = self.read(kind, &list, item.place)?;
        let joins = layer.arity().1 > 1;
        if joins && item.branches.is_none() {
            return Err(self.error(item.place, format!("'{kind}' needs its branches, as in {kind}( conv 64 3x3 pad 1 | identity )")));
        }
        if !joins && item.branches.is_some() {
            return Err(self.error(item.place, format!("'{kind}' has one input; branches stand in add( … | … ) or concat( … | … )")));
        }
        let inputs: Vec<NodeId> = match &item.branches {
            None => vec![value],
            Some(branches) => branches.iter().map(|branch| self.items(branch, value, scope)).collect::<Result<_, _>>()?,
        };
        self.add(item.label.as_ref(), layer, &inputs, item.place)
    }

    /// Reads a layer, and all of its words.
    fn read(&self, kind: &str, list: &[layer::Word], place: Place) -> Result<Layer, TextError> {
        let mut words = Words::new(list, place.end());
        let error = |error: layer::WordError| {
            let missing = error.offset == place.end() && error.length == 0;
            let example = kinds::complete(kind).filter(|_| missing).map(|text| format!(", as in '{text}'"));
            let remark = example.unwrap_or_else(|| self.replaced(list, &error));
            TextError::new(self.text, error.offset, error.length, error.message + &remark)
        };
        let layer = Layer::read(&mut words).map_err(error)?;
        match words.peek() {
            None => Ok(layer),
            Some(word) => {
                Err(error(words.error_at_next(format!("'{word}' is one word too many for '{kind}'; '->' or a new line is missing"))))
            }
        }
    }

    /// What a wrong word was before its arithmetic was done.
    fn replaced(&self, list: &[layer::Word], error: &layer::WordError) -> String {
        let word = list.iter().skip(1).find(|word| (word.offset, word.length) == (error.offset, error.length));
        let written = self.text.get(error.offset..error.offset + error.length).unwrap_or("");
        match word {
            Some(word) if !written.contains('(') && !written.eq_ignore_ascii_case(&word.text) => {
                format!(" ('{written}' is {} here)", word.text)
            }
            _ => String::new(),
        }
    }

    fn torch(&mut self, label: Option<&Word>, module: &lua::Module, value: NodeId, scope: &Scope<'_>) -> Result<NodeId, TextError> {
        let evaluated = |word: &Word| match word.text.as_str() {
            "true" => Ok(torch::Value::Boolean(true)),
            "false" => Ok(torch::Value::Boolean(false)),
            "nil" => Ok(torch::Value::Nil),
            _ => Ok(match scope.evaluate(self.text, word)? {
                Number::Whole(value) => torch::Value::Whole(value),
                Number::Decimal(value) => torch::Value::Decimal(value),
            }),
        };
        let call = |name: &str, arguments: &[Word]| -> Result<torch::Call, TextError> {
            Ok(torch::Call { name: name.to_owned(), arguments: arguments.iter().map(evaluated).collect::<Result<_, TextError>>()? })
        };
        let methods = module.methods.iter().map(|(name, arguments)| call(&name.text, arguments)).collect::<Result<Vec<_>, _>>()?;
        let said = torch::layer(&call(&module.name, &module.arguments)?, &methods, self.builder.shape(value));
        let said = said.map_err(|reason| self.error(module.place, format!("nn.{}: {reason}", module.name)))?;
        let Some(said) = said else { return Ok(value) };
        let list: Vec<layer::Word> = said.split(' ').map(|word| placed(word.to_owned(), module.place)).collect();
        let layer = self.read(&module.name, &list, module.place)?;
        self.add(label, layer, &[value], module.place)
    }

    fn add(&mut self, label: Option<&Word>, layer: Layer, inputs: &[NodeId], place: Place) -> Result<NodeId, TextError> {
        let added = match label {
            None => self.builder.add(layer, inputs),
            Some(label) => self.builder.add_named(&label.text, layer, inputs),
        };
        let id = added.map_err(|error| match (error, label) {
            (Error::Argument(reason), Some(label)) => {
                let unrolled = "; inside [ … ]*2 and definitions a name would be given again each time";
                self.error(label.place, if self.named.contains_key(&label.text) { reason + unrolled } else { reason })
            }
            (error, _) => self.error(place, error.to_string()),
        })?;
        self.places.push(place);
        if let Some(label) = label {
            self.named.insert(label.text.clone(), id);
        }
        if self.strict {
            self.check_strictly(place)?;
        }
        Ok(id)
    }

    /// Refuses the last layer if it has a warning.
    fn check_strictly(&self, place: Place) -> Result<(), TextError> {
        let Some(node) = self.builder.nodes().last() else { return Ok(()) };
        match node.layer().warnings(node.input_shapes()).first() {
            None => Ok(()),
            Some(warning) => Err(self.error(place, format!("layer '{}' ({}): {warning}", node.name(), node.layer()))),
        }
    }

    fn finish(self, output: NodeId, end: Place) -> Result<Network> {
        let mut read = vec![false; self.places.len() + 1];
        read[output.index()] = true;
        for id in self.builder.nodes().iter().flat_map(|node| node.inputs()) {
            read[id.index()] = true;
        }
        let unread = read.iter().skip(1).position(|read| !read).and_then(|index| self.places.get(index));
        let place = unread.copied().unwrap_or(end);
        self.builder.finish(output).map_err(|error| place.error(self.text, error.to_string()).into())
    }
}

/// A word for a layer to read, at its place in the text.
fn placed(text: String, place: Place) -> layer::Word {
    layer::Word { text, offset: place.offset, length: place.length }
}
