// How a call ends early. Whatever it did is undone.

import * as host from "./host";
import { Writer } from "./cbor";

/** Abort codes of the SDK. A contract's own begin at 1000. */
export namespace Code {
  /** The arguments are not what the method takes. */
  export const ARGUMENTS = 1;
  /** The contract panicked: `throw new Error`, a failed `assert`, an index out of range. The data is the text. */
  export const PANIC = 2;
  /** A number left its range; the data is the operation. */
  export const OVERFLOW = 3;
  /** Something that must exist does not. */
  export const NOT_FOUND = 4;
  /** The caller may not do that. */
  export const DENIED = 5;
  /** A value of state is not what the contract's types say. */
  export const STATE = 6;
  /** A call to another contract failed; the data is its status and data. */
  export const CALL_FAILED = 7;
}

/** Ends the call with a code and a text. It does not return. */
export function fail(code: i32, text: string): void {
  const out = new Writer(64);
  out.text(text);
  host.abort(code, out.start, out.length);
  unreachable();
}

/** Ends the call with code DENIED unless the condition holds. */
export function require(condition: bool, why: string): void {
  if (!condition) fail(Code.DENIED, why);
}

/** Ends the call with the code and fields of an error. `throw new X(…)` of an @error class becomes a throw of this. */
@inline export function refuse<T>(code: i32, error: T): string {
  abortWith<T>(code, error);
  unreachable();
  return changetype<string>(0);
}

function abortWith<T>(code: i32, error: T): void {
  const out = new Writer(128);
  out.put<T>(error);
  host.abort(code, out.start, out.length);
}

/** Where the compiler sends `throw new Error` and `assert` (asconfig.json: use). */
export function panic(message: string | null, file: string | null, line: u32, column: u32): void {
  fail(Code.PANIC, message === null ? "panic" : message);
}
