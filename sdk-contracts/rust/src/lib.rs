//! What a fondaco contract in Rust imports: the caller and the time, typed state, events, errors, calls to other
//! contracts, hashes and signatures. It depends on nothing but the standard library, and builds with Rust 1.63.
//!
//! A contract is a library crate whose functions carry an attribute:
//!
//! ```
//! use fondaco::prelude::*;
//!
//! contract!();
//!
//! #[state]
//! static BALANCES: Balances<Addr> = Balances::new("bal");
//!
//! /// Refuses a transfer of more than the holder has.
//! #[error(1001)]
//! pub struct InsufficientFunds { have: u128, need: u128 }
//!
//! #[event(indexed = [from, to])]
//! pub struct Transferred { from: Addr, to: Addr, amount: u128 }
//!
//! /// Moves amount units from the caller to to.
//! #[tx(conflicts = ["bal/{$caller}", "bal/{to}"])]
//! fn transfer(ctx: &Ctx, to: Addr, amount: u128) -> Result<()> {
//!     let from = ctx.caller();
//!     ensure!(BALANCES.sub(&from, amount), InsufficientFunds { have: BALANCES.get(&from), need: amount });
//!     BALANCES.add(&to, amount); // does not read what to has: others may pay it in parallel
//!     ctx.emit(Transferred { from, to, amount });
//!     Ok(())
//! }
//!
//! #[view]
//! fn balance_of(_: &Ctx, who: Addr) -> u128 {
//!     BALANCES.get(&who)
//! }
//! ```
//!
//! `fondaco contract build` makes the module and its schema; name, version and description are those of Cargo.toml.
//!
//! | attribute | on |
//! |---|---|
//! | `#[tx]` | a function that transactions and contracts call |
//! | `#[view]` | a function that may not write |
//! | `#[init]`, `#[upgrade]` | the function of that name, which runs once: at deployment, or when this code replaces earlier code |
//! | `#[data]` | a struct or enum that is passed, returned or kept in state |
//! | `#[event(indexed = [field])]` | a struct that [`Ctx::emit`] takes; `indexed` names the fields to search by |
//! | `#[error(1001)]` | a struct that a function returns as its error, under an abort code of 1000 or above |
//! | `#[state]` | a static [`Value`], [`Map`], [`Balances`] or [`Counter`] that the schema shall tell of |
//!
//! The first four take `roles = ["a"]` (the node lets only callers with one of them in) and `conflicts = ["key"]` (what the
//! function touches, in templates over its arguments and `$caller`: for who reads the schema; nodes find it out by themselves).
//!
//! Arguments, results, fields and values of state are `bool`, `String`, `Vec<u8>`, `[u8; N]`, integers of a stated width,
//! [`Addr`], [`Hash`], `Vec`, `Option`, `BTreeMap`, and the contract's own `#[data]`. There are no floats.
//!
//! # Arithmetic
//!
//! `+`, `-`, `*`, `/`, `%` and `<<` never wrap around: a result that leaves its type ends the call with the code [`code::OVERFLOW`],
//! as the builder switches the compiler's checks on. Only a cast with `as` cuts bits off; `try_into` does not. For rates
//! and shares see [`mul_div`].
//!
//! # Failure
//!
//! A function that returns an error undoes everything it did. A panic does as well, with [`code::PANIC`] and the panic's text.
//!
//! # Tests
//!
//! Under `cargo test` the same code runs against a host in memory, [`mock::Host`].

#![warn(missing_docs)]

mod call;
mod cbor;
mod context;
mod crypto;
mod error;
#[cfg(target_arch = "wasm32")]
mod heap;
#[cfg(target_arch = "wasm32")]
mod host;
mod math;
#[cfg(not(target_arch = "wasm32"))]
pub mod mock;
#[doc(hidden)]
pub mod runtime;
mod state;

#[cfg(not(target_arch = "wasm32"))]
use mock as host;

pub use call::{call, call_name, stopped, Call, Reply};
pub use cbor::{decode, encode, Args, Data, Decoder, Malformed, Raw};
pub use context::{gas_left, log, Addr, Ctx, Event, Hash, Level};
pub use crypto::{keccak256, random, sha256, sm3, verify, Signature};
pub use error::{abort, code, denied, not_found, Error, Result};
pub use fondaco_macros::{contract, data, error, event, init, state, tx, upgrade, view};
pub use math::mul_div;
pub use state::{Balances, Counter, FixedKey, Key, Map, Scan, Value};

/// What almost every contract uses.
pub mod prelude {
    pub use crate::{call, denied, ensure, not_found, stopped, Addr, Balances, Counter, Ctx, Error, Hash, Map, Raw, Reply, Result, Value};
    pub use fondaco_macros::{contract, data, error, event, init, state, tx, upgrade, view};
}
