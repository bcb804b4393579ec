import { Address, Counter, StateMap, ctx, emit } from "fondaco";

@struct class Entry {
  owner: Address;
  value: Uint8Array;
  updated: u64; // Unix ms
}

@struct class Item {
  key: string;
  entry: Entry;
}

@struct class Page {
  items: Item[];
  next: string | null; // where the next page begins
}

@event class Written {
  @indexed key: string;
  @indexed owner: Address;
  value: Uint8Array;
}

@event class Removed {
  @indexed key: string;
  @indexed owner: Address;
}

@error(1001) class NotOwner {
  key: string;
  owner: Address;
}

@error(1002) class NoSuchKey {
  key: string;
}

@error(1003) class BadKey {
  length: u32;
}

@error(1004) class BadLimit {
  limit: u32;
  most: u32;
}

const LONGEST_KEY = 64;
const LONGEST_PAGE: u32 = 100;

// A counter, so that two who write different keys do not wait for each other.
const entryCount = new Counter("count");
const entries = new StateMap<string, Entry>("entry");

@init
export function init(): void {}

/** Writes a value. The key belongs to who wrote it first. */
@tx({ conflicts: ["entry/{key}"] })
export function put(key: string, value: Uint8Array): void {
  const length = String.UTF8.byteLength(key);
  if (length < 1 || length > LONGEST_KEY) throw new BadKey(length);
  const entry = entries.find(key);
  if (entry === null) {
    entryCount.add(1);
  } else if (entry.owner != ctx.caller) {
    throw new NotOwner(key, entry.owner);
  }
  entries.set(key, new Entry(ctx.caller, value, ctx.now));
  emit(new Written(key, ctx.caller, value));
}

/** Removes a key. Only its owner may. */
@tx({ conflicts: ["entry/{key}"] })
export function remove(key: string): void {
  const entry = entries.find(key);
  if (entry === null) throw new NoSuchKey(key);
  if (entry.owner != ctx.caller) throw new NotOwner(key, entry.owner);
  entries.delete(key);
  entryCount.add(-1);
  emit(new Removed(key, ctx.caller));
}

@view
export function get(key: string): Entry | null {
  return entries.find(key);
}

/** Returns at most `limit` entries whose keys begin with `prefix`, from the key `from` on. */
@view
export function list(prefix: string, from: string | null, limit: u32): Page {
  if (limit < 1 || limit > LONGEST_PAGE) throw new BadLimit(limit, LONGEST_PAGE);
  const found = entries.scan(limit + 1).prefix(prefix);
  if (from !== null) found.from(from);
  const page = new Page([], null);
  while (found.next()) {
    if (page.items.length == limit) page.next = found.key;
    else page.items.push(new Item(found.key, found.value));
  }
  return page;
}

@view
export function count(): i64 {
  return entryCount.get();
}
