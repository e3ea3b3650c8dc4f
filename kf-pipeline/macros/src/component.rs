//! `#[component]`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{
    Error, Expr, ExprLit, FnArg, GenericArgument, Ident, ItemFn, Lit, Meta, Pat, PathArguments, ReturnType,
};
use syn::{Token, Type};

pub(crate) fn expand(attributes: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let options: Options = syn::parse2(attributes)?;
    let function: ItemFn = syn::parse2(item.clone()).map_err(|_| {
        let at = item.into_iter().next().map_or_else(Span::call_site, |token| token.span());
        Error::new(at, "`#[component]` is for a function: `fn` or `async fn`")
    })?;
    let signature = &function.sig;
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &signature.generics,
            "a component takes no generics: its inputs have types",
        ));
    }
    if let Some(token) = &signature.unsafety {
        return Err(Error::new_spanned(token, "a component is not `unsafe`"));
    }
    let arguments = signature.inputs.iter().map(Argument::parse).collect::<syn::Result<Vec<_>>>()?;
    let (returns, fallible) = returned(&signature.output);
    Ok(generate(&function, &options, &arguments, &returns, fallible))
}

/// What the attribute says.
#[derive(Default)]
struct Options {
    setters: Vec<TokenStream>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut options = Self::default();
        for meta in Punctuated::<Meta, Token![,]>::parse_terminated(input)? {
            let name = meta.path().require_ident()?.to_string();
            let setter = match (name.as_str(), &meta) {
                ("retries", Meta::NameValue(pair)) => {
                    let value = &pair.value;
                    quote!(retries = #value;)
                }
                ("cpu", Meta::NameValue(pair)) => {
                    let value = number(&pair.value)?;
                    quote!(resources = ::core::mem::take(&mut defaults.resources).cpu(#value);)
                }
                ("memory", Meta::NameValue(pair)) => {
                    let value = bytes(&pair.value)?;
                    quote!(resources.memory = #value;)
                }
                ("gpu", Meta::NameValue(pair)) => {
                    let value = number(&pair.value)?;
                    quote!(resources = ::core::mem::take(&mut defaults.resources).accelerator("nvidia.com/gpu", #value);)
                }
                ("timeout", Meta::NameValue(pair)) => {
                    let millis = millis(&pair.value)?;
                    quote!(timeout = ::core::option::Option::Some(::core::time::Duration::from_millis(#millis));)
                }
                ("cache_ttl", Meta::NameValue(pair)) => {
                    let millis = millis(&pair.value)?;
                    quote!(cache_ttl = ::core::option::Option::Some(::core::time::Duration::from_millis(#millis));)
                }
                ("version", Meta::NameValue(pair)) => {
                    let value = &pair.value;
                    quote!(version = ::core::option::Option::Some(#value);)
                }
                ("executor", Meta::NameValue(pair)) => {
                    let value = &pair.value;
                    quote!(executor = ::core::option::Option::Some(#value);)
                }
                ("cache", Meta::NameValue(pair)) => {
                    let value = &pair.value;
                    quote!(no_cache = !#value;)
                }
                _ => {
                    let message = "expected one of: retries = 2, timeout = \"30s\", cpu = 0.5, memory = \"2Gi\", gpu = 1, \
                                   version = \"1\", cache = false, cache_ttl = \"7d\", executor = \"subprocess\"";
                    return Err(Error::new_spanned(&meta, message));
                }
            };
            options.setters.push(quote!(defaults.#setter));
        }
        Ok(options)
    }
}

fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        _ => None,
    }
}

fn number(value: &Expr) -> syn::Result<f64> {
    let number = match literal(value) {
        Some(Lit::Int(number)) => number.base10_parse().ok(),
        Some(Lit::Float(number)) => number.base10_parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| Error::new_spanned(value, "expected a number such as 2 or 0.5"))
}

fn text(value: &Expr) -> Option<String> {
    match literal(value) {
        Some(Lit::Str(text)) => Some(text.value()),
        _ => None,
    }
}

fn millis(value: &Expr) -> syn::Result<u64> {
    let parsed = text(value).and_then(|text| {
        let split = text.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, unit) = text.split_at(split);
        let unit = match unit {
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            "h" => 3600e3,
            "d" => 24.0 * 3600e3,
            _ => return None,
        };
        let number: f64 = number.trim().parse().ok()?;
        (number >= 0.0).then_some((number * unit) as u64)
    });
    parsed.ok_or_else(|| {
        Error::new_spanned(value, "expected a duration such as \"500ms\", \"30s\", \"5m\", \"2h\" or \"7d\"")
    })
}

fn bytes(value: &Expr) -> syn::Result<u64> {
    let parsed = text(value).and_then(|text| {
        let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let unit: f64 = match unit {
            "" => 1.0,
            "k" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            "Ki" => 1024.0,
            "Mi" => 1024.0 * 1024.0,
            "Gi" => 1024.0 * 1024.0 * 1024.0,
            _ => return None,
        };
        let number: f64 = number.trim().parse().ok()?;
        (number >= 0.0).then_some((number * unit) as u64)
    });
    parsed
        .ok_or_else(|| Error::new_spanned(value, "expected an amount of memory such as \"512Mi\" or \"2Gi\""))
}

struct Argument {
    name: Ident,
    key: String,
    ty: Type,
    kind: Kind,
}

enum Kind {
    Parameter,
    Input(Type),
    Inputs(Type),
    OptionalInput(Type),
    Output(Type),
    State(Type),
    Context,
}

impl Argument {
    fn parse(argument: &FnArg) -> syn::Result<Self> {
        let FnArg::Typed(argument) = argument else {
            return Err(Error::new_spanned(argument, "a component is a free function: it has no `self`"));
        };
        let Pat::Ident(pattern) = argument.pat.as_ref() else {
            return Err(Error::new_spanned(
                &argument.pat,
                "expected a name: it is the input's name in the pipeline",
            ));
        };
        let ty = argument.ty.as_ref().clone();
        if let Type::Reference(_) = ty {
            return Err(Error::new_spanned(
                ty,
                "a component takes its arguments by value, such as `String` or `Context`",
            ));
        }
        let kind = match generic(&ty) {
            Some((name, Some(inner))) => match name.as_str() {
                "Input" => Kind::Input(inner),
                "Output" => Kind::Output(inner),
                "State" => Kind::State(inner),
                "Vec" | "Option" => match generic(&inner) {
                    Some((inner, Some(of))) if inner == "Input" && name == "Vec" => Kind::Inputs(of),
                    Some((inner, Some(of))) if inner == "Input" => Kind::OptionalInput(of),
                    _ => Kind::Parameter,
                },
                _ => Kind::Parameter,
            },
            Some((name, None)) if name == "Context" => Kind::Context,
            _ => Kind::Parameter,
        };
        let key = pattern.ident.to_string();
        let key = key.trim_start_matches("r#").trim_start_matches('_').to_owned();
        if matches!(kind, Kind::Output(_)) && matches!(key.as_str(), "task" | "parameters") {
            let message =
                "an output artifact can't be called `task` or `parameters`, which its handles have already";
            return Err(Error::new_spanned(&pattern.ident, message));
        }
        Ok(Self { name: pattern.ident.clone(), key, ty, kind })
    }
}

/// The last name of a path type, and its type argument where it has one.
fn generic(ty: &Type) -> Option<(String, Option<Type>)> {
    let Type::Path(path) = ty else { return None };
    let segment = path.path.segments.last()?;
    let inner = match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => {
            arguments.args.iter().find_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty.clone()),
                _ => None,
            })
        }
        _ => None,
    };
    Some((segment.ident.to_string(), inner))
}

/// What a body gives when it succeeds, and whether it may fail.
fn returned(output: &ReturnType) -> (Type, bool) {
    let unit: Type = syn::parse_quote!(());
    match output {
        ReturnType::Default => (unit, false),
        ReturnType::Type(_, ty) => match generic(ty) {
            Some((name, inner)) if name.ends_with("Result") => (inner.unwrap_or(unit), true),
            _ => (ty.as_ref().clone(), false),
        },
    }
}

fn doc(function: &ItemFn) -> String {
    let lines = function.attrs.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => text(&pair.value),
        _ => None,
    });
    lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n").trim().to_owned()
}

fn generate(
    function: &ItemFn,
    options: &Options,
    arguments: &[Argument],
    returns: &Type,
    fallible: bool,
) -> TokenStream {
    let vis = &function.vis;
    let name = &function.sig.ident;
    let key = name.to_string();
    let key = key.trim_start_matches("r#");
    let description = doc(function);
    let (docs, attributes): (Vec<_>, Vec<_>) =
        function.attrs.iter().partition(|attribute| attribute.path().is_ident("doc"));
    let (inputs, output, block) = (&function.sig.inputs, &function.sig.output, &function.block);
    let asyncness = &function.sig.asyncness;
    let setters = &options.setters;
    let handles = format_ident!("{}_outputs", name, span = name.span());
    let lists = format_ident!("{}_lists", name, span = name.span());

    let of_kind = |wanted: fn(&Argument) -> bool| arguments.iter().filter(move |argument| wanted(argument));
    let parameters = of_kind(|a| matches!(a.kind, Kind::Parameter)).map(|a| {
        let (key, ty) = (&a.key, &a.ty);
        quote!((#key, <#ty as ::kf_pipeline::Param>::TYPE, <#ty as ::kf_pipeline::Param>::OPTIONAL))
    });
    let artifacts = arguments.iter().filter_map(|a| {
        let key = &a.key;
        let (kind, count) = match &a.kind {
            Kind::Input(kind) => (kind, quote!(One)),
            Kind::OptionalInput(kind) => (kind, quote!(OneOrNone)),
            Kind::Inputs(kind) => (kind, quote!(List)),
            _ => return None,
        };
        Some(quote! {
            (#key, ::kf_pipeline::spec::ArtifactType::of::<#kind>(), ::kf_pipeline::ArtifactCount::#count)
        })
    });
    let outputs: Vec<_> = arguments
        .iter()
        .filter_map(|a| match &a.kind {
            Kind::Output(kind) => Some((&a.name, &a.key, kind)),
            _ => None,
        })
        .collect();
    let output_names: Vec<_> = outputs.iter().map(|(name, ..)| *name).collect();
    let output_keys: Vec<_> = outputs.iter().map(|(_, key, _)| *key).collect();
    let output_kinds: Vec<_> = outputs.iter().map(|(.., kind)| *kind).collect();

    let given = arguments.iter().filter_map(|a| {
        let (name, ty) = (&a.name, &a.ty);
        // So that a message about what is given points at the argument.
        let span = a.ty.span();
        match &a.kind {
            Kind::Parameter => Some(quote_spanned!(span=> #name: impl ::kf_pipeline::IntoValue<'p, #ty>)),
            Kind::Input(kind) => {
                Some(quote_spanned!(span=> #name: impl ::kf_pipeline::IntoArtifact<'p, #kind>))
            }
            Kind::Inputs(kind) => {
                Some(quote_spanned!(span=> #name: impl ::kf_pipeline::IntoArtifactList<'p, #kind>))
            }
            Kind::OptionalInput(kind) => {
                Some(quote_spanned!(span=> #name: impl ::kf_pipeline::IntoOptionalArtifact<'p, #kind>))
            }
            Kind::Output(_) | Kind::State(_) | Kind::Context => None,
        }
    });
    let passed = arguments.iter().filter_map(|a| {
        let (name, key) = (&a.name, &a.key);
        match &a.kind {
            Kind::Parameter => Some(quote!(.parameter(#key, ::kf_pipeline::IntoValue::into_value(#name)))),
            Kind::Input(_) => {
                Some(quote!(.artifact(#key, ::kf_pipeline::IntoArtifact::into_artifact(#name))))
            }
            Kind::Inputs(_) => {
                Some(quote!(.artifact(#key, ::kf_pipeline::IntoArtifactList::into_artifact_list(#name))))
            }
            Kind::OptionalInput(_) => Some(
                quote!(.artifact(#key, ::kf_pipeline::IntoOptionalArtifact::into_optional_artifact(#name))),
            ),
            Kind::Output(_) | Kind::State(_) | Kind::Context => None,
        }
    });
    let taken: Vec<_> = arguments
        .iter()
        .map(|a| {
            let (key, ty) = (&a.key, &a.ty);
            match &a.kind {
                Kind::Parameter => quote!(io.parameter::<#ty>(#key)?),
                Kind::Input(kind) => quote!(io.input::<#kind>(#key)?),
                Kind::Inputs(kind) => quote!(io.inputs::<#kind>(#key)),
                Kind::OptionalInput(kind) => quote!(io.optional_input::<#kind>(#key)?),
                Kind::Output(kind) => quote!(io.output::<#kind>(#key)?),
                Kind::State(state) => quote!(io.state::<#state>()?),
                Kind::Context => quote!(io.context()),
            }
        })
        .collect();

    let wait = asyncness.map(|_| quote!(.await));
    let unwrap = fallible.then(|| quote!(.map_err(::kf_pipeline::TaskError::from_any)?));
    let work = quote! {
        let returned = #name::call(#(#taken),*) #wait #unwrap;
        ::kf_pipeline::__private::finish::<#name>(returned)
    };
    let body = match asyncness {
        Some(_) => quote! {
            ::kf_pipeline::Body::Async(|io: ::kf_pipeline::TaskIo| ::std::boxed::Box::pin(async move { #work }))
        },
        None => quote!(::kf_pipeline::Body::Blocking(|io: ::kf_pipeline::TaskIo| { #work })),
    };
    let body_doc = format!("The body of the component `{key}`, as a plain function.");
    let handles_doc = format!("Handles of the outputs of a task of [`{key}`](fn@{key}).");
    let lists_doc = format!("What a loop collects of tasks of [`{key}`](fn@{key}).");

    // Handles and lists name what the body returns only through the component, in places where it is generic: a
    // return type that is no output is then wrong in one place, where it is written.
    let returned_handles = quote!(<C::Returns as ::kf_pipeline::Outputs>::Handles<'p>);
    let returned_lists = quote!(<#returned_handles as ::kf_pipeline::Collect<'p>>::Lists);

    quote! {
        #(#docs)*
        #[allow(non_camel_case_types)]
        #vis struct #name {}

        impl #name {
            #[doc = #body_doc]
            #(#attributes)*
            #[allow(clippy::too_many_arguments, clippy::unused_async)]
            #vis #asyncness fn call(#inputs) #output #block
        }

        impl ::kf_pipeline::Component for #name {
            type Returns = #returns;

            fn definition() -> ::kf_pipeline::ComponentDef {
                #[allow(unused_mut)]
                let mut defaults = <::kf_pipeline::Defaults as ::core::default::Default>::default();
                #(#setters)*
                ::kf_pipeline::ComponentDef {
                    name: #key,
                    declared_at: ::core::concat!(::core::file!(), ":", ::core::line!()),
                    module: ::core::module_path!(),
                    description: #description,
                    parameters: ::std::vec![#(#parameters),*],
                    artifacts: ::std::vec![#(#artifacts),*],
                    output_parameters: ::kf_pipeline::__private::definitions::<Self>(),
                    output_artifacts:
                        ::std::vec![#((#output_keys, ::kf_pipeline::spec::ArtifactType::of::<#output_kinds>())),*],
                    defaults,
                    body: #body,
                }
            }
        }

        #[doc = #handles_doc]
        #[allow(non_camel_case_types, dead_code)]
        #vis struct #handles<'p, C: ::kf_pipeline::Component = #name> {
            #(#[doc = "The output artifact of this name."]
              pub #output_names: ::kf_pipeline::Artifact<'p, #output_kinds>,)*
            parameters: #returned_handles,
            task: ::kf_pipeline::TaskRef<'p>,
        }

        impl<'p, C: ::kf_pipeline::Component> #handles<'p, C> {
            fn of(task: ::kf_pipeline::TaskRef<'p>) -> Self {
                Self {
                    #(#output_names: task.artifact(#output_keys),)*
                    parameters: <C::Returns as ::kf_pipeline::Outputs>::handles(task),
                    task,
                }
            }
        }

        impl<'p, C: ::kf_pipeline::Component> ::core::clone::Clone for #handles<'p, C> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<'p, C: ::kf_pipeline::Component> ::core::marker::Copy for #handles<'p, C> {}

        impl<'p, C: ::kf_pipeline::Component> ::core::ops::Deref for #handles<'p, C> {
            type Target = #returned_handles;

            fn deref(&self) -> &Self::Target {
                &self.parameters
            }
        }

        impl<'p, C: ::kf_pipeline::Component> ::core::convert::From<#handles<'p, C>> for ::kf_pipeline::TaskRef<'p> {
            fn from(outputs: #handles<'p, C>) -> Self {
                outputs.task
            }
        }

        impl<'p, C: ::kf_pipeline::Component> ::kf_pipeline::Handles<'p> for #handles<'p, C> {
            fn relocate(self, to: &mut ::kf_pipeline::Relocation<'_>) -> Self {
                Self {
                    #(#output_names: ::kf_pipeline::Handles::relocate(self.#output_names, to),)*
                    parameters: ::kf_pipeline::Handles::relocate(self.parameters, to),
                    task: ::kf_pipeline::Handles::relocate(self.task, to),
                }
            }
        }

        #[doc = #lists_doc]
        #[allow(non_camel_case_types, dead_code)]
        #vis struct #lists<'p, C: ::kf_pipeline::Component = #name> {
            #(#[doc = "The output artifacts of this name."]
              pub #output_names: ::kf_pipeline::ArtifactList<'p, #output_kinds>,)*
            parameters: #returned_lists,
        }

        impl<'p, C: ::kf_pipeline::Component> ::core::clone::Clone for #lists<'p, C> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<'p, C: ::kf_pipeline::Component> ::core::marker::Copy for #lists<'p, C> {}

        impl<'p, C: ::kf_pipeline::Component> ::core::ops::Deref for #lists<'p, C> {
            type Target = #returned_lists;

            fn deref(&self) -> &Self::Target {
                &self.parameters
            }
        }

        impl<'p, C: ::kf_pipeline::Component> ::kf_pipeline::Collect<'p> for #handles<'p, C> {
            type Lists = #lists<'p, C>;

            fn collect_in(self, from: ::kf_pipeline::LoopRef<'p>) -> Self::Lists {
                #lists {
                    #(#output_names: ::kf_pipeline::Collect::collect_in(
                        self.#output_names, ::core::clone::Clone::clone(&from)),)*
                    parameters: ::kf_pipeline::Collect::collect_in(self.parameters, from),
                }
            }
        }

        impl<'p, C: ::kf_pipeline::Component> ::kf_pipeline::Handles<'p> for #lists<'p, C> {
            fn relocate(self, to: &mut ::kf_pipeline::Relocation<'_>) -> Self {
                Self {
                    #(#output_names: ::kf_pipeline::Handles::relocate(self.#output_names, to),)*
                    parameters: ::kf_pipeline::Handles::relocate(self.parameters, to),
                }
            }
        }

        #(#docs)*
        #vis fn #name<'p>(#(#given),*) -> ::kf_pipeline::Call<'p, #handles<'p>> {
            ::kf_pipeline::Call::new(<#name as ::kf_pipeline::Component>::definition(), #handles::of)
            #(#passed)*
        }
    }
}
