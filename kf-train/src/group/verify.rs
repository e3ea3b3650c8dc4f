//! Whether what ranks do together fits, told before the tensors are on their way: backends don't look.

use std::fmt;

use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::ProcessGroup;
use super::calls::Call;
use crate::{Error, Result};

/// A description's bytes; what is longer is cut.
const LENGTH: usize = 256;

impl ProcessGroup {
    /// Compares what all ranks are about to do, where the group is to; all ranks come to the same verdict.
    pub(super) fn verify(&self, call: &Call, how: fmt::Arguments<'_>, tensor: &Tensor) -> Result<()> {
        self.compare(call, format_args!("{how} of {}", described(tensor)))
    }

    /// Like [`verify`](Self::verify), of many tensors.
    pub(super) fn verify_all(&self, call: &Call, how: fmt::Arguments<'_>, tensors: &[Tensor]) -> Result<()> {
        if !self.verifies() {
            return Ok(());
        }
        let all: Vec<_> = tensors.iter().map(described).collect();
        // The list may be cut, its digest is not.
        let digest = Sha256::digest(all.join(", "));
        let digest: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        self.compare(
            call,
            format_args!("{how} of {} tensors (digest {digest}): {}", all.len(), all.join(", ")),
        )
    }

    fn verifies(&self) -> bool {
        self.options().verify && self.world_size() > 1
    }

    fn compare(&self, call: &Call, what: fmt::Arguments<'_>) -> Result<()> {
        if !self.verifies() {
            return Ok(());
        }
        let operation = call.operation();
        let own = packed(&format!("{operation}{what}"), self.device());
        let shape = [self.world_size() as i64, LENGTH as i64];
        let mut all = Tensor::empty(shape, (Kind::Uint8, self.device()));
        let begun = self.raw().all_gather(&mut all, &mut own.unsqueeze(0));
        call.done(begun.and_then(|mut work| work.wait()))?;
        let all = all.to_device(Device::Cpu);
        let first = unpacked(&all.get(0));
        for rank in 1..self.world_size() {
            let theirs = unpacked(&all.get(rank as i64));
            if theirs != first {
                return Err(
                    self.differs(operation, format!("rank 0 is at {first}, and rank {rank} at {theirs}"))
                );
            }
        }
        Ok(())
    }

    pub(super) fn differs(&self, operation: &'static str, message: String) -> Error {
        Error::collective(operation, self.rank(), message)
    }
}

/// A text as a tensor of fixed length.
pub(super) fn packed(text: &str, device: Device) -> Tensor {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(LENGTH, 0);
    Tensor::from_slice(&bytes).to_device(device)
}

pub(super) fn described(tensor: &Tensor) -> String {
    format!("{:?} {:?}", tensor.kind(), tensor.size()).chars().take(LENGTH / 2).collect()
}

/// A row of bytes as text; none where they are not what they should be.
pub(super) fn unpacked(row: &Tensor) -> String {
    let bytes: Vec<u8> = row.try_into().unwrap_or_default();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}
