use crate::{cbor, host};
use std::fmt;

/// Abort codes of the SDK. A contract's own begin at 1000.
pub mod code {
    /// The arguments are not what the method takes.
    pub const ARGUMENTS: u32 = 1;
    /// The contract panicked; the data is the text.
    pub const PANIC: u32 = 2;
    /// An integer left its range; the data is the text.
    pub const OVERFLOW: u32 = 3;
    /// Something that must exist does not.
    pub const NOT_FOUND: u32 = 4;
    /// The caller may not do that.
    pub const DENIED: u32 = 5;
    /// A value of state is not what the contract's types say.
    pub const STATE: u32 = 6;
    /// A call to another contract failed; the data is its status and data.
    pub const CALL_FAILED: u32 = 7;
}

/// Result of a function that can refuse.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// How a contract refuses: an abort code, and data for the caller. It is made of any `#[error]` struct by `into`, by `?`,
/// or by [`ensure!`](crate::ensure).
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    /// Which error it is; 1000 and above are the contract's.
    pub code: u32,
    /// One value of canonical CBOR, or nothing.
    pub data: Vec<u8>,
}

impl Error {
    /// An error of the SDK's codes with a text.
    pub fn text(code: u32, text: &str) -> Self {
        Error { code, data: cbor::encode_text(text) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match cbor::decode::<String>(&self.data) {
            Ok(text) => write!(f, "abort {}: {text}", self.code),
            Err(_) => write!(f, "abort {} with data {:02x?}", self.code, self.data),
        }
    }
}

/// The error of a caller who may not do what it asked for.
pub fn denied(why: &str) -> Error {
    Error::text(code::DENIED, why)
}

/// The error of something that must exist and does not.
pub fn not_found(what: &str) -> Error {
    Error::text(code::NOT_FOUND, what)
}

/// Ends the call with an error, and undoes everything it did.
pub fn abort(error: impl Into<Error>) -> ! {
    let error = error.into();
    host::abort(error.code, &error.data)
}

/// Returns the error unless the condition holds.
///
/// ```ignore
/// ensure!(have >= amount, InsufficientFunds { have, need: amount });
/// ```
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $error:expr $(,)?) => {
        if !$condition {
            return ::core::result::Result::Err($crate::Error::from($error));
        }
    };
}
