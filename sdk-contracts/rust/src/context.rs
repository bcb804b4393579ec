use crate::cbor::{self, Data, Decoder, Malformed};
use crate::{abort, code, host, Error};
use std::cell::Cell;
use std::fmt;

/// Names an account or a contract. The default is nobody.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr(pub [u8; 20]);

/// A digest.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Addr {
    /// Whether this is nobody.
    pub fn is_zero(&self) -> bool {
        *self == Addr::default()
    }
}

macro_rules! bytes {
    ($name:ident) => {
        impl Data for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
            fn decode(from: &mut Decoder) -> Result<Self, Malformed> {
                Data::decode(from).map($name)
            }
        }
        /// 0x and hexadecimal digits.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
bytes!(Addr);
bytes!(Hash);

/// What `#[event]` makes of a struct: data under a topic, which is the struct's name.
pub trait Event: Data {
    /// The name that the event is found by.
    const TOPIC: &'static str;
}

/// The call that a method serves.
pub struct Ctx {
    data: Cell<Vec<u8>>, // what the host says about the call: a CBOR map, read when first asked for
}

impl Ctx {
    pub(crate) fn new() -> Self {
        Ctx { data: Cell::new(Vec::new()) }
    }

    fn field<T: Data>(&self, name: &str) -> T {
        let mut data = self.data.take();
        if data.is_empty() {
            data = host::ctx();
        }
        let value = field(&data, name);
        self.data.set(data);
        value.unwrap_or_else(|Malformed| abort(Error::text(code::STATE, name)))
    }

    /// The account or contract that called.
    pub fn caller(&self) -> Addr {
        self.field("caller")
    }

    /// The account that signed the transaction.
    pub fn origin(&self) -> Addr {
        self.field("origin")
    }

    /// This contract.
    pub fn this(&self) -> Addr {
        self.field("self")
    }

    /// The height of the block that is made, or, in a view without a transaction, the last one's.
    pub fn height(&self) -> u64 {
        self.field("height")
    }

    /// The block's time in Unix milliseconds.
    pub fn time_ms(&self) -> u64 {
        self.field("time_ms")
    }

    /// The ledger's name.
    pub fn group(&self) -> String {
        self.field("group")
    }

    /// The transaction's id.
    pub fn tx_id(&self) -> Hash {
        self.field("tx_id")
    }

    /// The transaction's place in its block.
    pub fn tx_index(&self) -> u64 {
        self.field("tx_index")
    }

    /// The name of the method that was called.
    pub fn method(&self) -> String {
        self.field("method")
    }

    /// Whether writes are denied.
    pub fn read_only(&self) -> bool {
        self.field("read_only")
    }

    /// The caller's institution; contracts have none.
    pub fn institution(&self) -> Option<String> {
        attribute(1)
    }

    /// Whether the caller has the role.
    pub fn has_role(&self, role: &str) -> bool {
        attribute::<Vec<String>>(2).map_or(false, |roles| roles.iter().any(|r| r == role))
    }

    /// Adds an event to the receipt, under the name of its type.
    pub fn emit<E: Event>(&self, event: E) {
        host::emit(E::TOPIC, &cbor::encode(&event));
    }
}

/// Reads the value under a name of a CBOR map.
fn field<T: Data>(data: &[u8], name: &str) -> Result<T, Malformed> {
    let mut from = Decoder::new(data);
    for _ in 0..from.count(cbor::MAP)? {
        if from.string(cbor::TEXT)? == name.as_bytes() {
            return T::decode(&mut from);
        }
        from.skip()?;
    }
    Err(Malformed)
}

fn attribute<T: Data>(kind: u32) -> Option<T> {
    cbor::decode(&host::caller_attr(kind)?).ok()
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For who writes the contract.
    Debug,
    /// For who runs the node.
    Info,
    /// What should not happen.
    Warning,
    /// What must not happen.
    Error,
}

/// Writes a line to the node's local trace, which is no part of the ledger.
pub fn log(level: Level, text: &str) {
    host::log(level as u32, text);
}

/// The gas that the call may still use.
pub fn gas_left() -> u64 {
    host::gas_left()
}
