import assert from "node:assert/strict";
import { test } from "node:test";
import { Host, address } from "../../../testing.mjs";

const [bank, alice, bob, carol, dave] = ["bank", "alice", "bob", "carol", "dave"].map(address);

// A token of which alice has 100 units, where dave is frozen.
function issued() {
  const host = new Host({ caller: bank });
  host.onCall = ({ method, args }) => {
    assert.equal(method, "stopped");
    return args.find((who) => `0x${Buffer.from(who).toString("hex")}` === dave) ?? null;
  };
  const token = host.deploy("Gold", "XAU", bank);
  token.issue(alice, 100n);
  host.events.length = 0;
  host.caller = alice;
  return { host, token };
}

test("the issuer puts units into circulation, and nobody else", () => {
  const { host, token } = issued();
  assert.deepEqual(token.about(), { name: "Gold", symbol: "XAU", issuer: bank });
  assert.throws(() => token.issue(alice, 1n), { name: "NotIssuer", code: 1002, issuer: bank });
  host.caller = bank;
  token.issue(bob, 5n);
  assert.deepEqual(host.events, [{ topic: "Issued", to: bob, amount: 5n }]);
  assert.equal(token.totalSupply(), 105n);
});

test("a transfer moves units and says so", () => {
  const { host, token } = issued();
  token.transfer(bob, 40n);
  assert.deepEqual(host.events, [{ topic: "Transferred", from: alice, to: bob, amount: 40n }]);
  assert.equal(token.balanceOf(alice), 60n);
  assert.equal(token.balanceOf(bob), 40n);
});

test("who has too little moves nothing", () => {
  const { host, token } = issued();
  assert.throws(() => token.transfer(bob, 101n), { name: "InsufficientFunds", code: 1001, have: 100n, need: 101n });
  assert.equal(token.balanceOf(bob), 0n);
  assert.deepEqual(host.events, []);
});

test("a transfer to oneself changes nothing", () => {
  const { token } = issued();
  token.transfer(alice, 100n);
  assert.equal(token.balanceOf(alice), 100n);
});

test("a payment carries its reference", () => {
  const { host, token } = issued();
  const reference = Uint8Array.of(1, 2, 3);
  token.pay(bob, 1n, reference);
  assert.deepEqual(host.events, [{ topic: "Paid", from: alice, to: bob, amount: 1n, reference }]);
});

test("a spender moves what was allowed", () => {
  const { host, token } = issued();
  token.approve(carol, 30n);
  assert.deepEqual(host.events, [{ topic: "Approved", owner: alice, spender: carol, amount: 30n }]);
  host.caller = carol;
  assert.throws(() => token.transferFrom(alice, bob, 31n), { name: "InsufficientAllowance", have: 30n, need: 31n });
  token.transferFrom(alice, bob, 30n);
  assert.equal(token.allowance(alice, carol), 0n);
  assert.equal(token.balanceOf(bob), 30n);
});

test("nothing moves to who is frozen, nor from them by a spender", () => {
  const { host, token } = issued();
  const frozen = { name: "Frozen", code: 1005, account: dave };
  token.approve(bob, 30n);
  assert.throws(() => token.transfer(dave, 1n), frozen);
  assert.throws(() => token.pay(dave, 1n, new Uint8Array()), frozen);
  host.caller = dave;
  token.approve(bob, 30n);
  host.caller = bob;
  assert.throws(() => token.transferFrom(alice, dave, 1n), frozen);
  assert.throws(() => token.transferFrom(dave, alice, 1n), frozen);
  token.transferFrom(alice, bob, 20n);
  host.caller = bank;
  assert.throws(() => token.issue(dave, 1n), frozen);
  host.onCall = null;
  assert.throws(() => token.issue(bob, 1n), { name: "CallFailed", code: 7 });
});

test("amounts never wrap around", () => {
  const { host, token } = issued();
  host.caller = bank;
  assert.throws(() => token.issue(bob, (1n << 128n) - 1n), { name: "Overflow", code: 3 });
  token.issue(bob, (1n << 128n) - 101n);
  assert.equal(token.totalSupply(), (1n << 128n) - 1n);
});
