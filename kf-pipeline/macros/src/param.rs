//! `#[derive(Param)]`.

use proc_macro2::TokenStream;
use quote::quote;

pub(crate) fn expand(item: TokenStream) -> syn::Result<TokenStream> {
    let item: syn::DeriveInput = syn::parse2(item)?;
    let name = &item.ident;
    if !item.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(&item.generics, "a parameter type takes no generics"));
    }
    // An enum of unit variants is text to serde.
    let text = match &item.data {
        syn::Data::Enum(data) => data.variants.iter().all(|variant| variant.fields.is_empty()),
        _ => false,
    };
    let kind = if text { quote!(String) } else { quote!(Struct) };
    Ok(quote! {
        #[automatically_derived]
        impl ::kf_pipeline::Param for #name {
            const TYPE: ::kf_pipeline::spec::ParameterType = ::kf_pipeline::spec::ParameterType::#kind;
        }
    })
}
