import assert from "node:assert/strict";
import { test } from "node:test";
import { Host, address } from "../../../sdk-contracts/as/testing.mjs";

const [operator, alice, bakery] = ["operator", "alice", "bakery"].map(address);
const DAY = 86_400_000;

function program() {
  const host = new Host({ caller: operator, now: 1_000, onCall: () => null }); // nobody is frozen
  const contract = host.deploy(operator, 60 * DAY, 100n);
  contract.admit(bakery);
  return { host, contract };
}

test("what expires first is spent first", () => {
  const { host, contract } = program();
  contract.award(alice, 30n, "welcome");
  host.now += 31 * DAY;
  contract.award(alice, 50n, "birthday");
  host.caller = alice;
  contract.redeem(bakery, 40n, "bread");
  assert.equal(contract.balanceOf(alice), 40n);
  assert.equal(contract.lots(alice).length, 1);
  assert.equal(contract.taken(bakery), 40n);
});

test("points expire, and the wallet tells", () => {
  const { host, contract } = program();
  contract.award(alice, 30n, "welcome");
  host.now += 90 * DAY;
  assert.equal(contract.balanceOf(alice), 0n);
  contract.award(alice, 1n, "again");
  assert.deepEqual(host.events.at(-2), { topic: "Expired", member: alice, amount: 30n });
});

test("a member spends so many a day", () => {
  const { host, contract } = program();
  contract.award(alice, 500n, "welcome");
  host.caller = alice;
  contract.redeem(bakery, 100n, "bread");
  assert.throws(() => contract.redeem(bakery, 1n, "more"), { name: "OverDailyLimit", left: 0n });
  host.now += DAY;
  contract.redeem(bakery, 1n, "more");
});

test("what is reversed comes back to its lot, and to the day's limit", () => {
  const { host, contract } = program();
  contract.award(alice, 30n, "welcome");
  host.now += 31 * DAY;
  contract.award(alice, 100n, "birthday");
  const before = contract.lots(alice);
  host.caller = alice;
  assert.equal(contract.redeem(bakery, 100n, "bread"), 1n);
  host.caller = bakery;
  contract.reverse(alice, 1n, 100n);
  assert.deepEqual(contract.lots(alice), before);
  assert.equal(contract.taken(bakery), 0n);
  assert.throws(() => contract.reverse(alice, 1n, 1n), { name: "UnknownRedemption" });
  host.caller = alice;
  assert.equal(contract.redeem(bakery, 100n, "cake"), 2n);
});

test("what is redeemed while the operator pays stays to be settled", () => {
  const { host, contract } = program();
  contract.award(alice, 50n, "welcome");
  host.caller = alice;
  contract.redeem(bakery, 40n, "bread");
  contract.redeem(bakery, 10n, "cake");
  host.caller = operator;
  assert.equal(contract.settle(bakery, 40n), 10n);
  assert.throws(() => contract.settle(bakery, 11n), { name: "NotTaken", have: 10n, need: 11n });
});
