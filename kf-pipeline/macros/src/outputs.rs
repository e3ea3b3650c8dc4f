//! `#[derive(Outputs)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;

pub(crate) fn expand(item: TokenStream) -> syn::Result<TokenStream> {
    let item: syn::DeriveInput = syn::parse2(item)?;
    let name = &item.ident;
    let vis = &item.vis;
    if !item.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(&item.generics, "outputs take no generics"));
    }
    let fields = match &item.data {
        syn::Data::Struct(syn::DataStruct { fields: syn::Fields::Named(fields), .. }) => &fields.named,
        _ => {
            let message = "`Outputs` is for structs with named fields: each field is one output parameter";
            return Err(syn::Error::new(item.ident.span(), message));
        }
    };
    let idents: Vec<_> = fields.iter().filter_map(|field| field.ident.clone()).collect();
    let keys: Vec<_> =
        idents.iter().map(|ident| ident.to_string().trim_start_matches("r#").to_owned()).collect();
    let types: Vec<_> = fields.iter().map(|field| &field.ty).collect();
    let visibilities: Vec<_> = fields.iter().map(|field| &field.vis).collect();
    // With the field's span, so that the one message about a type that is no parameter points at the field.
    let described = fields.iter().zip(&idents).zip(&keys).map(|((field, ident), key)| {
        let ty = &field.ty;
        quote_spanned! {ty.span()=> ::kf_pipeline::__private::Field::new::<#ty>(#key, |outputs: &Self| &outputs.#ident) }
    });
    let handles = format_ident!("{name}Handles");
    let lists = format_ident!("{name}Lists");
    let doc_handles = format!("Handles of the outputs of a task that gives [`{name}`].");
    let doc_lists = format!("What a loop collects of tasks that give [`{name}`].");
    Ok(quote! {
        #[doc = #doc_handles]
        #[derive(Clone, Copy)]
        #[allow(dead_code)]
        #vis struct #handles<'p> {
            #(#[doc = "The output of this name."] #visibilities #idents: ::kf_pipeline::Value<'p, #types>,)*
            #[doc(hidden)]
            pub __pipeline: ::core::marker::PhantomData<&'p ()>,
        }

        #[doc = #doc_lists]
        #[derive(Clone, Copy)]
        #[allow(dead_code)]
        #vis struct #lists<'p> {
            #(#[doc = "The outputs of this name."]
              #visibilities #idents: ::kf_pipeline::Value<'p, ::std::vec::Vec<#types>>,)*
            #[doc(hidden)]
            pub __pipeline: ::core::marker::PhantomData<&'p ()>,
        }

        #[automatically_derived]
        impl<'p> ::kf_pipeline::Collect<'p> for #handles<'p> {
            type Lists = #lists<'p>;

            fn collect_in(self, from: ::kf_pipeline::LoopRef<'p>) -> Self::Lists {
                #lists {
                    #(#idents: ::kf_pipeline::Collect::collect_in(self.#idents, ::core::clone::Clone::clone(&from)),)*
                    __pipeline: ::core::marker::PhantomData,
                }
            }
        }

        #[automatically_derived]
        impl<'p> ::kf_pipeline::Handles<'p> for #handles<'p> {
            fn relocate(self, to: &mut ::kf_pipeline::Relocation<'_>) -> Self {
                Self {
                    #(#idents: ::kf_pipeline::Handles::relocate(self.#idents, to),)*
                    __pipeline: ::core::marker::PhantomData,
                }
            }
        }

        #[automatically_derived]
        impl<'p> ::kf_pipeline::Handles<'p> for #lists<'p> {
            fn relocate(self, to: &mut ::kf_pipeline::Relocation<'_>) -> Self {
                Self {
                    #(#idents: ::kf_pipeline::Handles::relocate(self.#idents, to),)*
                    __pipeline: ::core::marker::PhantomData,
                }
            }
        }

        #[automatically_derived]
        impl ::kf_pipeline::Outputs for #name {
            type Handles<'p> = #handles<'p>;

            fn definitions() -> ::std::vec::Vec<::kf_pipeline::OutputParameter> {
                ::kf_pipeline::__private::Field::definitions(Self::__fields())
            }

            fn handles(task: ::kf_pipeline::TaskRef<'_>) -> Self::Handles<'_> {
                #handles {
                    #(#idents: task.parameter(#keys),)*
                    __pipeline: ::core::marker::PhantomData,
                }
            }

            fn into_values(self) -> ::core::result::Result<::kf_pipeline::Metadata, ::kf_pipeline::TaskError> {
                ::kf_pipeline::__private::Field::values(Self::__fields(), &self)
            }
        }

        #[automatically_derived]
        impl #name {
            #[doc(hidden)]
            fn __fields() -> ::std::vec::Vec<::kf_pipeline::__private::Field<Self>> {
                ::std::vec![#(#described),*]
            }
        }
    })
}
