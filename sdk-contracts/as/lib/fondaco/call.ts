// Calls to other contracts.

import * as host from "./host";
import { Reader, Writer, callFailed } from "./cbor";
import { Code } from "./failure";
import { Address } from "./values";

/** Reasons of the node why a call failed. A status above 0 is the callee's abort code. */
export namespace Status {
  export const OK = 0;
  /** The callee's code is faulty. */
  export const TRAPPED = -1;
  export const OUT_OF_GAS = -2;
  /** The callee is already running; see Call.allowReentry. */
  export const REENTRY = -3;
  /** No such contract or method. */
  export const NOT_FOUND = -4;
  /** A rule of the chain refused, such as writing in a view. */
  export const DENIED = -5;
  export const OUT_OF_DEPTH = -6;
  export const BAD_OUTPUT = -7;
  export const OUT_OF_MEMORY = -8;
}

const READ_ONLY = 1;
const ALLOW_REENTRY = 2;
const BY_NAME = 4;

/**
 * Begins a call of another contract's method:
 *
 *     const paid = call(token, "transfer").with(seller).with(amount).send();
 */
export function call(to: Address, method: string): Call {
  const target = new Writer(20);
  to.encodeKey(target);
  return new Call(target, method, 0);
}

/** Begins a call by CNS name, with @version or without. */
export function callName(name: string, method: string): Call {
  const target = new Writer(name.length);
  target.utf8(name);
  return new Call(target, method, BY_NAME);
}

/**
 * Returns which of two accounts a freeze keeps from giving an asset, or from being given it; null: neither. A contract asks before it
 * moves what from has to to: the chain itself stops only transactions that a frozen account sends, and calls of a frozen contract. Where
 * from is who calls, nobody (Address.zero) in its place asks about to alone.
 *
 *     const account = stopped(from, to);
 *     if (account) throw new Frozen(account);
 */
export function stopped(from: Address, to: Address): Address | null {
  return call(access(), "stopped").with(from).with(to).readOnly().send().value<Address | null>();
}

/** The system contract that knows who is frozen. */
function access(): Address {
  const bytes = new Uint8Array(20);
  bytes[19] = 3;
  return Address.from(bytes);
}

/** A call that is made up. */
@final export class Call {
  private args: Writer = new Writer(256);
  private count: i32 = 0;
  private most: u64 = 0;

  constructor(
    private to: Writer,
    private method: string,
    private flags: i32,
  ) {
    this.args.array(0);
  }

  /** Adds an argument. */
  with<T>(argument: T): this {
    assert(++this.count < 24, "a call takes at most 23 arguments");
    this.args.put<T>(argument);
    store<u8>(this.args.start, 0x80 | this.count);
    return this;
  }

  /** Sets all arguments: a CBOR array. */
  encoded(args: Uint8Array): this {
    this.args.reset().raw(args.dataStart, args.length);
    return this;
  }

  /** The callee may use at most so much gas; 0: 63/64 of what is left, as without. */
  gas(most: u64): this {
    this.most = most;
    return this;
  }

  /** The callee may not write. */
  readOnly(): this {
    this.flags |= READ_ONLY;
    return this;
  }

  /** The callee may be a contract that is running already, this one included. */
  allowReentry(): this {
    this.flags |= ALLOW_REENTRY;
    return this;
  }

  /** Makes the call. A failure undoes what the callee did; what then is for the caller to say. */
  send(): Outcome {
    const name = new Writer(this.method.length);
    name.utf8(this.method);
    const status = host.call(
      this.to.start, this.to.length, name.start, name.length, this.args.start, this.args.length, this.most, this.flags,
    );
    const data = new Uint8Array(host.result_len());
    if (data.length > 0) host.result_read(data.dataStart, 0, data.length);
    return new Outcome(status, data);
  }
}

/** How a call ended. */
@final export class Outcome {
  constructor(
    /** 0, the callee's abort code, or a reason of the node below 0. */
    readonly status: i32,
    /** The output, or the data of the abort, as CBOR; possibly empty. */
    readonly data: Uint8Array,
  ) {}

  get ok(): bool {
    return this.status == Status.OK;
  }

  /** Ends this call as well, with code CALL_FAILED, unless the other one succeeded. */
  must(): this {
    if (!this.ok) callFailed(this.status, this.data.dataStart, this.data.length);
    return this;
  }

  /**
   * The output of a call that must have succeeded. One that is not of type T ends this call as well, with code CALL_FAILED and
   * Status.BAD_OUTPUT. transform.mjs gives `read` where T has enums in it.
   */
  value<T>(read: ((from: Reader) => T) | null = null): T {
    const from = this.must().data.dataStart;
    const reader = new Reader(from, from + this.data.length, Code.CALL_FAILED);
    const v = read === null ? reader.get<T>() : read(reader);
    reader.done();
    return v;
  }
}
