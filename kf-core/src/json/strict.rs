//! A serializer around another that refuses what is not finite and notes where something went wrong.

use std::cell::RefCell;
use std::fmt::Display;

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::path::Path;

/// The place of the first error.
type Place = RefCell<Option<String>>;

/// The serializer at one place.
pub(super) struct Strict<'a, S> {
    pub(super) inner: S,
    pub(super) path: &'a Path<'a>,
    pub(super) place: &'a Place,
}

impl<S: Serializer> Strict<'_, S> {
    fn note<T, E>(path: &Path<'_>, place: &Place, result: Result<T, E>) -> Result<T, E> {
        if result.is_err() {
            place.borrow_mut().get_or_insert_with(|| path.to_string());
        }
        result
    }

    fn leaf(self, write: impl FnOnce(S) -> Result<S::Ok, S::Error>) -> Result<S::Ok, S::Error> {
        Self::note(self.path, self.place, write(self.inner))
    }
}

impl<'a, S> Strict<'a, S> {
    fn compound<C, E>(
        self,
        begin: impl FnOnce(S) -> Result<C, E>,
        variant: Option<&'static str>,
    ) -> Result<Compound<'a, C>, E> {
        let Self { inner, path, place } = self;
        Ok(Compound { inner: begin(inner)?, path, place, variant, index: 0, key: String::new() })
    }
}

/// A value below, with its place.
struct Below<'a, T: ?Sized> {
    value: &'a T,
    path: &'a Path<'a>,
    place: &'a Place,
}

impl<T: Serialize + ?Sized> Serialize for Below<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        let result = self.value.serialize(Strict { inner, path: self.path, place: self.place });
        // Also errors that a type's own `Serialize` makes.
        Strict::<S>::note(self.path, self.place, result)
    }
}

fn not_finite<E: Error>(value: f64) -> E {
    let name = match value {
        f64::INFINITY => "infinity",
        f64::NEG_INFINITY => "-infinity",
        _ => "NaN",
    };
    E::custom(format_args!("{name}: JSON has no NaN or infinities; leave the value out or write it as text"))
}

macro_rules! leaves {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.leaf(|inner| inner.$method(value))
        }
    )*};
}

impl<'a, S: Serializer> Serializer for Strict<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Compound<'a, S::SerializeSeq>;
    type SerializeTuple = Compound<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Compound<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Compound<'a, S::SerializeTupleVariant>;
    type SerializeMap = Compound<'a, S::SerializeMap>;
    type SerializeStruct = Compound<'a, S::SerializeStruct>;
    type SerializeStructVariant = Compound<'a, S::SerializeStructVariant>;

    leaves! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_unit_struct(&'static str);
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.leaf(
            |inner| {
                if value.is_finite() { inner.serialize_f32(value) } else { Err(not_finite(value.into())) }
            },
        )
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.leaf(|inner| if value.is_finite() { inner.serialize_f64(value) } else { Err(not_finite(value)) })
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&Below { value, path: self.path, place: self.place })
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        n: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, n, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &Below { value, path: self.path, place: self.place })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        n: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let path = Path::Field(self.path, variant);
        self.inner.serialize_newtype_variant(
            name,
            n,
            variant,
            &Below { value, path: &path, place: self.place },
        )
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.compound(|inner| inner.serialize_seq(len), None)
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.compound(|inner| inner.serialize_tuple(len), None)
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.compound(|inner| inner.serialize_tuple_struct(name, len), None)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        n: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.compound(|inner| inner.serialize_tuple_variant(name, n, variant, len), Some(variant))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.compound(|inner| inner.serialize_map(len), None)
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.compound(|inner| inner.serialize_struct(name, len), None)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        n: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.compound(|inner| inner.serialize_struct_variant(name, n, variant, len), Some(variant))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.leaf(|inner| inner.collect_str(value))
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// A list, map or struct under way.
pub(super) struct Compound<'a, C> {
    inner: C,
    path: &'a Path<'a>,
    place: &'a Place,
    /// The enum's variant that it belongs to, under whose name JSON has it.
    variant: Option<&'static str>,
    /// The place of the next element.
    index: usize,
    /// The key of the next value.
    key: String,
}

impl<C> Compound<'_, C> {
    /// Passes an element on, with its place.
    fn element<T: Serialize + ?Sized, E>(
        &mut self,
        value: &T,
        pass: impl FnOnce(&mut C, &Below<'_, T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let within = self.variant.map(|variant| Path::Field(self.path, variant));
        let path = Path::Index(within.as_ref().unwrap_or(self.path), self.index);
        self.index += 1;
        pass(&mut self.inner, &Below { value, path: &path, place: self.place })
    }

    /// Passes a field on, with its place.
    fn field<T: Serialize + ?Sized, E>(
        &mut self,
        name: &'static str,
        value: &T,
        pass: impl FnOnce(&mut C, &Below<'_, T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let within = self.variant.map(|variant| Path::Field(self.path, variant));
        let path = Path::Field(within.as_ref().unwrap_or(self.path), name);
        pass(&mut self.inner, &Below { value, path: &path, place: self.place })
    }
}

macro_rules! elements {
    ($($trait:ident::$method:ident;)*) => {$(
        impl<C: $trait> $trait for Compound<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                self.element(value, |inner, below| inner.$method(below))
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

elements! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

macro_rules! fields {
    ($($trait:ident;)*) => {$(
        impl<C: $trait> $trait for Compound<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), C::Error> {
                self.field(name, value, |inner, below| inner.serialize_field(name, below))
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), C::Error> {
                self.inner.skip_field(name)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

fields! {
    SerializeStruct;
    SerializeStructVariant;
}

impl<C: SerializeMap> SerializeMap for Compound<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.key = match serde_json::to_value(key) {
            Ok(serde_json::Value::String(text)) => text,
            Ok(other) => other.to_string(),
            Err(_) => "?".to_owned(),
        };
        let path = Path::Key(self.path, &self.key);
        let result = self.inner.serialize_key(key);
        if result.is_err() {
            self.place.borrow_mut().get_or_insert_with(|| path.to_string());
        }
        result
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let path = Path::Key(self.path, &self.key);
        self.inner.serialize_value(&Below { value, path: &path, place: self.place })
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}
