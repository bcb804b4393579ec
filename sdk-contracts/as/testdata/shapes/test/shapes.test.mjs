import assert from "node:assert/strict";
import { test } from "node:test";
import { Abort, Denied, Host, address, encode } from "../../../testing.mjs";

const [alice, bob] = ["alice", "bob"].map(address);
const leg = { colour: "blue", notes: ["å", "日本", ""] };
const numbers = {
  a: 255, b: 65535, c: 4294967295, d: (1n << 64n) - 1n, e: (1n << 128n) - 1n,
  f: -128, g: -32768, h: -2147483648, i: -(1n << 63n), j: true,
};
const deal = {
  numbers, name: "XS0123", blob: Uint8Array.of(0xff, 0), legs: [leg, leg], agent: bob, spare: leg,
  sizes: [0n, 23n, 24n, 255n, 256n, 65535n, 65536n, 1n << 32n], rank: 7, colours: ["red", "blue"],
};
const bare = { ...deal, name: "", blob: new Uint8Array(), legs: [], agent: null, spare: null, sizes: [], rank: null, colours: [] };

function deployed(fields) {
  const host = new Host({ caller: alice, ...fields });
  return { host, shapes: host.deploy() };
}

test("values of every type come back", () => {
  const { host, shapes } = deployed();
  for (const d of [deal, bare, { ...deal, name: "long ".repeat(4000) }]) {
    assert.deepEqual(shapes.echo(d), d);
    assert.deepEqual(shapes.store(d), d);
    assert.deepEqual(host.events.slice(-2), [{ topic: "Stored", name: d.name, deal: d }, { topic: "Nothing" }]);
  }
  assert.equal(shapes.count(), 3n);
  assert.deepEqual(shapes.empty({}), {});
  const big = { ...deal, legs: [leg, leg, leg, leg] };
  assert.throws(() => shapes.store(big), { name: "TooBig", deal: big });
  assert.throws(() => shapes.always(), { name: "Always", code: 2000 });
});

test("balances at the ends of what is added unseen", () => {
  const { shapes } = deployed();
  const edges = [0n, 1n, 7n, (1n << 63n) - 1n, 1n << 63n, (1n << 64n) - 1n, 1n << 64n, 1n << 127n, (1n << 128n) - 1n];
  let number = 0;
  for (const have of edges) {
    for (const amount of edges) {
      const at = { number: number++, floor: have };
      const rest = have < amount ? have : have - amount;
      shapes.hold(at, have);
      assert.equal(shapes.spend(at, amount), have >= amount, `${have} less ${amount}`);
      assert.equal(shapes.holds(at), rest);
      if (rest + amount < 1n << 128n) {
        shapes.hold(at, amount);
        assert.equal(shapes.holds(at), rest + amount);
      } else {
        assert.throws(() => shapes.hold(at, amount), { name: "Overflow" });
      }
    }
  }
  assert.equal(shapes.spend({ number: -1, floor: 0n }, 1n), false);
});

test("scans go in the order of keys, both ways and between bounds", () => {
  const { shapes } = deployed();
  assert.ok(shapes.absent());
  for (const name of ["b", "a", "", "ab", "é"]) shapes.mark(-1, name, 1);
  shapes.mark(0, "other", 1);
  shapes.mark(-1, "ab", 0);
  const names = (days) => days.map((d) => d.name);
  assert.deepEqual(names(shapes.marks(-1, 1024, false)), ["", "a", "b", "é"]);
  assert.deepEqual(names(shapes.marks(-1, 2, true)), ["é", "b"]);
  assert.deepEqual(shapes.between(-1, "a", "é"), ["a", "b"]);
  assert.deepEqual(shapes.between(-1, "b", "a"), []);
  assert.ok(shapes.keys());
  assert.throws(() => shapes.marks(-1, 1025, false), Denied);
});

test("the limits of the chain hold here too", () => {
  const { host, shapes } = deployed();
  const name = "x".repeat(256 - "day/".length - 2);
  shapes.mark(1, name, 1);
  assert.throws(() => shapes.mark(1, name + "x", 1), Denied);
  assert.deepEqual(shapes.between(1, "", name), []);
  assert.throws(() => shapes.between(1, "", name + "x"), Denied);
  assert.throws(() => shapes.marks(1, 0, false), Denied);
  assert.equal(shapes.limits(8, 64, 1000).length, 1000);
  assert.throws(() => shapes.limits(9, 0, 0), Denied);
  assert.throws(() => shapes.limits(0, 65, 0), Denied);
  assert.throws(() => shapes.limits(0, 0, 128 << 10), Denied);
  assert.equal(host.events.length, 64);
});

test("a call says who, when and what", () => {
  const { shapes } = deployed({ origin: bob, now: 1_700_000_000_000, height: 9, group: "main", roles: ["regulator"], institution: "bank" });
  assert.deepEqual(shapes.who(), {
    caller: alice, origin: bob, self: address("contract"), height: 9n, time: 1_700_000_000_000n, group: "main", method: "who",
    readOnly: true, regulator: true, institution: "bank",
  });
  assert.deepEqual(shapes.texts(alice, Buffer.from(alice.slice(2), "hex")), [alice, "true", alice, "none"]);
  shapes.restricted();
  assert.throws(() => deployed().shapes.restricted(), Denied);
});

test("what goes wrong ends the call with a code", () => {
  const { host, shapes } = deployed();
  assert.throws(() => shapes.panics("throw"), { code: 2, data: encode("that was wrong") });
  assert.throws(() => shapes.panics("assert"), { code: 2, data: encode("that is false") });
  assert.throws(() => shapes.panics("index"), { code: 2, data: encode("Index out of range") });
  assert.throws(() => shapes.panics("null"), { code: 2 });
  assert.equal(shapes.panics("not"), 0);
  assert.throws(() => shapes.lastStored(), { code: 4, data: encode("last") });
  for (const key of [0, 0x2f, 0xff]) assert.throws(() => shapes.sideMust(key), { code: 4, data: encode("order") });
  assert.throws(() => shapes.calculate("?", 0n, 0n, 0n), { code: 4, data: encode("?") });
  host.state.set("stored", Uint8Array.of(0x60));
  assert.throws(() => shapes.count(), { code: 6 });
});

test("calls are made by address and by name, and what must succeed ends the call", () => {
  const { host, shapes } = deployed();
  const calls = [];
  host.onCall = (call) => (calls.push(call), 5n);
  assert.equal(shapes.forward(bob, "", new Uint8Array()), 5n);
  assert.equal(shapes.forward(bob, "bank@1", encode([])), 5n);
  assert.deepEqual(calls, [
    { to: bob, method: "calculate", args: ["add", 1n, 1n << 64n, 0n], gas: 0n, readOnly: true, allowReentry: false },
    { to: "bank@1", method: "echo", args: [], gas: 1_000_000n, readOnly: false, allowReentry: false },
  ]);
  host.onCall = () => {
    throw new Abort(1001, Uint8Array.of(1));
  };
  assert.throws(() => shapes.forward(bob, "", new Uint8Array()), { code: 7, data: encode([1001n, Uint8Array.of(1)]) });
  for (const other of ["no number", [5n], -5n, null, undefined, 1n << 200n]) {
    host.onCall = () => other;
    const data = other === undefined ? new Uint8Array() : encode(other);
    assert.throws(() => shapes.forward(bob, "", new Uint8Array()), { code: 7, data: encode([-7n, data]) });
  }
});

test("who is frozen is asked, and without an answer nothing moves", () => {
  const { host, shapes } = deployed();
  const carol = address("carol");
  assert.throws(() => shapes.frozen(alice, bob), { code: 7, data: encode([-4n, new Uint8Array()]) });
  host.onCall = ({ to, method, args, readOnly }) => {
    assert.deepEqual([to, method, readOnly], ["0x" + "00".repeat(19) + "03", "stopped", true]);
    assert.equal(`0x${Buffer.from(args[0]).toString("hex")}`, alice);
    return `0x${Buffer.from(args[1]).toString("hex")}` === bob ? args[1] : null;
  };
  assert.equal(shapes.frozen(alice, bob), bob);
  assert.equal(shapes.frozen(alice, carol), null);
  host.onCall = () => 7n;
  assert.throws(() => shapes.frozen(alice, bob), { code: 7, data: encode([-7n, Uint8Array.of(7)]) });
});

test("digests, random bytes and the log", () => {
  const { host, shapes } = deployed();
  const abc = Buffer.from("abc");
  assert.equal(Buffer.from(shapes.digest(abc, 2)).toString("hex"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  assert.equal(Buffer.from(shapes.digest(abc, 1)).toString("hex"), "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0");
  assert.equal(shapes.dice(), false); // this host's bytes are no surprise
  assert.deepEqual(host.logs, ["rolled 1"]);
  host.onVerify = (algorithm, key) => algorithm === 2 && key.length === 3;
  assert.ok(shapes.check(abc, abc, new Uint8Array(32)));
  assert.ok(!shapes.check(new Uint8Array(), abc, new Uint8Array(32)));
});

// Encoded values of a u64, and what they are.
test("no value has two forms", () => {
  const { host } = deployed();
  const is = (method, ...hex) => host.raw(method, Buffer.from("81" + hex.join(""), "hex"));
  const refused = (method, ...hex) => assert.throws(() => is(method, ...hex), { code: 1 }, hex.join(""));
  is("panics", "63", "e282ac");
  is("panics", "64", "f48fbfbf");
  is("panics", "63", "ed9fbf");
  for (const text of ["c080", "c1bf", "e09fbf", "eda080", "f08fbfbf", "f4908080", "f5808080", "80", "c3", "e282"]) {
    refused("panics", (0x60 + text.length / 2).toString(16), text);
  }
  for (const size of ["1817", "1900ff", "1a0000ffff", "1b00000000ffffffff", "1f", "1a7fffffff00", "f4", "1a80000000", "3a80000000", ""]) refused("large", size);
  for (const count of ["9a00010000", "9bffffffffffffffff", "5bffffffffffffffff", "7affffffff", "80", "9f00ff"]) refused("echo", count);
});

// Lengths of 2^32 and more, of which a cut to 32 bits would leave what follows.
test("lengths have 64 bits", () => {
  const { host } = deployed();
  const refused = (method, hex) => assert.throws(() => host.raw(method, Buffer.from(hex, "hex")), { code: 1 }, hex);
  refused("panics", "817b000000010000000568656c6c6f");
  refused("panics", "817bffffffff0000000568656c6c6f");
  refused("digest", "825b000000010000000361626302");
  for (const first of ["0000000100000009", "ffffffff00000009", "8000000000000009"]) {
    refused("calculate", "8463616464c25b" + first + "0100000000000000000101");
  }
  refused("large", "9b0000000100000001187f");
  refused("echo", "819b0000000100000009" + "00".repeat(9));
  refused("check", "8340405b0000000100000020" + "00".repeat(32));
  host.raw("calculate", Buffer.from("8463616464c2490100000000000000000101", "hex"));
});

test("a number that no value of an enum has is refused wherever it is read", () => {
  const { host, shapes } = deployed();
  const raw = (method, hex) => host.raw(method, Buffer.from(hex, "hex"));
  const good = "84" + "01" + "820001" + "82810080" + "01"; // an Order
  const arguments_ = { // a method, its arguments with 7 or -1 for ?, and what they are otherwise
    side_alias: ["81?"],
    side_maybe: ["8281?f6", "82f681?", "82820000" + "8200?"],
    side_rows: ["838182?008080", "83808181?80", "83808081?"],
    side_box: ["82?f6", "8200?"],
    side_order: ["8284?f680f6f6", "828400" + "81?" + "80f6f6", "828400f6" + "8181?" + "f6f6", "828400f680?f6", `82${good}8184?f680f6`],
  };
  for (const [method, forms] of Object.entries(arguments_)) {
    for (const form of forms) {
      raw(method, form.replace("?", "01"));
      for (const bad of ["02", "07", "20", "1a80000000", "1b0000000100000001", "f6"]) {
        if (bad === "f6" && /boxed|82f681|8200\?$|80\?f6$/.test(form)) continue; // may be absent
        assert.throws(() => raw(method, form.replace("?", bad)), { code: 1 }, `${method} ${form} ${bad}`);
      }
    }
  }
  assert.deepEqual(shapes.sideOrder({ way: "sell", ways: ["buy", "sell"], rows: [["buy"], []], boxed: "sell" }, null), [1, 0, 1, 0, 1]);
  assert.deepEqual(shapes.sideOrder({ way: "buy", ways: null, rows: [], boxed: null }, []), [0, 255, 255]);

  const places = ["side", "way", "ways", "rows/\x01", "boxed/\x01\x02", "order/\x01"];
  const forms = ["?", "?", "81?", "8181?", "?", "84?f680f6"];
  for (const [place, key] of places.entries()) {
    const put = (hex) => host.state.set(key, Buffer.from(forms[place].replace("?", hex), "hex"));
    put("01");
    assert.equal(shapes.sideState(place), 1);
    put("02");
    assert.throws(() => shapes.sideState(place), { code: 6 }, key);
    put("20");
    assert.throws(() => shapes.sideState(place), { code: 6 }, key);
  }

  host.onCall = ({ method }) => (method === "list" ? [1n] : 1n);
  assert.deepEqual([shapes.sideAsked(bob, true), shapes.sideAsked(bob, false)], [1, 1]);
  host.onCall = ({ method }) => (method === "list" ? [2n] : 2n);
  assert.throws(() => shapes.sideAsked(bob, true), { code: 7, data: encode([-7n, Uint8Array.of(0x81, 2)]) });
  assert.throws(() => shapes.sideAsked(bob, false), { code: 7, data: encode([-7n, Uint8Array.of(2)]) });
});

test("hostile arguments end a call, and nothing else", () => {
  const { host } = deployed();
  let seed = 1n;
  const below = (n) => {
    seed = (seed * 6364136223846793005n + 1442695040888963407n) & ((1n << 64n) - 1n);
    return Number((seed >> 33n) % BigInt(n));
  };
  let good;
  const raw = host.raw.bind(host);
  host.raw = (name, input) => ((good = input), raw(name, input));
  host.run(host.schema.methods.find((m) => m.name === "echo"), [deal]);
  let refused = 0;
  for (let i = 0; i < 3000; i++) {
    let data = Buffer.from(good);
    for (let n = below(3); n > 0; n--) data[below(data.length)] = below(256);
    if (below(2)) data = data.subarray(0, below(data.length) + 1);
    try {
      assert.deepEqual(Buffer.from(raw("echo", data)), data.subarray(1)); // what is read is written in the same form
    } catch (e) {
      if (e.code !== 1) throw e;
      refused++;
    }
  }
  assert.ok(refused > 1000 && refused < 2900, String(refused));
});
