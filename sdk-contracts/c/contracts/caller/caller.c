// A contract: it calls others, and survives their failures.
#include "../../fondaco.h"

CONTRACT(caller, "1.0.0", doc("Calls of other contracts that may fail."))

STRUCT(Payment, (addr, to), (u128, amount))
STRUCT(Result, (i32, status), (bytes, data))
LIST(Payment)
LIST(Result)

VALUE(token, addr)
COUNTER(failures)

EVENT(PaidOut, (addr, to), (u128, amount), indexed("to"))
EVENT(Failed, (addr, to), (u128, amount), (i32, status), (bytes, data), indexed("to"))

ERROR(1001, TooMany, (u32, count), (u32, most))
ERROR(1002, PeekFailed, (i32, status), (bytes, data))

REMOTE(void, Token, transfer_from, (addr, owner), (addr, to), (u128, amount))
REMOTE(u128, Token, balance_of, (addr, who))
REMOTE(u32, Self, recurse, (u32, depth))

enum { MOST_PAYMENTS = 50 };

INIT((addr, token)) { token_set(token); }

// Pays from the transaction's sender. A payment that fails is told and counted, and the others go on.
TX(list(Result), pay_many, (list(Payment), payments)) {
	if (payments.len > MOST_PAYMENTS) fail(TooMany, payments.len, MOST_PAYMENTS);
	target token = chain_at(token_get());
	addr from = chain_origin();
	list_Result results = {0, 0, 0};
	for (u32 i = 0; i < payments.len; i++) {
		Payment p = payments.at[i];
		Token_transfer_from_outcome paid = Token_transfer_from(token, from, p.to, p.amount);
		list_Result_append(&results, (Result){paid.status, paid.data});
		if (paid.status == STATUS_OK) {
			emit(PaidOut, p.to, p.amount);
		} else {
			failures_add(1, 0, 0x7fffffffffffffff);
			emit(Failed, p.to, p.amount, paid.status, paid.data);
		}
	}
	return results;
}

// Makes any call, with at most that much gas, and returns how it ended.
TX(Result, probe, (addr, target), (str, method), (bytes, args), (u64, gas)) {
	outcome o = chain_call((struct target){.to = target, .gas = gas}, method, args);
	return (Result){o.status, o.data};
}

// Calls itself, and returns how many calls deep it got.
TX(u32, recurse, (u32, depth)) {
	if (depth == 0) return 0;
	Self_recurse_outcome deeper = Self_recurse((target){.to = chain_self(), .allow_reentry = true}, depth - 1);
	return deeper.status == STATUS_OK ? deeper.value + 1 : 1;
}

VIEW(u128, peek, (addr, who)) {
	Token_balance_of_outcome o = Token_balance_of((target){.to = token_get(), .read_only = true}, who);
	if (o.status != STATUS_OK && o.status != STATUS_BAD_OUTPUT) fail(PeekFailed, o.status, o.data);
	chain_must(o); // an answer that is no amount
	return o.value;
}

VIEW(i64, failures) { return failures_get(); }
