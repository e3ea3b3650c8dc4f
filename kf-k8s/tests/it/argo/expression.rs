//! What texts of a workflow refer to: the tags in a text, and the names in an expression.

/// A name as its parts: `tasks['a'].status` is of three.
pub(crate) type Name = Vec<String>;

/// Functions and words of expressions.
const WORDS: [&str; 10] =
    ["true", "false", "startsWith", "toJson", "jsonpath", "map", "asInt", "asFloat", "int", "sprig"];

/// The tags of a text as Argo's own reader finds them: from `{{` to the next `}}`.
pub(crate) fn tags_in(text: &str) -> Vec<Result<&str, String>> {
    let (mut tags, mut rest) = (Vec::new(), text);
    while let Some((_, after)) = rest.split_once("{{") {
        match after.split_once("}}") {
            Some((tag, after)) => {
                tags.push(Ok(tag));
                rest = after;
            }
            None => {
                tags.push(Err(format!("`{{{{{after}` has no end")));
                break;
            }
        }
    }
    tags
}

/// The names in an expression, but for those of functions.
pub(crate) fn names_in(code: &str) -> Result<Vec<Name>, String> {
    let tokens = tokens(code)?;
    let mut open = Vec::new();
    for token in &tokens {
        let Token::Sign(sign) = token else { continue };
        match (sign, "([{".find(*sign), ")]}".find(*sign)) {
            (_, Some(kind), _) => open.push(kind),
            (_, _, Some(kind)) if open.pop() != Some(kind) => return Err(format!("`{sign}` closes nothing")),
            _ => {}
        }
    }
    if !open.is_empty() {
        return Err("a bracket is not closed".to_owned());
    }
    let (mut names, mut at) = (Vec::new(), 0);
    while let Some(token) = tokens.get(at) {
        at += 1;
        let Token::Word(word) = token else { continue };
        let mut name = vec![word.clone()];
        loop {
            match tokens.get(at..) {
                Some([Token::Sign('.'), Token::Word(part), ..]) => {
                    name.push(part.clone());
                    at += 2;
                }
                Some([Token::Sign('['), Token::Text(part), Token::Sign(']'), ..]) => {
                    name.push(part.clone());
                    at += 3;
                }
                _ => break,
            }
        }
        match WORDS.contains(&name[0].as_str()) {
            true => {}
            false => names.push(name),
        }
    }
    Ok(names)
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

fn tokens(code: &str) -> Result<Vec<Token>, String> {
    let (mut tokens, mut rest) = (Vec::new(), code.chars().peekable());
    while let Some(c) = rest.next() {
        match c {
            '\'' => {
                let mut text = String::new();
                loop {
                    match rest.next().ok_or("a text has no end")? {
                        '\'' => break,
                        '\\' => text.extend(rest.next()),
                        c => text.push(c),
                    }
                }
                tokens.push(Token::Text(text));
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let mut word = c.to_string();
                while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
            c if c.is_ascii_digit() => {
                while rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '.').is_some() {}
            }
            c if c.is_whitespace() => {}
            c if "()[]{}.,#?:+-!=<>&|".contains(c) => tokens.push(Token::Sign(c)),
            c => return Err(format!("`{c}` is no part of an expression")),
        }
    }
    Ok(tokens)
}

#[test]
fn tags_and_names_are_found() {
    assert_eq!(tags_in("a{{b}}c{{=d}}}"), [Ok("b"), Ok("=d")]);
    assert!(tags_in("{{a")[0].is_err());
    let names = names_in(r"toJson(map(jsonpath(tasks['a b'].outputs.parameters['x'], '$'), {sprig.lower(#) ? item : 'it\'s item'})) > 0.5").unwrap();
    assert_eq!(names, [vec!["tasks", "a b", "outputs", "parameters", "x"], vec!["item"]]);
    assert!(
        names_in("(a").is_err()
            && names_in("a)").is_err()
            && names_in("'a").is_err()
            && names_in("a ; b").is_err()
    );
}
