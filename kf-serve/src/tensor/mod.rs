//! Named tensors: what goes into a model and what comes out of it.

mod datatype;
mod element;
mod strings;

use std::borrow::Cow;

use bytes::Bytes;

pub(crate) use self::strings::push as push_string;
pub use self::{datatype::Datatype, element::Element, strings::Strings};
use crate::{Error, Result};

/// A named tensor: datatype, shape, and the elements in row-major order as little-endian bytes.
///
/// Its bytes always fit its datatype and shape, as every constructor checks them. Cloning shares the bytes.
///
/// ```
/// use kf_serve::{Datatype, Tensor};
///
/// let x = Tensor::from_vec("x", [2, 2], vec![1.0_f32, 2.0, 3.0, 4.0])?;
/// assert_eq!(x.datatype(), Datatype::Fp32);
/// assert_eq!(x.values::<f32>()?[3], 4.0);
/// assert!(x.values::<f64>().is_err());
/// # Ok::<(), kf_serve::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    name: String,
    datatype: Datatype,
    shape: Vec<usize>,
    data: Bytes,
}

impl Tensor {
    /// A tensor over `data`, in the protocol's binary form: little-endian elements in row-major order, BOOL as bytes
    /// 0 and 1, BYTES each behind its length as a `u32`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the bytes don't fit the datatype and shape.
    pub fn new(
        name: impl Into<String>,
        datatype: Datatype,
        shape: impl Into<Vec<usize>>,
        data: impl Into<Bytes>,
    ) -> Result<Self> {
        let tensor = Self { name: name.into(), datatype, shape: shape.into(), data: data.into() };
        let elements = element_count(&tensor.shape)
            .ok_or_else(|| tensor.wrong(format_args!("shape {:?} has too many elements", tensor.shape)))?;
        match datatype.size() {
            Some(size) => {
                if elements.checked_mul(size) != Some(tensor.data.len()) {
                    return Err(tensor.wrong(format_args!(
                        "shape {:?} of {datatype} takes {elements} × {size} bytes, found {}",
                        tensor.shape,
                        tensor.data.len()
                    )));
                }
                if datatype == Datatype::Bool
                    && let Some(at) = tensor.data.iter().position(|byte| *byte > 1)
                {
                    return Err(tensor.wrong(format_args!(
                        "a BOOL is the byte 0 or 1, found {} at element {at}",
                        tensor.data[at]
                    )));
                }
            }
            None => {
                strings::check(&tensor.data, elements).map_err(|what| tensor.wrong(format_args!("{what}")))?
            }
        }
        Ok(tensor)
    }

    /// A tensor of `values`, which on little-endian machines are not copied.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `shape` doesn't hold as many elements as there are values.
    pub fn from_vec<T: Element>(
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        values: Vec<T>,
    ) -> Result<Self> {
        Self::new(name, T::DATATYPE, shape, T::into_bytes(values))
    }

    /// A BYTES tensor of `values`, one element each.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `shape` doesn't hold as many elements as there are values, or a value is of
    /// 4 GiB or more.
    pub fn from_strings<S: AsRef<[u8]>>(
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        values: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let mut data = Vec::new();
        for value in values {
            strings::push(&mut data, value.as_ref())?;
        }
        Self::new(name, Datatype::Bytes, shape, data)
    }

    /// The tensor's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The elements' type.
    pub fn datatype(&self) -> Datatype {
        self.datatype
    }

    /// The dimensions, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements in the protocol's binary form (see [`Tensor::new`]).
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// How many elements the tensor has: the product of its dimensions.
    pub fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The elements as `T`: borrowed where the bytes are aligned for it, copied otherwise.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the tensor is of another datatype than `T`'s.
    pub fn values<T: Element>(&self) -> Result<Cow<'_, [T]>> {
        if T::DATATYPE != self.datatype {
            return Err(self.wrong(format_args!("it is of {}, not of {}", self.datatype, T::DATATYPE)));
        }
        Ok(T::view(&self.data).map_or_else(|| Cow::Owned(T::copy(&self.data)), Cow::Borrowed))
    }

    /// The elements of a BYTES tensor.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the tensor is of another datatype.
    pub fn strings(&self) -> Result<Strings<'_>> {
        if self.datatype != Datatype::Bytes {
            return Err(self.wrong(format_args!("it is of {}, not of BYTES", self.datatype)));
        }
        Ok(Strings::new(&self.data))
    }

    /// The same tensor under another name.
    #[must_use]
    pub fn renamed(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    fn wrong(&self, what: std::fmt::Arguments<'_>) -> Error {
        Error::InvalidInput(format!("tensor `{}`: {what}", self.name))
    }
}

/// The product of the dimensions, `None` where it overflows.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    // A zero makes the product zero, however large the other dimensions are.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1_usize, |product, dimension| product.checked_mul(*dimension))
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn numbers_come_back_borrowed_or_copied() {
        let tensor = Tensor::from_vec("x", [3], vec![1_i64, -2, i64::MAX]).unwrap();
        assert!(matches!(tensor.values::<i64>().unwrap(), Cow::Borrowed([1, -2, i64::MAX])));
        for offset in 0..2 {
            let padded = Bytes::from([&vec![0; offset][..], tensor.data()].concat()).slice(offset..);
            let read = Tensor::new("x", Datatype::Int64, [3], padded).unwrap();
            assert_eq!(*read.values::<i64>().unwrap(), [1, -2, i64::MAX]);
        }
        let halves = Tensor::from_vec("h", [1], vec![f16::from_f32(1.5)]).unwrap();
        assert_eq!(halves.data().as_ref(), &[0x00, 0x3e]);
        assert_eq!(
            *Tensor::from_vec("b", [2], vec![true, false]).unwrap().values::<bool>().unwrap(),
            [true, false]
        );
    }

    #[test]
    fn bytes_that_do_not_fit_are_refused() {
        for (datatype, shape, data) in [
            (Datatype::Fp32, vec![2], vec![0; 7]),
            (Datatype::Fp32, vec![usize::MAX, 2], vec![0; 8]),
            (Datatype::Fp32, vec![usize::MAX / 2], vec![0; 8]),
            (Datatype::Bool, vec![2], vec![1, 2]),
            (Datatype::Bytes, vec![1], vec![]),
            (Datatype::Bytes, vec![1], vec![1, 0, 0]),
            (Datatype::Bytes, vec![1], vec![2, 0, 0, 0, 65]),
            (Datatype::Bytes, vec![1], vec![1, 0, 0, 0, 65, 66]),
            (Datatype::Bytes, vec![usize::MAX], vec![1, 0, 0, 0, 65]),
        ] {
            let error = Tensor::new("x", datatype, shape.clone(), data).unwrap_err();
            assert!(error.to_string().starts_with("tensor `x`"), "{shape:?}: {error}");
        }
        assert!(Tensor::new("x", Datatype::Fp64, [0, usize::MAX, usize::MAX], vec![]).is_ok());
        assert!(Tensor::new("x", Datatype::Fp64, [], vec![0; 8]).is_ok());
    }

    #[test]
    fn strings_come_back() {
        let tensor = Tensor::from_strings("s", [3], ["", "ä", "z"]).unwrap();
        let values: Vec<&[u8]> = tensor.strings().unwrap().collect();
        assert_eq!(values, ["".as_bytes(), "ä".as_bytes(), b"z"]);
        assert!(tensor.values::<u8>().is_err());
        assert!(Tensor::from_strings("s", [2], ["a"]).is_err());
    }
}
