// fondaco_mock.h is a host in memory, for unit tests of a contract in C with any compiler, debugger and sanitizer. A test
// includes the contract, then this:
//
//	#include "token.c"
//	#include ".fondaco/fondaco_mock.h"
//
//	static const addr alice = {{1}}, bob = {{2}};
//
//	TEST("a holder transfers what it has") {
//		OK(call_init(TEXT("Gold"), TEXT("XAU"), alice));
//		mock.caller = alice;
//		OK(call_issue(alice, 100));
//		OK(call_transfer(bob, 40));
//		EMITTED(Transferred, alice, bob, 40);
//		REFUSED(call_transfer(bob, 500), InsufficientFunds, 60, 500);
//		CHECK(OK(call_balance_of(bob)).value == 40);
//	}
//
// cc -g token_test.c -o token_test && ./token_test runs all tests; main is here. For each method there is call_method, which
// encodes the arguments and calls the method as a node does; it returns status, data and value. A call that fails undoes its writes and
// events. Each test begins with an empty state. There is no gas; fondaco contract test and contracttest run the real module.
#ifndef FONDACO_MOCK_H
#define FONDACO_MOCK_H

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// mock is what the host says. A test sets what it wants; each test begins with zeros.
static struct {
	addr caller, origin, self;
	u64 now, height, tx_index; // now: Unix ms
	hash tx_id;
	str group, institution;
	str roles[8]; // of the caller; those of length 0 are none

	// answer answers calls to other contracts; null: there are none (STATUS_NOT_FOUND).
	outcome (*answer)(target to, str method, bytes args);
	// verify answers chain_verify; null: no signature is valid.
	bool (*verify)(u32 algorithm, bytes key, bytes signature, hash digest);
} mock;

// ---- Tests ----

// TEST("what it tells") { … } declares a test.
#define TEST(what) FD_TEST(what, FD_JOIN(fd_test_, __LINE__))
#define FD_TEST(what, name)                                                   \
	static void name(void);                                                   \
	__attribute__((constructor)) static void FD_JOIN(name, _register)(void) { \
		fd_register(what, name);                                              \
	}                                                                         \
	static void name(void)

// CHECK fails the test unless the condition holds.
#define CHECK(condition) ((condition) ? (void)0 : fd_failed(__FILE__, __LINE__, #condition))

// OK fails the test unless the call succeeded; it is the call's outcome.
#define OK(call)                                                         \
	(__extension__({                                                     \
		__auto_type fd_o = (call);                                       \
		fd_expect(__FILE__, __LINE__, #call, fd_o.status, fd_o.data, 0); \
		fd_o;                                                            \
	}))

// ENDED fails the test unless the call ended with the status: an abort code, or one of STATUS_….
#define ENDED(call, want)                                                   \
	do {                                                                    \
		__auto_type fd_o = (call);                                          \
		fd_expect(__FILE__, __LINE__, #call, fd_o.status, fd_o.data, want); \
	} while (0)

// REFUSED fails the test unless the call failed with the named error and its values.
#define REFUSED(call, Name, ...)                                                                                             \
	do {                                                                                                                     \
		__auto_type fd_o = (call);                                                                                           \
		Name fd_want = {__VA_ARGS__};                                                                                        \
		writer fd_w = chain_writer();                                                                                        \
		fd_put_##Name(&fd_w, &fd_want);                                                                                      \
		fd_expect(__FILE__, __LINE__, #call, fd_o.status, fd_o.data, code_##Name);                                           \
		if (!bytes_eq(fd_o.data, (bytes){fd_w.at, fd_w.len})) fd_failed(__FILE__, __LINE__, #call ": the values of " #Name); \
	} while (0)

// EMITTED fails the test unless the last call emitted, alone or among others, the named event with the values.
#define EMITTED(Name, ...)                                                                                                               \
	do {                                                                                                                                 \
		Name fd_want = {__VA_ARGS__};                                                                                                    \
		writer fd_w = chain_writer();                                                                                                    \
		fd_put_##Name(&fd_w, &fd_want);                                                                                                  \
		if (!fd_emitted(TEXT(#Name), (bytes){fd_w.at, fd_w.len})) fd_failed(__FILE__, __LINE__, "no event " #Name " with these values"); \
	} while (0)

// EVENTS fails the test unless the last call emitted that many events.
#define EVENTS(count) CHECK(fd_event_count == (count))

// ARGUMENTS declares and decodes the arguments of a call that mock.answer answers, as in ARGUMENTS(args, (addr, to), (u128,
// amount)), and ANSWER is the outcome of one that returns a value of type T.
#define ARGUMENTS(args, ...)                          \
	reader fd_args = fd_reader(args);                 \
	fd_take_exactly(&fd_args, FD_COUNT(__VA_ARGS__)); \
	FD_EACH(FD_ARGUMENT, __VA_ARGS__)                 \
	CHECK(fd_done(&fd_args))
#define ANSWER(T, value)                             \
	(__extension__({                                 \
		FD_TYPE(T) fd_value = value;                 \
		writer fd_w = {(u8 *)fd_reserve(64), 0, 64}; \
		FD_PUT(T)(&fd_w, &fd_value);                 \
		(outcome){STATUS_OK, {fd_w.at, fd_w.len}};   \
	}))

static struct {
	const char *what;
	void (*run)(void);
} fd_tests[1000];
static u32 fd_test_count, fd_failures;

FD_FN void fd_register(const char *what, void (*run)(void)) {
	if (fd_test_count == sizeof fd_tests / sizeof *fd_tests) {
		fprintf(stderr, "more than %u tests in one file\n", fd_test_count);
		exit(1);
	}
	fd_tests[fd_test_count].what = what;
	fd_tests[fd_test_count++].run = run;
}

FD_FN void fd_failed(const char *file, int line, const char *what) {
	fd_failures++;
	printf("%s:%d: %s\n", file, line, what);
}

FD_FN void fd_print_data(bytes data) {
	reader r = fd_reader(data);
	str text;
	fd_take_str(&r, &text);
	if (fd_done(&r)) {
		printf(", \"%.*s\"\n", (int)text.len, text.at);
		return;
	}
	printf(data.len > 0 ? ", data " : "");
	for (u32 i = 0; i < data.len; i++) printf("%02x", data.at[i]);
	printf("\n");
}

FD_FN void fd_expect(const char *file, int line, const char *call, i32 status, bytes data, i32 want) {
	if (status == want) return;
	fd_failed(file, line, call);
	printf("\tended with status %d, want %d", status, want);
	fd_print_data(data);
}

// ---- Memory of a test ----

static void **fd_allocations;
static u32 fd_allocation_count, fd_allocation_room;

FD_FN void *fd_allocate(void *memory) {
	if (!memory) {
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
	return memory;
}

FD_FN void *fd_reserve(u64 size) {
	if (fd_allocation_count == fd_allocation_room) {
		fd_allocation_room = 2 * fd_allocation_room + 64;
		fd_allocations = (void **)fd_allocate(realloc(fd_allocations, fd_allocation_room * sizeof *fd_allocations));
	}
	return fd_allocations[fd_allocation_count++] = fd_allocate(malloc(size > 0 ? size : 1));
}

FD_FN bytes fd_clone(const void *data, u32 len) {
	u8 *to = (u8 *)fd_reserve(len);
	fd_copy(to, data, len);
	return (bytes){to, len};
}

// ---- State and events ----

typedef struct { bytes key, value; } fd_pair;
typedef struct { fd_pair *at; u32 len, room; } fd_pairs; // sorted by key

typedef struct { str topic; bytes data; } fd_event;

static fd_pairs fd_state;
static fd_event fd_events[64];
static u32 fd_event_count;

// fd_find returns where the key is, or would be.
FD_FN u32 fd_find(bytes key, bool *found) {
	u32 low = 0, high = fd_state.len;
	while (low < high) {
		u32 middle = (low + high) / 2;
		if (bytes_cmp(fd_state.at[middle].key, key) < 0) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	*found = low < fd_state.len && bytes_eq(fd_state.at[low].key, key);
	return low;
}

FD_FN fd_pairs fd_copy_of(fd_pairs p) {
	fd_pairs copy = {(fd_pair *)fd_reserve((u64)p.len * sizeof *p.at), p.len, p.len};
	fd_copy(copy.at, p.at, p.len * (u32)sizeof *p.at);
	return copy;
}

FD_FN bool fd_emitted(str topic, bytes data) {
	for (u32 i = 0; i < fd_event_count; i++) {
		if (str_eq(fd_events[i].topic, topic) && bytes_eq(fd_events[i].data, data)) return true;
	}
	return false;
}

// ---- Calls ----

typedef struct { fd_pairs pairs; u32 next; u32 flags; bool open; } fd_iterator;

// fd_call is what belongs to the running call; one that a test makes within mock.answer lies within another.
static struct {
	jmp_buf *end; // null: no call is running
	bool read_only;
	str method;
	bytes input, output, result;
	i32 status;
	fd_iterator iterators[8];
} fd_call;

static u64 fd_random;

FD_NORETURN void fd_end(i32 status, bytes data) {
	if (!fd_call.end) {
		fprintf(stderr, "contract code outside of a call: use call_method\n");
		exit(1);
	}
	fd_call.status = status;
	fd_call.output = data;
	longjmp(*fd_call.end, 1);
}

// fd_rule ends the call unless the rule of the chain holds.
FD_FN void fd_rule(bool holds, const char *rule) {
	if (holds) return;
	printf("\tdenied: %s\n", rule);
	fd_end(STATUS_DENIED, (bytes){0, 0});
}

FD_FN void fd_protected(i32 (*exported)(void)) {
	jmp_buf end;
	fd_call.end = &end;
	if (setjmp(end) == 0) fd_call.status = exported();
}

// fd_role reports whether the caller has one of the roles, which commas separate.
FD_FN bool fd_role(const char *roles) {
	for (;;) {
		u32 len = (u32)strcspn(roles, ",");
		for (u32 i = 0; i < sizeof mock.roles / sizeof *mock.roles; i++) {
			if (str_eq(mock.roles[i], (str){roles, len})) return true;
		}
		if (roles[len] == 0) return false;
		roles += len + 1;
	}
}

FD_FN outcome fd_mock_call(bool view, const char *roles, str method, i32 (*exported)(void), bytes args) {
	if (*roles != 0 && !fd_role(roles)) {
		printf("\tdenied: %.*s needs a role of %s; see mock.roles\n", (int)method.len, method.at, roles);
		return (outcome){STATUS_DENIED, {0, 0}};
	}
	__auto_type outer = fd_call;
	bytes outer_context = fd_context;
	if (!outer.end) fd_event_count = 0;
	u32 events = fd_event_count;
	fd_pairs before = fd_copy_of(fd_state);
	memset(&fd_call, 0, sizeof fd_call);
	fd_context = (bytes){0, 0};
	fd_call.read_only = view || outer.read_only;
	fd_call.method = method;
	fd_call.input = fd_clone(args.at, args.len);
	fd_protected(exported);
	outcome o = {fd_call.status, fd_call.output};
	if (o.status != STATUS_OK) {
		fd_state = before;
		fd_event_count = events;
	}
	reader r = fd_reader(o.data);
	if (o.data.len > 0) fd_skip(&r, 32);
	if (!fd_done(&r)) o.status = STATUS_BAD_OUTPUT;
	fd_call = outer;
	fd_context = outer_context;
	return o;
}

// ---- The host functions ----

FD_FN i32 fd_fill(void *dst, u32 cap, bytes value) {
	fd_call.result = value;
	if (value.len <= cap) fd_copy(dst, value.at, value.len);
	return (i32)value.len;
}

FD_FN u32 fd_part(bytes from, void *dst, u32 off, u32 cap) {
	u32 n = off >= from.len ? 0 : from.len - off < cap ? from.len - off : cap;
	if (n > 0) memcpy(dst, from.at + off, n);
	return n;
}

FD_FN u32 host_input_len(void) { return fd_call.input.len; }
FD_FN u32 host_input_read(void *dst, u32 off, u32 cap) { return fd_part(fd_call.input, dst, off, cap); }
FD_FN void host_output(const void *ptr, u32 len) {
	fd_rule(len <= 131072, "an output of more than 128 KiB");
	fd_call.output = fd_clone(ptr, len);
}
FD_FN void host_abort(u32 code, const void *ptr, u32 len) { fd_end(code == 0 ? 1 : (i32)code, fd_clone(ptr, len)); }
FD_FN u32 host_result_len(void) { return fd_call.result.len; }
FD_FN u32 host_result_read(void *dst, u32 off, u32 cap) { return fd_part(fd_call.result, dst, off, cap); }

FD_FN i32 host_ctx(void *dst, u32 cap) {
	bytes tx_id = {mock.tx_id.at, sizeof mock.tx_id.at};
	writer w = {(u8 *)fd_reserve(64), 0, 64};
	fd_put_head(&w, FD_MAP, 10);
#define FD_ENTRY(T, name, value) \
	fd_put_str(&w, &TEXT(name)); \
	fd_put_##T(&w, value);
	FD_ENTRY(addr, "self", &mock.self)
	FD_ENTRY(str, "group", &mock.group)
	FD_ENTRY(bytes, "tx_id", &tx_id)
	FD_ENTRY(addr, "caller", &mock.caller)
	FD_ENTRY(u64, "height", &mock.height)
	FD_ENTRY(str, "method", &fd_call.method)
	FD_ENTRY(addr, "origin", &mock.origin)
	FD_ENTRY(u64, "time_ms", &mock.now)
	FD_ENTRY(u64, "tx_index", &mock.tx_index)
	FD_ENTRY(bool, "read_only", &fd_call.read_only)
#undef FD_ENTRY
	return fd_fill(dst, cap, (bytes){w.at, w.len});
}

FD_FN i32 host_caller_attr(u32 kind, void *dst, u32 cap) {
	writer w = {(u8 *)fd_reserve(64), 0, 64};
	u32 roles = 0, all = sizeof mock.roles / sizeof *mock.roles;
	switch (kind) {
	case FD_ATTRIBUTE_INSTITUTION:
		if (mock.institution.len == 0) return -1;
		fd_put_str(&w, &mock.institution);
		break;
	case FD_ATTRIBUTE_ROLES:
		for (u32 i = 0; i < all; i++) roles += mock.roles[i].len > 0;
		fd_put_array(&w, roles);
		for (u32 i = 0; i < all; i++) {
			if (mock.roles[i].len > 0) fd_put_str(&w, &mock.roles[i]);
		}
		break;
	default:
		return -1;
	}
	return fd_fill(dst, cap, (bytes){w.at, w.len});
}

FD_FN bytes fd_check_key(const void *key, u32 len) {
	fd_rule(len >= 1 && len <= 256, "a key of more than 256 bytes, or none");
	return (bytes){(const u8 *)key, len};
}

FD_FN i32 host_get(const void *key, u32 key_len, void *dst, u32 cap) {
	bool found;
	u32 i = fd_find(fd_check_key(key, key_len), &found);
	return found ? fd_fill(dst, cap, fd_state.at[i].value) : -1;
}

FD_FN void host_set(const void *key, u32 key_len, const void *val, u32 val_len) {
	fd_rule(!fd_call.read_only, "a write in a view");
	fd_rule(val_len <= 131072, "a value of more than 128 KiB");
	bool found;
	u32 i = fd_find(fd_check_key(key, key_len), &found);
	if (!found) {
		fd_pairs larger = {(fd_pair *)fd_reserve((u64)(fd_state.len + 1) * sizeof(fd_pair)), fd_state.len + 1, 0};
		fd_copy(larger.at, fd_state.at, i * (u32)sizeof(fd_pair));
		fd_copy(larger.at + i + 1, fd_state.at + i, (fd_state.len - i) * (u32)sizeof(fd_pair));
		larger.at[i].key = fd_clone(key, key_len);
		fd_state = larger;
	}
	fd_state.at[i].value = fd_clone(val, val_len);
}

FD_FN void host_del(const void *key, u32 key_len) {
	fd_rule(!fd_call.read_only, "a write in a view");
	bool found;
	u32 i = fd_find(fd_check_key(key, key_len), &found);
	if (!found) return;
	memmove(fd_state.at + i, fd_state.at + i + 1, (fd_state.len - i - 1) * sizeof(fd_pair));
	fd_state.len--;
}

FD_FN u32 host_has(const void *key, u32 key_len) {
	bool found;
	fd_find(fd_check_key(key, key_len), &found);
	return found;
}

FD_FN i32 host_add(const void *key, u32 key_len, i64 delta, i64 min, i64 max) {
	fd_rule(!fd_call.read_only, "a write in a view");
	bool found;
	i64 sum = 0;
	u32 i = fd_find(fd_check_key(key, key_len), &found);
	if (found) {
		reader r = fd_reader(fd_state.at[i].value);
		u128 wide;
		fd_take_u128(&r, &wide);
		if (fd_done(&r) && wide >> 63 != 0) return -1;
		r = fd_reader(fd_state.at[i].value);
		fd_take_i64(&r, &sum);
		fd_rule(fd_done(&r), "add to what is no counter");
	}
	if (__builtin_add_overflow(sum, delta, &sum) || sum < min || sum > max) return -1;
	writer w = {(u8 *)fd_reserve(16), 0, 16};
	fd_put_i64(&w, &sum);
	host_set(key, key_len, w.at, w.len);
	return 0;
}

FD_FN u32 host_scan(const void *start, u32 start_len, const void *end, u32 end_len, u32 flags, u32 limit) {
	fd_rule(start_len <= 256 && end_len <= 256, "a scan from or to a key of more than 256 bytes");
	fd_rule(limit >= 1 && limit <= 1024, "a scan of no entries, or of more than 1,024");
	fd_rule(flags <= (FD_SCAN_REVERSE | FD_SCAN_KEYS_ONLY), "a scan with flags that are none");
	u32 it = 0;
	while (it < 8 && fd_call.iterators[it].open) it++;
	fd_rule(it < 8, "more than 8 open scans");
	bool found;
	u32 from = fd_find((bytes){(const u8 *)start, start_len}, &found);
	u32 to = end_len > 0 ? fd_find((bytes){(const u8 *)end, end_len}, &found) : fd_state.len;
	if (to < from) to = from;
	if (to - from > limit && flags & FD_SCAN_REVERSE) from = to - limit;
	if (to - from > limit) to = from + limit;
	fd_call.iterators[it] = (fd_iterator){fd_copy_of((fd_pairs){fd_state.at + from, to - from, 0}), 0, flags, true};
	return it + 1;
}

FD_FN fd_iterator *fd_opened(u32 it) {
	fd_rule(it >= 1 && it <= 8 && fd_call.iterators[it - 1].open, "a scan that is not open");
	return &fd_call.iterators[it - 1];
}

FD_FN i32 host_scan_next(u32 it, void *dst, u32 cap) {
	fd_iterator *s = fd_opened(it);
	if (s->next == s->pairs.len) return -1;
	fd_pair p = s->pairs.at[s->flags & FD_SCAN_REVERSE ? s->pairs.len - 1 - s->next : s->next];
	s->next++;
	if (s->flags & FD_SCAN_KEYS_ONLY) p.value.len = 0;
	writer w = {(u8 *)fd_reserve(64), 0, 64};
	fd_put_array(&w, 2);
	fd_put_bytes(&w, &p.key);
	fd_put_bytes(&w, &p.value);
	return fd_fill(dst, cap, (bytes){w.at, w.len});
}

FD_FN void host_scan_close(u32 it) { fd_opened(it)->open = false; }

FD_FN void host_emit(const void *topic, u32 topic_len, const void *data, u32 data_len) {
	fd_rule(!fd_call.read_only, "an event in a view");
	fd_rule(topic_len >= 1 && topic_len <= 64, "an event whose name has not 1 to 64 bytes");
	u64 sum = topic_len + (u64)data_len;
	for (u32 i = 0; i < fd_event_count; i++) sum += fd_events[i].topic.len + (u64)fd_events[i].data.len;
	fd_rule(fd_event_count < 64 && sum <= 65536, "more than 64 events, or 64 KiB of them");
	bytes name = fd_clone(topic, topic_len);
	fd_events[fd_event_count++] = (fd_event){{(const char *)name.at, name.len}, fd_clone(data, data_len)};
}

FD_FN i32 host_call(const void *to, u32 to_len, const void *method, u32 method_len, const void *args, u32 args_len, u64 gas, u32 flags) {
	target t = {.gas = gas, .read_only = flags & FD_CALL_READ_ONLY, .allow_reentry = flags & FD_CALL_ALLOW_REENTRY};
	if (flags & FD_CALL_BY_NAME) {
		t.name = (str){(const char *)to, to_len};
	} else {
		fd_rule(to_len == sizeof t.to.at, "an address that has not 20 bytes");
		fd_copy(t.to.at, to, to_len);
	}
	fd_call.result = (bytes){0, 0};
	if (!mock.answer) return STATUS_NOT_FOUND;
	bytes copied = fd_clone(args, args_len);
	outcome o = mock.answer(t, (str){(const char *)method, method_len}, copied);
	fd_call.result = fd_clone(o.data.at, o.data.len);
	return o.status;
}

// fd_sha256 is SHA-256 (FIPS 180-4).
FD_FN hash fd_sha256(bytes data) {
	u32 h[8], k[64], n = 0, state[8];
	for (u32 p = 2; n < 64; p++) { // the fractions of the roots of the first 64 primes
		bool prime = true;
		for (u32 d = 2; d * d <= p; d++) prime = prime && p % d != 0;
		if (!prime) continue;
		u128 low = 0, high = (u128)1 << 44; // cube root of p · 2^96, by halving
		while (high - low > 1) {
			u128 middle = (low + high) / 2;
			if (middle * middle <= (((u128)p << 96) / middle)) {
				low = middle;
			} else {
				high = middle;
			}
		}
		k[n] = (u32)low;
		if (n < 8) {
			for (low = 0, high = (u128)1 << 44; high - low > 1;) { // square root of p · 2^64
				u128 middle = (low + high) / 2;
				if (middle * middle <= (u128)p << 64) {
					low = middle;
				} else {
					high = middle;
				}
			}
			h[n] = (u32)low;
		}
		n++;
	}
#define FD_ROTATE(x, by) ((x) >> (by) | (x) << (32 - (by)))
	u32 blocks = (data.len + 8) / 64 + 1;
	for (u32 b = 0; b < blocks; b++) {
		u32 w[64];
		for (u32 i = 0; i < 64; i++) {
			u32 at = 64 * b + i;
			u8 byte = at < data.len ? data.at[at] : at == data.len ? 0x80 : 0;
			if (at >= 64 * blocks - 8) byte = (u8)((u64)data.len * 8 >> 8 * (64 * blocks - 1 - at));
			w[i / 4] = (i % 4 == 0 ? 0 : w[i / 4]) << 8 | byte;
		}
		for (u32 i = 16; i < 64; i++) {
			u32 x = w[i - 15], y = w[i - 2];
			w[i] = w[i - 16] + (FD_ROTATE(x, 7) ^ FD_ROTATE(x, 18) ^ x >> 3) + w[i - 7] + (FD_ROTATE(y, 17) ^ FD_ROTATE(y, 19) ^ y >> 10);
		}
		memcpy(state, h, sizeof h);
		for (u32 i = 0; i < 64; i++) {
			u32 a = h[0], e = h[4];
			u32 t1 = h[7] + (FD_ROTATE(e, 6) ^ FD_ROTATE(e, 11) ^ FD_ROTATE(e, 25)) + ((e & h[5]) ^ (~e & h[6])) + k[i] + w[i];
			u32 t2 = (FD_ROTATE(a, 2) ^ FD_ROTATE(a, 13) ^ FD_ROTATE(a, 22)) + ((a & h[1]) ^ (a & h[2]) ^ (h[1] & h[2]));
			memmove(h + 1, h, 7 * sizeof *h);
			h[4] += t1;
			h[0] = t1 + t2;
		}
		for (u32 i = 0; i < 8; i++) h[i] += state[i];
	}
#undef FD_ROTATE
	hash digest;
	for (u32 i = 0; i < 32; i++) digest.at[i] = (u8)(h[i / 4] >> 8 * (3 - i % 4));
	return digest;
}

FD_FN u32 host_hash(u32 alg, const void *ptr, u32 len, void *dst, u32 cap) {
	fd_rule(alg == HASH_SHA256, "the mock host hashes with SHA-256 only");
	hash digest = fd_sha256((bytes){(const u8 *)ptr, len});
	if (cap >= 32) memcpy(dst, digest.at, 32);
	return 32;
}

FD_FN u32 host_verify(u32 alg, const void *pk, u32 pk_len, const void *sig, u32 sig_len, const void *msg, u32 msg_len) {
	hash digest;
	fd_rule(msg_len == sizeof digest.at, "a digest that has not 32 bytes");
	memcpy(digest.at, msg, sizeof digest.at);
	return mock.verify && mock.verify(alg, (bytes){(const u8 *)pk, pk_len}, (bytes){(const u8 *)sig, sig_len}, digest);
}

FD_FN void host_rand(void *dst, u32 len) {
	for (u32 i = 0; i < len; i++) { // splitmix64, from 0 in each test
		u64 z = fd_random += 0x9e3779b97f4a7c15;
		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
		z = (z ^ z >> 27) * 0x94d049bb133111eb;
		((u8 *)dst)[i] = (u8)(z ^ z >> 31);
	}
}

FD_FN void host_log(u32 level, const void *ptr, u32 len) {
	static const char *const levels[] = {"debug", "info", "warning", "error"};
	printf("\t%s: %.*s\n", levels[level & 3], (int)len, (const char *)ptr);
}

FD_FN u64 host_gas_left(void) { return 1000000000; }

int main(void) {
	u32 failed = 0;
	for (u32 i = 0; i < fd_test_count; i++) {
		u32 before = fd_failures;
		memset(&mock, 0, sizeof mock);
		memset(&fd_state, 0, sizeof fd_state);
		fd_context = (bytes){0, 0};
		fd_event_count = 0;
		fd_random = 0;
		fd_tests[i].run();
		while (fd_allocation_count > 0) free(fd_allocations[--fd_allocation_count]);
		printf("%s  %s\n", fd_failures == before ? "ok  " : "FAIL", fd_tests[i].what);
		failed += fd_failures != before;
	}
	free(fd_allocations);
	printf("%u of %u tests passed\n", fd_test_count - failed, fd_test_count);
	return failed > 0 || fd_test_count == 0;
}

#endif // FONDACO_MOCK_H
