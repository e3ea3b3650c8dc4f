use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use proptest::prelude::*;
use serde::Serialize;
use serde_json::json;

use super::*;

#[derive(Clone, Debug, Serialize)]
struct Unit;

#[derive(Clone, Debug, Serialize)]
struct Newtype(Option<f32>);

#[derive(Clone, Debug, Serialize)]
struct Pair(u8, String);

#[derive(Clone, Debug, Serialize)]
enum Plain {
    Unit,
    Newtype(f64),
    Tuple(i32, f64),
    Struct { x: f64, y: Option<Box<Plain>> },
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Tagged {
    UnitKind,
    StructKind { some_field: f64 },
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Untagged {
    Number(f64),
    List(Vec<f32>),
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Everything {
    flag: bool,
    small: i8,
    wide: i128,
    wide_unsigned: u128,
    float: f32,
    letter: char,
    text: String,
    nothing: (),
    unit: Unit,
    newtype: Newtype,
    pair: Pair,
    tuple: (u16, Option<i64>),
    list: Vec<Plain>,
    by_number: BTreeMap<i64, f64>,
    by_flag: BTreeMap<bool, u8>,
    by_letter: BTreeMap<char, u8>,
    tagged: Vec<Tagged>,
    untagged: Vec<Untagged>,
    duration: Duration,
    result: Result<u8, String>,
    address: std::net::IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<u8>,
    #[serde(flatten)]
    flat: BTreeMap<String, serde_json::Value>,
}

fn everything(float: f32, double: f64, text: String, wide: i128, number: i64) -> Everything {
    let nested = Plain::Struct { x: double, y: Some(Box::new(Plain::Tuple(-1, double))) };
    Everything {
        flag: true,
        small: i8::MIN,
        wide,
        wide_unsigned: u128::from(u64::MAX),
        float,
        letter: text.chars().next().unwrap_or('x'),
        text: text.clone(),
        nothing: (),
        unit: Unit,
        newtype: Newtype(Some(float)),
        pair: Pair(1, text.clone()),
        tuple: (7, None),
        list: vec![Plain::Unit, Plain::Newtype(double), nested],
        by_number: [(number, double), (i64::MIN, 0.0)].into(),
        by_flag: [(true, 1), (false, 0)].into(),
        by_letter: [('é', 1)].into(),
        tagged: vec![Tagged::UnitKind, Tagged::StructKind { some_field: double }],
        untagged: vec![Untagged::Number(double), Untagged::List(vec![float])],
        duration: Duration::from_millis(1500),
        result: Err(text.clone()),
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        left_out: None,
        flat: [(format!("flat-{text}"), json!({ "n": [number, null] }))].into(),
    }
}

fn same<T: Serialize + Debug + ?Sized>(value: &T) {
    let theirs = serde_json::to_value(value);
    match (to_json(value), theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs),
        (Err(ours), Err(theirs)) => assert_eq!(ours.reason, theirs.to_string()),
        (ours, theirs) => panic!("{value:?}: {ours:?} and {theirs:?}"),
    }
}

proptest! {
    #[test]
    fn what_is_finite_is_as_serde_json_has_it(
        float in proptest::num::f32::NORMAL | proptest::num::f32::ZERO | proptest::num::f32::SUBNORMAL,
        double in proptest::num::f64::NORMAL | proptest::num::f64::ZERO | proptest::num::f64::SUBNORMAL,
        text in any::<String>(), wide in any::<i128>(), number in any::<i64>(),
    ) {
        same(&everything(float, double, text, wide, number));
    }
}

#[test]
fn single_values_too() {
    same(&1_i128);
    same(&u128::MAX);
    same(&None::<f64>);
    same("text");
    same(&[0_u8; 3]);
    same(&json!({ "a": [1, 2.5, null, "x", { "b": true }] }));
    same(&BTreeMap::from([([1, 2], 3)]));
    same(&BTreeMap::from([(Some(1), 3)]));
    same(&serde_json::value::RawValue::from_string(r#"{"a": [1]}"#.to_owned()).unwrap());
    struct Bytes;
    impl Serialize for Bytes {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            assert!(serializer.is_human_readable());
            serializer.serialize_bytes(&[1, 2])
        }
    }
    assert_eq!(to_json(&Bytes).unwrap(), json!([1, 2]));
}

#[test]
fn what_is_not_finite_is_refused_with_its_place() {
    let path = |value: &dyn erased::Json| value.refused().path;
    assert_eq!(path(&f64::NAN), "");
    assert_eq!(path(&Some(f32::INFINITY)), "");
    assert_eq!(path(&[0.0, f64::NAN]), "[1]");
    assert_eq!(path(&(1, f32::NEG_INFINITY)), "[1]");
    assert_eq!(path(&Newtype(Some(f32::NAN))), "");
    assert_eq!(path(&Plain::Newtype(f64::NAN)), "Newtype");
    assert_eq!(path(&Plain::Tuple(1, f64::NAN)), "Tuple[1]");
    let nested = Plain::Struct { x: 0.0, y: Some(Box::new(Plain::Struct { x: f64::NAN, y: None })) };
    assert_eq!(path(&nested), "Struct.y.Struct.x");
    assert_eq!(path(&BTreeMap::from([(7, vec![f64::NAN])])), "7[0]");
    assert_eq!(path(&Tagged::StructKind { some_field: f64::NAN }), "some_field");
    assert_eq!(path(&Untagged::List(vec![0.0, 0.0, f32::NAN])), "[2]");
    let error = to_json(&BTreeMap::from([("accuracy", [0.0, f64::NEG_INFINITY])])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "accuracy[1]: -infinity: JSON has no NaN or infinities; leave the value out or write it as text"
    );
    let mut all = everything(0.0, 0.0, String::new(), 0, 0);
    all.by_number.insert(3, f64::NAN);
    assert_eq!(path(&all), "byNumber.3");
}

#[test]
fn other_errors_have_their_place_too() {
    let key = to_json(&[BTreeMap::from([([1, 2], 3)])]).unwrap_err();
    assert_eq!((key.path.as_str(), key.reason.as_str()), ("[0].[1,2]", "key must be a string"));
    assert_eq!(to_json(&[0, i128::MAX]).unwrap_err().path, "[1]");
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    let error = to_json(&BTreeMap::from([("a", (1, Refuses))])).unwrap_err();
    assert_eq!((error.path.as_str(), error.reason.as_str()), ("a[1]", "no"));
}

mod erased {
    use super::*;

    /// A value of any type, so that a test can list them.
    pub(super) trait Json {
        fn refused(&self) -> JsonError;
    }

    impl<T: Serialize> Json for T {
        fn refused(&self) -> JsonError {
            let error = to_json(self).unwrap_err();
            assert!(error.reason.contains("JSON has no NaN or infinities"), "{error}");
            error
        }
    }
}
