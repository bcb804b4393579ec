// A contract: keys with values, each of which belongs to who wrote it first.
#include "../../fondaco.h"

CONTRACT(registry, "1.0.0", doc("Keys with values, each of which belongs to who wrote it first."))

STRUCT(Entry, (addr, owner), (bytes, value), (u64, updated)) // updated: Unix ms
STRUCT(Item, (str, key), (Entry, entry))
LIST(Item)
OPT(str)
STRUCT(Page, (list(Item), items), (opt(str), next))
OPT(Entry)

COUNTER(count)
MAP(entry, (str), Entry)

EVENT(Written, (str, key), (addr, owner), (bytes, value), indexed("key,owner"))
EVENT(Removed, (str, key), (addr, owner), indexed("key,owner"))

ERROR(1001, NotOwner, (str, key), (addr, owner))
ERROR(1002, NoSuchKey, (str, key))
ERROR(1003, BadKey, (u32, length))
ERROR(1004, BadLimit, (u32, limit), (u32, most))

enum { LONGEST_KEY = 64, LARGEST_PAGE = 100 };

static const i64 MOST = 0x7fffffffffffffff;

INIT() {}

TX(void, put, (str, key), (bytes, value), conflicts("entry/{key}")) {
	if (key.len < 1 || key.len > LONGEST_KEY) fail(BadKey, key.len);
	addr owner = chain_caller();
	Entry old;
	if (!entry_find(key, &old)) {
		count_add(1, 0, MOST);
	} else if (!addr_eq(old.owner, owner)) {
		fail(NotOwner, key, old.owner);
	}
	entry_set(key, (Entry){owner, value, chain_now()});
	emit(Written, key, owner, value);
}

TX(void, remove, (str, key), conflicts("entry/{key}")) {
	addr owner = chain_caller();
	Entry old;
	if (!entry_find(key, &old)) fail(NoSuchKey, key);
	if (!addr_eq(old.owner, owner)) fail(NotOwner, key, old.owner);
	entry_delete(key);
	count_add(-1, 0, MOST);
	emit(Removed, key, owner);
}

VIEW(opt(Entry), get, (str, key)) {
	opt_Entry e;
	e.some = entry_find(key, &e.value);
	return e;
}

VIEW(Page, list, (str, prefix), (opt(str), from), (u32, limit)) {
	if (limit < 1 || limit > LARGEST_PAGE) fail(BadLimit, limit, LARGEST_PAGE);
	str start = from.some && str_cmp(from.value, prefix) > 0 ? from.value : prefix;
	Page page = {{0, 0, 0}, {false, {0, 0}}};
	for (entry_scan s = entry_from(start, limit + 1); entry_next(&s) && str_begins(s.key, prefix);) {
		if (page.items.len == limit) {
			page.next = (opt_str){true, s.key};
			break;
		}
		list_Item_append(&page.items, (Item){s.key, s.value});
	}
	return page;
}

VIEW(i64, count) { return count_get(); }
