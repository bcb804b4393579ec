#include "shapes.c"

#include "../../fondaco_mock.h"

// read decodes data as a T from memory that ends with it, and reports whether it is one. What is one is
// canonical: written again it gives the same bytes.
#define READS(T)                                             \
	static bool read_##T(const u8 *data, u32 len) {          \
		u8 *copy = (u8 *)malloc(len > 0 ? len : 1);          \
		fd_copy(copy, data, len);                            \
		reader r = fd_reader((bytes){copy, len});            \
		T v;                                                 \
		fd_take_##T(&r, &v);                                 \
		bool good = fd_done(&r);                             \
		if (good) {                                          \
			writer w = chain_writer();                       \
			fd_put_##T(&w, &v);                              \
			CHECK(w.len == len && fd_same(w.at, copy, len)); \
		}                                                    \
		free(copy);                                          \
		return good;                                         \
	}

READS(u8)
READS(u16)
READS(u32)
READS(u64)
READS(u128)
READS(i8)
READS(i16)
READS(i32)
READS(i64)
READS(bool)
READS(str)
READS(bytes)
READS(addr)
READS(Colour)
READS(list_u64)
READS(opt_addr)
READS(Numbers)
READS(Deal)

static bool skip(const u8 *data, u32 len) {
	u8 *copy = (u8 *)malloc(len > 0 ? len : 1);
	fd_copy(copy, data, len);
	reader r = fd_reader((bytes){copy, len});
	fd_skip(&r, 32);
	free(copy);
	return fd_done(&r);
}

typedef bool (*read_function)(const u8 *, u32);
static const read_function readers[] = {
	read_u8, read_u16, read_u32, read_u64, read_u128, read_i8, read_i16, read_i32, read_i64, read_bool, read_str, read_bytes, read_addr,
	read_Colour, read_list_u64, read_opt_addr, read_Numbers, read_Deal, skip,
};

#define IS(T, data) CHECK(read_##T((const u8 *)data, sizeof data - 1))
#define IS_NOT(T, data) CHECK(!read_##T((const u8 *)data, sizeof data - 1))

TEST("values at the ends of their ranges") {
	IS(u8, "\x18\xff");
	IS_NOT(u8, "\x19\x01\x00");
	IS(u16, "\x19\xff\xff");
	IS_NOT(u16, "\x1a\x00\x01\x00\x00");
	IS(u32, "\x1a\xff\xff\xff\xff");
	IS_NOT(u32, "\x1b\x00\x00\x00\x01\x00\x00\x00\x00");
	IS(u64, "\x1b\xff\xff\xff\xff\xff\xff\xff\xff");
	IS_NOT(u64, "\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00");
	IS(u128, "\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00");
	IS(u128, "\xc2\x50\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
	IS_NOT(u128, "\xc2\x51\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
	IS_NOT(u128, "\xc2\x49\x00\xff\xff\xff\xff\xff\xff\xff\xff");
	IS_NOT(u128, "\xc2\x48\xff\xff\xff\xff\xff\xff\xff\xff");
	IS_NOT(u128, "\xc2\x40");
	IS_NOT(u128, "\xc3\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00");
	IS(i8, "\x38\x7f");
	IS_NOT(i8, "\x38\x80");
	IS_NOT(i8, "\x18\x80");
	IS(i64, "\x3b\x7f\xff\xff\xff\xff\xff\xff\xff");
	IS_NOT(i64, "\x3b\x80\x00\x00\x00\x00\x00\x00\x00");
	IS_NOT(i64, "\x1b\x80\x00\x00\x00\x00\x00\x00\x00");
	IS(Colour, "\x02");
	IS_NOT(Colour, "\x03");
}

TEST("no value has two forms") {
	IS_NOT(u64, "\x18\x17");
	IS_NOT(u64, "\x19\x00\xff");
	IS_NOT(u64, "\x1a\x00\x00\xff\xff");
	IS_NOT(u64, "\x1b\x00\x00\x00\x00\xff\xff\xff\xff");
	IS_NOT(u64, "\x1f");
	IS_NOT(bytes, "\x58\x01\x00");
	IS_NOT(bytes, "\x5f\x41\x00\xff");
	IS_NOT(list_u64, "\x9f\x00\xff");
	IS_NOT(bool, "\xf8\x15");
	IS_NOT(u64, "\x00\x00");
	IS_NOT(u64, "");
}

TEST("text is UTF-8 in its one form") {
	IS(str, "\x63\xe2\x82\xac");
	IS(str, "\x64\xf4\x8f\xbf\xbf");
	IS(str, "\x63\xed\x9f\xbf");
	IS_NOT(str, "\x62\xc0\x80");
	IS_NOT(str, "\x62\xc1\xbf");
	IS_NOT(str, "\x63\xe0\x9f\xbf");
	IS_NOT(str, "\x63\xed\xa0\x80");
	IS_NOT(str, "\x64\xf0\x8f\xbf\xbf");
	IS_NOT(str, "\x64\xf4\x90\x80\x80");
	IS_NOT(str, "\x64\xf5\x80\x80\x80");
	IS_NOT(str, "\x61\x80");
	IS_NOT(str, "\x61\xc3");
	IS_NOT(str, "\x62\xe2\x82");
}

// Of the strings of three bytes whose last is one of six, as many are UTF-8 as there are ways to put characters of one, two and three
// bytes together; and of four bytes that begin one character, those from U+10000 to U+10FFFF.
TEST("as many texts are UTF-8 as there ought to be") {
	static const u8 last[] = {0x00, 0x7f, 0x80, 0xbf, 0xc0, 0xff};
	u32 three = 0, four = 0;
	for (u32 i = 0; i < 65536 * 6; i++) {
		u8 s[] = {(u8)(i / 6 >> 8), (u8)(i / 6), last[i % 6]};
		three += fd_utf8(s, 3);
	}
	CHECK(three == 128 * 128 * 2 + 128 * 30 * 2 + 1920 * 2 + (32 + 14 * 64 + 32) * 2);
	for (u32 i = 0; i < 16 * 256 * 36; i++) {
		u8 s[] = {(u8)(0xf0 + i / 36 / 256), (u8)(i / 36), last[i / 6 % 6], last[i % 6]};
		four += fd_utf8(s, 4);
	}
	CHECK(four == (48 + 3 * 64 + 16) * 2 * 2);
}

TEST("counts of nothing allocate nothing") {
	IS_NOT(list_u64, "\x9a\x00\x01\x00\x00");
	IS_NOT(list_u64, "\x9b\xff\xff\xff\xff\xff\xff\xff\xff");
	IS_NOT(bytes, "\x5b\xff\xff\xff\xff\xff\xff\xff\xff");
	IS_NOT(str, "\x7a\xff\xff\xff\xff");
	static u8 deep[40], map[] = {0xbb, 0x80, 0, 0, 0, 0, 0, 0, 0};
	memset(deep, 0x81, sizeof deep);
	deep[31] = 0;
	CHECK(skip(deep, 32));
	deep[31] = 0x81;
	deep[32] = 0;
	CHECK(!skip(deep, 33) && !skip(map, sizeof map));
}

TEST("balances at the ends of what is added unseen") {
	const u128 one = 1, most = ~(u128)0;
	const u128 edges[] = {0, 1, 7, (one << 63) - 1, one << 63, (one << 64) - 1, one << 64, one << 127, most};
	const u32 count = sizeof edges / sizeof *edges;
	for (u32 i = 0; i < count; i++) {
		for (u32 j = 0; j < count; j++) {
			u128 have = edges[i], amount = edges[j];
			str name = {&"abcdefghi"[i], 1};
			CHECK(OK(call_spend((i16)j, name, OK(call_holds((i16)j, name)).value)).value);
			OK(call_hold((i16)j, name, have));
			CHECK(OK(call_spend((i16)j, name, amount)).value == (have >= amount));
			u128 rest = have >= amount ? have - amount : have;
			CHECK(OK(call_holds((i16)j, name)).value == rest);
			if (rest > most - amount) {
				ENDED(call_hold((i16)j, name, amount), CHAIN_OVERFLOW);
				continue;
			}
			OK(call_hold((i16)j, name, amount));
			CHECK(OK(call_holds((i16)j, name)).value == rest + amount);
		}
	}
}

static u64 seed = 1;

static u32 random_below(u32 n) {
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (u32)(seed >> 33) % n;
}

static Deal example(void) {
	static str notes[] = {{"\xe2\x82\xac", 3}, {"", 0}};
	static Leg legs[] = {{Colour_blue, {notes, 2, 2}}, {Colour_red, {0, 0, 0}}};
	static u64 sizes[] = {0, 23, 24, 255, 256, 65535, 65536, 4294967295, 4294967296, 0xffffffffffffffff};
	return (Deal){
		{255, 65535, 1, 1, (u128)1 << 64, -128, -32768, -1, -1 - (i64)0x7fffffffffffffff, true},
		{"name", 4}, {(const u8 *)"blob", 4}, {legs, 2, 2}, {true, {{1, 2, 3}}}, {true, legs[0]}, {sizes, 10, 10}, Only_one,
	};
}

// Random bytes are seldom values, so most are values with a few bytes changed, cut or doubled.
TEST("hostile bytes are refused, or are the canonical form of what is read") {
	Deal deal = example();
	writer w = chain_writer();
	fd_put_Deal(&w, &deal);
	u8 good[400], data[512];
	u32 length = w.len, accepted = 0;
	CHECK(length <= sizeof good && read_Deal(w.at, w.len));
	fd_copy(good, w.at, length);
	for (u32 i = 0; i < 20000; i++) {
		u32 len = length;
		fd_copy(data, good, len);
		u32 at = random_below(len), cut = random_below(len - at);
		switch (random_below(4)) {
		case 0:
			len = random_below(40);
			for (u32 k = 0; k < len; k++) data[k] = (u8)(random_below(2) ? random_below(256) : 0x20 * random_below(8) + random_below(4));
			break;
		case 1:
			memmove(data, data + at, len - at);
			len -= at + cut;
			break;
		case 2:
			memmove(data + at, data + at + cut, len - at - cut);
			len -= cut;
			break;
		}
		for (u32 k = random_below(4); k > 0 && len > 0; k--) data[random_below(len)] = (u8)random_below(256);
		for (u32 k = 0; k < sizeof readers / sizeof *readers; k++) accepted += readers[k](data, len);
		while (fd_allocation_count > 0) free(fd_allocations[--fd_allocation_count]);
	}
	CHECK(accepted > 500);
}

TEST("hostile arguments end a call, and nothing else") {
	Deal deal = example();
	writer w = chain_writer();
	fd_put_array(&w, 1);
	fd_put_Deal(&w, &deal);
	u8 good[400], data[400];
	u32 length = w.len, refused = 0;
	fd_copy(good, w.at, length);
	for (u32 i = 0; i < 2000; i++) {
		fd_copy(data, good, length);
		for (u32 k = random_below(3); k > 0; k--) data[random_below(length)] = (u8)random_below(256);
		outcome o = fd_mock_call(true, "", TEXT("echo"), fd_export_echo, (bytes){data, length - random_below(2) * random_below(length)});
		CHECK(o.status == STATUS_OK || o.status == CHAIN_BAD_ARGUMENTS);
		refused += o.status != STATUS_OK;
	}
	CHECK(refused > 500 && refused < 2000);
}

TEST("what is stored comes back") {
	Deal deal = example();
	OK(call_store(deal));
	EMITTED(Stored, deal.name, deal);
	EMITTED(Nothing);
	Deal again = OK(call_store(deal)).value;
	CHECK(again.numbers.i == deal.numbers.i && again.numbers.e == (u128)1 << 64 && again.sizes.at[9] == 0xffffffffffffffff && again.agent.some);
	CHECK(OK(call_count()).value == 2);
	static Leg legs[4];
	deal.legs = (list_Leg){legs, 4, 4};
	REFUSED(call_store(deal), TooBig, deal);
	REFUSED(call_always(), Always);
	OK(call_empty((Empty){}));
}

TEST("scans go in the order of keys, both ways") {
	static const i16 numbers[] = {5, -1, 0, -32768, 32767};
	for (u32 i = 0; i < 5; i++) OK(call_mark(numbers[i], TEXT("x"), 1));
	OK(call_mark(0, TEXT(""), 2));
	OK(call_mark(5, TEXT("x"), 0));
	list_Day d = OK(call_days(1024, false)).value;
	CHECK(d.len == 5 && d.at[0].number == -32768 && d.at[1].number == -1 && d.at[2].number == 0 && d.at[2].value == 2 && d.at[4].number == 32767);
	d = OK(call_days(2, true)).value;
	CHECK(d.len == 2 && d.at[0].number == 32767 && d.at[1].number == 0 && str_eq(d.at[1].name, TEXT("x")));
	CHECK(OK(call_keys()).value);
	ENDED(call_days(1025, false), STATUS_DENIED);
}

TEST("scans stay under a first key, or a prefix") {
	static const str names[] = {{"a", 1}, {"ab", 2}, {"abc", 3}, {"b", 1}, {"\xc3\xbf", 2}};
	for (i16 number = -1; number <= 1; number++) {
		for (u32 i = 0; i < 5; i++) OK(call_mark(number, names[i], (u8)(i + 1)));
	}
	list_Day d = OK(call_days_of(0, TEXT(""), 1024, Way_under)).value;
	CHECK(d.len == 5 && d.at[0].number == 0 && d.at[0].value == 1 && d.at[4].number == 0 && d.at[4].value == 5);
	d = OK(call_days_of(-1, TEXT(""), 2, Way_backward)).value;
	CHECK(d.len == 2 && d.at[0].number == -1 && d.at[0].value == 5 && d.at[1].value == 4);
	d = OK(call_days_of(0, TEXT("abc"), 1024, Way_from)).value;
	CHECK(d.len == 3 && d.at[0].value == 3 && d.at[2].number == 0);
	d = OK(call_days_of(1, TEXT("ab"), 1024, Way_prefix)).value;
	CHECK(d.len == 2 && d.at[0].value == 2 && d.at[1].value == 3 && d.at[1].number == 1);
	CHECK(OK(call_days_of(2, TEXT(""), 1024, Way_under)).value.len == 0);
	by_bytes_scan s = by_bytes_prefix(7, -7, (bytes){(const u8 *)"\xff", 1}, 5); // beyond it is the next of the key before
	CHECK(by_bytes_next(&s) && s.key2 == -7 && s.key3.len == 1 && !by_bytes_next(&s));
}

TEST("the limits of the chain hold here too") {
	static char name[300];
	str most = {name, 256 - 6}, more = {name, 256 - 5}; // behind "day/" and a number
	OK(call_mark(1, most, 1));
	ENDED(call_mark(1, more, 1), STATUS_DENIED);
	OK(call_days_of(1, most, 1024, Way_prefix));
	ENDED(call_days_of(1, more, 1024, Way_prefix), STATUS_DENIED);
	ENDED(call_days_of(1, (str){name, 300}, 1024, Way_from), STATUS_DENIED);
	ENDED(call_days_of(1, most, 0, Way_under), STATUS_DENIED);
	ENDED(call_days_of(1, most, 1025, Way_under), STATUS_DENIED);
}

TEST("who lacks the role is denied") {
	ENDED(call_restricted(), STATUS_DENIED);
	mock.roles[0] = TEXT("deploy");
	ENDED(call_restricted(), STATUS_DENIED);
	mock.roles[3] = TEXT("regulator");
	OK(call_restricted());
	mock.roles[3] = (str){0, 0};
	mock.roles[0] = TEXT("deployer");
	OK(call_restricted());
}

TEST("a view cannot write, and a state of another type is refused") {
	ENDED(fd_mock_call(true, "", TEXT("dice"), fd_export_always, (bytes){(const u8 *)"\x80", 1}), 2000);
	Deal deal = example();
	writer w = chain_writer();
	fd_put_array(&w, 1);
	fd_put_Deal(&w, &deal);
	ENDED(fd_mock_call(true, "", TEXT("store"), fd_export_store, fd_clone(w.at, w.len)), STATUS_DENIED);
	OK(call_store(deal));
	bool found;
	fd_state.at[fd_find((bytes){(const u8 *)"stored", 6}, &found)].value = (bytes){(const u8 *)"\x60", 1};
	ENDED(call_count(), CHAIN_BAD_STATE);
	ENDED(call_store(deal), STATUS_DENIED);
}

TEST("arithmetic ends a call that leaves the range") {
	const u128 most = ~(u128)0, half = (u128)1 << 64;
	u128 zero = 0;
	CHECK(OK(call_calculate(TEXT("mul"), half, half - 1, 0)).value == half * (half - 1));
	ENDED(call_calculate(TEXT("mul"), half, half, 0), CHAIN_OVERFLOW);
	ENDED(call_calculate(TEXT("add"), most, 1, 0), CHAIN_OVERFLOW);
	ENDED(call_calculate(TEXT("sub"), 0, 1, 0), CHAIN_OVERFLOW);
	ENDED(call_calculate(TEXT("div"), 1, zero, 0), CHAIN_OVERFLOW);
	CHECK(OK(call_calculate(TEXT("muldiv"), most, most, most)).value == most);
	ENDED(call_calculate(TEXT("muldiv"), most, most, most - 1), CHAIN_OVERFLOW);
	ENDED(call_calculate(TEXT("muldiv"), 0, 0, 0), CHAIN_OVERFLOW);
	ENDED(call_calculate_small(TEXT("u8 add"), 255, 1), CHAIN_OVERFLOW);
	ENDED(call_calculate_small(TEXT("i32 mul"), 65536, 32768), CHAIN_OVERFLOW);
}

TEST("the context, roles and a digest") {
	mock.caller.at[0] = 4;
	mock.now = 1700000000000;
	mock.group = TEXT("main");
	mock.institution = TEXT("bank");
	mock.roles[1] = TEXT("regulator");
	Who w = OK(call_who()).value;
	CHECK(w.caller.at[0] == 4 && w.time == 1700000000000 && str_eq(w.group, TEXT("main")) && str_eq(w.method, TEXT("who")));
	CHECK(w.read_only && w.regulator && str_eq(w.institution, TEXT("bank")));
	hash d = OK(call_digest((bytes){(const u8 *)"abc", 3})).value;
	CHECK(fd_same(d.at, "\xba\x78\x16\xbf\x8f\x01\xcf\xea\x41\x41\x40\xde\x5d\xae\x22\x23\xb0\x03\x61\xa3\x96\x17\x7a\x9c\xb4\x10\xff\x61\xf2\x00\x15\xad", 32));
	static u8 long_data[120];
	d = OK(call_digest((bytes){long_data, 120})).value;
	CHECK(d.at[0] == 0x6e && d.at[31] == 0x4f);
	CHECK(OK(call_dice()).value);
	OK(call_upgrade(true));
	mock.tx_id.at[31] = 9;
	hash twice[] = {d, mock.tx_id, d};
	list_hash unseen = OK(call_see((list_hash){twice, 3, 3})).value;
	CHECK(unseen.len == 2 && fd_same(unseen.at[0].at, d.at, 32) && seen_get(1, d).at[31] == 9);
	seen_scan s = seen_all(5);
	CHECK(seen_next(&s) && s.key1 == 1 && s.key2.at[31] == 9 && seen_next(&s) && !seen_next(&s));
	CHECK(OK(call_short_of(0xffffffff)).value == 0xffffffff);
	ENDED(call_short_of(0x100000000), CHAIN_OVERFLOW);
}

static u32 answered;

static outcome answer_once(target to, str method, bytes args) {
	(void)args;
	CHECK(addr_eq(to.to, (addr){{9}}));
	answered++;
	return str_eq(method, TEXT("transfer")) ? (outcome){STATUS_OK, {0, 0}} : ANSWER(u128, 10);
}

static outcome answer_refused(target to, str method, bytes args) {
	(void)to, (void)method, (void)args;
	answered++;
	return (outcome){1001, {(const u8 *)"\x80", 1}};
}

static outcome answer_text(target to, str method, bytes args) {
	(void)to, (void)args;
	return str_eq(method, TEXT("transfer")) ? (outcome){STATUS_OK, {0, 0}} : ANSWER(str, TEXT("no"));
}

TEST("a call that must succeed is made once") {
	mock.answer = answer_once;
	answered = 0;
	OK(call_pay((addr){{9}}, (addr){{1}}, 10));
	CHECK(answered == 2); // one transfer, and one question for the balance
	mock.answer = answer_text;
	pay_outcome o = call_pay((addr){{9}}, (addr){{1}}, 10);
	CHECK(o.status == CHAIN_CALL_FAILED && bytes_eq(o.data, (bytes){(const u8 *)"\x82\x26\x43\x62no", 6})); // STATUS_BAD_OUTPUT
	mock.answer = answer_refused;
	answered = 0;
	o = call_pay((addr){{9}}, (addr){{1}}, 10);
	CHECK(answered == 1 && o.status == CHAIN_CALL_FAILED && bytes_eq(o.data, (bytes){(const u8 *)"\x82\x19\x03\xe9\x41\x80", 6}));
}

static outcome answer_stopped(target to, str method, bytes args) {
	CHECK(addr_eq(to.to, (addr){{[19] = 3}}) && to.read_only && str_eq(method, TEXT("stopped")));
	ARGUMENTS(args, (addr, from), (addr, receiver));
	CHECK(addr_eq(from, (addr){{1}}));
	if (addr_eq(receiver, (addr){{4}})) return ANSWER(str, TEXT("no"));
	return ANSWER(opt(addr), ((opt_addr){addr_eq(receiver, (addr){{2}}), receiver}));
}

TEST("who is frozen is asked, and without an answer nothing moves") {
	addr alice = {{1}}, bob = {{2}}, carol = {{3}};
	ENDED(call_stopped(alice, bob), CHAIN_CALL_FAILED);
	mock.answer = answer_stopped;
	opt_addr stopped = OK(call_stopped(alice, bob)).value;
	CHECK(stopped.some && addr_eq(stopped.value, bob));
	CHECK(!OK(call_stopped(alice, carol)).value.some);
	stopped_outcome o = call_stopped(alice, (addr){{4}});
	CHECK(o.status == CHAIN_CALL_FAILED && bytes_eq(o.data, (bytes){(const u8 *)"\x82\x26\x43\x62no", 6})); // STATUS_BAD_OUTPUT
}

// next counts how often a macro evaluates its argument.
static u32 evaluated;

static u32 next(void) { return ++evaluated; }

static outcome next_outcome(void) { return (outcome){STATUS_OK, {(const u8 *)"", next() * 0}}; }

#define ONCE(expression)       \
	do {                       \
		evaluated = 0;         \
		(void)(expression);    \
		CHECK(evaluated == 1); \
	} while (0)

TEST("macros evaluate each argument once") {
	ONCE(checked_add(next(), 1u));
	ONCE(checked_add(1u, next()));
	ONCE(checked_sub(next(), 1u));
	ONCE(checked_sub(5u, next()));
	ONCE(checked_mul(next(), 1u));
	ONCE(checked_mul(1u, next()));
	ONCE(checked_add(checked_mul(next(), 2u), checked_sub(2u, 1u)));
	ONCE(checked_to(u8, next()));
	ONCE((chain_require(next() == 1, "first"), 0));
	ONCE(({ chain_must(next_outcome()); 0; }));
	ONCE(({ CHECK(next() == 1); 0; }));
	ONCE(OK(next_outcome()));
	ONCE(({ ENDED(next_outcome(), STATUS_OK); 0; }));
	ONCE(({ ENDED(next_outcome(), (i32)(evaluated - evaluated)); 0; }));
	ONCE(ANSWER(u32, next()));
}
