//! What the attributes' code calls.

pub use crate::cbor::{encode_struct, encode_variant};
use crate::cbor::{self, Args, Data, Decoder, Malformed};
use crate::{code, Ctx, Error, Result};

/// What a method returns: a value, nothing, or either of them or an error.
pub trait Outcome {
    /// What it returns when it succeeds.
    type Value;

    /// Separates value and error.
    fn outcome(self) -> Result<Self::Value>;
}

impl<T: Output> Outcome for T {
    type Value = T;
    fn outcome(self) -> Result<T> {
        Ok(self)
    }
}

impl<T: Output> Outcome for Result<T> {
    type Value = T;
    fn outcome(self) -> Result<T> {
        self
    }
}

/// A method's output: a value, or nothing.
pub trait Output {
    /// The bytes of the value.
    fn bytes(&self) -> Vec<u8>;
}

impl<T: Data> Output for T {
    fn bytes(&self) -> Vec<u8> {
        cbor::encode(self)
    }
}

impl Output for () {
    fn bytes(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// Runs a method on its arguments' bytes.
pub fn run<A: Args, R: Outcome>(input: &[u8], method: impl FnOnce(&Ctx, A) -> R) -> Result<Vec<u8>>
where
    R::Value: Output,
{
    let mut from = Decoder::new(input);
    match A::decode_args(&mut from).and_then(|args| from.end().map(|()| args)) {
        Ok(args) => Ok(method(&Ctx::new(), args).outcome()?.bytes()),
        Err(Malformed) => Err(Error::text(code::ARGUMENTS, "the arguments do not fit the method")),
    }
}

/// Serves the call that the host just began.
#[cfg(target_arch = "wasm32")]
pub fn serve<A: Args, R: Outcome>(method: impl FnOnce(&Ctx, A) -> R) -> i32
where
    R::Value: Output,
{
    end(run(&begin(), method))
}

#[cfg(target_arch = "wasm32")]
fn begin() -> Vec<u8> {
    std::panic::set_hook(Box::new(|info| crate::abort(panicked(message(info.payload()), info.location()))));
    crate::host::input()
}

#[cfg(target_arch = "wasm32")]
fn end(result: Result<Vec<u8>>) -> i32 {
    match result {
        Ok(output) if output.is_empty() => {}
        Ok(output) => crate::host::output(&output),
        Err(error) => crate::abort(error),
    }
    0
}

/// The text of a panic.
pub(crate) fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "panic",
    }
}

/// The error that a panic becomes. Those of the compiler's checks of arithmetic have the code of an overflow.
pub(crate) fn panicked(text: &str, at: Option<&std::panic::Location>) -> Error {
    let arithmetic = text.starts_with("attempt to ") && (text.ends_with(" with overflow") || text.ends_with(" zero"));
    let code = if arithmetic { code::OVERFLOW } else { code::PANIC };
    match at {
        Some(at) => Error::text(code, &format!("{text}, {}:{}", at.file(), at.line())),
        None => Error::text(code, text),
    }
}
