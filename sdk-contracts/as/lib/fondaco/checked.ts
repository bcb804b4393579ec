// Arithmetic of integers that ends the call with code OVERFLOW where the operators would wrap around.

import { Code, fail } from "./failure";

/** a + b. */
export function checkedAdd<T extends number>(a: T, b: T): T {
  const sum = <T>(a + b);
  if (isSigned<T>() ? ((a ^ sum) & (b ^ sum)) < 0 : sum < a) fail(Code.OVERFLOW, "add");
  return sum;
}

/** a - b. */
export function checkedSub<T extends number>(a: T, b: T): T {
  const rest = <T>(a - b);
  if (isSigned<T>() ? ((a ^ b) & (a ^ rest)) < 0 : a < b) fail(Code.OVERFLOW, "sub");
  return rest;
}

/** a * b. */
export function checkedMul<T extends number>(a: T, b: T): T {
  const product = <T>(a * b);
  if (isSigned<T>()) {
    if ((a == -1 && b == <T>1 << <T>(8 * sizeof<T>() - 1)) || (a != 0 && a != -1 && product / a != b)) fail(Code.OVERFLOW, "mul");
  } else if (a != 0 && product / a != b) {
    fail(Code.OVERFLOW, "mul");
  }
  return product;
}
