// A contract that passes values of every type through, for the tests of the SDK.
#include "../../fondaco.h"

CONTRACT(shapes, "0.1.0", doc("Values of \"every\" type."))
RANDOM

ENUM(Colour, red, green, blue)
ENUM(Only, one)
ENUM(Way, under, backward, from, prefix)
STRUCT(Numbers, (u8, a), (u16, b), (u32, c), (u64, d), (u128, e), (i8, f), (i16, g), (i32, h), (i64, i), (bool, j))
LIST(str)
STRUCT(Leg, (Colour, colour), (list(str), notes))
LIST(Leg)
OPT(addr)
OPT(Leg)
LIST(u64)
STRUCT(Deal, (Numbers, numbers), (str, name), (bytes, blob), (list(Leg), legs), (opt(addr), agent), (opt(Leg), spare), (list(u64), sizes), (Only, only))
STRUCT(Day, (i16, number), (str, name), (u8, value))
LIST(Day)
STRUCT(Who, (addr, caller), (addr, origin), (addr, self), (u64, height), (u64, time), (str, group), (str, method), (bool, read_only), (bool, regulator), (str, institution))
STRUCT(Empty)

LIST(hash)

VALUE(last, Deal, doc("the last that was stored"))
VALUE(lists, list(u64))
VALUE(upgraded, bool)
MAP(seen, (u8, hash), hash)
COUNTER(stored, doc("how many were stored"))
MAP(day, (i16, str), u8)
BALANCES(held, (i16, str), doc("what is in store"))
MAP(wide, (u128, u64, i64, addr), Colour)
MAP(by_bytes, (u8, i8, bytes), opt(Leg), doc("may be absent though present"))

EVENT(Stored, (str, name), (Deal, deal), indexed("name"))
EVENT(Nothing)

ERROR(1001, TooBig, (Deal, deal), doc("more than 3 legs"))
ERROR(2000, Always)

REMOTE(void, Token, transfer, (addr, to), (u128, amount))
REMOTE(u128, Token, balance_of, (addr, who))

INIT() {}

UPGRADE((bool, value)) { upgraded_set(value); }

VIEW(Deal, echo, (Deal, deal)) { return deal; }

VIEW(Empty, empty, (Empty, e)) { return e; }

TX(Deal, store, (Deal, deal), conflicts("last,stored")) {
	if (deal.legs.len > 3) fail(TooBig, deal);
	last_set(deal);
	lists_set(deal.sizes);
	stored_add(1, 0, 1000);
	emit(Stored, deal.name, deal);
	emit(Nothing);
	return last_get();
}

VIEW(i64, count) { return stored_get(); }

TX(void, mark, (i16, number), (str, name), (u8, value)) {
	if (value == 0) {
		day_delete(number, name);
	} else {
		day_set(number, name, value);
	}
	wide_set(((u128)1 << 100) + 3, 0xffffffffffffffff, -5, chain_self(), Colour_blue);
	opt_Leg none = {false, {Colour_red, {0, 0, 0}}};
	by_bytes_set(7, -7, (bytes){(const u8 *)"\xff", 1}, none);
}

TX(void, hold, (i16, number), (str, name), (u128, amount)) { held_add(number, name, amount); }

TX(bool, spend, (i16, number), (str, name), (u128, amount)) { return held_sub(number, name, amount); }

VIEW(u128, holds, (i16, number), (str, name)) {
	held_scan s = held_under(number, 1);
	return held_next(&s) && str_eq(s.key2, name) ? s.value : held_get(number, name);
}

VIEW(list(Day), days, (u32, limit), (bool, backward)) {
	list_Day all = {0, 0, 0};
	for (day_scan s = backward ? day_backward(limit) : day_all(limit); day_next(&s);) {
		list_Day_append(&all, (Day){s.key1, s.key2, s.value});
	}
	return all;
}

VIEW(list(Day), days_of, (i16, number), (str, name), (u32, limit), (Way, way)) {
	list_Day all = {0, 0, 0};
	day_scan s;
	switch (way) {
	case Way_backward:
		s = day_under_backward(number, limit);
		break;
	case Way_from:
		s = day_under_from(number, name, limit);
		break;
	case Way_prefix:
		s = day_prefix(number, name, limit);
		break;
	default:
		s = day_under(number, limit);
	}
	while (day_next(&s)) list_Day_append(&all, (Day){s.key1, s.key2, s.value});
	day_close(&s); // again, which is nothing
	if (day_next(&s)) chain_abort(CHAIN_PANIC, TEXT("a scan goes on behind its end"));
	return all;
}

VIEW(bool, keys) {
	wide_scan w = wide_from((u128)1 << 100, 0, 0, (addr){{0}}, 1);
	if (!wide_next(&w) || w.key1 != ((u128)1 << 100) + 3 || w.key2 != 0xffffffffffffffff || w.key3 != -5 || !addr_eq(w.key4, chain_self())) return false;
	wide_close(&w);
	by_bytes_scan b = by_bytes_all(1);
	if (!by_bytes_next(&b) || b.key1 != 7 || b.key2 != -7 || b.key3.len != 1 || b.value.some || by_bytes_next(&b)) return false;
	return w.value == Colour_blue && by_bytes_has(7, -7, b.key3);
}

VIEW(u128, calculate, (str, operation), (u128, a), (u128, b), (u128, c)) {
	if (str_eq(operation, TEXT("add"))) return checked_add(a, b);
	if (str_eq(operation, TEXT("sub"))) return checked_sub(a, b);
	if (str_eq(operation, TEXT("mul"))) return checked_mul(a, b);
	if (str_eq(operation, TEXT("div"))) return checked_div(a, b);
	if (str_eq(operation, TEXT("muldiv"))) return checked_mul_div(a, b, c);
	if (str_eq(operation, TEXT("plain mul"))) return a * b;
	if (str_eq(operation, TEXT("plain div"))) return b == 0 ? 0 : a / b;
	if (str_eq(operation, TEXT("plain rem"))) return b == 0 ? a : a % b;
	if (str_eq(operation, TEXT("shift"))) return a << ((u32)b & 127) >> ((u32)c & 127);
	chain_abort(CHAIN_NOT_FOUND, operation);
}

VIEW(i64, calculate_small, (str, operation), (i64, a), (i64, b)) {
	if (str_eq(operation, TEXT("i64 mul"))) return checked_mul(a, b);
	if (str_eq(operation, TEXT("i64 add"))) return checked_add(a, b);
	if (str_eq(operation, TEXT("i64 sub"))) return checked_sub(a, b);
	if (str_eq(operation, TEXT("u64 mul"))) return (i64)checked_mul((u64)a, (u64)b);
	if (str_eq(operation, TEXT("i32 mul"))) return checked_mul((i32)a, (i32)b);
	if (str_eq(operation, TEXT("u8 add"))) return checked_add((u8)a, (u8)b);
	chain_abort(CHAIN_NOT_FOUND, operation);
}

VIEW(Who, who) {
	return (Who){
		chain_caller(), chain_origin(), chain_self(), chain_height(), chain_now(), chain_group(), chain_method(), chain_read_only(),
		chain_has_role(TEXT("regulator")), chain_institution(),
	};
}

VIEW(opt(addr), stopped, (addr, from), (addr, to)) {
	opt_addr a;
	a.some = chain_stopped(from, to, &a.value);
	return a;
}

VIEW(hash, digest, (bytes, data)) { return chain_hash(HASH_SHA256, data); }

TX(list(hash), see, (list(hash), hashes)) {
	list_hash unseen = {0, 0, 0};
	for (u32 i = 0; i < hashes.len; i++) {
		if (!seen_has(1, hashes.at[i])) list_hash_append(&unseen, hashes.at[i]);
		seen_set(1, hashes.at[i], chain_tx_id());
	}
	return unseen;
}

VIEW(u32, short_of, (u128, a)) { return checked_to(u32, a); }

TX(bool, dice) {
	u8 a[16] = {0}, b[16] = {0};
	chain_random(a, 16);
	chain_random(b, 16);
	chain_log(LOG_INFO, TEXT("rolled"));
	return !bytes_eq((bytes){a, 16}, (bytes){b, 16}) && chain_gas_left() > 0;
}

TX(void, always) { fail(Always); }

TX(void, restricted, roles("deployer,regulator"), doc("for some")) {}

VIEW(void, large, (u32, size)) {
	u8 *x = chain_alloc(size);
	x[size - 1] = 1;
	chain_require(x[0] == 0, "memory is zero");
}

TX(void, pay, (addr, token), (addr, to), (u128, amount)) {
	chain_must(Token_transfer(chain_at(token), to, amount));
	chain_must(Token_balance_of(chain_at(token), to));
}
