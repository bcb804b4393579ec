import { Address, Balances, StateMap2, StateValue, ctx, emit, stopped, u128 } from "fondaco";

@struct class About {
  name: string;
  symbol: string;
  issuer: Address;
}

@event class Issued {
  @indexed to: Address;
  amount: u128;
}

@event class Transferred {
  @indexed from: Address;
  @indexed to: Address;
  amount: u128;
}

@event class Paid {
  @indexed from: Address;
  @indexed to: Address;
  amount: u128;
  reference: Uint8Array;
}

@event class Approved {
  @indexed owner: Address;
  @indexed spender: Address;
  amount: u128;
}

@event class Adjusted {
  @indexed account: Address;
  amount: u128;
  credit: bool;
  correction: u64;
}

@error(1001) class InsufficientFunds {
  have: u128;
  need: u128;
}

@error(1002) class NotIssuer {
  issuer: Address;
}

@error(1003) class InsufficientAllowance {
  have: u128;
  need: u128;
}

@error(1004) class NotCorrections {}

/** A freeze keeps the account from giving, or from being given to. */
@error(1005) class Frozen {
  account: Address;
}

const token = new StateValue<About>("about");
const supply = new StateValue<u128>("supply");
const balances = new Balances<Address>("bal");
const allowances = new StateMap2<Address, Address, u128>("allow");

@init
export function init(name: string, symbol: string, issuer: Address): void {
  token.set(new About(name, symbol, issuer));
}

/** Puts units into circulation. Only the issuer may. */
@tx({ conflicts: ["supply", "bal/{to}"] })
export function issue(to: Address, amount: u128): void {
  const issuer = token.get().issuer;
  if (ctx.caller != issuer) throw new NotIssuer(issuer);
  ask(Address.zero, to);
  supply.set(supply.get() + amount);
  balances.add(to, amount);
  emit(new Issued(to, amount));
}

/** Moves units from the caller to another holder. */
@tx({ conflicts: ["bal/{$caller}", "bal/{to}"] })
export function transfer(to: Address, amount: u128): void {
  const from = ctx.caller;
  ask(Address.zero, to);
  move(from, to, amount);
  emit(new Transferred(from, to, amount));
}

/** A transfer that says what it is for. */
@tx({ conflicts: ["bal/{$caller}", "bal/{to}"] })
export function pay(to: Address, amount: u128, reference: Uint8Array): void {
  const from = ctx.caller;
  ask(Address.zero, to);
  move(from, to, amount);
  emit(new Paid(from, to, amount, reference));
}

/** Lets the spender move up to so many of the caller's units, in place of what was allowed before. */
@tx
export function approve(spender: Address, amount: u128): void {
  allowances.set(ctx.caller, spender, amount);
  emit(new Approved(ctx.caller, spender, amount));
}

/** Moves units that the owner allowed the caller to move. */
@tx({ conflicts: ["bal/{owner}", "bal/{to}"] })
export function transferFrom(owner: Address, to: Address, amount: u128): void {
  const spender = ctx.caller;
  const allowed = allowances.get(owner, spender);
  if (allowed < amount) throw new InsufficientAllowance(allowed, amount);
  ask(owner, to);
  move(owner, to, amount);
  allowances.set(owner, spender, allowed - amount);
  emit(new Transferred(owner, to, amount));
}

/** Gives an account units, or takes them, as a correction says. */
@tx({ conflicts: ["supply", "bal/{account}"] })
export function adjust(account: Address, amount: u128, credit: bool, correction: u64): void {
  if (ctx.caller != corrections()) throw new NotCorrections();
  if (credit) {
    supply.set(supply.get() + amount);
    balances.add(account, amount);
  } else {
    if (!balances.sub(account, amount)) throw new InsufficientFunds(balances.get(account), amount);
    supply.set(supply.get() - amount);
  }
  emit(new Adjusted(account, amount, credit, correction));
}

@view
export function balanceOf(who: Address): u128 {
  return balances.get(who);
}

@view
export function allowance(owner: Address, spender: Address): u128 {
  return allowances.get(owner, spender);
}

@view
export function totalSupply(): u128 {
  return supply.get();
}

@view
export function about(): About {
  return token.get();
}

/** Refuses what a freeze stops. Of who calls it need not ask, and is given nobody: the chain keeps a frozen account from calling. */
function ask(from: Address, to: Address): void {
  const account = stopped(from, to);
  if (account) throw new Frozen(account);
}

function move(from: Address, to: Address, amount: u128): void {
  if (!balances.sub(from, amount)) throw new InsufficientFunds(balances.get(from), amount);
  balances.add(to, amount);
}

/** The system contract that applies corrections which institutions approved. */
function corrections(): Address {
  const bytes = new Uint8Array(20);
  bytes[19] = 10;
  return Address.from(bytes);
}
