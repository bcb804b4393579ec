import { Address, Counter, StateValue, call, checkedAdd, ctx, emit, u128 } from "fondaco";

@struct class Payment {
  to: Address;
  amount: u128;
}

@struct class Result {
  status: i32;
  data: Uint8Array;
}

@event class PaidOut {
  @indexed to: Address;
  amount: u128;
}

@event class Failed {
  @indexed to: Address;
  amount: u128;
  status: i32;
  data: Uint8Array;
}

@error(1001) class TooMany {
  count: u32;
  most: u32;
}

@error(1002) class PeekFailed {
  status: i32;
  data: Uint8Array;
}

const MOST_PAYMENTS = 50;

const money = new StateValue<Address>("token");
const failed = new Counter("failures");

@init
export function init(token: Address): void {
  money.set(token);
}

/** Pays from the sender of the transaction. One payment that fails does not stop the others. */
@tx
export function payMany(payments: Payment[]): Result[] {
  if (payments.length > MOST_PAYMENTS) throw new TooMany(payments.length, MOST_PAYMENTS);
  const token = money.get();
  const results: Result[] = [];
  for (let i = 0; i < payments.length; i++) {
    const p = payments[i];
    const paid = call(token, "transfer_from").with(ctx.origin).with(p.to).with(p.amount).send();
    if (paid.ok) {
      emit(new PaidOut(p.to, p.amount));
    } else {
      failed.add(1);
      emit(new Failed(p.to, p.amount, paid.status, paid.data));
    }
    results.push(new Result(paid.status, paid.data));
  }
  return results;
}

/** Makes any call with at most so much gas, and tells how it ended. */
@tx
export function probe(target: Address, method: string, args: Uint8Array, gas: u64): Result {
  const done = call(target, method).encoded(args).gas(gas).send();
  return new Result(done.status, done.data);
}

/** Calls itself, and returns how many calls deep it got. */
@tx
export function recurse(depth: u32): u32 {
  if (depth == 0) return 0;
  const deeper = call(ctx.self, "recurse").with(depth - 1).allowReentry().send();
  return deeper.ok ? checkedAdd<u32>(deeper.value<u32>(), 1) : 1;
}

@view
export function peek(who: Address): u128 {
  const asked = call(money.get(), "balance_of").with(who).readOnly().send();
  if (!asked.ok) throw new PeekFailed(asked.status, asked.data);
  return asked.value<u128>();
}

@view
export function failures(): i64 {
  return failed.get();
}
