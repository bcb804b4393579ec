// Points in a closed loop: the operator awards them to members, members spend them with merchants that the operator admitted, and
// the operator settles with the merchants. Nobody can pass points on in any other way: there is no method for it. Points expire,
// and a member spends so many a day at most.
import { Address, StateMap, StateValue, ctx, emit, u128 } from "fondaco";

@struct class Rules {
  operator: Address;
  lifetime: u64; // of points, in ms
  dailyLimit: u128; // that a member spends
}

/** Points that expire together. */
@struct class Lot {
  expires: u64; // Unix ms, a whole number of periods
  amount: u128;
}

/** What a member has, and has spent on a day. */
@struct class Wallet {
  lots: Lot[]; // what expires first comes first
  day: u64; // since 1970
  spent: u128; // on that day
}

@event class Admitted {
  @indexed merchant: Address;
}

@event class Dismissed {
  @indexed merchant: Address;
}

@event class Awarded {
  @indexed member: Address;
  amount: u128;
  expires: u64;
  reason: string;
}

@event class Expired {
  @indexed member: Address;
  amount: u128;
}

@event class Redeemed {
  @indexed member: Address;
  @indexed merchant: Address;
  amount: u128;
  receipt: string;
}

@event class Settled {
  @indexed merchant: Address;
  amount: u128;
}

@error(1001) class NotOperator {
  operator: Address;
}

@error(1002) class NotMerchant {
  who: Address;
}

@error(1003) class InsufficientPoints {
  have: u128;
  need: u128;
}

@error(1004) class OverDailyLimit {
  left: u128;
}

@error(1005) class BadTerms {
  reason: string;
}

const DAY: u64 = 86_400_000;
const PERIOD: u64 = 30 * DAY; // points of a period expire together, so that a wallet has few lots
const LONGEST_LIFETIME: u64 = 24 * PERIOD;
const LONGEST_TEXT = 64;

const rules = new StateValue<Rules>("rules");
const wallets = new StateMap<Address, Wallet>("wallet");
const merchants = new StateMap<Address, bool>("merchant");
const takings = new StateMap<Address, u128>("taken");

@init
export function init(operator: Address, lifetime: u64, dailyLimit: u128): void {
  if (lifetime < DAY || lifetime > LONGEST_LIFETIME) throw new BadTerms("lifetime");
  if (dailyLimit.isZero) throw new BadTerms("daily limit");
  rules.set(new Rules(operator, lifetime, dailyLimit));
}

/** Lets members spend points with a merchant. Only the operator may. */
@tx
export function admit(merchant: Address): void {
  onlyOperator();
  merchants.set(merchant, true);
  emit(new Admitted(merchant));
}

/** Ends that. What the merchant took already is settled all the same. */
@tx
export function dismiss(merchant: Address): void {
  onlyOperator();
  if (!merchants.has(merchant)) throw new NotMerchant(merchant);
  merchants.delete(merchant);
  emit(new Dismissed(merchant));
}

/** Gives a member points. Only the operator may. */
@tx({ conflicts: ["wallet/{member}"] })
export function award(member: Address, amount: u128, reason: string): void {
  const r = onlyOperator();
  if (amount.isZero) throw new BadTerms("amount");
  if (reason.length > LONGEST_TEXT) throw new BadTerms("reason");
  if (merchants.has(member)) throw new BadTerms("a merchant is no member");
  const wallet = opened(member);
  const expires = ((ctx.now + r.lifetime + PERIOD - 1) / PERIOD) * PERIOD;
  const last = wallet.lots.length - 1;
  if (last >= 0 && wallet.lots[last].expires == expires) wallet.lots[last].amount = wallet.lots[last].amount + amount;
  else wallet.lots.push(new Lot(expires, amount));
  wallets.set(member, wallet);
  emit(new Awarded(member, amount, expires, reason));
}

/** Spends points of the caller's with a merchant; those that expire first go first. */
@tx({ conflicts: ["wallet/{$caller}", "taken/{merchant}"] })
export function redeem(merchant: Address, amount: u128, receipt: string): void {
  const member = ctx.caller;
  if (!merchants.has(merchant)) throw new NotMerchant(merchant);
  if (amount.isZero) throw new BadTerms("amount");
  if (receipt.length > LONGEST_TEXT) throw new BadTerms("receipt");
  const wallet = opened(member);
  const have = total(wallet);
  if (have < amount) throw new InsufficientPoints(have, amount);
  const today = ctx.now / DAY;
  if (wallet.day != today) {
    wallet.day = today;
    wallet.spent = new u128();
  }
  const left = rules.get().dailyLimit - wallet.spent;
  if (left < amount) throw new OverDailyLimit(left);
  wallet.spent = wallet.spent + amount;
  take(wallet, amount);
  wallets.set(member, wallet);
  takings.set(merchant, takings.get(merchant) + amount);
  emit(new Redeemed(member, merchant, amount, receipt));
}

/** Takes the points that a merchant has taken out of circulation: it was paid for them. Only the operator may. */
@tx({ conflicts: ["taken/{merchant}"] })
export function settle(merchant: Address): u128 {
  onlyOperator();
  const amount = takings.get(merchant);
  if (amount.isZero) throw new BadTerms("nothing to settle");
  takings.delete(merchant);
  emit(new Settled(merchant, amount));
  return amount;
}

/** The points that a member can spend. */
@view
export function balanceOf(member: Address): u128 {
  return total(valid(member));
}

/** A member's points by when they expire. */
@view
export function lots(member: Address): Lot[] {
  return valid(member).lots;
}

/** What a merchant has taken since it was last settled with. */
@view
export function taken(merchant: Address): u128 {
  return takings.get(merchant);
}

@view
export function terms(): Rules {
  return rules.get();
}

function onlyOperator(): Rules {
  const r = rules.get();
  if (ctx.caller != r.operator) throw new NotOperator(r.operator);
  return r;
}

/** Returns a member's wallet without what has expired. */
function valid(member: Address): Wallet {
  const found = wallets.find(member);
  const wallet = found === null ? new Wallet([], 0, new u128()) : found;
  while (wallet.lots.length > 0 && wallet.lots[0].expires <= ctx.now) wallet.lots.shift();
  return wallet;
}

/** Returns a member's wallet to be changed, and tells what has expired. */
function opened(member: Address): Wallet {
  const found = wallets.find(member);
  const before = found === null ? new u128() : total(found);
  const wallet = valid(member);
  const gone = before - total(wallet);
  if (!gone.isZero) emit(new Expired(member, gone));
  return wallet;
}

function total(wallet: Wallet): u128 {
  let sum = new u128();
  for (let i = 0; i < wallet.lots.length; i++) sum = sum + wallet.lots[i].amount;
  return sum;
}

/** Takes points out of the lots that expire first. There are enough. */
function take(wallet: Wallet, amount: u128): void {
  while (!amount.isZero) {
    const lot = wallet.lots[0];
    if (lot.amount > amount) {
      lot.amount = lot.amount - amount;
      return;
    }
    amount = amount - lot.amount;
    wallet.lots.shift();
  }
}
