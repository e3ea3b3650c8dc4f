//! `#[derive(Handles)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

pub(crate) fn expand(item: TokenStream) -> syn::Result<TokenStream> {
    let item: syn::DeriveInput = syn::parse2(item)?;
    let (name, vis) = (&item.ident, &item.vis);
    let mut lifetimes = item.generics.lifetimes();
    let (Some(lifetime), None, 1) = (lifetimes.next(), lifetimes.next(), item.generics.params.len()) else {
        let message =
            "`Handles` is for structs with one lifetime, the pipeline's, such as `struct Prepared<'p>`";
        return Err(syn::Error::new(name.span(), message));
    };
    let lifetime = &lifetime.lifetime;
    let fields = match &item.data {
        syn::Data::Struct(syn::DataStruct { fields: syn::Fields::Named(fields), .. }) => &fields.named,
        _ => {
            let message =
                "`Handles` is for structs with named fields: each field is a handle, or has several";
            return Err(syn::Error::new(name.span(), message));
        }
    };
    let idents: Vec<_> = fields.iter().filter_map(|field| field.ident.clone()).collect();
    let types: Vec<_> = fields.iter().map(|field| &field.ty).collect();
    let visibilities: Vec<_> = fields.iter().map(|field| &field.vis).collect();
    let lists = format_ident!("{name}Lists");
    let doc_lists = format!("What a loop collects of [`{name}`].");
    let lists_of: Vec<_> =
        types.iter().map(|ty| quote!(<#ty as ::kf_pipeline::Collect<#lifetime>>::Lists)).collect();
    Ok(quote! {
        #[automatically_derived]
        impl<#lifetime> ::kf_pipeline::Handles<#lifetime> for #name<#lifetime> {
            fn relocate(self, to: &mut ::kf_pipeline::Relocation<'_>) -> Self {
                Self { #(#idents: ::kf_pipeline::Handles::relocate(self.#idents, to),)* }
            }
        }

        #[doc = #doc_lists]
        #[derive(Clone, Copy)]
        #[allow(dead_code)]
        #vis struct #lists<#lifetime> {
            #(#[doc = "The lists of this name."] #visibilities #idents: #lists_of,)*
        }

        #[automatically_derived]
        impl<#lifetime> ::kf_pipeline::Handles<#lifetime> for #lists<#lifetime> {
            fn relocate(self, to: &mut ::kf_pipeline::Relocation<'_>) -> Self {
                Self { #(#idents: ::kf_pipeline::Handles::relocate(self.#idents, to),)* }
            }
        }

        #[automatically_derived]
        impl<#lifetime> ::kf_pipeline::Collect<#lifetime> for #name<#lifetime> {
            type Lists = #lists<#lifetime>;

            fn collect_in(self, from: ::kf_pipeline::LoopRef<#lifetime>) -> Self::Lists {
                #lists {
                    #(#idents: ::kf_pipeline::Collect::collect_in(
                        self.#idents, ::core::clone::Clone::clone(&from)),)*
                }
            }
        }
    })
}
