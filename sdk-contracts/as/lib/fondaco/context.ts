// The call that a method serves.

import * as host from "./host";
import { Reader, Writer, result } from "./cbor";
import { Code } from "./failure";
import { Address, Hash } from "./values";

/** What the node says about the call. */
export abstract class ctx {
  /** The account or contract that called. */
  static get caller(): Address {
    return field("caller").get<Address>();
  }

  /** The account that signed the transaction. */
  static get origin(): Address {
    return field("origin").get<Address>();
  }

  /** This contract. */
  static get self(): Address {
    return field("self").get<Address>();
  }

  /** The block's time in Unix milliseconds. */
  static get now(): u64 {
    return field("time_ms").get<u64>();
  }

  /** The height of the block that is made, or, in a view without a transaction, the last one's. */
  static get height(): u64 {
    return field("height").get<u64>();
  }

  /** The name of the ledger. */
  static get group(): string {
    return field("group").get<string>();
  }

  /** The transaction's id. */
  static get txId(): Hash {
    return field("tx_id").get<Hash>();
  }

  /** The transaction's place in its block. */
  static get txIndex(): u64 {
    return field("tx_index").get<u64>();
  }

  /** The name of the method that was called. */
  static get method(): string {
    return field("method").get<string>();
  }

  /** Whether writes are denied. */
  static get readOnly(): bool {
    return field("read_only").get<bool>();
  }

  /** The gas that the call may still use. */
  static get gasLeft(): u64 {
    return host.gas_left();
  }

  /** The caller's institution; empty if it has none, as contracts do. */
  static get institution(): string {
    const reader = attribute(1);
    return reader === null ? "" : reader.get<string>();
  }

  /** Whether the caller has the role. */
  static hasRole(role: string): bool {
    const reader = attribute(2);
    return reader !== null && reader.get<string[]>().includes(role);
  }
}

const CONTEXT = 512;
let context: usize = 0; // the map, once it was asked for
let contextEnd: usize = 0;

function field(name: string): Reader {
  if (context == 0) {
    context = heap.alloc(CONTEXT);
    const n = host.ctx(context, CONTEXT);
    if (n > CONTEXT) {
      context = heap.alloc(n);
      host.result_read(context, 0, n);
    }
    contextEnd = context + n;
  }
  return new Reader(context, contextEnd, Code.STATE).field(name);
}

function attribute(kind: i32): Reader | null {
  return host.caller_attr(kind, 0, 0) < 0 ? null : result(Code.STATE);
}

/** Adds an event, an instance of an @event class, to the receipt. */
export function emit<E>(event: E): void {
  const data = new Writer(256);
  const n = event.encodeTopic(data);
  event.encode(data);
  host.emit(data.start, n, data.start + n, data.length - n);
}

/** Writes a line to the node's local trace, which is no part of the ledger. */
export function log(text: string): void {
  const line = new Writer(text.length);
  line.utf8(text);
  host.log(1, line.start, line.length);
}

/** n random bytes, equal on all nodes. The block's proposer can foresee them: draw no lots for money with them. */
export function random(n: i32): Uint8Array {
  const bytes = new Uint8Array(n);
  host.rand(bytes.dataStart, n);
  return bytes;
}
