//! Canonical CBOR (RFC 8949 §4.2.1): what arguments, results, events and values of state are made of.

use std::collections::BTreeMap;

const UINT: u8 = 0;
const NEGATIVE: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const TEXT: u8 = 3;
const ARRAY: u8 = 4;
pub(crate) const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

const FALSE: u64 = 20;
const TRUE: u64 = 21;
const NULL: u8 = 0xf6;
const BIGNUM: u64 = 2;

/// Elements of an array or map, and how deep they nest, at most.
const MAX_ELEMENTS: u64 = 65_536;
const MAX_NESTING: u32 = 32;

/// A value with one form in canonical CBOR. `#[data]` makes it for structs and enums.
pub trait Data: Sized {
    /// Appends the value.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads a value.
    fn decode(from: &mut Decoder) -> Result<Self, Malformed>;

    /// Appends a list of values. Bytes have a form of their own.
    #[doc(hidden)]
    fn encode_list(list: &[Self], out: &mut Vec<u8>) {
        head(out, ARRAY, list.len() as u64);
        for item in list {
            item.encode(out);
        }
    }

    /// Reads a list of values.
    #[doc(hidden)]
    fn decode_list(from: &mut Decoder) -> Result<Vec<Self>, Malformed> {
        let count = from.count(ARRAY)?;
        let mut list = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            list.push(Self::decode(from)?);
        }
        Ok(list)
    }
}

/// Says that bytes are not the canonical CBOR of what was to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Returns a value's bytes.
pub fn encode<T: Data>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    value.encode(&mut out);
    out
}

/// Reads one value that takes all the bytes.
pub fn decode<T: Data>(data: &[u8]) -> Result<T, Malformed> {
    let mut from = Decoder::new(data);
    let value = T::decode(&mut from)?;
    from.end()?;
    Ok(value)
}

pub(crate) fn encode_text(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 4);
    append_text(text, &mut out);
    out
}

pub(crate) fn append_text(text: &str, out: &mut Vec<u8>) {
    head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn append_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    head(out, BYTES, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends the head of a value: its major type and its number, in the shortest form.
pub(crate) fn head(out: &mut Vec<u8>, major: u8, n: u64) {
    let major = major << 5;
    if n < 24 {
        out.push(major | n as u8);
    } else if n <= 0xff {
        out.extend_from_slice(&[major | 24, n as u8]);
    } else if n <= 0xffff {
        out.push(major | 25);
        out.extend_from_slice(&(n as u16).to_be_bytes());
    } else if n <= 0xffff_ffff {
        out.push(major | 26);
        out.extend_from_slice(&(n as u32).to_be_bytes());
    } else {
        out.push(major | 27);
        out.extend_from_slice(&n.to_be_bytes());
    }
}

/// Reads values one after the other.
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Reads from the beginning of data.
    pub fn new(data: &'a [u8]) -> Self {
        Decoder { rest: data }
    }

    /// Fails if anything is left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        if n > self.rest.len() {
            return Err(Malformed);
        }
        let (taken, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(taken)
    }

    /// Reads a head: the major type and its number, which must have the shortest form.
    fn head(&mut self) -> Result<(u8, u64), Malformed> {
        let first = self.take(1)?[0];
        let (major, short) = (first >> 5, first & 31);
        if short < 24 {
            return Ok((major, short as u64));
        }
        if short > 27 || major == SIMPLE {
            return Err(Malformed);
        }
        let width = 1 << (short - 24);
        let mut n = 0;
        for byte in self.take(width)? {
            n = n << 8 | *byte as u64;
        }
        let least = if width == 1 { 24 } else { 1 << (4 * width) };
        if n < least {
            return Err(Malformed);
        }
        Ok((major, n))
    }

    fn number(&mut self, want: u8) -> Result<u64, Malformed> {
        match self.head()? {
            (major, n) if major == want => Ok(n),
            _ => Err(Malformed),
        }
    }

    /// Reads the head of an array or map, which can have no more elements than there are bytes left.
    pub(crate) fn count(&mut self, major: u8) -> Result<usize, Malformed> {
        let n = self.number(major)?;
        if n > MAX_ELEMENTS || n > self.rest.len() as u64 {
            return Err(Malformed);
        }
        Ok(n as usize)
    }

    /// Reads the bytes of a byte string or text.
    pub(crate) fn string(&mut self, major: u8) -> Result<&'a [u8], Malformed> {
        let n = self.number(major)?;
        if n > self.rest.len() as u64 {
            return Err(Malformed);
        }
        self.take(n as usize)
    }

    /// Reads the head of an array of n values.
    pub fn array(&mut self, n: usize) -> Result<(), Malformed> {
        if self.number(ARRAY)? == n as u64 {
            Ok(())
        } else {
            Err(Malformed)
        }
    }

    /// Reads the number of an enum's variant, and whether fields follow. `fields` tells how many each variant has.
    #[doc(hidden)]
    pub fn variant(&mut self, fields: &[usize]) -> Result<usize, Malformed> {
        let (major, mut n) = self.head()?;
        let mut have = 0;
        match (major, n) {
            (UINT, _) => {}
            (ARRAY, 2..=MAX_ELEMENTS) => {
                have = n as usize - 1;
                n = self.number(UINT)?;
            }
            _ => return Err(Malformed),
        }
        if n < fields.len() as u64 && fields[n as usize] == have {
            Ok(n as usize)
        } else {
            Err(Malformed)
        }
    }

    fn unsigned(&mut self, most: u64) -> Result<u64, Malformed> {
        match self.number(UINT)? {
            n if n <= most => Ok(n),
            _ => Err(Malformed),
        }
    }

    fn signed(&mut self, most: i64) -> Result<i64, Malformed> {
        match self.head()? {
            (UINT, n) if n <= most as u64 => Ok(n as i64),
            (NEGATIVE, n) if n <= most as u64 => Ok(!(n as i64)),
            _ => Err(Malformed),
        }
    }

    /// Reads over a value of any type.
    pub fn skip(&mut self) -> Result<(), Malformed> {
        self.skip_within(MAX_NESTING)
    }

    fn skip_within(&mut self, depth: u32) -> Result<(), Malformed> {
        if depth == 0 {
            return Err(Malformed);
        }
        let (major, n) = self.head()?;
        let values = match major {
            BYTES | TEXT => {
                self.take(usize::try_from(n).map_err(|_| Malformed)?)?;
                0
            }
            ARRAY | MAP if n > self.rest.len() as u64 => return Err(Malformed),
            ARRAY => n,
            MAP => 2 * n,
            TAG => 1,
            _ => 0,
        };
        for _ in 0..values {
            self.skip_within(depth - 1)?;
        }
        Ok(())
    }
}

#[doc(hidden)]
pub fn encode_variant(number: usize, fields: usize, out: &mut Vec<u8>) {
    if fields > 0 {
        head(out, ARRAY, 1 + fields as u64);
    }
    head(out, UINT, number as u64);
}

#[doc(hidden)]
pub fn encode_struct(fields: usize, out: &mut Vec<u8>) {
    head(out, ARRAY, fields as u64);
}

impl Data for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        head(out, SIMPLE, if *self { TRUE } else { FALSE });
    }
    fn decode(from: &mut Decoder) -> Result<Self, Malformed> {
        match from.number(SIMPLE)? {
            TRUE => Ok(true),
            FALSE => Ok(false),
            _ => Err(Malformed),
        }
    }
}

impl Data for u8 {
    fn encode(&self, out: &mut Vec<u8>) {
        head(out, UINT, *self as u64);
    }
    fn decode(from: &mut Decoder) -> Result<Self, Malformed> {
        Ok(from.unsigned(u8::MAX as u64)? as u8)
    }
    fn encode_list(list: &[u8], out: &mut Vec<u8>) {
        append_bytes(list, out);
    }
    fn decode_list(from: &mut Decoder) -> Result<Vec<u8>, Malformed> {
        Ok(from.string(BYTES)?.to_vec())
    }
}

macro_rules! unsigned {
    ($($int:ty),*) => {$(
        impl Data for $int {
            fn encode(&self, out: &mut Vec<u8>) {
                head(out, UINT, *self as u64);
            }
            fn decode(from: &mut Decoder) -> Result<Self, Malformed> {
                Ok(from.unsigned(<$int>::MAX as u64)? as $int)
            }
        }
    )*};
}
unsigned!(u16, u32, u64);

macro_rules! signed {
    ($($int:ty),*) => {$(
        impl Data for $int {
            fn encode(&self, out: &mut Vec<u8>) {
                match *self {
                    n if n < 0 => head(out, NEGATIVE, !(n as i64) as u64),
                    n => head(out, UINT, n as u64),
                }
            }
            fn decode(from: &mut Decoder) -> Result<Self, Malformed> {
                Ok(from.signed(<$int>::MAX as i64)? as $int)
            }
        }
    )*};
}
signed!(i8, i16, i32, i64);

impl Data for u128 {
    fn encode(&self, out: &mut Vec<u8>) {
        if let Ok(small) = u64::try_from(*self) {
            return head(out, UINT, small);
        }
        head(out, TAG, BIGNUM);
        append_bytes(&self.to_be_bytes()[self.leading_zeros() as usize / 8..], out);
    }
    fn decode(from: &mut Decoder) -> Result<Self, Malformed> {
        match from.head()? {
            (UINT, n) => Ok(n as u128),
            (TAG, BIGNUM) => {
                let bytes = from.string(BYTES)?;
                if bytes.len() <= 8 || bytes.len() > 16 || bytes[0] == 0 {
                    return Err(Malformed);
                }
                Ok(bytes.iter().fold(0, |n, byte| n << 8 | *byte as u128))
            }
            _ => Err(Malformed),
        }
    }
}

impl Data for String {
    fn encode(&self, out: &mut Vec<u8>) {
        append_text(self, out);
    }
    fn decode(from: &mut Decoder) -> Result<Self, Malformed> {
        String::from_utf8(from.string(TEXT)?.to_vec()).map_err(|_| Malformed)
    }
}

impl<const N: usize> Data for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        append_bytes(self, out);
    }
    fn decode(from: &mut Decoder) -> Result<Self, Malformed> {
        from.string(BYTES)?.try_into().map_err(|_| Malformed)
    }
}

impl<T: Data> Data for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode_list(self, out);
    }
    fn decode(from: &mut Decoder) -> Result<Self, Malformed> {
        T::decode_list(from)
    }
}

impl<T: Data> Data for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.encode(out),
            None => out.push(NULL),
        }
    }
    fn decode(from: &mut Decoder) -> Result<Self, Malformed> {
        if from.rest.first() == Some(&NULL) {
            from.rest = &from.rest[1..];
            return Ok(None);
        }
        Ok(Some(T::decode(from)?))
    }
}

impl<T: Data> Data for Box<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
    fn decode(from: &mut Decoder) -> Result<Self, Malformed> {
        T::decode(from).map(Box::new)
    }
}

impl<K: Data + Ord, V: Data> Data for BTreeMap<K, V> {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut entries: Vec<(Vec<u8>, &V)> = self.iter().map(|(key, value)| (encode(key), value)).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        head(out, MAP, entries.len() as u64);
        for (key, value) in entries {
            out.extend_from_slice(&key);
            value.encode(out);
        }
    }
    fn decode(from: &mut Decoder) -> Result<Self, Malformed> {
        let mut map = BTreeMap::new();
        let mut last: &[u8] = &[];
        for _ in 0..from.count(MAP)? {
            let before = from.rest;
            let key = K::decode(from)?;
            let encoded = &before[..before.len() - from.rest.len()];
            if encoded <= last {
                return Err(Malformed);
            }
            last = encoded;
            map.insert(key, V::decode(from)?);
        }
        Ok(map)
    }
}

/// The arguments of a call: a tuple of values, or their bytes.
pub trait Args: Sized {
    /// Appends the array of the arguments.
    fn encode_args(&self, out: &mut Vec<u8>);

    /// Reads the array of the arguments.
    fn decode_args(from: &mut Decoder) -> Result<Self, Malformed>;
}

/// Arguments that are encoded already.
pub struct Raw(pub Vec<u8>);

impl Args for Raw {
    fn encode_args(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn decode_args(from: &mut Decoder) -> Result<Self, Malformed> {
        Ok(Raw(from.take(from.rest.len())?.to_vec()))
    }
}

macro_rules! tuples {
    ($($n:literal: $($name:ident)*;)*) => {$(
        #[allow(non_snake_case)]
        impl<$($name: Data),*> Args for ($($name,)*) {
            fn encode_args(&self, out: &mut Vec<u8>) {
                let ($($name,)*) = self;
                head(out, ARRAY, $n);
                $($name.encode(out);)*
            }
            fn decode_args(from: &mut Decoder) -> Result<Self, Malformed> {
                from.array($n)?;
                Ok(($($name::decode(from)?,)*))
            }
        }
    )*};
}
tuples! {
    0: ;
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
    7: A B C D E F G;
    8: A B C D E F G H;
    9: A B C D E F G H I;
    10: A B C D E F G H I J;
    11: A B C D E F G H I J K;
    12: A B C D E F G H I J K L;
}
