// What the functions that transform.mjs adds to a contract call.

import * as host from "./host";
import { Reader, Writer } from "./cbor";
import { Code } from "./failure";

/** A reader of the call's arguments, of which there must be n. */
export function input(n: i32): Reader {
  const size = host.input_len();
  const data = heap.alloc(size);
  host.input_read(data, 0, size);
  const reader = new Reader(data, data + size, Code.ARGUMENTS);
  reader.tuple(n);
  return reader;
}

/** Sets the call's result. */
export function output<T>(v: T): void {
  const out = new Writer(256);
  out.put<T>(v);
  host.output(out.start, out.length);
}
