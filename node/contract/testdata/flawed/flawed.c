// A contract that builds, and that a linter has much to say about; page is as it should be.
#include ".fondaco/fondaco.h"

CONTRACT(flawed, "1.0.0")

MAP(member, (addr), u64)
VALUE(total, u64)
REMOTE(void, Token, transfer, (addr, to))

TX(u64, size) { return total_get(); }

VIEW(u64, peek, (addr, who)) {
	member_set(who, 2);
	return 2;
}

TX(void, pay, (addr, token)) {
	Token_transfer_outcome paid = Token_transfer(chain_at(token), token);
	(void)paid;
	member_set(token, 1);
}

VIEW(u64, sum, (u32, times)) {
	u64 n = 0;
	for (u32 i = 0; i < times; i++)
		for (member_scan s = member_all(10); member_next(&s);) n += s.value;
	return n;
}

VIEW(u64, page, (addr, from)) {
	u64 n = 0;
	for (member_scan s = member_from(from, 10); member_next(&s);) n += s.value;
	return n;
}
