//! What a component's body gives: output parameters.

use kf_core::artifact::Metadata;
use serde_json::Value as Json;

use super::{Component, Param, TaskError, TaskIo, TaskOutputs};
use crate::builder::{Collect, Handles, LoopRef, Relocation, TaskRef, Value};
use crate::spec::ParameterType;

/// An output parameter's name and type.
pub type OutputParameter = (&'static str, ParameterType);

/// What a component's body gives: a struct with `#[derive(Outputs)]`, one parameter per field; a single parameter,
/// called `Output` as KFP does; or `()`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be what a component returns",
    label = "not an output type",
    note = "return `()`, a parameter such as `f64` or `String`, or a struct with `#[derive(kf_pipeline::Outputs)]`, in a `Result` or plain"
)]
pub trait Outputs: Send + 'static {
    /// Handles of the outputs, for tasks that come after.
    type Handles<'p>: Copy + Collect<'p> + Handles<'p>;

    /// The output parameters.
    fn definitions() -> Vec<OutputParameter>;

    /// The outputs' handles.
    fn handles(task: TaskRef<'_>) -> Self::Handles<'_>;

    /// The outputs' values.
    ///
    /// # Errors
    /// Names the output that JSON can't hold.
    fn into_values(self) -> Result<Metadata, TaskError>;
}

/// One output parameter as JSON.
fn output_value<T: Param>(name: &str, value: &T) -> Result<Json, TaskError> {
    value.to_json().map_err(|error| TaskError::new(format!("output `{name}`: {error}")))
}

/// The output parameters of a component.
#[doc(hidden)]
pub fn definitions<C: Component>() -> Vec<OutputParameter> {
    C::Returns::definitions()
}

/// What a component's body returned, as output parameters.
///
/// # Errors
/// Names the output that JSON can't hold.
#[doc(hidden)]
pub fn finish<C: Component>(returned: C::Returns) -> Result<TaskOutputs, TaskError> {
    TaskIo::finish(returned)
}

/// A field of a struct with `#[derive(Outputs)]`.
#[doc(hidden)]
pub struct Field<O> {
    name: &'static str,
    kind: ParameterType,
    value: Box<ValueOf<O>>,
}

type ValueOf<O> = dyn Fn(&O) -> Result<Json, TaskError>;

impl<O> Field<O> {
    /// The field that `of` gives.
    pub fn new<T: Param>(name: &'static str, of: impl Fn(&O) -> &T + 'static) -> Self {
        Self { name, kind: T::TYPE, value: Box::new(move |outputs| output_value(name, of(outputs))) }
    }

    /// The output parameters that fields make.
    pub fn definitions(fields: Vec<Self>) -> Vec<OutputParameter> {
        fields.into_iter().map(|field| (field.name, field.kind)).collect()
    }

    /// The values of all fields.
    ///
    /// # Errors
    /// Names the output that JSON can't hold.
    pub fn values(fields: Vec<Self>, outputs: &O) -> Result<Metadata, TaskError> {
        fields.into_iter().map(|field| Ok((field.name.to_owned(), (field.value)(outputs)?))).collect()
    }
}

impl Outputs for () {
    type Handles<'p> = ();

    fn definitions() -> Vec<OutputParameter> {
        Vec::new()
    }

    fn handles(_: TaskRef<'_>) {}

    fn into_values(self) -> Result<Metadata, TaskError> {
        Ok(Metadata::new())
    }
}

/// The handle of a component's single output parameter.
#[derive(Debug)]
pub struct Single<'p, T> {
    /// The output, which KFP calls `Output`.
    pub output: Value<'p, T>,
}

impl<T> Clone for Single<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Single<'_, T> {}

/// What a loop over a component with a single output parameter collects.
#[derive(Debug)]
pub struct SingleLists<'p, T> {
    /// The outputs of all iterations.
    pub output: Value<'p, Vec<T>>,
}

impl<T> Clone for SingleLists<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SingleLists<'_, T> {}

impl<'p, T: Param> Collect<'p> for Single<'p, T> {
    type Lists = SingleLists<'p, T>;

    fn collect_in(self, from: LoopRef<'p>) -> Self::Lists {
        SingleLists { output: self.output.collect_in(from) }
    }
}

impl<'p, T: Param> Handles<'p> for Single<'p, T> {
    fn relocate(self, to: &mut Relocation<'_>) -> Self {
        Self { output: self.output.relocate(to) }
    }
}

impl<'p, T: Param> Handles<'p> for SingleLists<'p, T> {
    fn relocate(self, to: &mut Relocation<'_>) -> Self {
        Self { output: self.output.relocate(to) }
    }
}

macro_rules! single {
    ($([$($generics:tt)*] $type:ty;)*) => {$(
        impl<$($generics)*> Outputs for $type {
            type Handles<'p> = Single<'p, $type>;

            fn definitions() -> Vec<OutputParameter> {
                vec![("Output", <$type as Param>::TYPE)]
            }

            fn handles(task: TaskRef<'_>) -> Self::Handles<'_> {
                Single { output: task.parameter("Output") }
            }

            fn into_values(self) -> Result<Metadata, TaskError> {
                Ok(Metadata::from_iter([("Output".to_owned(), output_value("Output", &self)?)]))
            }
        }
    )*};
}

single! {
    [] f32; [] f64; [] bool; [] String; [] serde_json::Value;
    [] i8; [] i16; [] i32; [] i64; [] u8; [] u16; [] u32; [] u64; [] usize;
    [T: Param] Vec<T>; [T: Param] std::collections::BTreeMap<String, T>;
}
