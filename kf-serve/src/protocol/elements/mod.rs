//! A tensor's data between JSON and bytes.
//!
//! JSON knows no NaN and no infinities. They are written and read as the strings `"NaN"`, `"Infinity"` and
//! `"-Infinity"`, as protobuf's JSON mapping has it.

mod read;
mod write;

pub(super) use self::{
    read::read,
    write::{write, write_json},
};

#[cfg(test)]
mod tests {
    use super::{read, write};
    use crate::{Datatype, Tensor};

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
