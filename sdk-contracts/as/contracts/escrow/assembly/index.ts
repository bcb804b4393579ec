import { Address, StateMap, StateValue, call, checkedAdd, ctx, emit, u128 } from "fondaco";

enum Status {
  open,
  released,
  refunded,
}

@struct class Agreement {
  buyer: Address;
  seller: Address;
  amount: u128;
  deadline: u64; // Unix ms
  status: Status;
}

@event class Opened {
  @indexed id: u64;
  @indexed buyer: Address;
  @indexed seller: Address;
  amount: u128;
  deadline: u64;
}

@event class Released {
  @indexed id: u64;
  @indexed seller: Address;
  amount: u128;
}

@event class Refunded {
  @indexed id: u64;
  @indexed buyer: Address;
  amount: u128;
}

@error(1001) class NoSuchAgreement {
  id: u64;
}

@error(1002) class NotYours {
  id: u64;
}

@error(1003) class NotOpen {
  id: u64;
  status: Status;
}

@error(1004) class TooEarly {
  deadline: u64;
  now: u64;
}

@error(1005) class BadTerms {
  reason: string;
}

/** The token refused to move the money. */
@error(1006) class PaymentFailed {
  status: i32;
  data: Uint8Array;
}

const money = new StateValue<Address>("token");
const next = new StateValue<u64>("next");
const agreements = new StateMap<u64, Agreement>("agreement");

@init
export function init(token: Address): void {
  money.set(token);
  next.set(1);
}

/** Opens an agreement; the amount moves from the caller, who is the buyer, to this contract. */
@tx
export function open(seller: Address, amount: u128, deadline: u64): u64 {
  const buyer = ctx.caller;
  if (amount.isZero) throw new BadTerms("amount");
  if (seller == buyer) throw new BadTerms("seller");
  if (deadline <= ctx.now) throw new BadTerms("deadline");
  const id = next.get();
  next.set(checkedAdd<u64>(id, 1));
  agreements.set(id, new Agreement(buyer, seller, amount, deadline, Status.open));
  const paid = call(money.get(), "transfer_from").with(buyer).with(ctx.self).with(amount).send();
  if (!paid.ok) throw new PaymentFailed(paid.status, paid.data);
  emit(new Opened(id, buyer, seller, amount, deadline));
  return id;
}

/** Gives the seller the money. Only the buyer may. */
@tx
export function release(id: u64): void {
  const a = opened(id);
  if (ctx.caller != a.buyer) throw new NotYours(id);
  close(id, a, Status.released, a.seller);
  emit(new Released(id, a.seller, a.amount));
}

/** Gives the buyer the money back: the seller may at any time, the buyer from the deadline on. */
@tx
export function refund(id: u64): void {
  const a = opened(id);
  if (ctx.caller == a.buyer) {
    if (ctx.now < a.deadline) throw new TooEarly(a.deadline, ctx.now);
  } else if (ctx.caller != a.seller) {
    throw new NotYours(id);
  }
  close(id, a, Status.refunded, a.buyer);
  emit(new Refunded(id, a.buyer, a.amount));
}

@view
export function get(id: u64): Agreement {
  return find(id);
}

function find(id: u64): Agreement {
  const a = agreements.find(id);
  if (a === null) throw new NoSuchAgreement(id);
  return a;
}

function opened(id: u64): Agreement {
  const a = find(id);
  if (a.status != Status.open) throw new NotOpen(id, a.status);
  return a;
}

// Writes the state before the token is called, which could call back.
function close(id: u64, a: Agreement, status: Status, to: Address): void {
  a.status = status;
  agreements.set(id, a);
  const paid = call(money.get(), "transfer").with(to).with(a.amount).send();
  if (!paid.ok) throw new PaymentFailed(paid.status, paid.data);
}
