// A contract that passes values of every type through, for the tests of the SDK.
import {
  Address, Balances, Box, Counter, Hash, StateMap, StateMap2, StateValue, call, callName, ctx, emit, keccak256, log, random, require, sha256, sm3, stopped, u128, verify,
} from "fondaco";
import { half } from "./arithmetic";
import "./enums";

type Amount = u128;

enum Colour {
  red,
  green,
  blue,
}

@struct class Numbers {
  a: u8;
  b: u16;
  c: u32;
  d: u64;
  e: Amount;
  f: i8;
  g: i16;
  h: i32;
  i: i64;
  j: bool;
}

@struct class Leg {
  colour: Colour;
  notes: string[];
}

@struct class Deal {
  numbers: Numbers;
  name: string;
  blob: Uint8Array;
  legs: Leg[];
  agent: Address | null;
  spare: Leg | null;
  sizes: Array<u64>;
  rank: Box<u32> | null;
  colours: Colour[];

  total(): i32 {
    return this.legs.length;
  }
}

@struct class Empty {}

@struct class Place {
  number: i16;
  floor: u128;
}

@struct class Day {
  number: i16;
  name: string;
  value: u8;
}

@struct class Who {
  caller: Address;
  origin: Address;
  self: Address;
  height: u64;
  time: u64;
  group: string;
  method: string;
  readOnly: bool;
  regulator: bool;
  institution: string;
}

@event class Stored {
  @indexed name: string;
  deal: Deal;
}

@event class Nothing {}

/** More than 3 legs. */
@error(1001) class TooBig {
  deal: Deal;
}

@error(2000) class Always {}

/** The last that was stored. */
const last = new StateValue<Deal>("last");
const lists = new StateValue<u64[]>("lists");
const upgraded = new StateValue<bool>("upgraded");

// How many were stored, which is no documentation.
const stored = new Counter("stored");
/** What is in store. */
const held = new Balances<Place>("held");
const days = new StateMap2<i16, string, u8>("day");
const wide = new StateMap2<u128, u64, Colour>("wide");
const places = new StateMap<Place, Leg | null>("place");
const blobs = new StateMap<Uint8Array, string>("blob");
const digests = new StateMap<Hash, i64>("digest");

@init
function init(): void {}

@upgrade
function upgrade(value: bool): void {
  upgraded.set(value);
}

@view
export function echo(deal: Deal): Deal {
  return deal;
}

@view export function empty(e: Empty): Empty {
  return e;
}

@tx({ conflicts: ["last", "stored"] })
export function store(deal: Deal): Deal {
  if (deal.total() > 3) throw new TooBig(deal);
  last.set(deal);
  lists.set(deal.sizes);
  require(stored.add(1, 0, 1000), "room");
  emit(new Stored(deal.name, deal));
  emit(new Nothing());
  return last.get();
}

@view
export function count(): i64 {
  return stored.get();
}

@view
export function lastStored(): Deal {
  return last.get();
}

@tx
export function hold(at: Place, amount: u128): void {
  held.add(at, amount);
}

@tx
export function spend(at: Place, amount: u128): bool {
  return held.sub(at, amount);
}

@view
export function holds(at: Place): u128 {
  const scan = held.scan(1).from(at);
  return scan.next() && scan.key.floor == at.floor ? scan.value : held.get(at);
}

@tx
export function mark(number: i16, name: string, value: u8): void {
  if (value == 0) days.delete(number, name);
  else days.set(number, name, value);
  wide.set(half() + u128.from(3), u64.MAX_VALUE, Colour.blue);
  places.set(new Place(-5, u128.max), null);
  places.set(new Place(5, u128.from(7)), new Leg(Colour.green, ["x"]));
  const blob = new Uint8Array(1);
  blob[0] = 0xff;
  blobs.set(blob, "the last");
  digests.set(sha256(blob), -1);
}

@view
export function marks(number: i16, limit: i32, backward: bool): Day[] {
  const found = days.scan(number, limit);
  if (backward) found.backward();
  const all: Day[] = [];
  while (found.next()) all.push(new Day(number, found.key, found.value));
  return all;
}

@view
export function between(number: i16, from: string, until: string): string[] {
  const names: string[] = [];
  for (const found = days.scan(number, 100).from(from).until(until); found.next(); ) names.push(found.key);
  return names;
}

@view
export function keys(): bool {
  const w = wide.scan(half() + u128.from(3), 1);
  if (!w.next() || w.key != u64.MAX_VALUE || w.value != Colour.blue) return false;
  w.close();
  const p = places.scan(5);
  if (!p.next() || p.key.number != -5 || p.key.floor != u128.max || p.value !== null) return false;
  if (!p.next() || p.key.number != 5 || p.key.floor != u128.from(7)) return false;
  const leg = p.value;
  if (leg === null || leg.notes[0] != "x" || p.next()) return false;
  const b = blobs.scan(1024).from(new Uint8Array(0));
  if (!b.next() || b.key.length != 1 || b.key[0] != 0xff || b.value != "the last" || b.next()) return false;
  const d = digests.scan(1);
  return d.next() && d.key == sha256(blobs.scan(1).next() ? b.key : b.key) && d.value == -1 && digests.get(d.key) == -1;
}

@view
export function absent(): bool {
  return (
    lists.get().length == 0 && lists.find() === null && !lists.has() && !upgraded.get() && last.find() === null &&
    wide.get(u128.zero, 1) == Colour.red && blobs.get(new Uint8Array(2)) == "" && places.find(new Place(1, u128.zero)) === null
  );
}

@view
export function who(): Who {
  return new Who(
    ctx.caller, ctx.origin, ctx.self, ctx.height, ctx.now, ctx.group, ctx.method, ctx.readOnly, ctx.hasRole("regulator"), ctx.institution,
  );
}

@view
export function digest(data: Uint8Array, algorithm: u8): Hash {
  if (algorithm == 1) return sm3(data);
  if (algorithm == 3) return keccak256(data);
  return sha256(data);
}

@view
export function check(key: Uint8Array, signature: Uint8Array, digest: Hash): bool {
  return verify(2, key, signature, digest);
}

@tx
export function dice(): bool {
  const a = random(16), b = random(16);
  log("rolled " + String.UTF8.byteLength("x").toString());
  let same = true;
  for (let i = 0; i < 16; i++) same = same && a[i] == b[i];
  return !same && ctx.gasLeft > 0;
}

@tx
export function always(): void {
  throw new Always();
}

/** For some. */
@tx({ roles: ["deployer", "regulator"] })
export function restricted(): void {}

@view
export function large(size: i32): bool {
  const x = new Uint8Array(size);
  return x[size - 1] == 0;
}

@view
export function panics(how: string): i32 {
  if (how == "throw") throw new Error("that was wrong");
  assert(how != "assert", "that is false");
  const list = [1, 2, 3];
  if (how == "index") return list[how.length];
  const nobody: Leg | null = how == "null" ? null : new Leg(Colour.red, []);
  return nobody!.notes.length;
}

/** A call that must succeed, by address and by name. */
@tx
export function forward(to: Address, name: string, args: Uint8Array): u128 {
  if (name.length > 0) return callName(name, "echo").encoded(args).gas(1_000_000).send().value<u128>();
  return call(to, "calculate").with("add").with(u128.from(1)).with(half()).with(u128.zero).readOnly().send().must().value<u128>();
}

/** Which of two accounts is frozen. */
@view
export function frozen(from: Address, to: Address): Address | null {
  return stopped(from, to);
}

/** What the zero address and texts look like. */
@view
export function texts(who: Address, bytes: Uint8Array): string[] {
  return [who.toString(), Address.zero.isZero.toString(), Address.from(bytes).toString(), ctx.txId == Hash.zero ? "none" : ctx.txId.toString()];
}

/** What the chain limits: scans that are open at a time, events in a call, the bytes of an output. */
@tx
export function limits(scans: i32, events: i32, bytes: i32): Uint8Array {
  for (let i = 0; i < scans; i++) places.scan(1).next();
  for (let i = 0; i < events; i++) emit(new Nothing());
  return new Uint8Array(bytes);
}
