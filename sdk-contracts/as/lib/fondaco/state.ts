// Typed state. A value's key is its name. A map's keys are its name, a slash, and the key's bytes: integers big-endian,
// addresses 20 bytes, text and bytes as they are (which may only come last).

import * as host from "./host";
import { Reader, Writer } from "./cbor";
import { Code, fail } from "./failure";
import { u128 } from "./u128";
import { Address, Hash } from "./values";

/** Bytes of a value that are read without asking the result register. */
const SCRATCH = 1024;

// One call of a host function uses these at a time. Nothing that is decoded shares memory with them.
const key = new Writer(256);
const value = new Writer(1024);
const scratch: usize = heap.alloc(SCRATCH);

/** Reads a V that has enums in it; transform.mjs gives it to state of such values. Null: V has none. */
type Read<V> = ((from: Reader) => V) | null;

function decoded<V>(reader: Reader, decode: Read<V>): V {
  const v = decode === null ? reader.get<V>() : decode(reader);
  reader.done();
  return v;
}

function fetch<V>(decode: Read<V>): V {
  const reader = read();
  return reader === null ? absent<V>() : decoded<V>(reader, decode);
}

function find<V>(decode: Read<V>): V | null {
  const reader = read();
  return reader === null ? null : decoded<V>(reader, decode);
}

/** Reads what is under `key`. */
function read(): Reader | null {
  const n = host.get(key.start, key.length, scratch, SCRATCH);
  return n < 0 ? null : received(n);
}

/** Returns a reader of n bytes that a host function put into the scratch memory, or could not. */
function received(n: i32): Reader {
  let from = scratch;
  if (n > SCRATCH) {
    from = heap.alloc(n);
    host.result_read(from, 0, n);
  }
  return new Reader(from, from + n, Code.STATE);
}

/** What `get` returns where nothing was set. */
function absent<V>(): V {
  if (isInteger<V>()) {
    return <V>0;
  } else if (isNullable<V>()) {
    return changetype<V>(0);
  } else if (isString<V>()) {
    return changetype<V>("");
  } else if (isArray<V>()) {
    return instantiate<V>();
  } else if (idof<V>() == idof<Uint8Array>()) {
    return changetype<V>(new Uint8Array(0));
  } else if (idof<V>() == idof<u128>()) {
    return changetype<V>(u128.zero);
  } else if (idof<V>() == idof<Address>()) {
    return changetype<V>(Address.zero);
  } else if (idof<V>() == idof<Hash>()) {
    return changetype<V>(Hash.zero);
  } else {
    // The name alone: the rest of a key need not be text.
    let n = 0;
    while (n < key.length && load<u8>(key.start + n) != 0x2f) n++;
    fail(Code.NOT_FOUND, String.UTF8.decodeUnsafe(key.start, n));
    return changetype<V>(0);
  }
}

function save<V>(v: V): void {
  value.reset().put<V>(v);
  host.set(key.start, key.length, value.start, value.length);
}

/** One value in the contract's state. */
@final export class StateValue<V> {
  /** Names the value. The name may not begin another's. */
  constructor(
    private name: string,
    private decode: Read<V> = null,
  ) {}

  private at(): void {
    key.reset().utf8(this.name);
  }

  /** The value. Never set: 0, an empty text or list, the zero Address; a struct ends the call with code NOT_FOUND. */
  get(): V {
    this.at();
    return fetch<V>(this.decode);
  }

  /** The value, or null if it was never set. Not for integers. */
  find(): V | null {
    this.at();
    return find<V>(this.decode);
  }

  has(): bool {
    this.at();
    return host.has(key.start, key.length) != 0;
  }

  set(v: V): void {
    this.at();
    save<V>(v);
  }

  delete(): void {
    this.at();
    host.del(key.start, key.length);
  }
}

/** A mapping from K to V. K is an integer, string, Uint8Array, Address, Hash, u128, or a struct of those. */
export class StateMap<K, V> {
  private prefix: string;

  constructor(
    name: string,
    private decode: Read<V> = null,
  ) {
    this.prefix = name + "/";
  }

  protected at(k: K): void {
    key.reset().utf8(this.prefix);
    key.key<K>(k);
  }

  /** The value under k. None: 0, an empty text or list, the zero Address; a struct ends the call with code NOT_FOUND. */
  get(k: K): V {
    this.at(k);
    return fetch<V>(this.decode);
  }

  /** The value under k, or null. Not for integers. */
  find(k: K): V | null {
    this.at(k);
    return find<V>(this.decode);
  }

  has(k: K): bool {
    this.at(k);
    return host.has(key.start, key.length) != 0;
  }

  set(k: K, v: V): void {
    this.at(k);
    save<V>(v);
  }

  delete(k: K): void {
    this.at(k);
    host.del(key.start, key.length);
  }

  /**
   * Goes through at most `limit` entries (1 to 1,024) in the order of their keys:
   *
   *     for (const page = entries.scan(20).from(k); page.next(); ) { page.key; page.value; }
   */
  scan(limit: i32): Scan<K, V> {
    const base = new Writer(64);
    base.utf8(this.prefix);
    return new Scan<K, V>(base, limit, this.decode);
  }
}

/**
 * A mapping from K to amounts to which calls that run in parallel can add: an account that many pay does not order the payments.
 *
 * `add` and `sub` of an amount below 2^63, to a balance that is below 2^63 before and after, do not look at it, and run in parallel
 * with others that do so. All else reads the balance and writes it, as `set` does, and is executed once more if another call changed
 * it meanwhile: `get` and its like, larger amounts and balances, and a `sub` of more than there is. What state holds is the same.
 */
@final export class Balances<K> extends StateMap<K, u128> {
  constructor(name: string) {
    super(name);
  }

  /** Adds to the balance under k. A sum beyond 128 bits ends the call with code OVERFLOW. */
  add(k: K, amount: u128): void {
    if (!this.shift(k, amount, 1)) this.set(k, this.get(k) + amount);
  }

  /** Takes from the balance under k, or returns false, without a change, if that is less. */
  sub(k: K, amount: u128): bool {
    if (this.shift(k, amount, -1)) return true;
    const have = this.get(k);
    if (have < amount) return false;
    this.set(k, have - amount);
    return true;
  }

  /** Adds to the balance unseen, if it can. */
  private shift(k: K, amount: u128, sign: i64): bool {
    if (amount.hi != 0 || amount.lo > u64(i64.MAX_VALUE)) return false;
    this.at(k);
    return host.add(key.start, key.length, sign * amount.lo, 0, i64.MAX_VALUE) == 0;
  }
}

/** A mapping from pairs of keys to V. */
@final export class StateMap2<K, L, V> {
  private prefix: string;

  constructor(
    name: string,
    private decode: Read<V> = null,
  ) {
    this.prefix = name + "/";
  }

  private at(k: K, l: L): void {
    key.reset().utf8(this.prefix);
    key.key<K>(k);
    key.key<L>(l);
  }

  /** The value under k and l. None: as StateMap.get. */
  get(k: K, l: L): V {
    this.at(k, l);
    return fetch<V>(this.decode);
  }

  /** The value under k and l, or null. Not for integers. */
  find(k: K, l: L): V | null {
    this.at(k, l);
    return find<V>(this.decode);
  }

  has(k: K, l: L): bool {
    this.at(k, l);
    return host.has(key.start, key.length) != 0;
  }

  set(k: K, l: L, v: V): void {
    this.at(k, l);
    save<V>(v);
  }

  delete(k: K, l: L): void {
    this.at(k, l);
    host.del(key.start, key.length);
  }

  /** Goes through at most `limit` entries under k, in the order of their second keys. */
  scan(k: K, limit: i32): Scan<L, V> {
    const base = new Writer(64);
    base.utf8(this.prefix);
    base.key<K>(k);
    return new Scan<L, V>(base, limit, this.decode);
  }
}

/** Entries of a map, one after the other. It shows the state as it was at the first `next`. */
@final export class Scan<K, V> {
  private start: Writer; // the first key
  private end: Writer; // the first key that is beyond
  private flags: i32 = 0;
  private it: i32 = -1;
  private ended: bool = false;
  private lastKey: usize = 0;
  private lastKeyEnd: usize = 0;
  private lastValue: usize = 0;
  private lastValueEnd: usize = 0;

  /** Begins with all keys that begin with `base`. */
  constructor(
    private base: Writer,
    private limit: i32,
    private decode: Read<V>,
  ) {
    this.start = base;
    this.end = successor(base);
  }

  /** Leaves out the keys below k: the way to the next page. */
  from(k: K): this {
    this.start = later(this.start, this.bound(k));
    return this;
  }

  /** Leaves out k and the keys above it. */
  until(k: K): this {
    this.end = earlier(this.end, this.bound(k));
    return this;
  }

  /** Leaves out keys, of text or bytes, that do not begin with k. */
  prefix(k: K): this {
    const bound = this.bound(k);
    this.start = later(this.start, bound);
    this.end = earlier(this.end, successor(bound));
    return this;
  }

  /** From the highest key down. */
  backward(): this {
    this.flags |= 1;
    return this;
  }

  private bound(k: K): Writer {
    const w = new Writer(this.base.length + 32);
    w.raw(this.base.start, this.base.length);
    w.key<K>(k);
    return w;
  }

  /** Moves to the next entry, and returns whether there is one. */
  next(): bool {
    if (this.ended) return false;
    if (this.it < 0) {
      if (compare(this.start, this.end) >= 0) {
        this.ended = true;
        return false;
      }
      this.it = host.scan(this.start.start, this.start.length, this.end.start, this.end.length, this.flags, this.limit);
    }
    const n = host.scan_next(this.it, scratch, SCRATCH);
    if (n < 0) {
      this.close();
      return false;
    }
    const reader = received(n);
    reader.tuple(2);
    // A copy, as the scratch memory serves other reads before the entry is asked for.
    const copy = heap.alloc(n);
    const shift = copy - reader.at;
    memory.copy(copy, reader.at, reader.end - reader.at);
    const k = reader.span();
    this.lastKey = k + this.base.length + shift;
    this.lastKeyEnd = reader.at + shift;
    this.lastValue = reader.span() + shift;
    this.lastValueEnd = reader.at + shift;
    reader.done();
    return true;
  }

  /** The key of the entry. */
  get key(): K {
    const reader = new Reader(this.lastKey, this.lastKeyEnd, Code.STATE);
    const k = reader.key<K>();
    reader.done();
    return k;
  }

  /** The value of the entry. */
  get value(): V {
    return decoded<V>(new Reader(this.lastValue, this.lastValueEnd, Code.STATE), this.decode);
  }

  /** Ends the scan early. At most 8 are open at a time; the end of the call closes all. */
  close(): void {
    if (this.it >= 0 && !this.ended) host.scan_close(this.it);
    this.ended = true;
  }
}

/** A number that is only added to, so that calls which add to it can run in parallel. It begins at 0. */
@final export class Counter {
  constructor(private name: string) {}

  /** Adds delta if the sum stays within least and most, and returns whether it did. */
  add(delta: i64, least: i64 = i64.MIN_VALUE, most: i64 = i64.MAX_VALUE): bool {
    key.reset().utf8(this.name);
    return host.add(key.start, key.length, delta, least, most) == 0;
  }

  /** The number. A method that reads it cannot run in parallel with those that add. */
  get(): i64 {
    key.reset().utf8(this.name);
    return fetch<i64>(null);
  }
}

/** The first key above all that begin with w. */
function successor(w: Writer): Writer {
  let n = w.length;
  while (load<u8>(w.start + n - 1) == 0xff) n--; // the slash of the prefix ends it
  const s = new Writer(n);
  s.raw(w.start, n);
  store<u8>(s.start + n - 1, load<u8>(s.start + n - 1) + 1);
  return s;
}

function later(a: Writer, b: Writer): Writer {
  return compare(a, b) < 0 ? b : a;
}

function earlier(a: Writer, b: Writer): Writer {
  return compare(a, b) < 0 ? a : b;
}

function compare(a: Writer, b: Writer): i32 {
  const order = memory.compare(a.start, b.start, min(a.length, b.length));
  return order != 0 ? order : a.length - b.length;
}
