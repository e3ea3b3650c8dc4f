//! Changes texts and trees at random.

use serde_json::{Map, Value as Json, json};

/// Numbers that look random (SplitMix64, Steele, Lea and Flood 2014).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x2545_F491_4F6C_DD1D));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % (bound.max(1) as u64)) as usize
    }

    /// A length: short ones are as likely as each longer order of magnitude.
    fn length(&mut self, bits: usize) -> usize {
        let most = 1 << self.below(bits);
        self.below(most + 1)
    }

    pub(super) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    pub(super) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// One of `seeds`, changed with what another of them and `tokens` have.
pub(super) fn text(random: &mut Random, seeds: &[&str], tokens: &[&str]) -> Vec<u8> {
    let mut text = random.pick(seeds).as_bytes().to_vec();
    let other = random.pick(seeds);
    bytes(random, &mut text, tokens, other.as_bytes());
    text
}

/// Changes bytes in some places; `tokens` are what the language makes much of, `other` another text of it.
pub(super) fn bytes(random: &mut Random, text: &mut Vec<u8>, tokens: &[&str], other: &[u8]) {
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() + 1);
        let to = (at + random.length(9)).min(text.len());
        match random.below(9) {
            0 if at < text.len() => text[at] ^= 1_u8 << random.below(8),
            1 => drop(text.drain(at..to)),
            2 => {
                let part = text[at..to].to_vec();
                for _ in 0..=random.below(3) {
                    text.splice(at..at, part.iter().copied());
                }
            }
            3 => {
                let from = random.below(other.len() + 1);
                let until = (from + random.below(64)).min(other.len());
                text.splice(at..to, other[from..until].iter().copied());
            }
            4 => text.truncate(at),
            5 => {
                let token = random.pick(tokens).repeat(random.length(12));
                text.splice(at..at, token.bytes());
            }
            _ => {
                let token = random.pick(tokens);
                text.splice(at..at, token.bytes());
            }
        }
        text.truncate(300_000);
    }
}

/// Changes a tree in some places.
pub(super) fn tree(random: &mut Random, tree: &mut Json) {
    for _ in 0..=random.below(3) {
        let mut texts = Vec::new();
        collect(tree, &mut texts);
        let mut count = 0;
        visit(tree, &mut |_| count += 1);
        let chosen = random.below(count);
        let other = random.below(count);
        let mut taken = None;
        let mut at = 0;
        visit(tree, &mut |node| {
            if at == other {
                taken = Some(node.clone());
            }
            at += 1;
        });
        let mut at = 0;
        visit(tree, &mut |node| {
            if at == chosen {
                change(random, node, &texts, taken.take());
            }
            at += 1;
        });
    }
}

fn change(random: &mut Random, node: &mut Json, texts: &[String], other: Option<Json>) {
    match (random.below(6), &mut *node) {
        (0, Json::Object(fields)) if !fields.is_empty() => {
            let key = fields.keys().nth(random.below(fields.len())).cloned().unwrap_or_default();
            fields.remove(&key);
        }
        (1 | 2, Json::Object(fields)) if !fields.is_empty() => {
            // The same under another name, or something else under this one.
            let key = fields.keys().nth(random.below(fields.len())).cloned().unwrap_or_default();
            let value = fields[&key].clone();
            let name = match random.one_in(3) {
                true => nasty_text(random),
                false => texts.get(random.below(texts.len())).cloned().unwrap_or_default(),
            };
            fields.insert(name, value);
            if random.one_in(2) {
                fields.remove(&key);
            }
        }
        (0, Json::Array(items)) if !items.is_empty() => drop(items.remove(random.below(items.len()))),
        (1, Json::Array(items)) if !items.is_empty() => {
            let item = items[random.below(items.len())].clone();
            items.extend(std::iter::repeat_n(item, 1 << random.below(6)));
        }
        (2 | 3, Json::String(text)) => {
            *text = match random.one_in(4) {
                true => nasty_text(random),
                false => texts.get(random.below(texts.len())).cloned().unwrap_or_default(),
            };
        }
        (4, node) => *node = other.unwrap_or_default(),
        (_, node) => *node = nasty(random),
    }
}

fn visit(node: &mut Json, what: &mut impl FnMut(&mut Json)) {
    what(node);
    match node {
        Json::Object(fields) => fields.values_mut().for_each(|value| visit(value, what)),
        Json::Array(items) => items.iter_mut().for_each(|value| visit(value, what)),
        _ => {}
    }
}

/// All names and texts of a tree that may name one another.
fn collect(node: &Json, texts: &mut Vec<String>) {
    match node {
        Json::Object(fields) => fields.iter().for_each(|(key, value)| {
            texts.push(key.clone());
            collect(value, texts);
        }),
        Json::Array(items) => items.iter().for_each(|value| collect(value, texts)),
        Json::String(text) if text.len() < 200 => texts.push(text.clone()),
        _ => {}
    }
}

pub(super) fn nasty_text(random: &mut Random) -> String {
    let texts = [
        "",
        " ",
        "..",
        "/",
        "../../etc",
        "a/b",
        "a\0b",
        "\u{FEFF}",
        "\u{85}",
        "\u{2028}",
        "\r",
        "\r\n",
        "\t",
        " a",
        "a ",
        "a\n",
        "\na",
        "a\n\n",
        " \n a",
        "a: b",
        "a #b",
        "#",
        "- a",
        "? a",
        "&a",
        "*a",
        "!a",
        "!!str",
        "%a",
        "@a",
        "`a`",
        "|",
        ">",
        "---",
        "...",
        "--- a",
        "~",
        "null",
        "Null",
        "true",
        "yes",
        "no",
        "on",
        "y",
        ".nan",
        "-.inf",
        "1",
        "01",
        "0x1f",
        "0o17",
        "1e3",
        "1_000",
        "1:30",
        "+1",
        ".5",
        "2001-01-01",
        "<<",
        "=",
        "[",
        "{",
        "'",
        "\"",
        "\\",
        "\u{7f}",
        "\u{1b}",
        "é",
        "\u{1F600}",
        "\u{FFFE}",
        "{{$}}",
        "{{$.inputs.parameters['a']}}",
        "{{$.json_escape[9]}}",
        "root",
        "platforms",
        "kf",
        "9223372036854775808",
        "-0",
        "-0.0",
        "1.0",
        "1e400",
        "1s",
        "-1s",
        "1e30s",
        "nans",
        "inputs.parameter_values['a'] > 0",
        "[1, 2]",
        "[[[[",
        "NUMBER_INTEGER",
    ];
    let text = random.pick(&texts);
    match random.below(12) {
        0 => text.repeat(1 << random.below(14)),
        1 => format!("{text}\n{}", random.pick(&texts)),
        2 => format!("{text}{}", random.pick(&texts)),
        _ => text.to_owned(),
    }
}

fn nasty(random: &mut Random) -> Json {
    match random.below(16) {
        0 => Json::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(0),
        4 => json!(u64::MAX),
        5 => json!(i64::MIN),
        6 => json!(9_007_199_254_740_993_u64),
        7 => json!(1e308),
        8 => json!(5e-324),
        9 => json!(-0.0),
        10 => json!([]),
        11 => json!({}),
        12 => {
            let mut deep = json!(1);
            for level in 0..random.below(100) {
                deep = if level % 2 == 0 { json!([deep]) } else { json!({"a": deep}) };
            }
            deep
        }
        13 => Json::Object(
            (0..random.below(50))
                .map(|n| (nasty_text(random) + &n.to_string(), json!(n)))
                .collect::<Map<_, _>>(),
        ),
        _ => nasty_text(random).into(),
    }
}
