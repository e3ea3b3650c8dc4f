//! The attribute and derives of kf-pipeline; see that crate.

mod component;
mod handles;
mod outputs;
mod param;

use proc_macro::TokenStream;

/// Makes a component of a function; see the guide of kf-pipeline.
#[proc_macro_attribute]
pub fn component(attributes: TokenStream, item: TokenStream) -> TokenStream {
    component::expand(attributes.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a struct's fields the output parameters of components that return it.
#[proc_macro_derive(Outputs)]
pub fn outputs(item: TokenStream) -> TokenStream {
    outputs::expand(item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Lets a struct of a pipeline's handles go out of loops, branches and groups. The struct has one lifetime, the
/// pipeline's, and is `Copy`; what a loop collects of it is a struct of lists with the same fields:
/// `Prepared<'p>` gives `PreparedLists<'p>`.
#[proc_macro_derive(Handles)]
pub fn handles(item: TokenStream) -> TokenStream {
    handles::expand(item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a type that serde can write and read a pipeline parameter:
/// `#[derive(serde::Serialize, serde::Deserialize, kf_pipeline::Param)]`.
#[proc_macro_derive(Param)]
pub fn param(item: TokenStream) -> TokenStream {
    param::expand(item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
