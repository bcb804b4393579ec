// The codec: canonical CBOR (RFC 8949 §4.2.1), and the bytes of state keys. Which code a type needs is decided when the
// compiler instantiates put and get for it; what @struct, @event and @error classes need, transform.mjs adds to them.

import * as host from "./host";
import { Code, fail } from "./failure";

const UINT: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;

/** The status of a call whose output is not what it should be. */
const BAD_OUTPUT = -7;

/** The most values in one array. */
const MOST_ELEMENTS: u64 = 65_536;

/** A buffer that grows, outside of the managed heap. */
@final export class Writer {
  start: usize;
  private at: usize;
  private end: usize;

  constructor(capacity: i32) {
    this.start = heap.alloc(capacity);
    this.at = this.start;
    this.end = this.start + capacity;
  }

  get length(): i32 {
    return i32(this.at - this.start);
  }

  /** Drops what was written. */
  reset(): this {
    this.at = this.start;
    return this;
  }

  /** Makes room for n bytes, which the caller fills, and returns their address. */
  room(n: i32): usize {
    const at = this.at;
    if (usize(n) > this.end - at) return this.grow(n);
    this.at = at + n;
    return at;
  }

  private grow(n: i32): usize {
    const length = this.at - this.start;
    const capacity = (length + n) << 1;
    this.start = heap.realloc(this.start, capacity);
    this.end = this.start + capacity;
    this.at = this.start + length + n;
    return this.start + length;
  }

  byte(b: u8): void {
    store<u8>(this.room(1), b);
  }

  raw(from: usize, n: i32): void {
    memory.copy(this.room(n), from, n);
  }

  /** Writes an integer big-endian in its full width. */
  fixed<T extends number>(n: T): void {
    store<T>(this.room(sizeof<T>()), bswap<T>(n));
  }

  /** Writes the UTF-8 bytes of a string without a head. */
  utf8(s: string): void {
    const n = s.length;
    const from = changetype<usize>(s);
    let to = this.room(n);
    for (let i = 0; i < n; i++) {
      const unit = load<u16>(from + (i << 1));
      if (unit >= 0x80) {
        this.at -= n;
        to = this.room(String.UTF8.byteLength(s));
        String.UTF8.encodeUnsafe(from, n, to, false, String.UTF8.ErrorMode.REPLACE);
        return;
      }
      store<u8>(to + i, u8(unit));
    }
  }

  private head(major: u8, n: u64): void {
    const kind = major << 5;
    if (n < 24) {
      this.byte(kind | u8(n));
    } else if (n <= 0xff) {
      this.byte(kind | 24);
      this.byte(u8(n));
    } else if (n <= 0xffff) {
      this.byte(kind | 25);
      this.fixed<u16>(u16(n));
    } else if (n <= 0xffff_ffff) {
      this.byte(kind | 26);
      this.fixed<u32>(u32(n));
    } else {
      this.byte(kind | 27);
      this.fixed<u64>(n);
    }
  }

  uint(n: u64): void {
    this.head(UINT, n);
  }

  int(n: i64): void {
    if (n < 0) this.head(NEGATIVE, ~n);
    else this.head(UINT, n);
  }

  bool(v: bool): void {
    this.byte(v ? TRUE : FALSE);
  }

  text(s: string): void {
    const n = s.length;
    this.head(TEXT, ascii(s) ? n : String.UTF8.byteLength(s));
    this.utf8(s);
  }

  bytes(from: usize, n: i32): void {
    this.head(BYTES, n);
    this.raw(from, n);
  }

  array(n: i32): void {
    this.head(ARRAY, n);
  }

  null(): void {
    this.byte(NULL);
  }

  /** Writes an integer of 128 bits: as such up to 2^64-1, above as a bignum. */
  wide(hi: u64, lo: u64): void {
    if (hi == 0) {
      this.head(UINT, lo);
      return;
    }
    const n = 8 - (i32(clz(hi)) >> 3);
    this.byte((TAG << 5) | 2);
    this.head(BYTES, 8 + n);
    const to = this.room(8 + n);
    for (let i = 0; i < n; i++) store<u8>(to + i, u8(hi >> ((n - 1 - i) << 3)));
    store<u64>(to + n, bswap<u64>(lo));
  }

  /** Writes a value of any type that a contract may keep or pass. */
  put<T>(v: T): void {
    if (isNullable<T>()) {
      if (changetype<usize>(v) == 0) this.null();
      else this.put<NonNullable<T>>(changetype<NonNullable<T>>(v));
    } else if (isBoolean<T>()) {
      this.bool(v);
    } else if (isInteger<T>()) {
      if (isSigned<T>()) this.int(v);
      else this.uint(v);
    } else if (isString<T>()) {
      this.text(v);
    } else if (isArray<T>()) {
      this.array(v.length);
      for (let i = 0; i < v.length; i++) this.put<valueof<T>>(v[i]);
    } else if (idof<T>() == idof<Uint8Array>()) {
      this.bytes(v.dataStart, v.length);
    } else {
      v.encode(this);
    }
  }

  /** Writes a key of state. Integers are big-endian, signed ones with the sign bit inverted, so that keys sort as they do. */
  key<T>(v: T): void {
    if (isInteger<T>()) {
      if (isSigned<T>()) this.fixed<T>(v ^ (<T>1 << <T>(8 * sizeof<T>() - 1)));
      else this.fixed<T>(v);
    } else if (isString<T>()) {
      this.utf8(v);
    } else if (idof<T>() == idof<Uint8Array>()) {
      this.raw(v.dataStart, v.length);
    } else {
      v.encodeKey(this);
    }
  }
}

/** Reads values one after the other. The first that does not fit ends the call with the reader's code. */
@final export class Reader {
  public at: usize;

  constructor(
    private start: usize,
    public end: usize,
    private code: i32,
  ) {
    this.at = start;
  }

  /** Ends the call. */
  fail(): void {
    if (this.code == Code.CALL_FAILED) callFailed(BAD_OUTPUT, this.start, i32(this.end - this.start));
    if (this.code == Code.ARGUMENTS) fail(this.code, "the arguments do not fit the method");
    fail(this.code, "the data is not what the contract's types say");
  }

  /** Ends the call unless everything was read. */
  done(): void {
    if (this.at != this.end) this.fail();
  }

  /** Returns the address of the next n bytes. */
  take(n: u64): usize {
    const at = this.at;
    if (n > u64(this.end - at)) this.fail();
    this.at = at + usize(n);
    return at;
  }

  fixed<T extends number>(): T {
    return bswap<T>(load<T>(this.take(sizeof<T>())));
  }

  /** Reads the head of a value of one kind. */
  private head(major: u8): u64 {
    const first = load<u8>(this.take(1));
    if (first >> 5 != major) this.fail();
    return this.rest(first & 31);
  }

  private rest(n: u8): u64 {
    if (n < 24) return n;
    let v: u64 = 0;
    let least: u64 = 24;
    if (n == 24) {
      v = load<u8>(this.take(1));
    } else if (n == 25) {
      v = this.fixed<u16>();
      least = 0x100;
    } else if (n == 26) {
      v = this.fixed<u32>();
      least = 0x1_0000;
    } else if (n == 27) {
      v = this.fixed<u64>();
      least = 0x1_0000_0000;
    } else {
      this.fail();
    }
    if (v < least) this.fail();
    return v;
  }

  uint(most: u64): u64 {
    const n = this.head(UINT);
    if (n > most) this.fail();
    return n;
  }

  int(most: u64): i64 {
    const first = load<u8>(this.take(1));
    const major = first >> 5;
    if (major > NEGATIVE) this.fail();
    const n = this.rest(first & 31);
    if (n > most) this.fail();
    return major == NEGATIVE ? ~i64(n) : i64(n);
  }

  /** Reads the number of one of an enum's variants. */
  enum(variants: i32): i32 {
    return i32(this.uint(variants - 1));
  }

  bool(): bool {
    const b = load<u8>(this.take(1));
    if (b != TRUE && b != FALSE) this.fail();
    return b == TRUE;
  }

  text(): string {
    return this.utf8(this.head(TEXT));
  }

  /** Reads length bytes of UTF-8. */
  utf8(length: u64): string {
    const from = this.take(length);
    const n = i32(length); // what is in memory has less than 2^31
    const s = changetype<string>(__new(n << 1, idof<string>()));
    const to = changetype<usize>(s);
    for (let i = 0; i < n; i++) {
      const b = load<u8>(from + i);
      if (b >= 0x80) return this.wideText(from, n);
      store<u16>(to + (i << 1), b);
    }
    return s;
  }

  /** Reads text that is not all ASCII. */
  private wideText(from: usize, n: i32): string {
    let i = 0;
    while (i < n) {
      const b = load<u8>(from + i++);
      if (b < 0x80) continue;
      const more = b < 0xe0 ? 1 : b < 0xf0 ? 2 : 3;
      if (b < 0xc2 || b > 0xf4 || i + more > n) this.fail();
      // The second byte excludes longer forms than needed, surrogates, and what is above U+10FFFF.
      const second = load<u8>(from + i);
      const least: u8 = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
      const most: u8 = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
      if (second < least || second > most) this.fail();
      for (let j = 1; j < more; j++) {
        if ((load<u8>(from + i + j) & 0xc0) != 0x80) this.fail();
      }
      i += more;
    }
    return String.UTF8.decodeUnsafe(from, n);
  }

  bytes(): Uint8Array {
    const n = this.head(BYTES);
    const from = this.take(n);
    const data = new Uint8Array(i32(n));
    memory.copy(data.dataStart, from, usize(n));
    return data;
  }

  /** Reads over a byte string, and returns its address. */
  span(): usize {
    return this.take(this.head(BYTES));
  }

  /** Reads a byte string of exactly n bytes, and returns its address. */
  exactly(n: i32): usize {
    if (this.head(BYTES) != n) this.fail();
    return this.take(n);
  }

  /** Reads the head of an array and returns how many values follow. */
  array(): i32 {
    const n = this.head(ARRAY);
    if (n > MOST_ELEMENTS || n > u64(this.end - this.at)) this.fail();
    return i32(n);
  }

  /** Reads the head of an array that must have n values. */
  tuple(n: i32): void {
    if (this.head(ARRAY) != n) this.fail();
  }

  /** Reads null if it is next. */
  null(): bool {
    if (this.at == this.end || load<u8>(this.at) != NULL) return false;
    this.at++;
    return true;
  }

  /** Reads the high half of an integer of 128 bits, and leaves the low one in `low`. */
  wide(): u64 {
    const first = load<u8>(this.take(1));
    if (first >> 5 == UINT) {
      this.low = this.rest(first & 31);
      return 0;
    }
    if (first != ((TAG << 5) | 2)) this.fail();
    const length = this.head(BYTES);
    if (length < 9 || length > 16) this.fail();
    const n = i32(length) - 8;
    let hi: u64 = 0;
    for (let i = 0; i < n; i++) hi = (hi << 8) | load<u8>(this.take(1));
    if (hi >> ((n - 1) << 3) == 0) this.fail();
    this.low = this.fixed<u64>();
    return hi;
  }

  low: u64 = 0;

  /** Moves to the value under a text key of the map that is next; the key must be there. */
  field(name: string): this {
    for (let left = this.head(MAP); left > 0; left--) {
      const n = this.head(TEXT);
      if (same(name, this.take(n), i32(n))) return this;
      this.skip();
    }
    this.fail();
    return this;
  }

  /** Reads over a value that is no map. */
  private skip(): void {
    const first = load<u8>(this.take(1));
    const major = first >> 5;
    if (major == SIMPLE) return;
    const n = this.rest(first & 31);
    if (major == BYTES || major == TEXT) this.take(n);
    else if (major == ARRAY) for (let i: u64 = 0; i < n; i++) this.skip();
    else if (major > ARRAY) this.fail();
  }

  /** Reads a value of any type that a contract may keep or take. */
  get<T>(): T {
    if (isNullable<T>()) {
      if (this.null()) return changetype<T>(0);
      return this.get<NonNullable<T>>();
    } else if (isBoolean<T>()) {
      return <T>this.bool();
    } else if (isInteger<T>()) {
      const most = u64.MAX_VALUE >> (64 - 8 * sizeof<T>());
      if (isSigned<T>()) return <T>this.int(most >> 1);
      return <T>this.uint(most);
    } else if (isString<T>()) {
      return this.text();
    } else if (isArray<T>()) {
      const n = this.array();
      const list = instantiate<T>();
      for (let i = 0; i < n; i++) list.push(this.get<valueof<T>>());
      return list;
    } else if (idof<T>() == idof<Uint8Array>()) {
      return changetype<T>(this.bytes());
    } else {
      const v = changetype<T>(__new(offsetof<T>(), idof<T>()));
      v.decode(this);
      return v;
    }
  }

  /** Reads a key of state, or part of it; text and bytes reach to the end. */
  key<T>(): T {
    if (isInteger<T>()) {
      const n = this.fixed<T>();
      if (isSigned<T>()) return n ^ (<T>1 << <T>(8 * sizeof<T>() - 1));
      return n;
    } else if (isString<T>()) {
      return this.utf8(i32(this.end - this.at));
    } else if (idof<T>() == idof<Uint8Array>()) {
      const n = i32(this.end - this.at);
      const data = new Uint8Array(n);
      memory.copy(data.dataStart, this.take(n), n);
      return changetype<T>(data);
    } else {
      const v = changetype<T>(__new(offsetof<T>(), idof<T>()));
      v.decodeKey(this);
      return v;
    }
  }
}

/** Ends the call with code CALL_FAILED, and how another call ended. */
export function callFailed(status: i32, data: usize, length: i32): void {
  const out = new Writer(64);
  out.array(2);
  out.int(status);
  out.bytes(data, length);
  host.abort(Code.CALL_FAILED, out.start, out.length);
  unreachable();
}

/** A reader of the result register. */
export function result(code: i32): Reader {
  const n = host.result_len();
  const data = heap.alloc(n);
  host.result_read(data, 0, n);
  return new Reader(data, data + n, code);
}

function ascii(s: string): bool {
  const from = changetype<usize>(s);
  for (let i = 0; i < s.length; i++) {
    if (load<u16>(from + (i << 1)) >= 0x80) return false;
  }
  return true;
}

/** Whether n bytes at an address are an ASCII string. */
function same(s: string, at: usize, n: i32): bool {
  if (s.length != n) return false;
  const from = changetype<usize>(s);
  for (let i = 0; i < n; i++) {
    if (load<u16>(from + (i << 1)) != load<u8>(at + i)) return false;
  }
  return true;
}
