// The host functions of fondaco_v1 (abi.json). Pointers are addresses in this module's memory. Functions that return
// bytes fill dst up to cap and return the full length, or -1 if there is no value; what did not fit is in the result
// register.

@external("fondaco_v1", "input_len")
export declare function input_len(): i32;
@external("fondaco_v1", "input_read")
export declare function input_read(dst: usize, off: i32, cap: i32): i32;
@external("fondaco_v1", "output")
export declare function output(ptr: usize, len: i32): void;
@external("fondaco_v1", "abort")
export declare function abort(code: i32, ptr: usize, len: i32): void;
@external("fondaco_v1", "result_len")
export declare function result_len(): i32;
@external("fondaco_v1", "result_read")
export declare function result_read(dst: usize, off: i32, cap: i32): i32;

@external("fondaco_v1", "ctx")
export declare function ctx(dst: usize, cap: i32): i32;
@external("fondaco_v1", "caller_attr")
export declare function caller_attr(kind: i32, dst: usize, cap: i32): i32;

@external("fondaco_v1", "get")
export declare function get(key: usize, key_len: i32, dst: usize, cap: i32): i32;
@external("fondaco_v1", "set")
export declare function set(key: usize, key_len: i32, val: usize, val_len: i32): void;
@external("fondaco_v1", "del")
export declare function del(key: usize, key_len: i32): void;
@external("fondaco_v1", "has")
export declare function has(key: usize, key_len: i32): i32;
@external("fondaco_v1", "add")
export declare function add(key: usize, key_len: i32, delta: i64, min: i64, max: i64): i32;
@external("fondaco_v1", "scan")
export declare function scan(start: usize, start_len: i32, end: usize, end_len: i32, flags: i32, limit: i32): i32;
@external("fondaco_v1", "scan_next")
export declare function scan_next(it: i32, dst: usize, cap: i32): i32;
@external("fondaco_v1", "scan_close")
export declare function scan_close(it: i32): void;

@external("fondaco_v1", "emit")
export declare function emit(topic: usize, topic_len: i32, data: usize, data_len: i32): void;

@external("fondaco_v1", "call")
export declare function call(
  to: usize, to_len: i32, method: usize, method_len: i32, args: usize, args_len: i32, gas: i64, flags: i32,
): i32;

@external("fondaco_v1", "hash")
export declare function hash(alg: i32, ptr: usize, len: i32, dst: usize, cap: i32): i32;
@external("fondaco_v1", "verify")
export declare function verify(
  alg: i32, key: usize, key_len: i32, sig: usize, sig_len: i32, msg: usize, msg_len: i32,
): i32;

@external("fondaco_v1", "rand")
export declare function rand(dst: usize, len: i32): void;
@external("fondaco_v1", "log")
export declare function log(level: i32, ptr: usize, len: i32): void;
@external("fondaco_v1", "gas_left")
export declare function gas_left(): i64;
