//! A tensor's data between JSON and bytes.
//!
//! JSON knows no NaN and no infinities. They are written and read as the strings `"NaN"`, `"Infinity"` and
//! `"-Infinity"`, as protobuf's JSON mapping has it.

use std::str::FromStr;

use half::{bf16, f16};

use crate::{
    Datatype, Error, Result, Tensor,
    tensor::{Element, element_count, push_string},
};

/// Reads a JSON value, flat or nested as the shape is, into elements as little-endian bytes.
///
/// `text` must be one valid JSON value. The message of an error doesn't name the tensor.
pub(super) fn read(text: &str, datatype: Datatype, shape: &[usize]) -> Result<Vec<u8>, String> {
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

/// Appends the tensor's elements as one flat JSON array.
pub(super) fn write(tensor: &Tensor, out: &mut Vec<u8>) -> Result<()> {
    out.push(b'[');
    match tensor.datatype() {
        Datatype::Bool => plain::<bool>(tensor, out)?,
        Datatype::Uint8 => plain::<u8>(tensor, out)?,
        Datatype::Uint16 => plain::<u16>(tensor, out)?,
        Datatype::Uint32 => plain::<u32>(tensor, out)?,
        Datatype::Uint64 => plain::<u64>(tensor, out)?,
        Datatype::Int8 => plain::<i8>(tensor, out)?,
        Datatype::Int16 => plain::<i16>(tensor, out)?,
        Datatype::Int32 => plain::<i32>(tensor, out)?,
        Datatype::Int64 => plain::<i64>(tensor, out)?,
        Datatype::Fp16 => floats(tensor, out, f16::to_f32)?,
        Datatype::Bf16 => floats(tensor, out, bf16::to_f32)?,
        Datatype::Fp32 => floats(tensor, out, |value: f32| value)?,
        Datatype::Fp64 => floats(tensor, out, |value: f64| value)?,
        Datatype::Bytes => {
            for (at, element) in tensor.strings()?.enumerate() {
                let text = std::str::from_utf8(element).map_err(|_| {
                    Error::NotInJson(format!(
                        "output `{}` holds bytes that aren't UTF-8 in element {at}, which JSON can't carry; ask for it \
                         with the parameter `binary_data`",
                        tensor.name()
                    ))
                })?;
                write_json(text, out);
                out.push(b',');
            }
        }
    }
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(b']');
    Ok(())
}

fn plain<T: Element + serde::Serialize>(tensor: &Tensor, out: &mut Vec<u8>) -> Result<()> {
    for value in &*tensor.values::<T>()? {
        write_json(value, out);
        out.push(b',');
    }
    Ok(())
}

fn floats<T: Element, F: Into<f64> + serde::Serialize + Copy>(
    tensor: &Tensor,
    out: &mut Vec<u8>,
    widen: impl Fn(T) -> F,
) -> Result<()> {
    for value in &*tensor.values::<T>()? {
        let value = widen(*value);
        let wide: f64 = value.into();
        if wide.is_finite() {
            write_json(&value, out);
        } else if wide.is_nan() {
            out.extend_from_slice(br#""NaN""#);
        } else {
            out.extend_from_slice(if wide > 0.0 { br#""Infinity""# } else { br#""-Infinity""# });
        }
        out.push(b',');
    }
    Ok(())
}

/// Appends `value` as JSON.
pub(super) fn write_json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value)
        .expect("a number or string is always JSON, and a vector takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(text: &str, datatype: Datatype, shape: &[usize]) -> Result<Tensor, String> {
        read(text, datatype, shape).map(|data| Tensor::new("x", datatype, shape, data).unwrap())
    }

    fn written(tensor: &Tensor) -> String {
        let mut out = Vec::new();
        write(tensor, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_datatype_comes_back() {
        for (datatype, text) in [
            (Datatype::Bool, "[true,false,true]"),
            (Datatype::Uint8, "[0,7,255]"),
            (Datatype::Uint16, "[0,7,65535]"),
            (Datatype::Uint32, "[0,7,4294967295]"),
            (Datatype::Uint64, "[0,7,18446744073709551615]"),
            (Datatype::Int8, "[-128,0,127]"),
            (Datatype::Int16, "[-32768,0,32767]"),
            (Datatype::Int32, "[-2147483648,0,2147483647]"),
            (Datatype::Int64, "[-9223372036854775808,0,9223372036854775807]"),
            (Datatype::Fp16, "[-0.0,0.5,65504.0]"),
            (Datatype::Bf16, "[-0.0,0.5,256.0]"),
            (Datatype::Fp32, "[0.1,-3.4028235e+38,1e-45]"),
            (Datatype::Fp64, "[0.1,-1.7976931348623157e+308,5e-324]"),
            (Datatype::Bytes, r#"["","ä\"\\\n]","[,"]"#),
        ] {
            let tensor = tensor(text, datatype, &[3]).unwrap();
            assert_eq!(written(&tensor), text, "{datatype}");
        }
    }

    #[test]
    fn what_json_cannot_write_goes_as_a_string() {
        for datatype in [Datatype::Fp16, Datatype::Bf16, Datatype::Fp32, Datatype::Fp64] {
            let text = r#"["NaN","Infinity","-Infinity"]"#;
            assert_eq!(written(&tensor(text, datatype, &[3]).unwrap()), text);
        }
    }

    #[test]
    fn nested_and_flat_are_the_same() {
        let flat = tensor("[1,2,3,4,5,6]", Datatype::Int32, &[2, 3]).unwrap();
        assert_eq!(tensor(" [ [1, 2,3] ,\n[4,5,6]]", Datatype::Int32, &[2, 3]).unwrap(), flat);
        assert_eq!(tensor("[[[1,2,3],[4,5,6]]]", Datatype::Int32, &[1, 2, 3]).unwrap().data(), flat.data());
        for (text, shape) in [("7", &[][..]), ("[7]", &[]), ("[7]", &[1, 1]), ("[[7]]", &[1, 1])] {
            assert!(tensor(text, Datatype::Int32, shape).is_ok(), "{text} {shape:?}");
        }
        for (text, shape) in [("[]", &[0][..]), ("[]", &[0, 4]), ("[]", &[4, 0]), ("[[],[]]", &[2, 0])] {
            assert!(tensor(text, Datatype::Int32, shape).is_ok(), "{text} {shape:?}");
        }
    }

    #[test]
    fn data_of_another_shape_is_refused() {
        for (text, shape) in [
            ("[1,2,3]", &[2][..]),
            ("[1]", &[2]),
            ("[[1,2],[3]]", &[2, 2]),
            ("[[1,2,3],[4]]", &[2, 2]),
            ("[[1,2]]", &[2]),
            ("[[1],[2]]", &[1, 2]),
            ("[1,[2]]", &[2]),
            ("[[1],2]", &[2, 1]),
            ("[[[1]]]", &[1, 1]),
            ("[]", &[1]),
            ("[[]]", &[2, 0]),
            ("[[]]", &[1]),
            ("7", &[2]),
            ("[1,2]", &[usize::MAX, 2]),
            ("[1,2]", &[1 << 40]),
        ] {
            assert!(tensor(text, Datatype::Int32, shape).is_err(), "{text} {shape:?}");
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(tensor(&deep, Datatype::Int32, &[1]).is_err());
    }

    #[test]
    fn elements_of_another_type_are_refused() {
        for (text, datatype) in [
            ("[1.5]", Datatype::Int32),
            ("[1e2]", Datatype::Int32),
            ("[256]", Datatype::Uint8),
            ("[-1]", Datatype::Uint64),
            ("[\"1\"]", Datatype::Int32),
            ("[true]", Datatype::Fp32),
            ("[null]", Datatype::Fp32),
            ("[{}]", Datatype::Fp32),
            ("{\"a\":1}", Datatype::Fp32),
            ("[\"nan\"]", Datatype::Fp32),
            ("[1e39]", Datatype::Fp32),
            ("[1e309]", Datatype::Fp64),
            ("[65520]", Datatype::Fp16),
            ("[1e39]", Datatype::Bf16),
            ("[1]", Datatype::Bool),
            ("[1]", Datatype::Bytes),
            ("null", Datatype::Fp32),
        ] {
            let error = tensor(text, datatype, &[1]).unwrap_err();
            assert!(error.contains("expected") || error.contains("shape"), "{text}: {error}");
        }
    }

    #[test]
    fn floats_are_read_to_the_last_bit() {
        let mut state = 88_172_645_463_325_252_u64;
        for _ in 0..20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let (double, single) = (f64::from_bits(state), f32::from_bits(state as u32));
            if double.is_finite() {
                let read = tensor(&format!("[{double:e}]"), Datatype::Fp64, &[1]).unwrap();
                assert_eq!(read.values::<f64>().unwrap()[0].to_bits(), double.to_bits());
            }
            if single.is_finite() {
                let original = Tensor::from_vec("x", [1], vec![single]).unwrap();
                assert_eq!(tensor(&written(&original), Datatype::Fp32, &[1]).unwrap(), original);
            }
        }
    }
}
