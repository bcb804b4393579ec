//! The attributes of the fondaco contract SDK; the crate `fondaco` says what they mean. Each leaves its item as it is, adds the
//! code that it needs, and writes a line of the interface text (sdk-contracts/INTERFACE.md) into the module.

mod parse;

use parse::{Fault, Field, Function, Item, Options, Shape};
use proc_macro::{Group, Span, TokenStream, TokenTree};
use std::fmt::Write;

/// Makes a function a method that transactions and contracts call.
#[proc_macro_attribute]
pub fn tx(options: TokenStream, item: TokenStream) -> TokenStream {
    attribute(options, item, |options, item| method("tx", options, item))
}

/// Makes a function a method that may not write.
#[proc_macro_attribute]
pub fn view(options: TokenStream, item: TokenStream) -> TokenStream {
    attribute(options, item, |options, item| method("view", options, item))
}

/// Makes the function `init` the method that runs once, at deployment.
#[proc_macro_attribute]
pub fn init(options: TokenStream, item: TokenStream) -> TokenStream {
    attribute(options, item, |options, item| method("init", options, item))
}

/// Makes the function `upgrade` the method that runs once when this code replaces earlier code.
#[proc_macro_attribute]
pub fn upgrade(options: TokenStream, item: TokenStream) -> TokenStream {
    attribute(options, item, |options, item| method("upgrade", options, item))
}

/// Makes a struct or enum a value that is passed, returned or kept in state.
#[proc_macro_attribute]
pub fn data(options: TokenStream, item: TokenStream) -> TokenStream {
    attribute(options, item, |options, item| {
        Options::new(options, &[])?;
        let item = Item::new(item)?;
        let line = match &item.shape {
            Shape::Struct(fields) => format!("struct {}({})", item.name, signature(fields)),
            Shape::Enum(variants) => {
                let variants: Vec<String> = variants
                    .iter()
                    .map(|v| match v.fields.is_empty() {
                        true => snake(&v.name),
                        false => format!("{}({})", snake(&v.name), signature(&v.fields)),
                    })
                    .collect();
                format!("enum {}({})", item.name, variants.join(", "))
            }
        };
        Ok(Added { before: DERIVES.into(), after: codec(&item) + &interface(&line, &item.doc), at: item.span })
    })
}

/// Makes a struct an event.
#[proc_macro_attribute]
pub fn event(options: TokenStream, item: TokenStream) -> TokenStream {
    attribute(options, item, |options, item| {
        let mut options = Options::new(options, &["indexed"])?;
        let item = Item::new(item)?;
        let fields = item.fields()?;
        let mut line = format!("event {}({})", item.name, signature(fields));
        let indexed = options.take("indexed");
        for name in &indexed {
            if !fields.iter().any(|f| f.name == *name) {
                return Err(Fault::new(item.span, &format!("indexed: {} has no field {name}", item.name)));
            }
        }
        list(&mut line, "indexed", &indexed);
        let topic = format!("impl ::fondaco::Event for {0} {{ const TOPIC: &'static str = {0:?}; }}", item.name);
        Ok(Added { before: DERIVES.into(), after: codec(&item) + &topic + &interface(&line, &item.doc), at: item.span })
    })
}

/// Makes a struct an error of the contract, with an abort code of 1000 or above.
#[proc_macro_attribute]
pub fn error(options: TokenStream, item: TokenStream) -> TokenStream {
    attribute(options, item, |options, item| {
        let code = match options.to_string().replace('_', "").parse::<u32>() {
            Ok(code) if code >= 1000 => code,
            _ => return Err(Fault::new(Span::call_site(), "want the error's abort code, 1000 or above: #[error(1001)]")),
        };
        let item = Item::new(item)?;
        let line = format!("error {code} {}({})", item.name, signature(item.fields()?));
        let into = format!(
            "impl ::core::convert::From<{}> for ::fondaco::Error {{
                fn from(error: {0}) -> Self {{ ::fondaco::Error {{ code: {code}, data: ::fondaco::encode(&error) }} }}
            }}",
            item.name
        );
        Ok(Added { before: DERIVES.into(), after: codec(&item) + &into + &interface(&line, &item.doc), at: item.span })
    })
}

/// Tells the schema of a static `Value`, `Map`, `Balances` or `Counter`.
#[proc_macro_attribute]
pub fn state(options: TokenStream, item: TokenStream) -> TokenStream {
    attribute(options, item, |options, item| {
        Options::new(options, &[])?;
        let state = parse::state(item)?;
        Ok(Added { before: String::new(), after: interface(&state.line, &state.doc), at: state.span })
    })
}

/// Begins a contract. Its name, version and description are those of Cargo.toml. `contract!(random)` says that it uses
/// `fondaco::random`.
#[proc_macro]
pub fn contract(options: TokenStream) -> TokenStream {
    let random = match options.to_string().as_str() {
        "" => false,
        "random" => true,
        _ => return Fault::new(Span::call_site(), "want contract!() or contract!(random)").tokens(),
    };
    let package = |field: &str| std::env::var(format!("CARGO_PKG_{field}")).unwrap_or_default();
    let name = package("NAME").replace('-', "_");
    let mut code = interface(&format!("contract {name} {}", package("VERSION")), &package("DESCRIPTION"));
    if random {
        code += &interface("random", "");
    }
    code += "#[cfg(target_arch = \"wasm32\")] const _: () = {
        #[export_name = \"fondaco_abi_1\"]
        pub extern \"C\" fn marker() {}
    };";
    code.parse().unwrap()
}

/// What every `#[data]`, `#[event]` and `#[error]` can do in a test.
const DERIVES: &str = "#[derive(Clone, Debug, PartialEq, Eq)]";

/// What an attribute puts before and after its item. Faults of this code are shown at a place of the item.
struct Added {
    before: String,
    after: String,
    at: Span,
}

fn attribute(
    options: TokenStream, item: TokenStream, make: impl FnOnce(TokenStream, TokenStream) -> Result<Added, Fault>,
) -> TokenStream {
    match make(options, item.clone()) {
        Ok(added) => {
            let mut all: TokenStream = added.before.parse().unwrap();
            all.extend(item);
            all.extend(placed(added.after.parse().unwrap(), added.at));
            all
        }
        Err(fault) => {
            let mut all = item;
            all.extend(fault.tokens());
            all
        }
    }
}

fn placed(code: TokenStream, at: Span) -> TokenStream {
    code.into_iter()
        .map(|token| match token {
            TokenTree::Group(group) => TokenTree::Group(Group::new(group.delimiter(), placed(group.stream(), at))),
            mut other => {
                other.set_span(at);
                other
            }
        })
        .collect()
}

/// Makes the export of a method, and its line.
fn method(kind: &str, options: TokenStream, item: TokenStream) -> Result<Added, Fault> {
    let mut options = Options::new(options, &["roles", "conflicts"])?;
    let function = Function::new(item)?;
    let name = &function.name;
    let life = name == "init" || name == "upgrade";
    if life != (kind == "init" || kind == "upgrade") || life && name != kind {
        let text = match life {
            true => format!("the function {name} takes the attribute #[{name}]"),
            false => format!("the function of #[{kind}] is called {kind}"),
        };
        return Err(Fault::new(function.span, &text));
    }
    let mut line = match kind {
        "init" | "upgrade" => kind.to_string(),
        _ => format!("{kind} {name}"),
    };
    write!(line, "({})", signature(&function.args)).unwrap();
    if !function.returns.is_empty() {
        write!(line, " -> {}", function.returns).unwrap();
    }
    for key in ["roles", "conflicts"] {
        list(&mut line, key, &options.take(key));
    }
    let names: String = (0..function.args.len()).map(|i| format!("a{i},")).collect();
    let types: String = function.args.iter().map(|a| format!("{},", a.rust)).collect();
    let export = format!(
        "#[cfg(target_arch = \"wasm32\")] const _: () = {{
            #[export_name = {name:?}]
            pub extern \"C\" fn export() -> i32 {{
                ::fondaco::runtime::serve(|ctx: &::fondaco::Ctx, ({names}): ({types})| {}(ctx, {names}))
            }}
        }};",
        function.ident
    );
    Ok(Added { before: "#[cfg_attr(not(target_arch = \"wasm32\"), allow(dead_code))]".into(), after: export + &interface(&line, &function.doc), at: function.span })
}

/// Makes the codec of a struct or enum.
fn codec(item: &Item) -> String {
    let name = &item.name;
    let (encode, decode) = match &item.shape {
        Shape::Struct(fields) => {
            let encode: String = fields.iter().map(|f| format!("::fondaco::Data::encode(&self.{}, out);", f.ident)).collect();
            let decode: String = fields.iter().map(|f| format!("{}: ::fondaco::Data::decode(from)?,", f.ident)).collect();
            (
                format!("::fondaco::runtime::encode_struct({}, out); {encode}", fields.len()),
                format!("from.array({})?; Ok({name} {{ {decode} }})", fields.len()),
            )
        }
        Shape::Enum(variants) => {
            let (mut encode, mut decode, mut counts) = (String::new(), String::new(), String::new());
            for (i, v) in variants.iter().enumerate() {
                let names: String = v.fields.iter().map(|f| format!("{},", f.ident)).collect();
                let fields: String = v.fields.iter().map(|f| format!("::fondaco::Data::encode({}, out);", f.ident)).collect();
                let n = v.fields.len();
                write!(encode, "{name}::{} {{ {names} }} => {{ ::fondaco::runtime::encode_variant({i}, {n}, out); {fields} }}", v.name).unwrap();
                let fields: String = v.fields.iter().map(|f| format!("{}: ::fondaco::Data::decode(from)?,", f.ident)).collect();
                let pattern = if i + 1 == variants.len() { "_".into() } else { i.to_string() };
                write!(decode, "{pattern} => {name}::{} {{ {fields} }},", v.name).unwrap();
                write!(counts, "{n},").unwrap();
            }
            (format!("match self {{ {encode} }}"), format!("Ok(match from.variant(&[{counts}])? {{ {decode} }})"))
        }
    };
    format!(
        "impl ::fondaco::Data for {name} {{
            fn encode(&self, out: &mut ::std::vec::Vec<u8>) {{ {encode} }}
            fn decode(from: &mut ::fondaco::Decoder) -> ::core::result::Result<Self, ::fondaco::Malformed> {{ {decode} }}
        }}"
    )
}

/// Returns fields or arguments as the interface text has them.
fn signature(fields: &[Field]) -> String {
    let fields: Vec<String> = fields.iter().map(|f| format!("{}: {}", f.name, f.kind)).collect();
    fields.join(", ")
}

fn list(line: &mut String, key: &str, items: &[String]) {
    if !items.is_empty() {
        write!(line, " {key} {}", items.join(",")).unwrap();
    }
}

/// Makes the code that writes a line of the interface text.
fn interface(line: &str, doc: &str) -> String {
    let mut line = line.to_string();
    if !doc.is_empty() {
        line += " \"";
        for c in doc.chars() {
            match c {
                '"' | '\\' => line.extend(['\\', c]),
                c if c < ' ' => line.push(' '),
                c => line.push(c),
            }
        }
        line.push('"');
    }
    line.push('\n');
    let bytes: String = line.bytes().flat_map(std::ascii::escape_default).map(char::from).collect();
    format!(
        "#[cfg(target_arch = \"wasm32\")] const _: () = {{
            #[used]
            #[link_section = \"fondaco.interface\"]
            static LINE: [u8; {}] = *b\"{bytes}\";
        }};",
        line.len()
    )
}

/// Returns a variant's name as schemas have it: TimedOut becomes timed_out.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
