#include "registry.c"

#include "../../fondaco_mock.h"

static const addr alice = {{1}}, bob = {{2}};

#define VALUE_OF(text) ((bytes){(const u8 *)text, sizeof text - 1})

static void put_all(const char *letters) {
	for (; *letters; letters++) OK(call_put((str){letters, 1}, VALUE_OF("v")));
}

TEST("a key belongs to who writes it first") {
	mock.caller = alice;
	mock.now = 77;
	OK(call_put(TEXT("k"), VALUE_OF("one")));
	EMITTED(Written, TEXT("k"), alice, {(const u8 *)"one", 3});
	mock.caller = bob;
	REFUSED(call_put(TEXT("k"), VALUE_OF("two")), NotOwner, TEXT("k"), alice);
	REFUSED(call_remove(TEXT("k")), NotOwner, TEXT("k"), alice);
	opt_Entry e = OK(call_get(TEXT("k"))).value;
	CHECK(e.some && addr_eq(e.value.owner, alice) && bytes_eq(e.value.value, VALUE_OF("one")) && e.value.updated == 77);
	mock.caller = alice;
	OK(call_put(TEXT("k"), VALUE_OF("")));
	CHECK(OK(call_count()).value == 1);
	OK(call_remove(TEXT("k")));
	EMITTED(Removed, TEXT("k"), alice);
	CHECK(OK(call_count()).value == 0 && !OK(call_get(TEXT("k"))).value.some);
	REFUSED(call_remove(TEXT("k")), NoSuchKey, TEXT("k"));
}

TEST("keys have 1 to 64 bytes") {
	static char long_key[65];
	memset(long_key, 'x', sizeof long_key);
	REFUSED(call_put(TEXT(""), VALUE_OF("")), BadKey, 0);
	REFUSED(call_put((str){long_key, 65}, VALUE_OF("")), BadKey, 65);
	OK(call_put((str){long_key, 64}, VALUE_OF("")));
}

TEST("a list goes by pages in the order of the bytes") {
	put_all("dbxac");
	OK(call_put(TEXT("b/2"), VALUE_OF("2")));
	OK(call_put(TEXT("b/1"), VALUE_OF("1")));
	Page p = OK(call_list(TEXT(""), (opt_str){false, {0, 0}}, 4)).value;
	CHECK(p.items.len == 4 && str_eq(p.items.at[0].key, TEXT("a")) && str_eq(p.items.at[3].key, TEXT("b/2")));
	CHECK(p.next.some && str_eq(p.next.value, TEXT("c")));
	p = OK(call_list(TEXT(""), p.next, 4)).value;
	CHECK(p.items.len == 3 && str_eq(p.items.at[2].key, TEXT("x")) && !p.next.some);
	p = OK(call_list(TEXT("b/"), (opt_str){true, TEXT("a")}, 1)).value;
	CHECK(p.items.len == 1 && str_eq(p.items.at[0].key, TEXT("b/1")) && p.next.some && str_eq(p.next.value, TEXT("b/2")));
	p = OK(call_list(TEXT("b"), p.next, 100)).value;
	CHECK(p.items.len == 1 && !p.next.some);
	p = OK(call_list(TEXT("b"), (opt_str){true, TEXT("z")}, 100)).value;
	CHECK(p.items.len == 0 && !p.next.some);
	REFUSED(call_list(TEXT(""), p.next, 0), BadLimit, 0, 100);
	REFUSED(call_list(TEXT(""), p.next, 101), BadLimit, 101, 100);
}
