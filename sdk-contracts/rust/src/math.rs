use crate::{abort, code, Error};

/// Returns a·b/c, rounded down, without losing bits of the product: for rates and shares. A result above 128 bits, and c = 0,
/// end the call with [`code::OVERFLOW`].
pub fn mul_div(a: u128, b: u128, c: u128) -> u128 {
    let (high, low) = wide(a, b);
    if high >= c {
        abort(Error::text(code::OVERFLOW, "mul_div"));
    }
    if high == 0 {
        return low / c;
    }
    let (mut rest, mut low) = (high, low); // long division, bit by bit: rest < c, the quotient moves into low
    for _ in 0..128 {
        let carry = rest >> 127;
        rest = rest << 1 | low >> 127;
        low <<= 1;
        if carry == 1 || rest >= c {
            rest = rest.wrapping_sub(c);
            low |= 1;
        }
    }
    low
}

/// Returns the product of 256 bits.
fn wide(a: u128, b: u128) -> (u128, u128) {
    const LOW: u128 = u64::MAX as u128;
    let (a1, a0, b1, b0) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let (p00, p01, p10, p11) = (a0 * b0, a0 * b1, a1 * b0, a1 * b1);
    let middle = (p00 >> 64) + (p01 & LOW) + (p10 & LOW);
    (p11 + (p01 >> 64) + (p10 >> 64) + (middle >> 64), middle << 64 | p00 & LOW)
}
