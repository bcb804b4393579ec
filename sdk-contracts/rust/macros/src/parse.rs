//! Reads the items that attributes stand on: as much of Rust's grammar as contracts use.

use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};
use std::iter::Peekable;

/// Something that the SDK cannot take, at a place in the author's code.
pub struct Fault {
    span: Span,
    text: String,
}

impl Fault {
    pub fn new(span: Span, text: &str) -> Self {
        Fault { span, text: text.into() }
    }

    /// Returns the code that makes the compiler tell.
    pub fn tokens(self) -> TokenStream {
        let text = TokenTree::Literal(Literal::string(&self.text));
        let tokens = [
            TokenTree::Ident(Ident::new("compile_error", self.span)),
            TokenTree::Punct(Punct::new('!', Spacing::Alone)),
            TokenTree::Group(Group::new(Delimiter::Parenthesis, text.into())),
            TokenTree::Punct(Punct::new(';', Spacing::Alone)),
        ];
        tokens.into_iter().map(|mut token| {
            token.set_span(self.span);
            token
        }).collect()
    }
}

type Tokens = Peekable<proc_macro::token_stream::IntoIter>;

/// The options of an attribute: lists under a name.
pub struct Options(Vec<(String, Vec<String>)>);

impl Options {
    /// Reads `name = ["item", item], …` with the known names.
    pub fn new(tokens: TokenStream, known: &[&str]) -> Result<Self, Fault> {
        let mut options = Vec::new();
        for part in split(tokens) {
            let span = part[0].span();
            let name = part[0].to_string();
            if !known.contains(&name.as_str()) {
                let want = match known {
                    [] => "the attribute takes no options".to_string(),
                    known => format!("{name}: want {} = [\"…\"]", known.join(" or ")),
                };
                return Err(Fault::new(span, &want));
            }
            match &part[1..] {
                [TokenTree::Punct(equals), TokenTree::Group(list)] if equals.as_char() == '=' && list.delimiter() == Delimiter::Bracket => {
                    let mut items = Vec::new();
                    for item in split(list.stream()) {
                        let text = item.iter().map(TokenTree::to_string).collect::<String>();
                        let text = text.trim_matches('"').to_string();
                        if text.is_empty() || text.contains(|c: char| c == ',' || c == '"' || c == '\\' || c.is_whitespace()) {
                            return Err(Fault::new(item[0].span(), "want a text without spaces, commas and quotes"));
                        }
                        items.push(text);
                    }
                    options.push((name, items));
                }
                _ => return Err(Fault::new(span, &format!("want {name} = [\"…\"]"))),
            }
        }
        Ok(Options(options))
    }

    pub fn take(&mut self, name: &str) -> Vec<String> {
        match self.0.iter().position(|option| option.0 == name) {
            Some(i) => self.0.remove(i).1,
            None => Vec::new(),
        }
    }
}

/// A field of a struct, or an argument of a function.
pub struct Field {
    pub ident: String, // as Rust has it
    pub name: String,  // as the schema has it
    pub rust: String,  // type
    pub kind: String,  // type as the schema has it
}

/// A function that becomes a method.
pub struct Function {
    pub ident: String,
    pub name: String,
    pub span: Span,
    pub doc: String,
    pub args: Vec<Field>, // without the context
    pub returns: String,  // empty for nothing
}

impl Function {
    pub fn new(item: TokenStream) -> Result<Self, Fault> {
        let mut tokens = item.into_iter().peekable();
        let doc = doc(&mut tokens);
        visibility(&mut tokens);
        let first = tokens.next();
        if !is(&first, "fn") {
            return Err(Fault::new(place(&first), "a method is a plain function: fn name(ctx: &Ctx, …)"));
        }
        let (ident, span) = ident(tokens.next())?;
        let args = match tokens.next() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => group,
            other => return Err(Fault::new(place(&other), "a method has no type parameters")),
        };
        let mut parts = split(args.stream()).into_iter();
        let context = parts.next().unwrap_or_default();
        if !context.iter().any(|t| t.to_string() == "&") || context.last().map(TokenTree::to_string).as_deref() != Some("Ctx") {
            return Err(Fault::new(args.span(), "the first argument of a method is ctx: &Ctx"));
        }
        let args: Vec<Field> = parts.map(field).collect::<Result<_, _>>()?;
        if args.len() > 12 {
            return Err(Fault::new(span, "a method has at most 12 arguments: put some into a #[data] struct"));
        }
        let rest: Vec<TokenTree> = tokens.collect();
        let returns = match rest.as_slice() {
            [arrow, _, result @ .., _body] if arrow.to_string() == "-" => returned(result)?,
            _ => String::new(),
        };
        Ok(Function { name: plain(&ident), ident, span, doc, args, returns })
    }
}

/// Returns the type of what a function returns, without the Result around it; empty for nothing.
fn returned(tokens: &[TokenTree]) -> Result<String, Fault> {
    let result = path(tokens);
    let kind = match (result.name.as_str(), result.args.as_slice()) {
        ("Result", [value, ..]) => kind(value)?,
        _ => kind(tokens)?,
    };
    Ok(if kind == "()" { String::new() } else { kind })
}

/// A struct or enum.
pub struct Item {
    pub name: String,
    pub span: Span,
    pub doc: String,
    pub shape: Shape,
}

pub enum Shape {
    Struct(Vec<Field>),
    Enum(Vec<Variant>),
}

pub struct Variant {
    pub name: String,
    pub fields: Vec<Field>,
}

impl Item {
    pub fn new(item: TokenStream) -> Result<Self, Fault> {
        let mut tokens = item.into_iter().peekable();
        let doc = doc(&mut tokens);
        visibility(&mut tokens);
        let word = tokens.next();
        if !is(&word, "struct") && !is(&word, "enum") {
            return Err(Fault::new(place(&word), "the attribute stands on a struct or enum"));
        }
        let (name, span) = ident(tokens.next())?;
        let shape = match tokens.next() {
            Some(TokenTree::Punct(end)) if end.as_char() == ';' && is(&word, "struct") => Shape::Struct(Vec::new()),
            Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace => match is(&word, "struct") {
                true => Shape::Struct(fields(body.stream())?),
                false => Shape::Enum(split(body.stream()).into_iter().map(variant).collect::<Result<_, _>>()?),
            },
            other => return Err(Fault::new(place(&other), "want named fields, and no type parameters")),
        };
        if matches!(&shape, Shape::Enum(variants) if variants.is_empty()) {
            return Err(Fault::new(span, "an enum has at least one variant"));
        }
        Ok(Item { name, span, doc, shape })
    }

    /// The fields of a struct.
    pub fn fields(&self) -> Result<&[Field], Fault> {
        match &self.shape {
            Shape::Struct(fields) => Ok(fields),
            Shape::Enum(_) => Err(Fault::new(self.span, "want a struct")),
        }
    }
}

fn fields(tokens: TokenStream) -> Result<Vec<Field>, Fault> {
    split(tokens).into_iter().map(field).collect()
}

fn variant(tokens: Vec<TokenTree>) -> Result<Variant, Fault> {
    let mut tokens = tokens.into_iter().collect::<TokenStream>().into_iter().peekable();
    doc(&mut tokens);
    let (name, _) = ident(tokens.next())?;
    match tokens.next() {
        None => Ok(Variant { name, fields: Vec::new() }),
        Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace => Ok(Variant { name, fields: fields(body.stream())? }),
        other => Err(Fault::new(place(&other), "a variant has named fields, or none, and no number")),
    }
}

/// Reads `name: Type`.
fn field(tokens: Vec<TokenTree>) -> Result<Field, Fault> {
    let mut tokens = tokens.into_iter().collect::<TokenStream>().into_iter().peekable();
    doc(&mut tokens);
    visibility(&mut tokens);
    if is(&tokens.peek().cloned(), "mut") {
        tokens.next();
    }
    let (ident, span) = ident(tokens.next())?;
    let name = plain(&ident);
    let colon = tokens.next();
    if !is(&colon, ":") || name.is_empty() {
        return Err(Fault::new(span, "want name: Type, as the schema tells the name"));
    }
    let rest: Vec<TokenTree> = tokens.collect();
    let kind = kind(&rest)?;
    Ok(Field { ident, name, rust: rest.into_iter().collect::<TokenStream>().to_string(), kind })
}

/// A declaration of state.
pub struct State {
    pub line: String,
    pub doc: String,
    pub span: Span,
}

/// Reads `static NAME: Map<K, V> = Map::new("prefix");`, or the same of a Value, Balances or Counter.
pub fn state(item: TokenStream) -> Result<State, Fault> {
    let mut tokens = item.into_iter().peekable();
    let doc = doc(&mut tokens);
    visibility(&mut tokens);
    let word = tokens.next();
    if !is(&word, "static") && !is(&word, "const") {
        return Err(Fault::new(place(&word), "state is declared so: static NAME: Map<Addr, u128> = Map::new(\"prefix\");"));
    }
    let (_, span) = ident(tokens.next())?;
    let fault = || Fault::new(span, "state is a Value<T>, Map<K, V>, Balances<K> or Counter, made by new(\"prefix\")");
    tokens.next(); // the colon
    let rest: Vec<TokenTree> = tokens.collect();
    let equals = rest.iter().position(|t| t.to_string() == "=").ok_or_else(fault)?;
    let mut wrapper = path(&rest[..equals]);
    let prefix = match rest[equals..].iter().find_map(|t| match t {
        TokenTree::Group(group) => group.stream().into_iter().next(),
        _ => None,
    }) {
        Some(TokenTree::Literal(text)) => text.to_string().trim_matches('"').to_string(),
        _ => return Err(fault()),
    };
    let declared = match (wrapper.name.as_str(), wrapper.args.len()) {
        ("Counter", 0) => format!("{prefix} -> i64"),
        ("Value", 1) => format!("{prefix} -> {}", kind(&wrapper.args[0])?),
        ("Map", 2) | ("Balances", 1) => {
            let key = wrapper.args.remove(0);
            let value = wrapper.args.first().map_or(Ok("u128".into()), |value| kind(value))?;
            let parts = match key.as_slice() {
                [TokenTree::Group(tuple)] if tuple.delimiter() == Delimiter::Parenthesis => split(tuple.stream()),
                _ => vec![key],
            };
            let parts = parts.iter().map(|part| kind(part)).collect::<Result<Vec<_>, _>>()?;
            format!("{prefix}({}) -> {value}", parts.join(", "))
        }
        _ => return Err(fault()),
    };
    Ok(State { line: format!("state {declared}"), doc, span })
}

/// Returns a type as the schema has it.
fn kind(tokens: &[TokenTree]) -> Result<String, Fault> {
    let first = match tokens {
        [] => return Err(Fault::new(Span::call_site(), "want a type")),
        [TokenTree::Group(group)] => return group_kind(group),
        [first, ..] => first,
    };
    if first.to_string() == "&" {
        return Err(Fault::new(first.span(), "want a value, not a reference: String for &str, Vec<T> for &[T]"));
    }
    let Path { name, args } = path(tokens);
    let args = args.iter().map(|arg| kind(arg)).collect::<Result<Vec<_>, _>>()?;
    let fault = |hint: &str| Err(Fault::new(first.span(), &format!("{name} is no type of the schema: {hint}")));
    Ok(match (name.as_str(), args.as_slice()) {
        ("f32" | "f64", _) => return fault("machines differ in floats; use integers, such as hundredths"),
        ("usize" | "isize" | "i128" | "char", _) => return fault("want u8 to u128, or i8 to i64"),
        ("HashMap" | "HashSet" | "BTreeSet", _) => return fault("want Vec<T> or BTreeMap<K, V>"),
        ("String", []) => "str".into(),
        ("Addr", []) => "addr".into(),
        ("Hash", []) => "bytes".into(),
        ("Vec", [item]) if item == "u8" => "bytes".into(),
        ("Vec", [item]) => format!("list<{item}>"),
        ("Option", [value]) => format!("opt<{value}>"),
        ("BTreeMap", [key, value]) => format!("map<{key},{value}>"),
        ("Box", [value]) => value.clone(),
        (_, []) => name,
        (_, args) => format!("{name}<{}>", args.join(",")),
    })
}

fn group_kind(group: &Group) -> Result<String, Fault> {
    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
    match (group.delimiter(), inner.as_slice()) {
        (Delimiter::Parenthesis, []) => Ok("()".into()),
        (Delimiter::None, _) => kind(&inner), // a type that a macro filled in
        (Delimiter::Bracket, [item, TokenTree::Punct(_), ..]) if item.to_string() == "u8" => Ok("bytes".into()),
        _ => Err(Fault::new(group.span(), "want a #[data] struct in place of a tuple, and Vec<T> in place of an array")),
    }
}

/// A path's last name and its type arguments: `std::vec::Vec<u8>` is Vec and u8.
struct Path {
    name: String,
    args: Vec<Vec<TokenTree>>,
}

fn path(tokens: &[TokenTree]) -> Path {
    let open = tokens.iter().position(|t| t.to_string() == "<").unwrap_or(tokens.len());
    let name = tokens[..open].iter().rev().find_map(|t| match t {
        TokenTree::Ident(name) => Some(name.to_string()),
        _ => None,
    });
    let inner = tokens.get(open + 1..tokens.len().max(open + 2) - 1).unwrap_or_default();
    Path { name: name.unwrap_or_default(), args: split(inner.iter().cloned().collect()) }
}

/// Splits at commas that are not within angle brackets. No part is empty.
fn split(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let mut parts = vec![Vec::new()];
    let mut depth = 0;
    for token in tokens {
        if let TokenTree::Punct(punct) = &token {
            match punct.as_char() {
                '<' => depth += 1,
                '>' => depth -= 1,
                ',' if depth == 0 => {
                    parts.push(Vec::new());
                    continue;
                }
                _ => {}
            }
        }
        parts.last_mut().unwrap().push(token);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Skips attributes, and returns the documentation among them on one line.
fn doc(tokens: &mut Tokens) -> String {
    let mut lines = Vec::new();
    while is(&tokens.peek().cloned(), "#") {
        tokens.next();
        if let Some(TokenTree::Group(group)) = tokens.next() {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            if let [name, _, TokenTree::Literal(text)] = inner.as_slice() {
                if name.to_string() == "doc" {
                    lines.push(unquoted(&text.to_string()));
                }
            }
        }
    }
    lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Returns the text of a string literal.
fn unquoted(literal: &str) -> String {
    if let Some(raw) = literal.strip_prefix('r') {
        return raw.trim_matches('#').trim_matches('"').into();
    }
    let mut out = String::new();
    let mut chars = literal.trim_start_matches('"').chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('n' | 't' | 'r') => out.push(' '),
                Some('u') => {
                    let digits: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    out.extend(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
                }
                Some(c) => out.push(c),
                None => break,
            },
            c => out.push(c),
        }
    }
    out
}

fn visibility(tokens: &mut Tokens) {
    if is(&tokens.peek().cloned(), "pub") {
        tokens.next();
        if matches!(tokens.peek(), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis) {
            tokens.next();
        }
    }
}

fn is(token: &Option<TokenTree>, text: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(_) | TokenTree::Punct(_))) && token.as_ref().unwrap().to_string() == text
}

fn place(token: &Option<TokenTree>) -> Span {
    token.as_ref().map_or_else(Span::call_site, TokenTree::span)
}

fn ident(token: Option<TokenTree>) -> Result<(String, Span), Fault> {
    match token {
        Some(TokenTree::Ident(name)) => Ok((name.to_string(), name.span())),
        other => Err(Fault::new(place(&other), "want a name")),
    }
}

/// Returns a name without what only Rust needs: r# and a leading underscore.
fn plain(ident: &str) -> String {
    ident.trim_start_matches("r#").trim_start_matches('_').into()
}
