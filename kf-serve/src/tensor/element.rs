use bytemuck::NoUninit;
use bytes::Bytes;
use half::{bf16, f16};

use crate::Datatype;

/// A Rust type that a tensor's elements can be read as: the integers, `f32`, `f64`, [`f16`](struct@f16),
/// [`bf16`] and `bool`.
pub trait Element: sealed::Sealed + Copy + Send + Sync + 'static {
    /// The datatype whose elements it is.
    const DATATYPE: Datatype;
}

pub(super) mod sealed {
    /// How an element meets a tensor's bytes.
    pub trait Sealed: Sized {
        /// The bytes as elements, where alignment and byte order allow it without a copy.
        fn view(bytes: &[u8]) -> Option<&[Self]>;
        /// The bytes as elements, copied.
        fn copy(bytes: &[u8]) -> Vec<Self>;
        /// The elements as little-endian bytes; on little-endian machines the vector itself, not a copy.
        fn into_bytes(values: Vec<Self>) -> bytes::Bytes;
    }
}

/// A vector that lends its memory as bytes.
struct Lent<T>(Vec<T>);

impl<T: NoUninit> AsRef<[u8]> for Lent<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

macro_rules! number {
    ($($rust:ty => $datatype:ident),* $(,)?) => {$(
        impl Element for $rust {
            const DATATYPE: Datatype = Datatype::$datatype;
        }

        impl sealed::Sealed for $rust {
            fn view(bytes: &[u8]) -> Option<&[Self]> {
                if cfg!(target_endian = "little") { bytemuck::try_cast_slice(bytes).ok() } else { None }
            }

            fn copy(bytes: &[u8]) -> Vec<Self> {
                let (elements, _) = bytes.as_chunks::<{ size_of::<$rust>() }>();
                elements.iter().map(|element| Self::from_le_bytes(*element)).collect()
            }

            fn into_bytes(values: Vec<Self>) -> Bytes {
                if cfg!(target_endian = "little") {
                    Bytes::from_owner(Lent(values))
                } else {
                    values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
                }
            }
        }
    )*};
}

number! {
    u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64,
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    f16 => Fp16, f32 => Fp32, f64 => Fp64, bf16 => Bf16,
}

impl Element for bool {
    const DATATYPE: Datatype = Datatype::Bool;
}

impl sealed::Sealed for bool {
    fn view(bytes: &[u8]) -> Option<&[Self]> {
        bytemuck::checked::try_cast_slice(bytes).ok()
    }

    fn copy(bytes: &[u8]) -> Vec<Self> {
        bytes.iter().map(|byte| *byte != 0).collect()
    }

    fn into_bytes(values: Vec<Self>) -> Bytes {
        Bytes::from_owner(Lent(values))
    }
}
