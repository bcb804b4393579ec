import { checkedAdd, checkedMul, checkedSub, fail, u128 } from "fondaco";

export function half(): u128 {
  return new u128(0, 1);
}

@view
export function calculate(operation: string, a: u128, b: u128, c: u128): u128 {
  if (operation == "add") return a + b;
  if (operation == "sub") return a - b;
  if (operation == "mul") return a * b;
  if (operation == "div") return a / b;
  if (operation == "rem") return a % b;
  if (operation == "muldiv") return a.mulDiv(b, c);
  if (operation == "text") return u128.parse(a.toString());
  fail(4, operation);
  return a;
}

@view
export function calculateSmall(operation: string, a: i64, b: i64): i64 {
  if (operation == "i64 mul") return checkedMul(a, b);
  if (operation == "i64 add") return checkedAdd(a, b);
  if (operation == "i64 sub") return checkedSub(a, b);
  if (operation == "u64 mul") return <i64>checkedMul(<u64>a, <u64>b);
  if (operation == "i32 mul") return checkedMul(<i32>a, <i32>b);
  if (operation == "i8 add") return checkedAdd(<i8>a, <i8>b);
  if (operation == "u8 add") return checkedAdd(<u8>a, <u8>b);
  if (operation == "u8 sub") return checkedSub(<u8>a, <u8>b);
  fail(4, operation);
  return a;
}

@view
export function compare(a: u128, b: u128): bool[] {
  return [a < b, a <= b, a == b, a != b, a >= b, a > b];
}
