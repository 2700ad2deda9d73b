//! Whatever is done to a text, reading it ends soon, in a network or in a mistake that lies inside the text.

use crate::Error;
use crate::network::Network;

const TEXTS: [&str; 5] = [
    "let classes = 10\ninput 3x32x32\nlet k = 8\nlet block(k, s) = add( conv k 3x3 stride s pad 1 -> relu -> conv k 3x3 pad 1 | conv k 1x1 \
     stride s ) -> relu\nstem: conv k 3x3 pad 1 no bias # comment\nrelu\n[ block(2*k, 1) -> relu ]*2\nblock(4*k, 2)\nflatten -> fc classes",
    "INPUT 3x8x8 -> [[CONV 4 3x3 PAD same -> RELU]*2]*3 -> flatten -> [FC 16 -> RELU]*1 -> FC 10",
    "input 4x8x8\na: conv 4 3x3 pad 0,1,2,1\nb: relu\nfrom a -> c: relu\nadd( from b | from c | identity | add( relu | identity ) )",
    "require 'nn'\ninput 3x8x8\nlocal net = nn.Sequential()\nnet:add(nn.SpatialConvolution(3, 4, 3, 3, 1, 1, 1):noBias()) -- planes\n\
     net:add(nn.ConcatTable():add(nn.Identity()):add(nn.ReLU(true)))\nnet:add(nn.CAddTable())\nnet:add(nn.View(4*8*8))\nreturn net",
    "input 1x9x9\nlet n = 3\n[\n  [ conv n*n n 	-> relu ]*n/3\n]*2\nflatten",
];

const SNIPPETS: [&str; 36] = [
    "->",
    "\n",
    "[",
    "]",
    "]*2",
    "]*99999",
    "(",
    ")",
    "|",
    ",",
    ":",
    "=",
    "*",
    "-",
    "#",
    "'",
    "?",
    "é",
    "→",
    "x",
    "0",
    "-1",
    "1e400",
    "18446744073709551616",
    "9223372036854775807*2",
    "let k = 3\n",
    "let f() = ",
    "f()",
    "input 1x1x1\n",
    "from a",
    "identity",
    "a: ",
    "nn.ReLU()",
    ":add(",
    "add(",
    "conv 1000000000 1x1",
];

/// A stream of numbers by the linear congruential generator of Knuth's MMIX.
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % count.max(1) as u64) as usize
    }
}

fn mutated(text: &str, random: &mut Random) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..random.below(3) + 1 {
        let (place, other) = (random.below(letters.len() + 1), random.below(letters.len() + 1));
        let (from, to) = (place.min(other), place.max(other).min(place.min(other) + 12));
        match random.below(6) {
            0 if place < letters.len() => drop(letters.remove(place)),
            1 if random.below(4) == 0 => letters.truncate(place),
            2 => drop(letters.drain(from..to)),
            3 => {
                let copy: Vec<char> = letters[from..to].to_vec();
                letters.splice(place..place, copy);
            }
            4 if place < letters.len() => letters[place] = char::from(random.below(128) as u8),
            _ => drop(letters.splice(place..place, SNIPPETS[random.below(SNIPPETS.len())].chars())),
        }
    }
    letters.into_iter().collect()
}

/// Reads the text; what it says must come back, and a mistake must lie inside the text.
fn read(text: &str) -> bool {
    match Network::parse(text) {
        Ok(network) => {
            let printed = network.to_string();
            let back = Network::parse(&printed).unwrap_or_else(|error| panic!("{text:?} prints\n{printed}\n{error}"));
            assert!(back.same_as(&network), "{text:?}");
            true
        }
        Err(Error::Text(error)) => {
            assert!(text.get(error.offset..error.offset + error.length).is_some(), "{text:?}: {error:?}");
            assert!(!error.message.is_empty());
            false
        }
        Err(other) => panic!("{text:?}: {other}"),
    }
}

#[test]
fn mutated_texts_are_read_or_refused_but_never_panic() {
    let (mut networks, count) = (0, 12_000);
    for seed in 0..count {
        let text = TEXTS[seed % TEXTS.len()];
        networks += usize::from(read(&mutated(text, &mut Random(seed as u64))));
    }
    // Both outcomes occur, so both are tested.
    assert!(networks > count / 50 && networks < count * 9 / 10, "{networks} of {count} were networks");
}

#[test]
fn the_texts_themselves_are_read() {
    assert!(TEXTS.iter().all(|text| read(text)));
}

#[test]
fn texts_of_one_token_are_refused() {
    for snippet in SNIPPETS.iter().filter(|snippet| **snippet != "input 1x1x1\n") {
        assert!(!read(snippet), "{snippet}");
        assert!(!read(&snippet.repeat(20_000)), "{snippet} repeated");
        assert!(Network::parse(&format!("input 1x4x4\n{}", snippet.repeat(5000))).is_err(), "{snippet} repeated");
    }
}
