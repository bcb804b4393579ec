import assert from "node:assert/strict";
import { test } from "node:test";
import { Host, address } from "../../../testing.mjs";

const [alice, bob] = ["alice", "bob"].map(address);
const value = (...bytes) => Uint8Array.from(bytes);

function registry() {
  const host = new Host({ caller: alice, now: 1_000 });
  return { host, contract: host.deploy() };
}

test("a key belongs to who writes it first", () => {
  const { host, contract } = registry();
  contract.put("harbour", value(1));
  contract.put("harbour", value(2));
  assert.deepEqual(host.events.at(-1), { topic: "Written", key: "harbour", owner: alice, value: value(2) });
  assert.deepEqual(contract.get("harbour"), { owner: alice, value: value(2), updated: 1_000n });
  host.caller = bob;
  assert.throws(() => contract.put("harbour", value(3)), { name: "NotOwner", key: "harbour", owner: alice });
  assert.throws(() => contract.remove("harbour"), { name: "NotOwner", key: "harbour", owner: alice });
  host.caller = alice;
  contract.remove("harbour");
  assert.deepEqual(host.events.at(-1), { topic: "Removed", key: "harbour", owner: alice });
  assert.equal(contract.get("harbour"), null);
  assert.throws(() => contract.remove("harbour"), { name: "NoSuchKey", key: "harbour" });
});

test("keys have 1 to 64 bytes", () => {
  const { contract } = registry();
  assert.throws(() => contract.put("", value()), { name: "BadKey", length: 0 });
  assert.throws(() => contract.put("é".repeat(33), value()), { name: "BadKey", length: 66 });
  contract.put("é".repeat(32), value());
  assert.notEqual(contract.get("é".repeat(32)), null);
});

test("the counter knows how many there are", () => {
  const { contract } = registry();
  for (const key of ["a", "b", "a"]) contract.put(key, value());
  assert.equal(contract.count(), 2n);
  contract.remove("a");
  assert.equal(contract.count(), 1n);
});

test("a list goes through a prefix, page by page", () => {
  const { contract } = registry();
  for (const key of ["b", "a/3", "a/1", "a", "a/2", "a0", "zürich"]) contract.put(key, value());
  const keys = (page) => page.items.map((i) => i.key);
  const all = contract.list("", null, 100);
  assert.deepEqual(keys(all), ["a", "a/1", "a/2", "a/3", "a0", "b", "zürich"]);
  assert.equal(all.next, null);
  const first = contract.list("a/", null, 2);
  assert.deepEqual([keys(first), first.next], [["a/1", "a/2"], "a/3"]);
  const second = contract.list("a/", first.next, 2);
  assert.deepEqual([keys(second), second.next], [["a/3"], null]);
  assert.deepEqual(keys(contract.list("a/", "0", 2)), ["a/1", "a/2"]);
  assert.deepEqual(keys(contract.list("a/", "b", 2)), []);
  assert.throws(() => contract.list("", null, 0), { name: "BadLimit", limit: 0, most: 100 });
  assert.throws(() => contract.list("", null, 101), { name: "BadLimit", limit: 101, most: 100 });
});
