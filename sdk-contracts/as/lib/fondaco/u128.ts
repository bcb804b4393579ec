import { Reader, Writer } from "./cbor";
import { Code, fail } from "./failure";

/**
 * An unsigned integer of 128 bits: an amount. It never changes; the operators make new ones. Arithmetic that leaves the
 * range ends the call with code OVERFLOW: money never wraps around.
 */
@final export class u128 {
  constructor(
    readonly lo: u64 = 0,
    readonly hi: u64 = 0,
  ) {}

  static get zero(): u128 {
    return new u128();
  }

  static get max(): u128 {
    return new u128(u64.MAX_VALUE, u64.MAX_VALUE);
  }

  /** The amount n. */
  static from(n: u64): u128 {
    return new u128(n);
  }

  /** Reads decimal digits. */
  static parse(digits: string): u128 {
    let v = u128.zero;
    const ten = u128.from(10);
    assert(digits.length > 0, "no digits");
    for (let i = 0; i < digits.length; i++) {
      const d = digits.charCodeAt(i) - 48;
      assert(u32(d) < 10, "not a digit");
      v = v * ten + u128.from(d);
    }
    return v;
  }

  get isZero(): bool {
    return (this.lo | this.hi) == 0;
  }

  /** The same number as u64; it must fit. */
  toU64(): u64 {
    if (this.hi) fail(Code.OVERFLOW, "u128 to u64");
    return this.lo;
  }

  @operator("==") private static eq(a: u128, b: u128): bool {
    return a.lo == b.lo && a.hi == b.hi;
  }

  @operator("!=") private static ne(a: u128, b: u128): bool {
    return a.lo != b.lo || a.hi != b.hi;
  }

  @operator("<") private static lt(a: u128, b: u128): bool {
    return a.hi < b.hi || (a.hi == b.hi && a.lo < b.lo);
  }

  @operator("<=") private static le(a: u128, b: u128): bool {
    return a.hi < b.hi || (a.hi == b.hi && a.lo <= b.lo);
  }

  @operator(">") private static gt(a: u128, b: u128): bool {
    return a.hi > b.hi || (a.hi == b.hi && a.lo > b.lo);
  }

  @operator(">=") private static ge(a: u128, b: u128): bool {
    return a.hi > b.hi || (a.hi == b.hi && a.lo >= b.lo);
  }

  @operator("+") private static add(a: u128, b: u128): u128 {
    const lo = a.lo + b.lo;
    const carry = u64(lo < a.lo);
    const sum = a.hi + b.hi;
    const hi = sum + carry;
    if (sum < a.hi || hi < sum) fail(Code.OVERFLOW, "u128 add");
    return new u128(lo, hi);
  }

  @operator("-") private static sub(a: u128, b: u128): u128 {
    if (a < b) fail(Code.OVERFLOW, "u128 sub");
    return new u128(a.lo - b.lo, a.hi - b.hi - u64(a.lo < b.lo));
  }

  @operator("*") private static mul(a: u128, b: u128): u128 {
    if (!multiply(a, b).isZero) fail(Code.OVERFLOW, "u128 mul");
    return product;
  }

  @operator("/") private static div(a: u128, b: u128): u128 {
    if (b.isZero) fail(Code.OVERFLOW, "u128 division by zero");
    return divide(u128.zero, a, b);
  }

  @operator("%") private static rem(a: u128, b: u128): u128 {
    if (b.isZero) fail(Code.OVERFLOW, "u128 division by zero");
    divide(u128.zero, a, b);
    return remainder;
  }

  /** This times `mul` over `div`, rounded down, without losing bits of the product: for rates and shares. */
  mulDiv(mul: u128, div: u128): u128 {
    const high = multiply(this, mul);
    if (high >= div) fail(Code.OVERFLOW, "u128 muldiv");
    return divide(high, product, div);
  }

  /** The decimal digits. */
  toString(): string {
    const ten = u128.from(10);
    let digits = "";
    let v: u128 = this;
    do {
      v = v / ten;
      digits = String.fromCharCode(48 + i32(remainder.lo)) + digits;
    } while (!v.isZero);
    return digits;
  }

  encode(out: Writer): void {
    out.wide(this.hi, this.lo);
  }

  decode(from: Reader): void {
    store<u64>(changetype<usize>(this), from.wide(), offsetof<u128>("hi"));
    store<u64>(changetype<usize>(this), from.low, offsetof<u128>("lo"));
  }

  encodeKey(out: Writer): void {
    out.fixed<u64>(this.hi);
    out.fixed<u64>(this.lo);
  }

  decodeKey(from: Reader): void {
    store<u64>(changetype<usize>(this), from.fixed<u64>(), offsetof<u128>("hi"));
    store<u64>(changetype<usize>(this), from.fixed<u64>(), offsetof<u128>("lo"));
  }
}

// Second results of the functions below.
@lazy let product = u128.zero;
@lazy let remainder = u128.zero;
let high: u64 = 0;

/** Returns the low word of a·b and leaves the high one in `high`. */
function multiplyWords(a: u64, b: u64): u64 {
  const a0 = a & 0xffff_ffff, a1 = a >> 32;
  const b0 = b & 0xffff_ffff, b1 = b >> 32;
  const low = a0 * b0;
  const mid = a1 * b0 + (low >> 32);
  const cross = a0 * b1 + (mid & 0xffff_ffff);
  high = a1 * b1 + (mid >> 32) + (cross >> 32);
  return a * b;
}

/** Returns the high half of the 256 bits of a·b and leaves the low one in `product`. */
function multiply(a: u128, b: u128): u128 {
  const l0 = multiplyWords(a.lo, b.lo);
  const h0 = high;
  const l1 = multiplyWords(a.lo, b.hi);
  const h1 = high;
  const l2 = multiplyWords(a.hi, b.lo);
  const h2 = high;
  const l3 = multiplyWords(a.hi, b.hi);
  const h3 = high;
  let word = h0 + l1;
  let carry = u64(word < l1);
  word += l2;
  carry += u64(word < l2);
  product = new u128(l0, word);
  word = l3 + h1;
  let top = h3 + u64(word < h1);
  word += h2;
  top += u64(word < h2);
  word += carry;
  top += u64(word < carry);
  return new u128(word, top);
}

/** Returns (over·2^128 + v) / d, where over < d, and leaves the rest in `remainder`. */
function divide(over: u128, v: u128, d: u128): u128 {
  if (over.isZero && v.hi == 0 && d.hi == 0) {
    remainder = new u128(v.lo % d.lo);
    return new u128(v.lo / d.lo);
  }
  let restHi = over.hi, restLo = over.lo;
  let hi = v.hi, lo = v.lo;
  // Bit by bit: the dividend moves out to the left, the quotient in from the right.
  for (let i = 0; i < 128; i++) {
    const top = restHi >> 63;
    restHi = (restHi << 1) | (restLo >> 63);
    restLo = (restLo << 1) | (hi >> 63);
    hi = (hi << 1) | (lo >> 63);
    lo = lo << 1;
    if (top != 0 || restHi > d.hi || (restHi == d.hi && restLo >= d.lo)) {
      restHi = restHi - d.hi - u64(restLo < d.lo);
      restLo -= d.lo;
      lo |= 1;
    }
  }
  remainder = new u128(restLo, restHi);
  return new u128(lo, hi);
}
