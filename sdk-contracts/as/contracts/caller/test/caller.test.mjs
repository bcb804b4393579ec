import assert from "node:assert/strict";
import { test } from "node:test";
import { Abort, Host, address, encode } from "../../../testing.mjs";

const [money, alice, bob, carol] = ["money", "alice", "bob", "carol"].map(address);
const nothing = new Uint8Array();

function caller(onCall) {
  const host = new Host({ caller: alice, onCall });
  return { host, contract: host.deploy(money) };
}

test("one payment that fails does not stop the others", () => {
  const why = encode([3n, 4n]);
  const { host, contract } = caller(({ args }) => {
    if (args[2] === 4n) throw new Abort(1001, why);
  });
  const results = contract.payMany([{ to: bob, amount: 1n }, { to: carol, amount: 4n }, { to: carol, amount: 2n }]);
  assert.deepEqual(results, [{ status: 0, data: nothing }, { status: 1001, data: why }, { status: 0, data: nothing }]);
  assert.deepEqual(host.events, [
    { topic: "PaidOut", to: bob, amount: 1n },
    { topic: "Failed", to: carol, amount: 4n, status: 1001, data: why },
    { topic: "PaidOut", to: carol, amount: 2n },
  ]);
  assert.equal(contract.failures(), 1n);
});

test("at most 50 payments", () => {
  const { contract } = caller(() => {});
  const payments = Array.from({ length: 51 }, () => ({ to: bob, amount: 1n }));
  assert.throws(() => contract.payMany(payments), { name: "TooMany", count: 51, most: 50 });
  assert.equal(contract.payMany(payments.slice(1)).length, 50);
});

test("a probe tells how any call ended", () => {
  const { host, contract } = caller((call) => [call.method, ...call.args, call.gas]);
  assert.deepEqual(contract.probe(bob, "ping", encode([5n]), 700n), { status: 0, data: encode(["ping", 5n, 700n]) });
  host.onCall = null;
  assert.deepEqual(contract.probe(bob, "ping", encode([]), 0n), { status: -4, data: nothing });
});

test("recursion counts how deep it got", () => {
  const { host, contract } = caller((call) => {
    assert.ok(call.allowReentry && call.to === host.self && call.method === "recurse");
    if (call.args[0] === 5n) throw new Abort(-6, nothing);
    return call.args[0];
  });
  assert.equal(contract.recurse(0), 0);
  assert.equal(contract.recurse(4), 4);
  assert.equal(contract.recurse(6), 1);
  host.onCall = () => 0xffff_ffff;
  assert.throws(() => contract.recurse(1), { code: 3, data: encode("add") });
});

test("a peek reads another contract", () => {
  const { host, contract } = caller((call) => (assert.ok(call.readOnly), 12n));
  assert.equal(contract.peek(bob), 12n);
  host.onCall = null;
  assert.throws(() => contract.peek(bob), { name: "PeekFailed", status: -4, data: nothing });
});
