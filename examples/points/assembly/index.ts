// Points in a closed loop: the operator awards them to members, members spend them with merchants that the operator admitted, and
// the operator settles with the merchants. Nobody can pass points on in any other way: there is no method for it, what a merchant
// takes back goes to whom it came from, and who holds points is no merchant. Points expire, and a member spends so many a day at most.
import { Address, StateMap, StateMap2, StateValue, checkedAdd, ctx, emit, stopped, u128 } from "fondaco";

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
  redemptions: u64; // so far: the number of the last one
}

/** What a member spent with a merchant and did not get back. */
@struct class Redemption {
  merchant: Address;
  lots: Lot[]; // what expires first comes first
  day: u64; // on which it counted
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
  number: u64;
  amount: u128;
  receipt: string;
}

@event class Reversed {
  @indexed member: Address;
  @indexed merchant: Address;
  number: u64;
  amount: u128;
}

@event class Settled {
  @indexed merchant: Address;
  amount: u128;
}

@event class Proposed {
  @indexed operator: Address;
}

@event class Accepted {
  @indexed operator: Address;
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

/** More than the merchant took and was not settled with for, or than is left of the redemption. */
@error(1006) class NotTaken {
  have: u128;
  need: u128;
}

/** The merchant did not take points of the member under that number, or gave all back. */
@error(1007) class UnknownRedemption {
  member: Address;
  number: u64;
}

/** A freeze keeps the account from being given to. */
@error(1008) class Frozen {
  account: Address;
}

const DAY: u64 = 86_400_000;
const PERIOD: u64 = 30 * DAY; // points of a period expire together, so that a wallet has few lots
const LONGEST_LIFETIME: u64 = 24 * PERIOD;
const LONGEST_TEXT = 64;

const rules = new StateValue<Rules>("rules");
const wallets = new StateMap<Address, Wallet>("wallet");
const merchants = new StateMap<Address, bool>("merchant");
const takings = new StateMap<Address, u128>("taken"); // and not settled for
const redemptions = new StateMap2<Address, u64, Redemption>("redemption"); // by member and number
const proposed = new StateValue<Address>("proposed"); // as operator

@init
export function init(operator: Address, lifetime: u64, dailyLimit: u128): void {
  if (operator.isZero) throw new BadTerms("operator");
  if (lifetime < DAY || lifetime > LONGEST_LIFETIME) throw new BadTerms("lifetime");
  if (dailyLimit.isZero) throw new BadTerms("daily limit");
  rules.set(new Rules(operator, lifetime, dailyLimit));
}

/** Proposes another operator, who becomes it by accepting; the zero address takes the proposal back. Only the operator may. */
@tx
export function proposeOperator(operator: Address): void {
  onlyOperator();
  proposed.set(operator);
  emit(new Proposed(operator));
}

/** Makes the caller the operator, if the present one proposed it. */
@tx
export function acceptOperator(): void {
  const r = rules.get();
  if (ctx.caller != proposed.get()) throw new NotOperator(proposed.get());
  proposed.delete();
  r.operator = ctx.caller;
  rules.set(r);
  emit(new Accepted(r.operator));
}

/** Lets members spend points with a merchant, who holds none. Only the operator may. */
@tx
export function admit(merchant: Address): void {
  onlyOperator();
  if (merchant.isZero) throw new BadTerms("merchant");
  if (!total(valid(merchant)).isZero) throw new BadTerms("a member is no merchant");
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
  if (member.isZero) throw new BadTerms("member");
  if (merchants.has(member)) throw new BadTerms("a merchant is no member");
  ask(member);
  const wallet = opened(member);
  const expires = ((ctx.now + r.lifetime + PERIOD - 1) / PERIOD) * PERIOD;
  put(wallet.lots, new Lot(expires, amount));
  wallets.set(member, wallet);
  emit(new Awarded(member, amount, expires, reason));
}

/**
 * Spends points of the caller's with a merchant; those that expire first go first. Returns the redemption's number, which
 * counts the member's.
 */
@tx({ conflicts: ["wallet/{$caller}", "redemption/{$caller}", "taken/{merchant}"] })
export function redeem(merchant: Address, amount: u128, receipt: string): u64 {
  const member = ctx.caller;
  if (!merchants.has(merchant)) throw new NotMerchant(merchant);
  if (merchants.has(member)) throw new BadTerms("a merchant is no member");
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
  ask(merchant);
  wallet.spent = wallet.spent + amount;
  const number = checkedAdd<u64>(wallet.redemptions, 1);
  wallet.redemptions = number;
  redemptions.set(member, number, new Redemption(merchant, take(wallet.lots, amount), today));
  wallets.set(member, wallet);
  takings.set(merchant, takings.get(merchant) + amount);
  emit(new Redeemed(member, merchant, number, amount, receipt));
  return number;
}

/**
 * Gives a member points of a redemption back, those that expire first, with the expiry that they had. Only the merchant who took them
 * may, also one that left, and not what the operator has settled for.
 */
@tx({ conflicts: ["wallet/{member}", "redemption/{member}", "taken/{$caller}"] })
export function reverse(member: Address, number: u64, amount: u128): void {
  const merchant = ctx.caller;
  const redemption = redemptions.find(member, number);
  if (redemption === null || redemption.merchant != merchant) throw new UnknownRedemption(member, number);
  if (amount.isZero) throw new BadTerms("amount");
  if (merchants.has(member)) throw new BadTerms("a merchant is no member");
  const left = sum(redemption.lots);
  if (left < amount) throw new NotTaken(left, amount);
  ask(member);
  untake(merchant, amount);
  const wallet = opened(member);
  const back = take(redemption.lots, amount);
  let gone = new u128();
  for (let i = 0; i < back.length; i++) {
    if (back[i].expires <= ctx.now) gone = gone + back[i].amount;
    else put(wallet.lots, back[i]);
  }
  if (wallet.day == redemption.day) wallet.spent = wallet.spent - amount;
  wallets.set(member, wallet);
  if (redemption.lots.length > 0) redemptions.set(member, number, redemption);
  else redemptions.delete(member, number);
  emit(new Reversed(member, merchant, number, amount));
  if (!gone.isZero) emit(new Expired(member, gone));
}

/**
 * Takes so many of a merchant's points out of circulation, because it was paid for them, and returns what is left to settle: members
 * may have spent more meanwhile. Only the operator may.
 */
@tx({ conflicts: ["taken/{merchant}"] })
export function settle(merchant: Address, amount: u128): u128 {
  onlyOperator();
  if (amount.isZero) throw new BadTerms("amount");
  const left = untake(merchant, amount);
  emit(new Settled(merchant, amount));
  return left;
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

/** What a merchant has taken and was not settled with for. */
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

/** Refuses to give to an account that is frozen. Of who gives it need not ask: the chain keeps a frozen account from calling. */
function ask(to: Address): void {
  const account = stopped(Address.zero, to);
  if (account) throw new Frozen(account);
}

/** Returns a member's wallet without what has expired. */
function valid(member: Address): Wallet {
  const found = wallets.find(member);
  const wallet = found === null ? new Wallet([], 0, new u128(), 0) : found;
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
  return sum(wallet.lots);
}

function sum(lots: Lot[]): u128 {
  let all = new u128();
  for (let i = 0; i < lots.length; i++) all = all + lots[i].amount;
  return all;
}

/** Takes points out of the lots that expire first, and returns them. There are enough. */
function take(lots: Lot[], amount: u128): Lot[] {
  const taken: Lot[] = [];
  while (!amount.isZero) {
    const lot = lots[0];
    if (lot.amount > amount) {
      lot.amount = lot.amount - amount;
      taken.push(new Lot(lot.expires, amount));
      break;
    }
    amount = amount - lot.amount;
    taken.push(lots.shift());
  }
  return taken;
}

/** Puts points in their place among the lots. */
function put(lots: Lot[], lot: Lot): void {
  let at = 0;
  while (at < lots.length && lots[at].expires < lot.expires) at++;
  if (at < lots.length && lots[at].expires == lot.expires) {
    lots[at].amount = lots[at].amount + lot.amount;
    return;
  }
  lots.push(lot);
  for (let i = lots.length - 1; i > at; i--) lots[i] = lots[i - 1];
  lots[at] = lot;
}

/** Takes points off what a merchant took, and returns what is left. */
function untake(merchant: Address, amount: u128): u128 {
  const have = takings.get(merchant);
  if (have < amount) throw new NotTaken(have, amount);
  const left = have - amount;
  if (left.isZero) takings.delete(merchant);
  else takings.set(merchant, left);
  return left;
}
