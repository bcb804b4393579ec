// A contract that builds, and that a linter has much to say about; settle and page are as they should be.
import { Address, StateMap, StateValue, call } from "fondaco";

const member = new StateMap<Address, u64>("member");
const total = new StateValue<u64>("total");

@tx export function size(): u64 {
  return total.get();
}

@view export function peek(who: Address): u64 {
  member.set(who, 2);
  return 2;
}

@tx export function pay(token: Address): void {
  call(token, "transfer").with(token).send();
  member.set(token, 1);
}

@view export function sum(times: u32): u64 {
  let n: u64 = 0;
  for (let i: u32 = 0; i < times; i++) {
    for (const page = member.scan(10); page.next(); ) n += page.value;
  }
  return n;
}

@tx export function settle(token: Address): void {
  member.set(token, call(token, "transfer").with(token).send().value<u64>());
}

@view export function page(from: Address): u64 {
  let n: u64 = 0;
  for (const page = member.scan(10).from(from); page.next(); ) n += page.value;
  return n;
}
