// The contract SDK for AssemblyScript. README.md shows what a contract looks like.

export { ctx, emit, log, random } from "./fondaco/context";
export { StateValue, StateMap, StateMap2, Balances, Counter, Scan } from "./fondaco/state";
export { Address, Hash, Box } from "./fondaco/values";
export { u128 } from "./fondaco/u128";
export { checkedAdd, checkedSub, checkedMul } from "./fondaco/checked";
export { call, callName, stopped, Call, Outcome, Status } from "./fondaco/call";
export { Code, fail, require } from "./fondaco/failure";
export { sm3, sha256, keccak256, verify, Signature } from "./fondaco/crypto";
