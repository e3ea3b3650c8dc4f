use std::str::FromStr;

use half::{bf16, f16};

use crate::{
    Datatype,
    tensor::{element_count, push_string},
};

/// Reads a JSON value, flat or nested as the shape is, into elements as little-endian bytes.
///
/// `text` must be one valid JSON value. The message of an error doesn't name the tensor.
pub(in crate::protocol) fn read(text: &str, datatype: Datatype, shape: &[usize]) -> Result<Vec<u8>, String> {
    match datatype {
        Datatype::Bool => walk(text, datatype, shape, |token, out| match token {
            "true" => push(out, [1]),
            "false" => push(out, [0]),
            _ => Err("true or false".into()),
        }),
        Datatype::Uint8 => integers::<u8, 1>(text, datatype, shape, u8::to_le_bytes),
        Datatype::Uint16 => integers::<u16, 2>(text, datatype, shape, u16::to_le_bytes),
        Datatype::Uint32 => integers::<u32, 4>(text, datatype, shape, u32::to_le_bytes),
        Datatype::Uint64 => integers::<u64, 8>(text, datatype, shape, u64::to_le_bytes),
        Datatype::Int8 => integers::<i8, 1>(text, datatype, shape, i8::to_le_bytes),
        Datatype::Int16 => integers::<i16, 2>(text, datatype, shape, i16::to_le_bytes),
        Datatype::Int32 => integers::<i32, 4>(text, datatype, shape, i32::to_le_bytes),
        Datatype::Int64 => integers::<i64, 8>(text, datatype, shape, i64::to_le_bytes),
        Datatype::Fp16 => walk(text, datatype, shape, |token, out| {
            let (value, is_number) = float::<f64>(token)?;
            let half = f16::from_f64(value);
            if is_number && half.is_infinite() { Err(out_of_range()) } else { push(out, half.to_le_bytes()) }
        }),
        Datatype::Bf16 => walk(text, datatype, shape, |token, out| {
            let (value, is_number) = float::<f64>(token)?;
            let half = bf16::from_f64(value);
            if is_number && half.is_infinite() { Err(out_of_range()) } else { push(out, half.to_le_bytes()) }
        }),
        Datatype::Fp32 => walk(text, datatype, shape, |token, out| {
            let (value, is_number) = float::<f32>(token)?;
            if is_number && value.is_infinite() {
                Err(out_of_range())
            } else {
                push(out, value.to_le_bytes())
            }
        }),
        Datatype::Fp64 => walk(text, datatype, shape, |token, out| {
            let (value, is_number) = float::<f64>(token)?;
            if is_number && value.is_infinite() {
                Err(out_of_range())
            } else {
                push(out, value.to_le_bytes())
            }
        }),
        Datatype::Bytes => walk(text, datatype, shape, |token, out| {
            if !token.starts_with('"') {
                return Err("a string".into());
            }
            let plain = &token[1..token.len() - 1];
            if !plain.contains('\\') {
                return push_string(out, plain.as_bytes()).map_err(|error| error.to_string());
            }
            let unescaped: String = serde_json::from_str(token).map_err(|error| error.to_string())?;
            push_string(out, unescaped.as_bytes()).map_err(|error| error.to_string())
        }),
    }
}

fn integers<T: FromStr, const N: usize>(
    text: &str,
    datatype: Datatype,
    shape: &[usize],
    to_bytes: impl Fn(T) -> [u8; N],
) -> Result<Vec<u8>, String> {
    walk(text, datatype, shape, |token, out| match token.parse() {
        Ok(value) => push(out, to_bytes(value)),
        Err(_) => Err(format!("a whole number that {datatype} holds")),
    })
}

/// A number, or one of the strings that stand for what JSON can't write; and whether it was a number.
fn float<T: FromStr>(token: &str) -> Result<(T, bool), String> {
    let (text, is_number) = match token {
        r#""NaN""# => ("nan", false),
        r#""Infinity""# => ("inf", false),
        r#""-Infinity""# => ("-inf", false),
        _ if token.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => (token, true),
        _ => return Err("a number".into()),
    };
    text.parse().map(|value| (value, is_number)).map_err(|_| "a number".into())
}

fn out_of_range() -> String {
    "a number in the datatype's range".into()
}

fn push<const N: usize>(out: &mut Vec<u8>, bytes: [u8; N]) -> Result<(), String> {
    out.extend_from_slice(&bytes);
    Ok(())
}

/// Goes through the value and hands each element's text to `element`, which appends its bytes or says what it
/// expected.
fn walk(
    text: &str,
    datatype: Datatype,
    shape: &[usize],
    mut element: impl FnMut(&str, &mut Vec<u8>) -> Result<(), String>,
) -> Result<Vec<u8>, String> {
    let expected = element_count(shape).ok_or_else(|| format!("shape {shape:?} has too many elements"))?;
    // Each element takes a character and a comma, so a short text can't ask for much memory.
    if expected > text.len() {
        return Err(format!("shape {shape:?} takes {expected} elements, which the data hasn't got"));
    }
    let mut out = Vec::with_capacity(expected * datatype.size().unwrap_or(8));
    let mut found = 0_usize;
    let mut take = |token: &str| {
        found += 1;
        if found > expected {
            return Err(format!("shape {shape:?} takes {expected} elements, the data has more"));
        }
        element(token, &mut out).map_err(|wanted| {
            let shown: String = token.chars().take(40).collect();
            format!("element {}: expected {wanted}, found {shown}", found - 1)
        })
    };

    let bytes = text.as_bytes();
    // How many children each open array has had so far.
    let mut open: Vec<usize> = Vec::with_capacity(shape.len());
    let mut depth = None;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => at += 1,
            b'[' => {
                if let Some(children) = open.last_mut() {
                    *children += 1;
                }
                if open.len() > shape.len() || depth.is_some_and(|depth| open.len() >= depth) {
                    return Err(ragged(shape));
                }
                open.push(0);
                at += 1;
            }
            b']' => {
                let level = open.len().checked_sub(1).ok_or_else(|| ragged(shape))?;
                let children = open.pop();
                // The flat form has one array with every element, whatever the shape; `take` counts those.
                let flat = level == 0 && (depth == Some(1) || children == Some(0));
                if !flat && shape.get(level).copied() != children {
                    return Err(ragged(shape));
                }
                at += 1;
            }
            _ => {
                if *depth.get_or_insert(open.len()) != open.len() {
                    return Err(ragged(shape));
                }
                if let Some(children) = open.last_mut() {
                    *children += 1;
                }
                let end = token_end(bytes, at);
                take(&text[at..end])?;
                at = end;
            }
        }
    }
    if depth.is_some_and(|depth| depth > 1 && depth != shape.len()) {
        return Err(ragged(shape));
    }
    if found != expected {
        return Err(format!("shape {shape:?} takes {expected} elements, the data has {found}"));
    }
    Ok(out)
}

fn ragged(shape: &[usize]) -> String {
    format!("the data must be one flat array, or arrays nested as its shape {shape:?} is")
}

/// Where the number, word or string that begins at `start` ends. What isn't an element ends where the text does or
/// at its first comma or bracket, and is refused by whoever reads it.
fn token_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    if bytes[start] == b'"' {
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => return at + 1,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
    } else {
        while let Some(byte) = bytes.get(at) {
            if matches!(byte, b',' | b']' | b'[' | b' ' | b'\t' | b'\n' | b'\r') {
                return at;
            }
            at += 1;
        }
    }
    bytes.len()
}
