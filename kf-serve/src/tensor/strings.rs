use crate::{Error, Result};

const PREFIX: usize = size_of::<u32>();

/// The elements of a BYTES tensor, in order.
#[derive(Debug, Clone)]
pub struct Strings<'a> {
    rest: &'a [u8],
}

impl<'a> Strings<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (element, rest) = split_first(self.rest)?;
        self.rest = rest;
        Some(element)
    }
}

/// Parts the first element from those after it; `None` at the end and where the bytes break off.
fn split_first(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = data.split_first_chunk::<PREFIX>()?;
    rest.split_at_checked(u32::from_le_bytes(*prefix) as usize)
}

/// Whether `data` is exactly `elements` strings, each behind its length.
pub(super) fn check(mut data: &[u8], elements: usize) -> Result<(), String> {
    let mut found = 0;
    while !data.is_empty() {
        let Some((_, rest)) = split_first(data) else {
            return Err(format!("its BYTES break off within element {found}"));
        };
        found += 1;
        data = rest;
    }
    if found == elements {
        Ok(())
    } else {
        Err(format!("its shape takes {elements} BYTES elements, found {found}"))
    }
}

/// Appends one element.
pub(crate) fn push(data: &mut Vec<u8>, value: &[u8]) -> Result<()> {
    let length = u32::try_from(value.len()).map_err(|_| {
        Error::InvalidInput(format!("a BYTES element may hold 4 GiB, found {} bytes", value.len()))
    })?;
    data.extend_from_slice(&length.to_le_bytes());
    data.extend_from_slice(value);
    Ok(())
}
