//! How many nodes and ranks there are.

/// The fewest and the most nodes of `N` or `MIN:MAX` (`--nnodes`).
///
/// # Errors
/// What is expected.
pub fn nodes(text: &str) -> Result<(usize, usize), String> {
    let (min, max) = text.split_once(':').unwrap_or((text, text));
    match (min.trim().parse(), max.trim().parse()) {
        (Ok(min), Ok(max)) if min > 0 && min <= max => Ok((min, max)),
        _ => Err("expected N or MIN:MAX, with 1 ≤ MIN ≤ MAX".into()),
    }
}

/// How many ranks a node has (`--nproc-per-node`): a number; `cpu`, one a core; `gpu`, one an NVIDIA GPU; `auto`, one a GPU,
/// and without GPUs one a core.
///
/// # Errors
/// What is expected, or that there is no GPU.
pub fn ranks(text: &str) -> Result<usize, String> {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match text.trim() {
        "cpu" => Ok(cores()),
        "auto" => Ok(Some(gpus()).filter(|gpus| *gpus > 0).unwrap_or_else(cores)),
        "gpu" => match gpus() {
            0 => Err("this machine has no NVIDIA GPU; use a number, or `cpu`".into()),
            gpus => Ok(gpus),
        },
        number => number
            .parse()
            .ok()
            .filter(|ranks| *ranks > 0)
            .ok_or_else(|| "expected a number above 0, gpu, cpu or auto".into()),
    }
}

/// The NVIDIA GPUs of this machine.
fn gpus() -> usize {
    let devices = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let number = |name: std::ffi::OsString| {
        name.to_str()?.strip_prefix("nvidia").filter(|rest| rest.parse::<u32>().is_ok()).map(drop)
    };
    devices.filter(|device| number(device.file_name()).is_some()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_torchrun_writes_them() {
        for (text, expected) in [("3", (3, 3)), ("1:4", (1, 4)), (" 2 : 2 ", (2, 2))] {
            assert_eq!(nodes(text), Ok(expected));
        }
        for wrong in ["", "0", "3:2", "0:1", "a", "1:2:3", "-1", "1:"] {
            assert!(nodes(wrong).unwrap_err().contains("expected N or MIN:MAX"), "{wrong}");
        }
        assert_eq!(ranks("4"), Ok(4));
        assert!(ranks("cpu").unwrap() > 0);
        for wrong in ["", "0", "-1", "two"] {
            assert!(ranks(wrong).unwrap_err().contains("expected a number above 0"), "{wrong}");
        }
    }
}
