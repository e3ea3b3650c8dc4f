use half::{bf16, f16};

use crate::{Datatype, Error, Result, Tensor, tensor::Element};

/// Appends the tensor's elements as one flat JSON array.
pub(in crate::protocol) fn write(tensor: &Tensor, out: &mut Vec<u8>) -> Result<()> {
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
pub(in crate::protocol) fn write_json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value)
        .expect("a number or string is always JSON, and a vector takes every byte");
}
