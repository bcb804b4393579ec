// Values that most contracts have: who, and what of.

import { Reader, Writer } from "./cbor";

/** Names an account or a contract. */
@final export class Address {
  // The 20 bytes, in memory one after the other.
  private a: u64;
  private b: u64;
  private c: u32;

  /** Nobody. */
  static get zero(): Address {
    return new Address();
  }

  /** The address of 20 bytes. */
  static from(bytes: Uint8Array): Address {
    assert(bytes.length == 20, "an address has 20 bytes");
    const v = new Address();
    memory.copy(v.at, bytes.dataStart, 20);
    return v;
  }

  get isZero(): bool {
    return (this.a | this.b | this.c) == 0;
  }

  /** Where the bytes are. */
  get at(): usize {
    return changetype<usize>(this);
  }

  @operator("==") private static eq(x: Address, y: Address): bool {
    return x.a == y.a && x.b == y.b && x.c == y.c;
  }

  @operator("!=") private static ne(x: Address, y: Address): bool {
    return !(x == y);
  }

  /** 0x and 40 hexadecimal digits. */
  toString(): string {
    return hex(this.at, 20);
  }

  encode(out: Writer): void {
    out.bytes(this.at, 20);
  }

  decode(from: Reader): void {
    memory.copy(this.at, from.exactly(20), 20);
  }

  encodeKey(out: Writer): void {
    out.raw(this.at, 20);
  }

  decodeKey(from: Reader): void {
    memory.copy(this.at, from.take(20), 20);
  }
}

/** A digest of 32 bytes. */
@final export class Hash {
  // The 32 bytes, in memory one after the other.
  private a: u64;
  private b: u64;
  private c: u64;
  private d: u64;

  static get zero(): Hash {
    return new Hash();
  }

  /** The digest of 32 bytes. */
  static from(bytes: Uint8Array): Hash {
    assert(bytes.length == 32, "a digest has 32 bytes");
    const v = new Hash();
    memory.copy(v.at, bytes.dataStart, 32);
    return v;
  }

  /** Where the bytes are. */
  get at(): usize {
    return changetype<usize>(this);
  }

  toBytes(): Uint8Array {
    const bytes = new Uint8Array(32);
    memory.copy(bytes.dataStart, this.at, 32);
    return bytes;
  }

  @operator("==") private static eq(x: Hash, y: Hash): bool {
    return x.a == y.a && x.b == y.b && x.c == y.c && x.d == y.d;
  }

  @operator("!=") private static ne(x: Hash, y: Hash): bool {
    return !(x == y);
  }

  /** 0x and 64 hexadecimal digits. */
  toString(): string {
    return hex(this.at, 32);
  }

  encode(out: Writer): void {
    out.bytes(this.at, 32);
  }

  decode(from: Reader): void {
    memory.copy(this.at, from.exactly(32), 32);
  }

  encodeKey(out: Writer): void {
    out.raw(this.at, 32);
  }

  decodeKey(from: Reader): void {
    memory.copy(this.at, from.take(32), 32);
  }
}

/** Holds a number that may be absent: `Box<u32> | null`, as `u32 | null` is no type. */
@final export class Box<T> {
  constructor(public value: T) {}

  encode(out: Writer): void {
    out.put<T>(this.value);
  }

  decode(from: Reader): void {
    this.value = from.get<T>();
  }
}

function hex(at: usize, n: i32): string {
  let s = "0x";
  for (let i = 0; i < n; i++) {
    const b = load<u8>(at + i);
    s += digit(b >> 4) + digit(b & 15);
  }
  return s;
}

function digit(n: u8): string {
  return String.fromCharCode(n < 10 ? 48 + n : 87 + n);
}
