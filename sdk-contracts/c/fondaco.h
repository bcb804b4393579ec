// fondaco.h is the contract SDK for C: the caller and the time, typed state, checked arithmetic on integers up to 128
// bits, events, errors, calls to other contracts, and hashes and signatures. It needs no library. A contract is one file:
//
//	#include "fondaco.h"
//
//	CONTRACT(token, "1.0.0")
//	BALANCES(bal, (addr))                                               // state bal(addr) -> u128
//	EVENT(Transferred, (addr, from), (addr, to), (u128, amount), indexed("from,to"))
//	ERROR(1001, InsufficientFunds, (u128, have), (u128, need))
//
//	TX(void, transfer, (addr, to), (u128, amount), conflicts("bal/{$caller},bal/{to}")) {
//		addr from = chain_caller();
//		if (!bal_sub(from, amount)) fail(InsufficientFunds, bal_get(from), amount);
//		bal_add(to, amount); // does not read what to has: others may pay it in parallel
//		emit(Transferred, from, to, amount);
//	}
//
//	VIEW(u128, balance_of, (addr, who)) { return bal_get(who); }
//
// Declarations write the interface text of sdk-contracts/INTERFACE.md into the module, of which the builder makes the schema: the
// text and the code come from the same words, and cannot disagree.
//
// Fields and arguments are pairs of type and name. Types are u8 u16 u32 u64 u128 i8 i16 i32 i64 bool str bytes addr hash, those
// that STRUCT and ENUM declare, and list(T) and opt(T) after LIST(T) and OPT(T), which in C are called list_T and opt_T.
// There are at most 64 pairs; after them may follow conflicts("keys"), roles("names"), indexed("fields") and doc("what it is").
//
// A method that ends with fail, chain_abort or a trap undoes everything it did. What a method decodes or reads lives in memory
// that only grows until the call ends; nothing is freed, and nothing but state survives the call.
//
// Names that begin with fd_ or FD_ are the header's own.
#ifndef FONDACO_H
#define FONDACO_H

#define FONDACO_SDK "1" // version of this SDK, which the module's build section names

// ---- Types ----

typedef __UINT8_TYPE__ u8;
typedef __UINT16_TYPE__ u16;
typedef __UINT32_TYPE__ u32;
typedef __UINT64_TYPE__ u64;
typedef unsigned __int128 u128; // an amount
typedef __INT8_TYPE__ i8;
typedef __INT16_TYPE__ i16;
typedef __INT32_TYPE__ i32;
typedef __INT64_TYPE__ i64;

#if !defined(__STDC_VERSION__) || __STDC_VERSION__ < 202311L
#undef bool
#undef true
#undef false
typedef _Bool bool;
enum { false, true };
#endif

#define FD_FN static __attribute__((unused))
#define FD_CHECKED_FN static __attribute__((unused, warn_unused_result)) // the caller must look at the result
#define FD_NORETURN FD_FN __attribute__((noreturn, cold))

typedef struct { u8 at[20]; } addr;            // an account or a contract; all zero is nobody
typedef struct { u8 at[32]; } hash;            // a digest, or a transaction's id; in the schema, bytes
typedef struct { const char *at; u32 len; } str; // UTF-8 text, not ended by a zero byte
typedef struct { const u8 *at; u32 len; } bytes;

// TEXT makes a str of a string literal.
#define TEXT(literal) ((str){"" literal, sizeof(literal) - 1})

FD_FN bool fd_same(const void *a, const void *b, u32 len) {
	const u8 *x = (const u8 *)a, *y = (const u8 *)b;
	for (u32 i = 0; i < len; i++) {
		if (x[i] != y[i]) return false;
	}
	return true;
}

FD_FN void fd_copy(void *to, const void *from, u32 len) {
	if (len > 0) __builtin_memcpy(to, from, len);
}

FD_FN bool addr_eq(addr a, addr b) { return fd_same(a.at, b.at, sizeof a.at); }
FD_FN bool str_eq(str a, str b) { return a.len == b.len && fd_same(a.at, b.at, a.len); }
FD_FN bool bytes_eq(bytes a, bytes b) { return a.len == b.len && fd_same(a.at, b.at, a.len); }

FD_FN i32 fd_compare(const u8 *a, u32 a_len, const u8 *b, u32 b_len) {
	for (u32 i = 0; i < a_len && i < b_len; i++) {
		if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
	}
	return (a_len > b_len) - (a_len < b_len);
}

// str_cmp and bytes_cmp return -1, 0 or 1 as a sorts before, with or after b, byte by byte, as keys of state do.
FD_FN i32 str_cmp(str a, str b) { return fd_compare((const u8 *)a.at, a.len, (const u8 *)b.at, b.len); }
FD_FN i32 bytes_cmp(bytes a, bytes b) { return fd_compare(a.at, a.len, b.at, b.len); }

// str_begins reports whether s begins with prefix.
FD_FN bool str_begins(str s, str prefix) { return s.len >= prefix.len && fd_same(s.at, prefix.at, prefix.len); }

// ---- The host ----

// Abort codes of the SDK. A contract's own begin at 1000.
enum {
	CHAIN_BAD_ARGUMENTS = 1, // the arguments are not what the method takes
	CHAIN_PANIC = 2,         // the contract found itself at fault
	CHAIN_OVERFLOW = 3,      // an integer left its range; the data is the operation
	CHAIN_NOT_FOUND = 4,     // something that must exist does not
	CHAIN_DENIED = 5,        // the caller may not do that
	CHAIN_BAD_STATE = 6,     // a value of state is not what the contract's types say
	CHAIN_CALL_FAILED = 7,   // a call to another contract failed; the data is its status and data
};

// How a call to another contract ended: 0 well, above 0 with the callee's abort code, below 0 for a reason of the host.
enum {
	STATUS_OK = 0,
	STATUS_TRAPPED = -1, // the callee's code is faulty
	STATUS_OUT_OF_GAS = -2,
	STATUS_REENTRY = -3,   // the callee is already running; see target
	STATUS_NOT_FOUND = -4, // no such contract or method
	STATUS_DENIED = -5,    // a rule of the chain refused, such as writing in a view
	STATUS_OUT_OF_DEPTH = -6,
	STATUS_BAD_OUTPUT = -7,
	STATUS_OUT_OF_MEMORY = -8,
};

enum { HASH_SM3 = 1, HASH_SHA256 = 2, HASH_KECCAK256 = 3 };
enum { SIGNATURE_SM2 = 1, SIGNATURE_ED25519 = 2, SIGNATURE_P256 = 3 };
enum { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };
enum { FD_SCAN_REVERSE = 1, FD_SCAN_KEYS_ONLY = 2 };
enum { FD_CALL_READ_ONLY = 1, FD_CALL_ALLOW_REENTRY = 2, FD_CALL_BY_NAME = 4 };
enum { FD_ATTRIBUTE_INSTITUTION = 1, FD_ATTRIBUTE_ROLES = 2, FD_ATTRIBUTE_SERIAL = 3, FD_ATTRIBUTE_KYC = 4 };

// The host functions of fondaco_v1 (abi.json). In unit tests fondaco_mock.h has them.
#ifdef __wasm__
#define HOST(result, name) __attribute__((import_module("fondaco_v1"), import_name(#name))) result host_##name
#else
#define HOST(result, name) FD_FN result host_##name
#endif

HOST(u32, input_len)(void);
HOST(u32, input_read)(void *dst, u32 off, u32 cap);
HOST(void, output)(const void *ptr, u32 len);
HOST(void, abort)(u32 code, const void *ptr, u32 len);
HOST(u32, result_len)(void);
HOST(u32, result_read)(void *dst, u32 off, u32 cap);
HOST(i32, ctx)(void *dst, u32 cap);
HOST(i32, caller_attr)(u32 kind, void *dst, u32 cap);
HOST(i32, get)(const void *key, u32 key_len, void *dst, u32 cap);
HOST(void, set)(const void *key, u32 key_len, const void *val, u32 val_len);
HOST(void, del)(const void *key, u32 key_len);
HOST(u32, has)(const void *key, u32 key_len);
HOST(i32, add)(const void *key, u32 key_len, i64 delta, i64 min, i64 max);
HOST(u32, scan)(const void *start, u32 start_len, const void *end, u32 end_len, u32 flags, u32 limit);
HOST(i32, scan_next)(u32 it, void *dst, u32 cap);
HOST(void, scan_close)(u32 it);
HOST(void, emit)(const void *topic, u32 topic_len, const void *data, u32 data_len);
HOST(i32, call)(const void *to, u32 to_len, const void *method, u32 method_len, const void *args, u32 args_len, u64 gas, u32 flags);
HOST(u32, hash)(u32 alg, const void *ptr, u32 len, void *dst, u32 cap);
HOST(u32, verify)(u32 alg, const void *pk, u32 pk_len, const void *sig, u32 sig_len, const void *msg, u32 msg_len);
HOST(void, rand)(void *dst, u32 len);
HOST(void, log)(u32 level, const void *ptr, u32 len);
HOST(u64, gas_left)(void);

// ---- Memory ----

// What a call decodes and reads lies one after the other behind the module's data. fd_reserve returns room for that many bytes,
// aligned for every type; fd_keep keeps the first of them.
#ifdef __wasm__
extern u8 __heap_base;
static u8 *fd_top, *fd_end; // null at first: a call begins with fresh memory

FD_FN void *fd_reserve(u64 size) {
	if (!fd_top) {
		fd_top = (u8 *)(((__UINTPTR_TYPE__)&__heap_base + 15) & ~(__UINTPTR_TYPE__)15);
		fd_end = (u8 *)(__builtin_wasm_memory_size(0) << 16);
	}
	u64 room = (u64)(fd_end - fd_top);
	if (size > room) {
		u64 pages = (size - room + 0xffff) >> 16;
		if (pages > 0xffff || __builtin_wasm_memory_grow(0, (u32)pages) == (__SIZE_TYPE__)-1) __builtin_trap();
		fd_end += pages << 16;
	}
	return fd_top;
}

FD_FN void fd_keep(u32 size) { fd_top += ((u64)size + 15) & ~(u64)15; }
#else
FD_FN void *fd_reserve(u64 size); // fondaco_mock.h: an allocation of its own, so that sanitizers see its end
FD_FN void fd_keep(u32 size) { (void)size; }
#endif

// chain_alloc returns size zero bytes that live until the call ends.
FD_FN void *chain_alloc(u64 size) {
	void *room = fd_reserve(size);
	fd_keep((u32)size);
	__builtin_memset(room, 0, (__SIZE_TYPE__)size);
	return room;
}

// ---- Canonical CBOR (RFC 8949 §4.2.1) ----

enum { FD_UINT, FD_NEGATIVE, FD_BYTES, FD_TEXT, FD_ARRAY, FD_MAP, FD_TAG, FD_SIMPLE };

// writer appends to a buffer, and moves to a larger one when it is full.
typedef struct { u8 *at; u32 len, cap; } writer;

static u8 fd_key_buffer[320], fd_value_buffer[1024];

// chain_writer returns a writer. There is one at a time: the next one begins where this one did.
FD_FN writer chain_writer(void) { return (writer){fd_value_buffer, 0, sizeof fd_value_buffer}; }

FD_FN u8 *fd_room(writer *w, u32 size) {
	if (size > w->cap - w->len) {
		u64 cap = 2 * ((u64)w->len + size);
		u8 *larger = (u8 *)fd_reserve(cap);
		fd_keep((u32)cap);
		fd_copy(larger, w->at, w->len);
		w->at = larger;
		w->cap = (u32)cap;
	}
	u8 *room = w->at + w->len;
	w->len += size;
	return room;
}

FD_FN void fd_put_raw(writer *w, const void *data, u32 len) { fd_copy(fd_room(w, len), data, len); }

FD_FN void fd_put_big_endian(writer *w, u64 n, u32 width) {
	u8 *to = fd_room(w, width);
	for (u32 i = width; i-- > 0; n >>= 8) to[i] = (u8)n;
}

FD_FN void fd_put_head(writer *w, u32 major, u64 n) {
	u32 size = n < 24 ? 0 : n <= 0xff ? 1 : n <= 0xffff ? 2 : n <= 0xffffffff ? 3 : 4; // of 1, 2, 4 or 8 bytes
	*fd_room(w, 1) = (u8)(major << 5 | (size == 0 ? n : 23 + size));
	if (size > 0) fd_put_big_endian(w, n, 1u << (size - 1));
}

FD_FN void fd_put_signed(writer *w, i64 n) { fd_put_head(w, n < 0 ? FD_NEGATIVE : FD_UINT, (u64)(n < 0 ? ~n : n)); }

FD_FN void fd_put_array(writer *w, u32 n) { fd_put_head(w, FD_ARRAY, n); }

FD_FN void fd_put_null(writer *w) { *fd_room(w, 1) = 0xf6; }

// reader reads values one after the other. After the first that is malformed, or not of the wanted type, all that it returns are
// zero values, and fd_done says so. What it returns shares memory with the data.
typedef struct { const u8 *at, *end; bool bad; } reader;

FD_FN reader fd_reader(bytes data) { return (reader){data.at, data.at + data.len, false}; }

FD_FN u32 fd_left(const reader *r) { return (u32)(r->end - r->at); }

FD_FN bool fd_done(const reader *r) { return !r->bad && r->at == r->end; }

FD_FN void fd_bad(reader *r) {
	r->bad = true;
	r->at = r->end;
}

// fd_take_any reads the head of a value, and returns its major type.
FD_FN u32 fd_take_any(reader *r, u64 *n) {
	*n = 0;
	if (r->at == r->end) {
		fd_bad(r);
		return FD_SIMPLE;
	}
	u32 first = *r->at++, major = first >> 5, size = first & 31;
	if (size < 24) {
		*n = size;
		return major;
	}
	u32 width = 1u << ((size - 24) & 3);
	if (size > 27 || major == FD_SIMPLE || fd_left(r) < width) {
		fd_bad(r);
		return FD_SIMPLE;
	}
	u64 value = 0;
	for (u32 i = 0; i < width; i++) value = value << 8 | *r->at++;
	if (value < (width == 1 ? 24 : (u64)1 << (4 * width))) { // a shorter head would do
		fd_bad(r);
		return FD_SIMPLE;
	}
	*n = value;
	return major;
}

FD_FN u64 fd_take_head(reader *r, u32 want) {
	u64 n;
	if (fd_take_any(r, &n) == want && !r->bad) return n;
	fd_bad(r);
	return 0;
}

FD_FN const u8 *fd_take_raw(reader *r, u64 n) {
	if (n > fd_left(r)) {
		fd_bad(r);
		return 0;
	}
	const u8 *raw = r->at;
	r->at += n;
	return raw;
}

FD_FN void fd_take_fixed(reader *r, u8 *to, u32 size) {
	const u8 *raw = fd_take_head(r, FD_BYTES) == size ? fd_take_raw(r, size) : 0;
	if (raw) {
		fd_copy(to, raw, size);
	} else {
		fd_bad(r);
		__builtin_memset(to, 0, size);
	}
}

FD_FN u32 fd_take_array(reader *r) {
	u64 n = fd_take_head(r, FD_ARRAY);
	if (n > 65536 || n > fd_left(r)) {
		fd_bad(r);
		return 0;
	}
	return (u32)n;
}

FD_FN void fd_take_exactly(reader *r, u32 n) {
	if (fd_take_array(r) != n) fd_bad(r);
}

// fd_take_null reads an absent value if there is one, and reports whether.
FD_FN bool fd_take_null(reader *r) {
	if (r->at == r->end || *r->at != 0xf6) return false;
	r->at++;
	return true;
}

// fd_skip reads over a value of any type, nested at most depth deep.
FD_FN void fd_skip(reader *r, u32 depth) {
	u64 n;
	if (depth == 0) {
		fd_bad(r);
		return;
	}
	switch (fd_take_any(r, &n)) {
	case FD_BYTES:
	case FD_TEXT:
		fd_take_raw(r, n);
		return;
	case FD_MAP:
		if (n > fd_left(r)) break;
		n *= 2;
		__attribute__((fallthrough));
	case FD_ARRAY:
		if (n > fd_left(r)) break;
		while (n-- > 0 && !r->bad) fd_skip(r, depth - 1);
		return;
	case FD_TAG:
		fd_skip(r, depth - 1);
		return;
	default:
		return;
	}
	fd_bad(r);
}

// fd_utf8 reports whether the text is UTF-8 in its one form (RFC 3629).
FD_FN bool fd_utf8(const u8 *s, u32 len) {
	for (u32 i = 0; i < len;) {
		u32 c = s[i++], more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : (c & 0xf0) == 0xe0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 4;
		if (more > 3 || more > len - i) return false;
		if (more == 0) continue;
		u32 low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
		if (s[i] < low || s[i] > high) return false;
		for (u32 k = 1; k < more; k++) {
			if ((s[i + k] & 0xc0) != 0x80) return false;
		}
		i += more;
	}
	return true;
}

// Each type T has a codec, fd_put_T and fd_take_T, and each type that keys are made of fd_key_T and fd_unkey_T: integers
// big-endian of their full width, with the sign inverted, so that keys sort as numbers do.

#define FD_UNSIGNED(T)                                                                    \
	FD_FN void fd_put_##T(writer *w, const T *v) { fd_put_head(w, FD_UINT, *v); }         \
	FD_FN void fd_take_##T(reader *r, T *v) {                                             \
		u64 n = fd_take_head(r, FD_UINT);                                                 \
		*v = (T)n;                                                                        \
		if (*v != n) {                                                                    \
			fd_bad(r);                                                                    \
			*v = 0;                                                                       \
		}                                                                                 \
	}                                                                                     \
	FD_FN void fd_key_##T(writer *w, const T *v) { fd_put_big_endian(w, *v, sizeof *v); } \
	FD_FN void fd_unkey_##T(reader *r, T *v) { *v = (T)fd_unkey_integer(r, sizeof *v); }

#define FD_SIGNED(T, U)                                                            \
	FD_FN void fd_put_##T(writer *w, const T *v) { fd_put_signed(w, *v); }         \
	FD_FN void fd_take_##T(reader *r, T *v) {                                      \
		u64 n;                                                                     \
		u32 major = fd_take_any(r, &n);                                            \
		if (major > FD_NEGATIVE || n >> (8 * sizeof *v - 1) != 0) {                \
			fd_bad(r);                                                             \
			n = 0;                                                                 \
			major = FD_UINT;                                                       \
		}                                                                          \
		*v = (T)(major == FD_NEGATIVE ? ~n : n);                                   \
	}                                                                              \
	FD_FN void fd_key_##T(writer *w, const T *v) {                                 \
		fd_put_big_endian(w, (U)((U)*v ^ (U)1 << (8 * sizeof *v - 1)), sizeof *v); \
	}                                                                              \
	FD_FN void fd_unkey_##T(reader *r, T *v) { *v = (T)((U)fd_unkey_integer(r, sizeof *v) ^ (U)1 << (8 * sizeof *v - 1)); }

FD_FN u64 fd_unkey_integer(reader *r, u32 width) {
	const u8 *raw = fd_take_raw(r, width);
	u64 n = 0;
	for (u32 i = 0; raw && i < width; i++) n = n << 8 | raw[i];
	return n;
}

FD_UNSIGNED(u8)
FD_UNSIGNED(u16)
FD_UNSIGNED(u32)
FD_UNSIGNED(u64)
FD_SIGNED(i8, u8)
FD_SIGNED(i16, u16)
FD_SIGNED(i32, u32)
FD_SIGNED(i64, u64)

FD_FN void fd_put_u128(writer *w, const u128 *v) {
	u64 high = (u64)(*v >> 64);
	if (high == 0) {
		fd_put_head(w, FD_UINT, (u64)*v);
		return;
	}
	u32 width = 8 - (u32)__builtin_clzll(high) / 8;
	fd_put_head(w, FD_TAG, 2);
	fd_put_head(w, FD_BYTES, width + 8);
	fd_put_big_endian(w, high, width);
	fd_put_big_endian(w, (u64)*v, 8);
}

FD_FN void fd_take_u128(reader *r, u128 *v) {
	u64 n;
	u32 major = fd_take_any(r, &n);
	*v = n;
	if (major == FD_UINT) return;
	*v = 0;
	u64 len = major == FD_TAG && n == 2 ? fd_take_head(r, FD_BYTES) : 0;
	const u8 *raw = len > 8 && len <= 16 ? fd_take_raw(r, len) : 0;
	if (!raw || raw[0] == 0) {
		fd_bad(r);
		return;
	}
	for (u32 i = 0; i < len; i++) *v = *v << 8 | raw[i];
}

FD_FN void fd_key_u128(writer *w, const u128 *v) {
	fd_put_big_endian(w, (u64)(*v >> 64), 8);
	fd_put_big_endian(w, (u64)*v, 8);
}

FD_FN void fd_unkey_u128(reader *r, u128 *v) {
	u64 high = fd_unkey_integer(r, 8);
	*v = (u128)high << 64 | fd_unkey_integer(r, 8);
}

FD_FN void fd_put_bool(writer *w, const bool *v) { *fd_room(w, 1) = *v ? 0xf5 : 0xf4; }

FD_FN void fd_take_bool(reader *r, bool *v) {
	u64 n = fd_take_head(r, FD_SIMPLE);
	if (n != 20 && n != 21) fd_bad(r);
	*v = n == 21;
}

FD_FN void fd_put_str(writer *w, const str *v) {
	fd_put_head(w, FD_TEXT, v->len);
	fd_put_raw(w, v->at, v->len);
}

FD_FN void fd_take_str(reader *r, str *v) {
	u64 n = fd_take_head(r, FD_TEXT);
	const u8 *raw = fd_take_raw(r, n);
	if (!raw || !fd_utf8(raw, (u32)n)) {
		fd_bad(r);
		n = 0;
	}
	*v = (str){(const char *)raw, (u32)n};
}

FD_FN void fd_key_str(writer *w, const str *v) { fd_put_raw(w, v->at, v->len); }

FD_FN void fd_unkey_str(reader *r, str *v) {
	*v = (str){(const char *)r->at, fd_left(r)};
	r->at = r->end;
}

FD_FN void fd_put_bytes(writer *w, const bytes *v) {
	fd_put_head(w, FD_BYTES, v->len);
	fd_put_raw(w, v->at, v->len);
}

FD_FN void fd_take_bytes(reader *r, bytes *v) {
	u64 n = fd_take_head(r, FD_BYTES);
	const u8 *raw = fd_take_raw(r, n);
	*v = (bytes){raw, raw ? (u32)n : 0};
}

FD_FN void fd_key_bytes(writer *w, const bytes *v) { fd_put_raw(w, v->at, v->len); }

FD_FN void fd_unkey_bytes(reader *r, bytes *v) {
	*v = (bytes){r->at, fd_left(r)};
	r->at = r->end;
}

FD_FN void fd_put_addr(writer *w, const addr *v) {
	*fd_room(w, 1) = FD_BYTES << 5 | sizeof v->at;
	fd_put_raw(w, v->at, sizeof v->at);
}

FD_FN void fd_take_addr(reader *r, addr *v) { fd_take_fixed(r, v->at, sizeof v->at); }

FD_FN void fd_put_hash(writer *w, const hash *v) {
	fd_put_head(w, FD_BYTES, sizeof v->at);
	fd_put_raw(w, v->at, sizeof v->at);
}

FD_FN void fd_take_hash(reader *r, hash *v) { fd_take_fixed(r, v->at, sizeof v->at); }

FD_FN void fd_unkey_fixed(reader *r, u8 *to, u32 size) {
	const u8 *raw = fd_take_raw(r, size);
	if (raw) fd_copy(to, raw, size);
}

FD_FN void fd_key_addr(writer *w, const addr *v) { fd_put_raw(w, v->at, sizeof v->at); }
FD_FN void fd_key_hash(writer *w, const hash *v) { fd_put_raw(w, v->at, sizeof v->at); }
FD_FN void fd_unkey_addr(reader *r, addr *v) { fd_unkey_fixed(r, v->at, sizeof v->at); }
FD_FN void fd_unkey_hash(reader *r, hash *v) { fd_unkey_fixed(r, v->at, sizeof v->at); }

// ---- Ending a call ----

FD_NORETURN void fd_abort(u32 code, const writer *w) {
	host_abort(code, w->at, w->len);
	__builtin_trap();
}

// chain_abort ends the call with a code and a text, and undoes everything it did.
FD_NORETURN void chain_abort(u32 code, str why) {
	writer w = chain_writer();
	fd_put_str(&w, &why);
	fd_abort(code, &w);
}

// chain_require ends the call with CHAIN_DENIED unless ok.
#define chain_require(ok, why) ((ok) ? (void)0 : chain_abort(CHAIN_DENIED, TEXT(why)))

// ---- Checked arithmetic: money never wraps around ----

// checked_add, checked_sub and checked_mul work on integers of every width; the result has the type of a. When it does not fit,
// the call ends with CHAIN_OVERFLOW.
#define checked_add(a, b) FD_CHECKED(add, a, b)
#define checked_sub(a, b) FD_CHECKED(sub, a, b)
#define checked_mul(a, b) FD_CHECKED(mul, a, b)

// checked_to(T, a) is a as an integer of type T, and ends the call when that cannot hold it. The compiler refuses what converts
// silently to a narrower type, or between signed and unsigned ones.
#define checked_to(T, a)                                                                                        \
	(__extension__({                                                                                            \
		T fd_result;                                                                                            \
		if (__builtin_add_overflow(a, 0, &fd_result)) chain_abort(CHAIN_OVERFLOW, TEXT("conversion overflow")); \
		fd_result;                                                                                              \
	}))

#define FD_CHECKED(operation, a, b)                                                                                        \
	(__extension__({                                                                                                       \
		__typeof__((a)) fd_result;                                                                                         \
		if (__builtin_##operation##_overflow(a, b, &fd_result)) chain_abort(CHAIN_OVERFLOW, TEXT(#operation " overflow")); \
		fd_result;                                                                                                         \
	}))

FD_FN u128 fd_divide(u128 high, u128 low, u128 by, u128 *rest) {
	for (u32 i = 0; i < 128; i++) { // high, which is below by, gathers the rest, and low the quotient
		u64 top = (u64)(high >> 127);
		high = high << 1 | low >> 127;
		low <<= 1;
		if (top || high >= by) {
			high -= by;
			low |= 1;
		}
	}
	*rest = high;
	return low;
}

// checked_div returns a / b, rounded down; b of 0 ends the call with CHAIN_OVERFLOW.
FD_FN u128 checked_div(u128 a, u128 b) {
	if (b == 0) chain_abort(CHAIN_OVERFLOW, TEXT("division by zero"));
	u128 rest;
	return a >> 64 == 0 && b >> 64 == 0 ? (u64)a / (u64)b : fd_divide(0, a, b, &rest);
}

// checked_mul_div returns a * b / c, rounded down, without losing bits of the product: for rates and shares.
FD_FN u128 checked_mul_div(u128 a, u128 b, u128 c) {
	u64 a1 = (u64)(a >> 64), a0 = (u64)a, b1 = (u64)(b >> 64), b0 = (u64)b;
	u128 low = (u128)a0 * b0, middle = (u128)a1 * b0, other = (u128)a0 * b1;
	u128 carry = (low >> 64) + (u64)middle + (u64)other;
	u128 high = (u128)a1 * b1 + (middle >> 64) + (other >> 64) + (carry >> 64), rest;
	if (high >= c) chain_abort(CHAIN_OVERFLOW, TEXT("muldiv overflow")); // also if c is 0
	return fd_divide(high, carry << 64 | (u64)low, c, &rest);
}

#ifdef __wasm__
#ifndef __wasm_bulk_memory__
#error "compile with -mbulk-memory, as fondaco contract build does"
#endif

// What the compiler calls for operations that WebAssembly has not.

void *memcpy(void *to, const void *from, __SIZE_TYPE__ n) { return __builtin_memcpy(to, from, n); }
void *memmove(void *to, const void *from, __SIZE_TYPE__ n) { return __builtin_memmove(to, from, n); }
void *memset(void *to, int c, __SIZE_TYPE__ n) { return __builtin_memset(to, c, n); }
int memcmp(const void *a, const void *b, __SIZE_TYPE__ n) {
	const u8 *x = (const u8 *)a, *y = (const u8 *)b;
	for (; n > 0; n--, x++, y++) {
		if (*x != *y) return *x - *y;
	}
	return 0;
}

__int128 __multi3(__int128 a, __int128 b) {
	u64 a1 = (u64)((u128)a >> 64), a0 = (u64)a, b1 = (u64)((u128)b >> 64), b0 = (u64)b;
	u64 p00 = (a0 & 0xffffffff) * (b0 & 0xffffffff), p01 = (a0 & 0xffffffff) * (b0 >> 32), p10 = (a0 >> 32) * (b0 & 0xffffffff);
	u64 middle = (p00 >> 32) + (u32)p01 + (u32)p10;
	u64 high = (a0 >> 32) * (b0 >> 32) + (p01 >> 32) + (p10 >> 32) + (middle >> 32) + a1 * b0 + a0 * b1;
	return (__int128)((u128)high << 64 | (middle << 32 | (u32)p00));
}

u128 __udivti3(u128 a, u128 b) {
	u128 rest;
	if (b == 0) __builtin_trap();
	return a >> 64 == 0 && b >> 64 == 0 ? (u64)a / (u64)b : fd_divide(0, a, b, &rest);
}

u128 __umodti3(u128 a, u128 b) {
	u128 rest;
	if (b == 0) __builtin_trap();
	fd_divide(0, a, b, &rest);
	return rest;
}

u128 __ashlti3(u128 a, int by) {
	u64 high = (u64)(a >> 64), low = (u64)a;
	if (by >= 64) return (u128)(low << (by - 64)) << 64;
	return by == 0 ? a : (u128)(high << by | low >> (64 - by)) << 64 | low << by;
}

u128 __lshrti3(u128 a, int by) {
	u64 high = (u64)(a >> 64), low = (u64)a;
	if (by >= 64) return high >> (by - 64);
	return by == 0 ? a : (u128)(high >> by) << 64 | (low >> by | high << (64 - by));
}
#endif

// ---- The call ----

FD_FN bytes fd_read(void *dst, u32 cap, i32 n) {
	if ((u32)n > cap) {
		dst = fd_reserve((u32)n);
		host_result_read(dst, 0, (u32)n);
	}
	fd_keep((u32)n);
	return (bytes){(const u8 *)dst, (u32)n};
}

enum { FD_READ = 1024 }; // bytes to have at hand for what a host function returns

static bytes fd_context;

// fd_about returns the call's context from the value of a name on.
FD_FN reader fd_about(str name) {
	if (!fd_context.at) {
		void *dst = fd_reserve(FD_READ);
		fd_context = fd_read(dst, FD_READ, host_ctx(dst, FD_READ));
	}
	reader r = fd_reader(fd_context);
	for (u64 n = fd_take_head(&r, FD_MAP); n > 0 && !r.bad; n--) {
		str key;
		fd_take_str(&r, &key);
		if (str_eq(key, name)) return r;
		fd_skip(&r, 32);
	}
	chain_abort(CHAIN_PANIC, TEXT("the host does not tell the context of the call"));
}

#define FD_ABOUT(T, function, name)      \
	FD_FN T function(void) {             \
		T v;                             \
		reader r = fd_about(TEXT(name)); \
		fd_take_##T(&r, &v);             \
		return v;                        \
	}

FD_ABOUT(addr, chain_caller, "caller")         // who called this contract: an account or a contract
FD_ABOUT(addr, chain_origin, "origin")         // the account that signed the transaction
FD_ABOUT(addr, chain_self, "self")             // this contract
FD_ABOUT(u64, chain_now, "time_ms")            // block time, Unix ms
FD_ABOUT(u64, chain_height, "height")          // of the block
FD_ABOUT(str, chain_group, "group")            // of the chain
FD_ABOUT(str, chain_method, "method")          // that is running
FD_ABOUT(hash, chain_tx_id, "tx_id")           // of the transaction
FD_ABOUT(u64, chain_tx_index, "tx_index")      // its place in the block
FD_ABOUT(bool, chain_read_only, "read_only")   // whether the call may not write

FD_FN bool fd_attribute(u32 kind, reader *r) {
	void *dst = fd_reserve(FD_READ);
	i32 n = host_caller_attr(kind, dst, FD_READ);
	if (n < 0) return false;
	*r = fd_reader(fd_read(dst, FD_READ, n));
	return true;
}

// chain_institution names the caller's institution; empty when it has none, as contracts do.
FD_FN str chain_institution(void) {
	str name = {0, 0};
	reader r;
	if (fd_attribute(FD_ATTRIBUTE_INSTITUTION, &r)) fd_take_str(&r, &name);
	return name;
}

// chain_has_role reports whether the caller has the role.
FD_FN bool chain_has_role(str role) {
	reader r;
	if (!fd_attribute(FD_ATTRIBUTE_ROLES, &r)) return false;
	bool found = false;
	for (u32 n = fd_take_array(&r); n > 0; n--) {
		str one;
		fd_take_str(&r, &one);
		found = str_eq(one, role) || found;
	}
	return found && fd_done(&r);
}

// chain_hash returns a digest by one of HASH_…; the call is denied when there is no such algorithm.
FD_FN hash chain_hash(u32 algorithm, bytes data) {
	hash digest;
	host_hash(algorithm, data.at, data.len, digest.at, sizeof digest.at);
	return digest;
}

// chain_verify reports whether the 64-byte signature over the digest is the key's, by one of SIGNATURE_….
FD_FN bool chain_verify(u32 algorithm, bytes key, bytes signature, hash digest) {
	return host_verify(algorithm, key.at, key.len, signature.at, signature.len, digest.at, sizeof digest.at) == 1;
}

// chain_random fills len bytes: equal on all nodes, and foreseeable by the block's proposer. The contract must say RANDOM.
FD_FN void chain_random(void *dst, u32 len) { host_rand(dst, len); }

// chain_log writes a line to the node's local trace, which is no part of the ledger.
FD_FN void chain_log(u32 level, str line) { host_log(level, line.at, line.len); }

// chain_gas_left is the gas that the call may still use.
FD_FN u64 chain_gas_left(void) { return host_gas_left(); }

FD_FN reader fd_input(u32 arguments) {
	void *dst = fd_reserve(FD_READ);
	u32 n = host_input_read(dst, 0, FD_READ);
	if (n == FD_READ) { // and perhaps more
		n = host_input_len();
		dst = fd_reserve(n);
		host_input_read(dst, 0, n);
	}
	fd_keep(n);
	reader r = fd_reader((bytes){(const u8 *)dst, n});
	fd_take_exactly(&r, arguments);
	return r;
}

FD_FN void fd_input_done(const reader *r) {
	if (!fd_done(r)) chain_abort(CHAIN_BAD_ARGUMENTS, TEXT("the arguments do not fit the method"));
}

// ---- State ----

FD_FN writer fd_key(const char *name, u32 len) {
	writer w = {fd_key_buffer, 0, sizeof fd_key_buffer};
	fd_put_raw(&w, name, len);
	return w;
}

FD_FN bool fd_load(const writer *key, reader *value) {
	void *dst = fd_reserve(FD_READ);
	i32 n = host_get(key->at, key->len, dst, FD_READ);
	if (n < 0) return false;
	*value = fd_reader(fd_read(dst, FD_READ, n));
	return true;
}

FD_FN void fd_loaded(const reader *value) {
	if (!fd_done(value)) chain_abort(CHAIN_BAD_STATE, TEXT("a value of state is of another type"));
}

enum { FD_LONGEST_NAME = 64, FD_LONGEST_KEY = 256 };

// fd_scan opens a scan over keys from start on, which all begin with start's first bytes, as many as common says.
FD_FN u32 fd_scan(const writer *start, u32 common, u32 flags, u32 limit) {
	u8 end[FD_LONGEST_KEY]; // the first key beyond
	if (common > sizeof end) common = sizeof end; // the host refuses a start that long
	fd_copy(end, start->at, common);
	while (end[common - 1] == 0xff) common--; // the slash behind the name is none
	end[common - 1]++;
	return host_scan(start->at, start->len, end, common, flags, limit);
}

FD_FN bool fd_next(u32 it, u32 prefix, reader *key, reader *value) {
	void *dst = fd_reserve(FD_READ);
	i32 n = host_scan_next(it, dst, FD_READ);
	if (n < 0) return false;
	reader entry = fd_reader(fd_read(dst, FD_READ, n));
	bytes k, v;
	fd_take_exactly(&entry, 2);
	fd_take_bytes(&entry, &k);
	fd_take_bytes(&entry, &v);
	if (!fd_done(&entry) || k.len < prefix) chain_abort(CHAIN_BAD_STATE, TEXT("an entry of a scan"));
	*key = fd_reader((bytes){k.at + prefix, k.len - prefix});
	*value = fd_reader(v);
	return true;
}

// ---- Calls to other contracts ----

// target says whom to call and how. chain_at(x) calls the contract at address x with what gas may be passed on.
typedef struct target {
	addr to;
	str name;           // instead of to: a CNS name, with @version or without
	u64 gas;            // the most it may use; 0: 63/64 of what is left
	bool read_only;     // the callee may not write
	bool allow_reentry; // the callee may be a contract that is running already, this one included
} target;

FD_FN target chain_at(addr to) {
	target t = {.to = to};
	return t;
}

// outcome is how a call ended: with its output, or the data of its abort.
typedef struct { i32 status; bytes data; } outcome;

// chain_call calls a method of another contract with arguments in canonical CBOR. A failure undoes what the callee did, and is
// the caller's to handle: that nobody looks at the outcome is an error. REMOTE makes typed functions of it.
FD_CHECKED_FN outcome chain_call(target t, str method, bytes args) {
	u32 flags = (t.read_only ? FD_CALL_READ_ONLY : 0) | (t.allow_reentry ? FD_CALL_ALLOW_REENTRY : 0) | (t.name.len > 0 ? FD_CALL_BY_NAME : 0);
	const void *to = t.name.len > 0 ? (const void *)t.name.at : (const void *)t.to.at;
	u32 to_len = t.name.len > 0 ? t.name.len : sizeof t.to.at;
	outcome o = {host_call(to, to_len, method.at, method.len, args.at, args.len, t.gas, flags), {0, 0}};
	u32 len = host_result_len();
	u8 *data = (u8 *)chain_alloc(len);
	if (len > 0) host_result_read(data, 0, len);
	o.data = (bytes){data, len};
	return o;
}

// chain_must ends this call as well, with CHAIN_CALL_FAILED, unless the other one succeeded.
#define chain_must(o)                            \
	__extension__({                              \
		__auto_type fd_ended = (o);              \
		fd_must(fd_ended.status, fd_ended.data); \
	})

FD_FN void fd_must(i32 status, bytes data) {
	if (status == STATUS_OK) return;
	writer w = chain_writer();
	fd_put_array(&w, 2);
	fd_put_i32(&w, &status);
	fd_put_bytes(&w, &data);
	fd_abort(CHAIN_CALL_FAILED, &w);
}

// chain_stopped reports whether a freeze keeps one of two accounts from giving an asset, or from being given it, and sets account to that
// one, else to nobody. A contract asks before it moves what from has to to: the chain itself stops only transactions that a frozen
// account sends, and calls of a frozen contract. Where from is who calls, nobody ((addr){{0}}) in its place asks about to alone.
FD_CHECKED_FN bool chain_stopped(addr from, addr to, addr *account) {
	static const addr access = {{[19] = 3}}; // the system contract that knows who is frozen
	writer w = chain_writer();
	fd_put_array(&w, 2);
	fd_put_addr(&w, &from);
	fd_put_addr(&w, &to);
	outcome o = chain_call((target){.to = access, .read_only = true}, TEXT("stopped"), (bytes){w.at, w.len});
	chain_must(o);
	reader r = fd_reader(o.data);
	bool stopped = !fd_take_null(&r);
	__builtin_memset(account, 0, sizeof *account);
	if (stopped) fd_take_addr(&r, account);
	if (!fd_done(&r)) fd_must(STATUS_BAD_OUTPUT, o.data);
	return stopped;
}

// ---- Macros for macros ----

#define FD_JOIN(a, b) FD_JOIN_(a, b)
#define FD_JOIN_(a, b) a##b
#define FD_SECOND(...) FD_SECOND_(__VA_ARGS__)
#define FD_SECOND_(first, second, ...) second
#define FD_UNWRAP(...) __VA_ARGS__

// FD_EACH(m, …) applies m to each of the pairs among …, of which there can be 64, and FD_OPTIONS(…) FD_OPTION_x to each x("text").
#define FD_EACH(m, ...) __VA_OPT__(FD_RESCAN(FD_STEP(m, __VA_ARGS__)))
#define FD_STEP(m, e, ...) FD_JOIN(FD_ON_, FD_IS_PAIR(e))(m, e) __VA_OPT__(FD_STEP_AGAIN FD_NOTHING()(m, __VA_ARGS__))
#define FD_STEP_AGAIN() FD_STEP
#define FD_NOTHING() ()
#define FD_ON_0(m, e)
#define FD_ON_1(m, e) m e
#define FD_OPTIONS(...) __VA_OPT__(FD_RESCAN(FD_OPTION_STEP(__VA_ARGS__)))
#define FD_OPTION_STEP(e, ...) FD_JOIN(FD_OPTION_ON_, FD_IS_PAIR(e))(e) __VA_OPT__(FD_OPTION_AGAIN FD_NOTHING()(__VA_ARGS__))
#define FD_OPTION_AGAIN() FD_OPTION_STEP
#define FD_OPTION_ON_0(e) FD_OPTION_##e
#define FD_OPTION_ON_1(e)
#define FD_RESCAN(...) FD_RESCAN3(FD_RESCAN3(FD_RESCAN3(FD_RESCAN3(__VA_ARGS__))))
#define FD_RESCAN3(...) FD_RESCAN2(FD_RESCAN2(FD_RESCAN2(FD_RESCAN2(__VA_ARGS__))))
#define FD_RESCAN2(...) FD_RESCAN1(FD_RESCAN1(FD_RESCAN1(FD_RESCAN1(__VA_ARGS__))))
#define FD_RESCAN1(...) __VA_ARGS__

#define FD_IS_PAIR(e) FD_SECOND(FD_PAIR_PROBE e, 0, ~)
#define FD_PAIR_PROBE(...) ~, 1

// FD_LISTED(first, next, none, …) applies first to the first of the pairs among …, and next to the others; without pairs it is none.
#define FD_LISTED(first, next, none, ...) \
	FD_JOIN(FD_LISTED_, FD_IS_PAIR(FD_HEAD(__VA_ARGS__ __VA_OPT__(,) ~)))(first, next, none, __VA_ARGS__)
#define FD_HEAD(...) FD_HEAD_(__VA_ARGS__)
#define FD_HEAD_(e, ...) e
#define FD_LISTED_0(first, next, none, ...) none
#define FD_LISTED_1(first, next, none, e, ...) first e FD_EACH(next, __VA_ARGS__)

#define FD_COUNT(...) (0 FD_EACH(FD_PLUS_ONE, __VA_ARGS__))
#define FD_PLUS_ONE(T, n) +1

// A type in a declaration is u64, Name, list(Name) or opt(Name). FD_TYPE is what it is called in C, and FD_SPELL in the
// interface text.
#define FD_TYPE(T) FD_SECOND(FD_TYPE_##T, T, ~)
#define FD_TYPE_list(T) ~, list_##T
#define FD_TYPE_opt(T) ~, opt_##T
#define FD_SPELL(T) FD_SECOND(FD_SPELL_##T, #T, ~)
#define FD_SPELL_list(T) ~, "list<" FD_SPELL_ONE(T) ">"
#define FD_SPELL_opt(T) ~, "opt<" FD_SPELL_ONE(T) ">"
#define FD_SPELL_ONE(T) FD_SECOND(FD_SPELL_##T, #T, ~)
#define FD_SPELL_hash ~, "bytes"

#define FD_PUT(T) FD_JOIN(fd_put_, FD_TYPE(T))
#define FD_TAKE(T) FD_JOIN(fd_take_, FD_TYPE(T))

// FD_IF_VOID(T, a, b) is a if T is void, otherwise b.
#define FD_IF_VOID(T, a, b) FD_JOIN(FD_VOID_IS_, FD_SECOND(FD_VOID_##T, 0, ~))((a), (b))
#define FD_VOID_void ~, 1
#define FD_VOID_IS_1(a, b) FD_UNWRAP a
#define FD_VOID_IS_0(a, b) FD_UNWRAP b

// ---- The interface text ----

#ifdef __wasm__
#define FD_INTERFACE(...) __asm__(".section .custom_section.fondaco.interface,\"\",@\n" __VA_ARGS__ "\t.ascii \"\\n\"\n\t.text\n");
#define FD_EXPORT(name) __attribute__((export_name(#name)))
#else
#define FD_INTERFACE(...)
#define FD_EXPORT(name) FD_FN
#endif

#define FD_SAY(text) "\t.ascii \"" text "\"\n"
#define FD_QUOTE(x) FD_QUOTE_(x)
#define FD_QUOTE_(x) #x

#ifdef __wasm__
#define FD_OPTION_conflicts(keys) FD_SAY(" conflicts ") "\t.ascii " #keys "\n"
#define FD_OPTION_roles(names) FD_SAY(" roles ") "\t.ascii " #names "\n"
#define FD_OPTION_indexed(fields) FD_SAY(" indexed ") "\t.ascii " #fields "\n"
#define FD_OPTION_doc(what) FD_SAY(" ") "\t.ascii " FD_QUOTE(#what) "\n"
#else // the mock host wants the roles alone
#define FD_OPTION_conflicts(keys)
#define FD_OPTION_roles(names) names
#define FD_OPTION_indexed(fields)
#define FD_OPTION_doc(what)
#endif

#define FD_SAY_FIELDS(...) FD_SAY("(") FD_LISTED(FD_SAY_FIELD, FD_SAY_NEXT, , __VA_ARGS__) FD_SAY(")")
#define FD_SAY_FIELD(T, n) FD_SAY(#n ": " FD_SPELL(T))
#define FD_SAY_NEXT(T, n) FD_SAY(", " #n ": " FD_SPELL(T))

// ---- Declarations ----

// CONTRACT(name, "version") comes first; a doc("what it is") may follow.
#define CONTRACT(name, version, ...)                                                              \
	FD_INTERFACE(FD_SAY("contract " #name " ") "\t.ascii " #version "\n" FD_OPTIONS(__VA_ARGS__)) \
	FD_EXPORT(fondaco_abi_1) void fd_marker(void) {}

// RANDOM says that the contract calls chain_random.
#define RANDOM FD_INTERFACE(FD_SAY("random"))

// STRUCT(Name, fields) declares a type for state, arguments and results.
#define STRUCT(Name, ...)                                                                    \
	FD_INTERFACE(FD_SAY("struct " #Name) FD_SAY_FIELDS(__VA_ARGS__) FD_OPTIONS(__VA_ARGS__)) \
	FD_RECORD(Name, __VA_ARGS__)

#define FD_RECORD(Name, ...)                                 \
	typedef struct { FD_EACH(FD_MEMBER, __VA_ARGS__) } Name; \
	FD_FN void fd_put_##Name(writer *w, const Name *v) {     \
		(void)v;                                             \
		fd_put_array(w, FD_COUNT(__VA_ARGS__));              \
		FD_EACH(FD_PUT_MEMBER, __VA_ARGS__)                  \
	}                                                        \
	FD_FN void fd_take_##Name(reader *r, Name *v) {          \
		(void)v;                                             \
		fd_take_exactly(r, FD_COUNT(__VA_ARGS__));           \
		FD_EACH(FD_TAKE_MEMBER, __VA_ARGS__)                 \
	}
#define FD_MEMBER(T, n) FD_TYPE(T) n;
#define FD_PUT_MEMBER(T, n) FD_PUT(T)(w, &v->n);
#define FD_TAKE_MEMBER(T, n) FD_TAKE(T)(r, &v->n);

// ENUM(Name, a, b, …) declares a type with the values Name_a, Name_b, …
#define ENUM(Name, first, ...)                                                                          \
	FD_INTERFACE(FD_SAY("enum " #Name "(" #first) FD_NAMES(FD_SAY_NAME, Name, __VA_ARGS__) FD_SAY(")")) \
	typedef enum { Name##_##first, FD_NAMES(FD_CONSTANT, Name, __VA_ARGS__) fd_count_##Name } Name;     \
	FD_FN void fd_put_##Name(writer *w, const Name *v) { fd_put_head(w, FD_UINT, (u64)*v); }            \
	FD_FN void fd_take_##Name(reader *r, Name *v) {                                                     \
		u64 n = fd_take_head(r, FD_UINT);                                                               \
		if (n >= fd_count_##Name) fd_bad(r);                                                            \
		*v = r->bad ? Name##_##first : (Name)n;                                                         \
	}
#define FD_NAMES(m, Name, ...) __VA_OPT__(FD_RESCAN(FD_NAMES_STEP(m, Name, __VA_ARGS__)))
#define FD_NAMES_STEP(m, Name, e, ...) m(Name, e) __VA_OPT__(FD_NAMES_AGAIN FD_NOTHING()(m, Name, __VA_ARGS__))
#define FD_NAMES_AGAIN() FD_NAMES_STEP
#define FD_SAY_NAME(Name, e) FD_SAY(", " #e)
#define FD_CONSTANT(Name, e) Name##_##e,

// LIST(T) declares list_T, which declarations call list(T): x.at[0] to x.at[x.len-1]; list_T_append(&x, value) lengthens it.
#define LIST(T)                                                      \
	typedef struct { T *at; u32 len, cap; } list_##T;                \
	FD_FN void list_##T##_append(list_##T *v, T value) {             \
		if (v->len >= v->cap) {                                      \
			u32 cap = 2 * v->len + 4;                                \
			T *larger = (T *)chain_alloc(cap * (u64)sizeof(T));      \
			fd_copy(larger, v->at, v->len * (u32)sizeof(T));         \
			v->at = larger;                                          \
			v->cap = cap;                                            \
		}                                                            \
		v->at[v->len++] = value;                                     \
	}                                                                \
	FD_FN void fd_put_list_##T(writer *w, const list_##T *v) {       \
		fd_put_array(w, v->len);                                     \
		for (u32 i = 0; i < v->len; i++) fd_put_##T(w, &v->at[i]);   \
	}                                                                \
	FD_FN void fd_take_list_##T(reader *r, list_##T *v) {            \
		u32 n = fd_take_array(r);                                    \
		*v = (list_##T){(T *)chain_alloc(n * (u64)sizeof(T)), n, n}; \
		for (u32 i = 0; i < n; i++) fd_take_##T(r, &v->at[i]);       \
	}

// OPT(T) declares opt_T, which declarations call opt(T): x.some says whether there is an x.value.
#define OPT(T)                                               \
	typedef struct { bool some; T value; } opt_##T;          \
	FD_FN void fd_put_opt_##T(writer *w, const opt_##T *v) { \
		if (v->some) {                                       \
			fd_put_##T(w, &v->value);                        \
		} else {                                             \
			fd_put_null(w);                                  \
		}                                                    \
	}                                                        \
	FD_FN void fd_take_opt_##T(reader *r, opt_##T *v) {      \
		__builtin_memset(v, 0, sizeof *v);                   \
		v->some = !fd_take_null(r);                          \
		if (v->some) fd_take_##T(r, &v->value);              \
	}

// VALUE(name, T) declares one value in state:
//
//	T    name_get(void)          the value, all zero when it was never set
//	bool name_find(T *value)     whether it was ever set
//	void name_set(T value)
//	void name_delete(void)
#define VALUE(name, T, ...)                                                         \
	FD_INTERFACE(FD_SAY("state " #name " -> " FD_SPELL(T)) FD_OPTIONS(__VA_ARGS__)) \
	FD_FN bool name##_find(FD_TYPE(T) *value) {                                     \
		writer k = fd_key(#name, sizeof #name - 1);                                 \
		FD_LOAD(T)                                                                  \
	}                                                                               \
	FD_FN FD_TYPE(T) name##_get(void) {                                             \
		FD_TYPE(T) value;                                                           \
		name##_find(&value);                                                        \
		return value;                                                               \
	}                                                                               \
	FD_FN void name##_set(FD_TYPE(T) value) {                                       \
		writer k = fd_key(#name, sizeof #name - 1), w = chain_writer();             \
		FD_PUT(T)(&w, &value);                                                      \
		host_set(k.at, k.len, w.at, w.len);                                         \
	}                                                                               \
	FD_FN void name##_delete(void) { host_del(#name, sizeof #name - 1); }

#define FD_LOAD(T)                             \
	reader r;                                  \
	__builtin_memset(value, 0, sizeof *value); \
	if (!fd_load(&k, &r)) return false;        \
	FD_TAKE(T)(&r, value);                     \
	fd_loaded(&r);                             \
	return true;

// COUNTER(name) declares a number in state that starts at 0 and is only added to, so that calls which add to it can run in
// parallel:
//
//	bool name_add(i64 delta, i64 least, i64 most)  adds if the sum stays within least and most, and reports whether
//	i64  name_get(void)                            a method that calls it cannot run in parallel with those that add
#define COUNTER(name, ...)                                                 \
	FD_INTERFACE(FD_SAY("state " #name " -> i64") FD_OPTIONS(__VA_ARGS__)) \
	FD_FN bool name##_add(i64 delta, i64 least, i64 most) {                \
		return host_add(#name, sizeof #name - 1, delta, least, most) == 0; \
	}                                                                      \
	FD_FN i64 name##_get(void) {                                           \
		writer k = fd_key(#name, sizeof #name - 1);                        \
		i64 value = 0;                                                     \
		reader r;                                                          \
		if (!fd_load(&k, &r)) return 0;                                    \
		fd_take_i64(&r, &value);                                           \
		fd_loaded(&r);                                                     \
		return value;                                                      \
	}

// MAP(name, (K), V), and with up to four keys MAP(name, (K1, K2), V), declares a mapping in state. Keys are integers, addr, and as
// the last one hash, str or bytes:
//
//	V    name_get(K key)               the value under the key, all zero when there is none
//	bool name_find(K key, V *value)    whether there is one
//	bool name_has(K key)
//	void name_set(K key, V value)
//	void name_delete(K key)
//
// and scans over at most limit entries, 1 to 1,024, in the order of their keys:
//
//	for (name_scan s = name_all(limit); name_next(&s);) { … s.key … s.value … }
//
// name_from(key, limit) begins with the first key that is not below key, name_backward(limit) runs from the highest down, and
// name_prefix(key, limit) goes over the keys that begin with key, whose last part is str or bytes. With several keys they are s.key1,
// s.key2 …, and name_under(key1, limit), name_under_backward(key1, limit) and name_under_from(key1, key2, limit) go over those under
// the first key alone. A scan that is left early is ended with name_close(&s): there can be 8 at a time.
#define MAP(name, keys, V, ...) FD_MAP_OF(name, V, FD_JOIN(FD_KEYS_, FD_KEY_COUNT keys) keys, __VA_ARGS__)
#define FD_MAP_OF(...) FD_MAP_(__VA_ARGS__)
#define FD_MAP_(name, V, said, params, args, puts, members, takes, under, first, ...)             \
	FD_INTERFACE(FD_SAY("state " #name "(" said ") -> " FD_SPELL(V)) FD_OPTIONS(__VA_ARGS__))     \
	_Static_assert(sizeof #name <= FD_LONGEST_NAME, "the name of the map " #name " is too long"); \
	FD_FN writer fd_key_of_##name(FD_UNWRAP params) {                                             \
		writer w = fd_key(#name "/", sizeof #name);                                               \
		FD_UNWRAP puts                                                                            \
		return w;                                                                                 \
	}                                                                                             \
	FD_FN bool name##_find(FD_UNWRAP params, FD_TYPE(V) *value) {                                 \
		writer k = fd_key_of_##name args;                                                         \
		FD_LOAD(V)                                                                                \
	}                                                                                             \
	FD_FN FD_TYPE(V) name##_get(FD_UNWRAP params) {                                               \
		FD_TYPE(V) value;                                                                         \
		name##_find(FD_UNWRAP args, &value);                                                      \
		return value;                                                                             \
	}                                                                                             \
	FD_FN bool name##_has(FD_UNWRAP params) {                                                     \
		writer k = fd_key_of_##name args;                                                         \
		return host_has(k.at, k.len) == 1;                                                        \
	}                                                                                             \
	FD_FN void name##_set(FD_UNWRAP params, FD_TYPE(V) value) {                                   \
		writer k = fd_key_of_##name args, w = chain_writer();                                     \
		FD_PUT(V)(&w, &value);                                                                    \
		host_set(k.at, k.len, w.at, w.len);                                                       \
	}                                                                                             \
	FD_FN void name##_delete(FD_UNWRAP params) {                                                  \
		writer k = fd_key_of_##name args;                                                         \
		host_del(k.at, k.len);                                                                    \
	}                                                                                             \
	typedef struct {                                                                              \
		u32 iterator;                                                                             \
		FD_UNWRAP members                                                                         \
		FD_TYPE(V) value;                                                                         \
	} name##_scan;                                                                                \
	FD_FN name##_scan fd_scan_##name(const writer *start, u32 common, u32 flags, u32 limit) {     \
		name##_scan s;                                                                            \
		__builtin_memset(&s, 0, sizeof s);                                                        \
		s.iterator = fd_scan(start, common, flags, limit);                                        \
		return s;                                                                                 \
	}                                                                                             \
	FD_FN name##_scan name##_all(u32 limit) {                                                     \
		writer k = fd_key(#name "/", sizeof #name);                                               \
		return fd_scan_##name(&k, sizeof #name, 0, limit);                                        \
	}                                                                                             \
	FD_FN name##_scan name##_backward(u32 limit) {                                                \
		writer k = fd_key(#name "/", sizeof #name);                                               \
		return fd_scan_##name(&k, sizeof #name, FD_SCAN_REVERSE, limit);                          \
	}                                                                                             \
	FD_FN name##_scan name##_from(FD_UNWRAP params, u32 limit) {                                  \
		writer k = fd_key_of_##name args;                                                         \
		return fd_scan_##name(&k, sizeof #name, 0, limit);                                        \
	}                                                                                             \
	FD_FN name##_scan name##_prefix(FD_UNWRAP params, u32 limit) {                                \
		writer k = fd_key_of_##name args;                                                         \
		return fd_scan_##name(&k, k.len, 0, limit);                                               \
	}                                                                                             \
	under(name, first, params, args)                                                              \
	FD_FN void name##_close(name##_scan *s) {                                                     \
		if (s->iterator > 0) host_scan_close(s->iterator);                                        \
		s->iterator = 0;                                                                          \
	}                                                                                             \
	FD_FN bool name##_next(name##_scan *s) {                                                      \
		reader k, r;                                                                              \
		if (s->iterator == 0) return false;                                                       \
		if (!fd_next(s->iterator, sizeof #name, &k, &r)) {                                        \
			name##_close(s);                                                                      \
			return false;                                                                         \
		}                                                                                         \
		FD_UNWRAP takes                                                                           \
		FD_TAKE(V)(&r, &s->value);                                                                \
		fd_loaded(&k);                                                                            \
		fd_loaded(&r);                                                                            \
		return true;                                                                              \
	}

// BALANCES(name, (K)), and so on with up to four keys, declares a MAP of u128 to which calls that run in parallel can add: an account
// that many pay does not order the payments. Besides what a MAP has:
//
//	void name_add(K key, u128 amount)  a sum beyond 128 bits ends the call with CHAIN_OVERFLOW
//	bool name_sub(K key, u128 amount)  false, without a change, if there is less under the key
//
// Both, of an amount below 2^63 and with a balance that is below 2^63 before and after, do not look at it, and run in parallel with
// others that do so. All else reads the balance and writes it, as name_set does, and is executed once more if another call changed
// it meanwhile: name_get and its like, larger amounts and balances, and a name_sub of more than there is. What state holds is
// the same.
#define BALANCES(name, keys, ...) FD_BALANCES(name, keys, FD_JOIN(FD_KEYS_, FD_KEY_COUNT keys) keys, __VA_ARGS__)
#define FD_BALANCES(...) FD_BALANCES_(__VA_ARGS__)
#define FD_BALANCES_(name, keys, said, params, args, puts, members, takes, under, first, ...) \
	MAP(name, keys, u128, __VA_ARGS__)                                                        \
	FD_FN void name##_add(FD_UNWRAP params, u128 amount) {                                    \
		writer k = fd_key_of_##name args;                                                     \
		fd_shift(&k, amount, false);                                                          \
	}                                                                                         \
	FD_FN bool name##_sub(FD_UNWRAP params, u128 amount) {                                    \
		writer k = fd_key_of_##name args;                                                     \
		return fd_shift(&k, amount, true);                                                    \
	}

// fd_shift adds an amount to the balance under a key, or takes it and returns false if there is less.
FD_FN __attribute__((noinline)) bool fd_shift(const writer *k, u128 amount, bool take) {
	if (amount >> 63 == 0 && host_add(k->at, k->len, take ? -(i64)amount : (i64)amount, 0, 0x7fffffffffffffff) == 0) return true;
	u128 have = 0;
	reader r;
	if (fd_load(k, &r)) {
		fd_take_u128(&r, &have);
		fd_loaded(&r);
	}
	if (take && have < amount) return false;
	have = take ? have - amount : checked_add(have, amount);
	writer w = chain_writer();
	fd_put_u128(&w, &have);
	host_set(k->at, k->len, w.at, w.len);
	return true;
}

// FD_UNDER are the scans that maps of several keys have under the first of them.
#define FD_UNDER_NONE(name, A, params, args)
#define FD_UNDER(name, A, params, args)                                \
	FD_FN writer fd_under_##name(A key1) {                             \
		writer w = fd_key(#name "/", sizeof #name);                    \
		fd_key_##A(&w, &key1);                                         \
		return w;                                                      \
	}                                                                  \
	FD_FN name##_scan name##_under(A key1, u32 limit) {                \
		writer k = fd_under_##name(key1);                              \
		return fd_scan_##name(&k, k.len, 0, limit);                    \
	}                                                                  \
	FD_FN name##_scan name##_under_backward(A key1, u32 limit) {       \
		writer k = fd_under_##name(key1);                              \
		return fd_scan_##name(&k, k.len, FD_SCAN_REVERSE, limit);      \
	}                                                                  \
	FD_FN name##_scan name##_under_from(FD_UNWRAP params, u32 limit) { \
		u32 common = fd_under_##name(key1).len;                        \
		writer k = fd_key_of_##name args;                              \
		return fd_scan_##name(&k, common, 0, limit);                   \
	}

#define FD_KEY_COUNT(...) FD_FIFTH(__VA_ARGS__, 4, 3, 2, 1, ~)
#define FD_FIFTH(a, b, c, d, e, ...) e
#define FD_KEYS_1(A) FD_SPELL(A), (A key), (key), (fd_key_##A(&w, &key);), (A key;), (fd_unkey_##A(&k, &s->key);), FD_UNDER_NONE, A
#define FD_KEYS_2(A, B)                                                                                            \
	FD_SPELL(A) ", " FD_SPELL(B), (A key1, B key2), (key1, key2), (fd_key_##A(&w, &key1); fd_key_##B(&w, &key2);), \
		(A key1; B key2;), (fd_unkey_##A(&k, &s->key1); fd_unkey_##B(&k, &s->key2);), FD_UNDER, A
#define FD_KEYS_3(A, B, C)                                                                                 \
	FD_SPELL(A) ", " FD_SPELL(B) ", " FD_SPELL(C), (A key1, B key2, C key3), (key1, key2, key3),           \
		(fd_key_##A(&w, &key1); fd_key_##B(&w, &key2); fd_key_##C(&w, &key3);), (A key1; B key2; C key3;), \
		(fd_unkey_##A(&k, &s->key1); fd_unkey_##B(&k, &s->key2); fd_unkey_##C(&k, &s->key3);), FD_UNDER, A
#define FD_KEYS_4(A, B, C, D)                                                                                                   \
	FD_SPELL(A) ", " FD_SPELL(B) ", " FD_SPELL(C) ", " FD_SPELL(D), (A key1, B key2, C key3, D key4), (key1, key2, key3, key4), \
		(fd_key_##A(&w, &key1); fd_key_##B(&w, &key2); fd_key_##C(&w, &key3); fd_key_##D(&w, &key4);),                          \
		(A key1; B key2; C key3; D key4;),                                                                                      \
		(fd_unkey_##A(&k, &s->key1); fd_unkey_##B(&k, &s->key2); fd_unkey_##C(&k, &s->key3); fd_unkey_##D(&k, &s->key4);), FD_UNDER, A

// EVENT(Name, fields, indexed("fields to search by")) declares an event; emit(Name, values) emits it.
#define EVENT(Name, ...)                                                                    \
	FD_INTERFACE(FD_SAY("event " #Name) FD_SAY_FIELDS(__VA_ARGS__) FD_OPTIONS(__VA_ARGS__)) \
	FD_RECORD(Name, __VA_ARGS__)                                                            \
	FD_FN void emit_##Name(Name e) {                                                        \
		writer w = chain_writer();                                                          \
		fd_put_##Name(&w, &e);                                                              \
		host_emit(#Name, sizeof #Name - 1, w.at, w.len);                                    \
	}
#define emit(Name, ...) emit_##Name((Name){__VA_ARGS__})

// ERROR(code, Name, fields) declares an error, of a code from 1000 on; fail(Name, values) ends the call with it.
#define ERROR(code, Name, ...)                                                                        \
	FD_INTERFACE(FD_SAY("error " #code " " #Name) FD_SAY_FIELDS(__VA_ARGS__) FD_OPTIONS(__VA_ARGS__)) \
	FD_RECORD(Name, __VA_ARGS__)                                                                      \
	enum { code_##Name = code };                                                                      \
	FD_NORETURN void fail_##Name(Name e) {                                                            \
		writer w = chain_writer();                                                                    \
		fd_put_##Name(&w, &e);                                                                        \
		fd_abort(code, &w);                                                                           \
	}
#define fail(Name, ...) fail_##Name((Name){__VA_ARGS__})

// TX(result, name, arguments) { … } is a method that transactions and contracts call, VIEW one that may not write, INIT(arguments)
// what runs once, at deployment, and UPGRADE(arguments) what runs once when this code replaces earlier code. The result is void
// or a type. conflicts("keys") says what a method touches, in templates over its arguments and {$caller}, for who reads
// the schema: nodes find it out by themselves. roles("names") lets only callers with one of them in. The body is the function method_name.
#define TX(R, name, ...) FD_METHOD(0, "tx " #name, FD_IF_VOID(R, , FD_SAY(" -> " FD_SPELL(R))), R, name, __VA_ARGS__)
#define VIEW(R, name, ...) FD_METHOD(1, "view " #name, FD_IF_VOID(R, , FD_SAY(" -> " FD_SPELL(R))), R, name, __VA_ARGS__)
#define INIT(...) FD_METHOD(0, "init", , void, init, __VA_ARGS__)
#define UPGRADE(...) FD_METHOD(0, "upgrade", , void, upgrade, __VA_ARGS__)

#define FD_METHOD(view, said, returned, R, name, ...)                                                              \
	FD_INTERFACE(FD_SAY(said) FD_SAY_FIELDS(__VA_ARGS__) returned FD_OPTIONS(__VA_ARGS__))                         \
	static FD_TYPE(R) method_##name(FD_PARAMS(__VA_ARGS__));                                                       \
	FD_EXPORT(name) i32 fd_export_##name(void) {                                                                   \
		reader fd_args = fd_input(FD_COUNT(__VA_ARGS__));                                                          \
		FD_EACH(FD_ARGUMENT, __VA_ARGS__)                                                                          \
		fd_input_done(&fd_args);                                                                                   \
		FD_IF_VOID(R, method_##name(FD_VALUES(__VA_ARGS__));, FD_OUTPUT(R, method_##name(FD_VALUES(__VA_ARGS__)))) \
		return 0;                                                                                                  \
	}                                                                                                              \
	FD_MOCK(view, R, name, __VA_ARGS__)                                                                            \
	static FD_TYPE(R) method_##name(FD_PARAMS(__VA_ARGS__))

#define FD_OUTPUT(R, value)         \
	FD_TYPE(R) fd_result = value;   \
	writer fd_out = chain_writer(); \
	FD_PUT(R)(&fd_out, &fd_result); \
	host_output(fd_out.at, fd_out.len);

#define FD_PARAMS(...) FD_LISTED(FD_PARAM, FD_NEXT_PARAM, void, __VA_ARGS__)
#define FD_PARAM(T, n) FD_TYPE(T) n
#define FD_NEXT_PARAM(T, n) , FD_TYPE(T) n
#define FD_VALUES(...) FD_LISTED(FD_VALUE, FD_NEXT_VALUE, , __VA_ARGS__)
#define FD_VALUE(T, n) n
#define FD_NEXT_VALUE(T, n) , n
#define FD_ARGUMENT(T, n) \
	FD_TYPE(T) n;         \
	FD_TAKE(T)(&fd_args, &n);
#define FD_PUT_ARGUMENT(T, n) FD_PUT(T)(&fd_w, &n);

// REMOTE(result, Name, method, arguments) declares a method of another contract: Name_method(target, arguments) calls it, and
// returns how that ended: status, data, and, if the status is 0 and the method has a result, value. A result of
// another type is a failure with STATUS_BAD_OUTPUT.
//
//	REMOTE(void, Token, transfer, (addr, to), (u128, amount))
//	…
//	chain_must(Token_transfer(chain_at(token), to, amount));
#define REMOTE(R, Name, method, ...)                                                                            \
	FD_OUTCOME(R, Name##_##method##_outcome)                                                                    \
	FD_CHECKED_FN Name##_##method##_outcome Name##_##method(target fd_at FD_EACH(FD_NEXT_PARAM, __VA_ARGS__)) { \
		writer fd_w = chain_writer();                                                                           \
		fd_put_array(&fd_w, FD_COUNT(__VA_ARGS__));                                                             \
		FD_EACH(FD_PUT_ARGUMENT, __VA_ARGS__)                                                                   \
		outcome fd_o = chain_call(fd_at, TEXT(#method), (bytes){fd_w.at, fd_w.len});                            \
		FD_ENDED(R, Name##_##method##_outcome)                                                                  \
	}

#define FD_OUTCOME(R, name) FD_IF_VOID(R, typedef outcome name;, typedef struct { i32 status; bytes data; FD_TYPE(R) value; } name;)
#define FD_ENDED(R, name) FD_IF_VOID(R, return fd_o;, FD_DECODED(R, name))
#define FD_DECODED(R, name)                                        \
	name fd_result;                                                \
	__builtin_memset(&fd_result, 0, sizeof fd_result);             \
	fd_result.status = fd_o.status;                                \
	fd_result.data = fd_o.data;                                    \
	if (fd_o.status == STATUS_OK) {                                \
		reader fd_r = fd_reader(fd_o.data);                        \
		FD_TAKE(R)(&fd_r, &fd_result.value);                       \
		if (!fd_done(&fd_r)) fd_result.status = STATUS_BAD_OUTPUT; \
	}                                                              \
	return fd_result;

// Native builds have call_name(arguments) for each method, which calls it as the host does; see fondaco_mock.h.
#ifdef __wasm__
#define FD_MOCK(view, R, name, ...)
#else
FD_FN outcome fd_mock_call(bool view, const char *roles, str method, i32 (*exported)(void), bytes args);
#define FD_MOCK(view, R, name, ...)                                                                                               \
	FD_OUTCOME(R, name##_outcome)                                                                                                 \
	FD_FN name##_outcome call_##name(FD_PARAMS(__VA_ARGS__)) {                                                                    \
		writer fd_w = chain_writer();                                                                                             \
		fd_put_array(&fd_w, FD_COUNT(__VA_ARGS__));                                                                               \
		FD_EACH(FD_PUT_ARGUMENT, __VA_ARGS__)                                                                                     \
		outcome fd_o = fd_mock_call(view, "" FD_OPTIONS(__VA_ARGS__), TEXT(#name), fd_export_##name, (bytes){fd_w.at, fd_w.len}); \
		FD_ENDED(R, name##_outcome)                                                                                               \
	}
#endif

#endif // FONDACO_H
