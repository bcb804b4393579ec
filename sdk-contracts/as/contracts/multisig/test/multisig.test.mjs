import assert from "node:assert/strict";
import { test } from "node:test";
import { Abort, Host, address, encode } from "../../../testing.mjs";

const [alice, bob, carol, mallory, target] = ["alice", "bob", "carol", "mallory", "target"].map(address);
const args = encode([7n]);

// A committee of three, of whom two must agree.
function committee() {
  const host = new Host({ caller: alice });
  const contract = host.deploy([alice, bob, carol], 2);
  return { host, contract, as: (who) => ((host.caller = who), contract) };
}

test("two of three make a call, once", () => {
  const { host, as } = committee();
  assert.deepEqual([as(alice).voters(), as(alice).threshold()], [[alice, bob, carol], 2]);
  assert.equal(as(alice).propose("pay the rent", target, "pay", args), 1n);
  as(alice).vote(1n, true);
  assert.throws(() => as(alice).vote(1n, true), { name: "AlreadyVoted", id: 1n, voter: alice });
  assert.throws(() => as(bob).execute(1n), { name: "NotEnough", have: 1, need: 2 });
  as(carol).vote(1n, true);
  let asked;
  host.onCall = (call) => ((asked = call), "done");
  assert.deepEqual(as(bob).execute(1n), encode("done"));
  assert.deepEqual([asked.to, asked.method, asked.args], [target, "pay", [7n]]);
  assert.deepEqual(host.events.map((e) => e.topic), ["Proposed", "Voted", "Voted", "Executed"]);
  assert.throws(() => as(bob).execute(1n), { name: "NotOpen", id: 1n, status: "executed" });
  const { yes, no, status } = as(bob).get(1n);
  assert.deepEqual({ yes, no, status }, { yes: [alice, carol], no: [], status: "executed" });
});

test("a motion that cannot win any more is rejected", () => {
  const { host, as } = committee();
  as(alice).propose("spend it all", target, "pay", args);
  as(alice).vote(1n, false);
  as(bob).vote(1n, false);
  assert.deepEqual(host.events.at(-1), { topic: "Rejected", id: 1n });
  assert.throws(() => as(carol).vote(1n, true), { name: "NotOpen", status: "rejected" });
});

test("only voters have a say, and only about what was moved", () => {
  const { as } = committee();
  assert.throws(() => as(mallory).propose("", target, "pay", args), { name: "NotVoter", who: mallory });
  assert.throws(() => as(mallory).vote(1n, true), { name: "NotVoter", who: mallory });
  assert.throws(() => as(alice).vote(1n, true), { name: "NoSuchMotion", id: 1n });
});

test("a call that fails has not happened, and may be tried again", () => {
  const { host, as } = committee();
  as(alice).propose("", target, "pay", args);
  as(alice).vote(1n, true);
  as(bob).vote(1n, true);
  const why = encode("no");
  host.onCall = () => {
    throw new Abort(-2, why);
  };
  assert.throws(() => as(bob).execute(1n), { name: "CallFailed", status: -2, data: why });
  host.onCall = () => null;
  assert.deepEqual(as(bob).execute(1n), encode(null));
});

test("a committee makes sense", () => {
  const host = new Host();
  const refuses = (voters, threshold, reason) => assert.throws(() => host.deploy(voters, threshold), { name: "BadCommittee", reason });
  refuses([], 0, "voters");
  refuses(Array.from({ length: 33 }, (_, i) => address(String(i))), 1, "voters");
  refuses([alice, bob, alice], 9, "double");
  refuses([alice], 0, "threshold");
  refuses([alice], 2, "threshold");
});
