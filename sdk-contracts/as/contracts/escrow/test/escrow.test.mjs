import assert from "node:assert/strict";
import { test } from "node:test";
import { Abort, Host, address, encode } from "../../../testing.mjs";

const [money, buyer, seller, stranger] = ["money", "buyer", "seller", "stranger"].map(address);
const deadline = 2_000n;

// An escrow with a token that does what it is asked and writes it down.
function escrow() {
  const asked = [];
  const host = new Host({ caller: buyer, now: 1_000 });
  host.onCall = (call) => void asked.push([call.to, call.method, ...call.args.map((a) => (a instanceof Uint8Array ? text(a) : a))]);
  return { host, asked, contract: host.deploy(money) };
}

function text(data) {
  return "0x" + Buffer.from(data).toString("hex");
}

test("the buyer's money goes to the escrow, and from there to the seller", () => {
  const { host, asked, contract } = escrow();
  assert.equal(contract.open(seller, 50n, deadline), 1n);
  assert.deepEqual(asked.pop(), [money, "transfer_from", buyer, host.self, 50n]);
  assert.deepEqual(host.events, [{ topic: "Opened", id: 1n, buyer, seller, amount: 50n, deadline }]);

  contract.release(1n);
  assert.deepEqual(asked.pop(), [money, "transfer", seller, 50n]);
  assert.deepEqual(host.events.at(-1), { topic: "Released", id: 1n, seller, amount: 50n });
  assert.equal(contract.get(1n).status, "released");
  assert.throws(() => contract.release(1n), { name: "NotOpen", id: 1n, status: "released" });
});

test("terms that make no sense are refused, in this order", () => {
  const { contract } = escrow();
  assert.throws(() => contract.open(buyer, 0n, 0n), { name: "BadTerms", reason: "amount" });
  assert.throws(() => contract.open(buyer, 1n, 0n), { name: "BadTerms", reason: "seller" });
  assert.throws(() => contract.open(seller, 1n, 1_000n), { name: "BadTerms", reason: "deadline" });
});

test("the seller refunds at any time, the buyer from the deadline on", () => {
  const { host, asked, contract } = escrow();
  contract.open(seller, 1n, deadline);
  contract.open(seller, 2n, deadline);
  assert.throws(() => contract.refund(1n), { name: "TooEarly", deadline, now: 1_000n });
  host.caller = stranger;
  assert.throws(() => contract.refund(1n), { name: "NotYours", id: 1n });
  assert.throws(() => contract.refund(3n), { name: "NoSuchAgreement", id: 3n });
  host.caller = seller;
  assert.throws(() => contract.release(1n), { name: "NotYours", id: 1n });
  contract.refund(1n);
  assert.deepEqual(asked.pop(), [money, "transfer", buyer, 1n]);
  host.caller = buyer;
  host.now = 2_000;
  contract.refund(2n);
  assert.deepEqual(host.events.at(-1), { topic: "Refunded", id: 2n, buyer, amount: 2n });
});

test("what the token refuses has not happened", () => {
  const { host, contract } = escrow();
  const why = encode([1n, 2n]);
  host.onCall = () => {
    throw new Abort(1003, why);
  };
  assert.throws(() => contract.open(seller, 1n, deadline), { name: "PaymentFailed", status: 1003, data: why });
  assert.throws(() => contract.get(1n), { name: "NoSuchAgreement" });
});

test("ids do not begin again", () => {
  const { host, contract } = escrow();
  host.state.set("next", encode((1n << 64n) - 1n));
  assert.throws(() => contract.open(seller, 1n, deadline), { code: 3, data: encode("add") });
});
