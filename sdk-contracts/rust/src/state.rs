use crate::cbor::{self, Data, Decoder, Malformed};
use crate::{abort, code, host, not_found, Addr, Error, Hash};
use std::marker::PhantomData;
use std::num::TryFromIntError;
use std::ops::{Deref, RangeInclusive};

/// A part of a key. Integers are big-endian of their full width, so that keys sort as numbers do; the sign bit of signed ones is
/// inverted.
pub trait Key: Sized {
    /// Appends the key's bytes.
    fn append(&self, out: &mut Vec<u8>);

    /// Reads the key from the beginning of `from`.
    fn read(from: &mut &[u8]) -> Option<Self>;
}

/// A part of a key that may have others behind it, as its length is that of its type. After a text or bytes nobody could tell where the
/// next part begins, and two keys would be one:
///
/// ```compile_fail,E0277
/// use fondaco::prelude::*;
/// static ALLOWANCES: Map<(String, String), u128> = Map::new("allowance");
/// ```
///
/// ```
/// use fondaco::prelude::*;
/// static ALLOWANCES: Map<(Addr, (u8, u64), String), u128> = Map::new("allowance");
/// ```
pub trait FixedKey: Key {}

fn fixed<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    if from.len() < N {
        return None;
    }
    let (bytes, rest) = from.split_at(N);
    *from = rest;
    bytes.try_into().ok()
}

macro_rules! integers {
    ($($int:ty, $invert:expr;)*) => {$(
        impl Key for $int {
            fn append(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&(*self ^ $invert).to_be_bytes());
            }
            fn read(from: &mut &[u8]) -> Option<Self> {
                Some(<$int>::from_be_bytes(fixed(from)?) ^ $invert)
            }
        }
        impl FixedKey for $int {}
    )*};
}
integers! {
    u8, 0; u16, 0; u32, 0; u64, 0; u128, 0;
    i8, i8::MIN; i16, i16::MIN; i32, i32::MIN; i64, i64::MIN;
}

macro_rules! bytes {
    ($($name:ident),*) => {$(
        impl Key for $name {
            fn append(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.0);
            }
            fn read(from: &mut &[u8]) -> Option<Self> {
                fixed(from).map($name)
            }
        }
        impl FixedKey for $name {}
    )*};
}
bytes!(Addr, Hash);

impl Key for String {
    fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
    fn read(from: &mut &[u8]) -> Option<Self> {
        String::from_utf8(Vec::read(from)?).ok()
    }
}

impl Key for Vec<u8> {
    fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn read(from: &mut &[u8]) -> Option<Self> {
        Some(std::mem::take(from).to_vec())
    }
}

impl<A: FixedKey, B: Key> Key for (A, B) {
    fn append(&self, out: &mut Vec<u8>) {
        self.0.append(out);
        self.1.append(out);
    }
    fn read(from: &mut &[u8]) -> Option<Self> {
        Some((A::read(from)?, B::read(from)?))
    }
}
impl<A: FixedKey, B: FixedKey> FixedKey for (A, B) {}

impl<A: FixedKey, B: FixedKey, C: Key> Key for (A, B, C) {
    fn append(&self, out: &mut Vec<u8>) {
        self.0.append(out);
        self.1.append(out);
        self.2.append(out);
    }
    fn read(from: &mut &[u8]) -> Option<Self> {
        Some((A::read(from)?, B::read(from)?, C::read(from)?))
    }
}
impl<A: FixedKey, B: FixedKey, C: FixedKey> FixedKey for (A, B, C) {}

/// Ends the call, as what is under a key is not what the contract's types say.
#[cold]
fn malformed(key: &[u8]) -> ! {
    let name = key.split(|byte| *byte == b'/').next().and_then(|name| std::str::from_utf8(name).ok());
    abort(Error::text(code::STATE, name.unwrap_or("state")))
}

fn load<V: Data>(key: &[u8]) -> Option<V> {
    let data = host::get(key)?;
    Some(cbor::decode(&data).unwrap_or_else(|Malformed| malformed(key)))
}

/// One value in the contract's state.
pub struct Value<V> {
    key: &'static str,
    kind: PhantomData<fn() -> V>,
}

impl<V: Data> Value<V> {
    /// Names a value. The name may not begin another's.
    pub const fn new(key: &'static str) -> Self {
        Value { key, kind: PhantomData }
    }

    /// The value, if it was ever set.
    pub fn get(&self) -> Option<V> {
        load(self.key.as_bytes())
    }

    /// The value; ends the call with [`code::NOT_FOUND`] if it was never set.
    pub fn load(&self) -> V {
        self.get().unwrap_or_else(|| abort(not_found(self.key)))
    }

    /// Replaces the value.
    pub fn set(&self, value: &V) {
        host::set(self.key.as_bytes(), &cbor::encode(value));
    }

    /// Removes the value.
    pub fn remove(&self) {
        host::del(self.key.as_bytes());
    }
}

/// A number in state that is only added to, so that calls which add to it can run in parallel. It begins at 0.
pub struct Counter {
    key: &'static str,
}

impl Counter {
    /// Names a counter.
    pub const fn new(key: &'static str) -> Self {
        Counter { key }
    }

    /// Adds delta if the sum stays within the bounds, and tells whether it did.
    pub fn add(&self, delta: i64, within: RangeInclusive<i64>) -> bool {
        host::add(self.key.as_bytes(), delta, *within.start(), *within.end())
    }

    /// The counter. A method that reads it cannot run in parallel with those that add.
    pub fn get(&self) -> i64 {
        load(self.key.as_bytes()).unwrap_or(0)
    }
}

/// A mapping from K to V in the contract's state. Its keys are the name, a slash, and the key's bytes.
pub struct Map<K, V> {
    name: &'static str,
    kind: PhantomData<fn(K) -> V>,
}

impl<K: Key, V: Data> Map<K, V> {
    /// Names a map.
    pub const fn new(name: &'static str) -> Self {
        Map { name, kind: PhantomData }
    }

    fn prefix(&self, capacity: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.name.len() + 1 + capacity);
        key.extend_from_slice(self.name.as_bytes());
        key.push(b'/');
        key
    }

    fn key(&self, key: &K) -> Vec<u8> {
        let mut bytes = self.prefix(40);
        key.append(&mut bytes);
        bytes
    }

    /// The value under a key, if there is one.
    pub fn get(&self, key: &K) -> Option<V> {
        load(&self.key(key))
    }

    /// Whether there is a value under a key.
    pub fn has(&self, key: &K) -> bool {
        host::has(&self.key(key))
    }

    /// Puts a value under a key.
    pub fn set(&self, key: &K, value: &V) {
        host::set(&self.key(key), &cbor::encode(value));
    }

    /// Removes what is under a key.
    pub fn remove(&self, key: &K) {
        host::del(&self.key(key));
    }

    /// Goes over at most `limit` entries, 1 to 1024, in the order of their keys. It sees the state as it was at the first one.
    ///
    /// ```ignore
    /// for (who, amount) in BALANCES.scan(100).from(&alice) { … }
    /// ```
    pub fn scan(&self, limit: u32) -> Scan<K, V> {
        let start = self.prefix(40);
        let mut end = start.clone();
        end[start.len() - 1] += 1; // the slash becomes what follows it
        Scan { skip: start.len(), start, end, limit, flags: 0, iterator: None, kind: PhantomData }
    }
}

/// A [`Map`] of amounts to which calls that run in parallel can add: an account that many pay does not order the payments.
///
/// [`add`](Balances::add) and [`sub`](Balances::sub) of an amount below 2^63, to a balance that is below 2^63 before and after, do not
/// look at it, and run in parallel with others that do so. All else reads the balance and writes it, as `set` does, and is executed
/// once more if another call changed it meanwhile: `get` and its like, larger amounts and balances, and a `sub` of more than there
/// is. What state holds is the same.
pub struct Balances<K> {
    map: Map<K, u128>,
}

impl<K: Key> Balances<K> {
    /// Names a map of balances.
    pub const fn new(name: &'static str) -> Self {
        Balances { map: Map::new(name) }
    }

    /// The balance under a key, 0 if there is none.
    pub fn get(&self, key: &K) -> u128 {
        self.map.get(key).unwrap_or(0)
    }

    /// Adds to the balance under a key. A sum beyond 128 bits ends the call with [`code::OVERFLOW`].
    pub fn add(&self, key: &K, amount: u128) {
        if !self.shift(key, i64::try_from(amount)) {
            let sum = self.get(key).checked_add(amount).unwrap_or_else(|| abort(Error::text(code::OVERFLOW, "u128 add")));
            self.map.set(key, &sum);
        }
    }

    /// Takes from the balance under a key, or returns false, without a change, if that is less.
    pub fn sub(&self, key: &K, amount: u128) -> bool {
        if self.shift(key, i64::try_from(amount).map(|small| -small)) {
            return true;
        }
        match self.get(key).checked_sub(amount) {
            Some(rest) => self.map.set(key, &rest),
            None => return false,
        }
        true
    }

    /// Adds to the balance unseen, if it can.
    fn shift(&self, key: &K, by: Result<i64, TryFromIntError>) -> bool {
        match by {
            Ok(delta) => host::add(&self.map.key(key), delta, 0, i64::MAX),
            Err(_) => false,
        }
    }
}

impl<K> Deref for Balances<K> {
    type Target = Map<K, u128>;

    fn deref(&self) -> &Self::Target {
        &self.map
    }
}

/// Entries of a [`Map`], one after the other.
pub struct Scan<K, V> {
    skip: usize, // length of the map's prefix
    start: Vec<u8>,
    end: Vec<u8>,
    limit: u32,
    flags: u32,
    iterator: Option<u32>,
    kind: PhantomData<fn() -> (K, V)>,
}

const DESCENDING: u32 = 1;

impl<K: Key, V: Data> Scan<K, V> {
    /// Begins with the first key that is not below this one: the way to the next page.
    pub fn from(mut self, key: &K) -> Self {
        let mut start = self.start[..self.skip].to_vec();
        key.append(&mut start);
        if start > self.start {
            self.start = start;
        }
        self
    }

    /// Goes only over keys whose bytes begin so.
    pub fn starting_with(mut self, prefix: impl AsRef<[u8]>) -> Self {
        let mut start = self.start[..self.skip].to_vec();
        start.extend_from_slice(prefix.as_ref());
        if let Some(last) = start.iter().rposition(|byte| *byte != 0xff) {
            let mut end = start[..=last].to_vec();
            end[last] += 1;
            if end < self.end {
                self.end = end;
            }
        }
        if start > self.start {
            self.start = start;
        }
        self
    }

    /// Goes from the highest key down.
    pub fn descending(mut self) -> Self {
        self.flags |= DESCENDING;
        self
    }

    fn entry(&self, data: &[u8]) -> Result<(K, V), Malformed> {
        let mut from = Decoder::new(data);
        from.array(2)?;
        let mut key = from.string(cbor::BYTES)?.get(self.skip..).ok_or(Malformed)?;
        let value = cbor::decode(from.string(cbor::BYTES)?)?;
        match K::read(&mut key) {
            Some(read) if key.is_empty() => Ok((read, value)),
            _ => Err(Malformed),
        }
    }
}

impl<K: Key, V: Data> Iterator for Scan<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        if self.iterator.is_none() && self.start >= self.end {
            return None; // the keys from `from` on are all above the prefix
        }
        let (start, end, flags, limit) = (&self.start, &self.end, self.flags, self.limit);
        let iterator = *self.iterator.get_or_insert_with(|| host::scan(start, end, flags, limit));
        let data = host::scan_next(iterator)?;
        match self.entry(&data) {
            Ok(entry) => Some(entry),
            Err(Malformed) => malformed(&self.start[..self.skip]),
        }
    }
}

impl<K, V> Drop for Scan<K, V> {
    fn drop(&mut self) {
        if let Some(iterator) = self.iterator {
            host::scan_close(iterator);
        }
    }
}
