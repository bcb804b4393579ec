use crate::cbor::{self, Args, Data};
use crate::{code, host, Addr, Error};

/// Prepares a call of a contract's method. Arguments are a tuple, or [`Raw`](crate::Raw) bytes.
///
/// ```ignore
/// let reply = call(token, "transfer_from", (owner, to, amount)).send();
/// let held: u128 = call(token, "balance_of", (owner,)).read_only().send().returned()?;
/// ```
pub fn call(to: Addr, method: &str, args: impl Args) -> Call<'_> {
    Call::new(to.0.to_vec(), method, args, 0)
}

/// Prepares a call of a method of the contract that has a CNS name, with @version or without.
pub fn call_name<'a>(name: &str, method: &'a str, args: impl Args) -> Call<'a> {
    Call::new(name.as_bytes().to_vec(), method, args, BY_NAME)
}

/// The system contract that knows who is frozen.
const ACCESS: Addr = Addr([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);

/// Returns which of two accounts a freeze keeps from giving an asset, or from being given it. A contract asks before it moves what
/// `from` has to `to`: the chain itself stops only transactions that a frozen account sends, and calls of a frozen contract. Where `from`
/// is who calls, nobody (`Addr::default()`) in its place asks about `to` alone.
///
/// ```ignore
/// if let Some(account) = stopped(from, to)? {
///     return Err(Frozen { account }.into());
/// }
/// ```
pub fn stopped(from: Addr, to: Addr) -> crate::Result<Option<Addr>> {
    call(ACCESS, "stopped", (from, to)).read_only().send().returned()
}

const READ_ONLY: u32 = 1;
const ALLOW_REENTRY: u32 = 2;
const BY_NAME: u32 = 4;

/// A call that is prepared, with 63/64 of the gas that is left.
#[must_use = "a call is made by send"]
pub struct Call<'a> {
    to: Vec<u8>,
    method: &'a str,
    args: Vec<u8>,
    gas: u64,
    flags: u32,
}

impl<'a> Call<'a> {
    fn new(to: Vec<u8>, method: &'a str, args: impl Args, flags: u32) -> Self {
        let mut encoded = Vec::with_capacity(64);
        args.encode_args(&mut encoded);
        Call { to, method, args: encoded, gas: 0, flags }
    }

    /// Limits the gas; 0 is what may be passed on.
    pub fn gas(mut self, limit: u64) -> Self {
        self.gas = limit;
        self
    }

    /// Denies the callee to write.
    pub fn read_only(mut self) -> Self {
        self.flags |= READ_ONLY;
        self
    }

    /// Lets the callee be a contract that is running already, this one included.
    pub fn allow_reentry(mut self) -> Self {
        self.flags |= ALLOW_REENTRY;
        self
    }

    /// Makes the call. A failure undoes what the callee did, and is the caller's to handle.
    pub fn send(self) -> Reply {
        let (status, data) = host::call(&self.to, self.method, &self.args, self.gas, self.flags);
        Reply { status, data }
    }
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a call may have failed"]
pub struct Reply {
    /// 0 if it succeeded, above 0 the callee's abort code, below 0 a reason of the host: see the constants.
    pub status: i32,
    /// The output, or the data of the abort.
    pub data: Vec<u8>,
}

impl Reply {
    /// The callee's code is faulty.
    pub const TRAPPED: i32 = -1;
    /// The gas was used up.
    pub const OUT_OF_GAS: i32 = -2;
    /// The callee is already running; see [`Call::allow_reentry`].
    pub const REENTRY: i32 = -3;
    /// There is no such contract or method.
    pub const NOT_FOUND: i32 = -4;
    /// A rule of the chain refused, such as writing in a view.
    pub const DENIED: i32 = -5;
    /// Calls nest too deep.
    pub const OUT_OF_DEPTH: i32 = -6;
    /// The output is not canonical.
    pub const BAD_OUTPUT: i32 = -7;
    /// The callee used up its memory.
    pub const OUT_OF_MEMORY: i32 = -8;

    /// Whether it succeeded.
    pub fn ok(&self) -> bool {
        self.status == 0
    }

    /// What the callee returned. A failure becomes an error with [`code::CALL_FAILED`] and the status and data, and so does
    /// an output of another type.
    pub fn returned<T: Data>(self) -> crate::Result<T> {
        if self.ok() {
            if let Ok(value) = cbor::decode(&self.data) {
                return Ok(value);
            }
        }
        let mut data = Vec::new();
        (self.status, self.data).encode_args(&mut data);
        Err(Error { code: code::CALL_FAILED, data })
    }
}
