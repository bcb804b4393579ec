#include "caller.c"

#include "../../fondaco_mock.h"

static const addr payer = {{1}}, bob = {{2}}, carol = {{3}}, self = {{5}}, other = {{6}};
static const addr ledger = {{7}};

// answer pays what is not 13, says that bob has 20 units, lets nobody else ask, and runs the contract's own recurse.
static outcome answer(target to, str method, bytes args) {
	static const bytes refusal = {(const u8 *)"\x63no!", 4};
	if (str_eq(method, TEXT("recurse"))) {
		CHECK(addr_eq(to.to, self) && to.allow_reentry);
		ARGUMENTS(args, (u32, depth));
		if (depth == 0) return (outcome){STATUS_OUT_OF_DEPTH, {0, 0}};
		recurse_outcome deeper = call_recurse(depth);
		return (outcome){deeper.status, deeper.data};
	}
	if (str_eq(method, TEXT("balance_of"))) {
		CHECK(to.read_only && addr_eq(to.to, ledger));
		ARGUMENTS(args, (addr, who));
		if (addr_eq(who, bob)) return ANSWER(u128, 20);
		if (addr_eq(who, carol)) return ANSWER(str, TEXT("no!"));
		return (outcome){5, refusal};
	}
	if (str_eq(method, TEXT("transfer_from"))) {
		ARGUMENTS(args, (addr, from), (addr, payee), (u128, amount));
		CHECK(addr_eq(from, payer) && !addr_eq(payee, payer));
		return amount == 13 ? (outcome){1001, refusal} : (outcome){STATUS_OK, {0, 0}};
	}
	CHECK(to.gas == 99);
	return (outcome){STATUS_TRAPPED, {0, 0}};
}

static void begin(void) {
	mock.caller = bob;
	mock.origin = payer;
	mock.self = self;
	mock.answer = answer;
	OK(call_init(ledger));
}

TEST("a payment that fails does not stop the others") {
	begin();
	Payment all[] = {{bob, 5}, {carol, 13}, {bob, 7}};
	list_Result r = OK(call_pay_many((list_Payment){all, 3, 3})).value;
	CHECK(r.len == 3 && r.at[0].status == 0 && r.at[1].status == 1001 && r.at[2].status == 0);
	EMITTED(PaidOut, bob, 7);
	EMITTED(Failed, carol, 13, 1001, {(const u8 *)"\x63no!", 4});
	EVENTS(3);
	CHECK(OK(call_failures()).value == 1);
	static Payment many[51];
	REFUSED(call_pay_many((list_Payment){many, 51, 51}), TooMany, 51, 50);
}

TEST("a probe tells how a call ended") {
	begin();
	Result r = OK(call_probe(other, TEXT("anything"), (bytes){(const u8 *)"\x80", 1}, 99)).value;
	CHECK(r.status == STATUS_TRAPPED && r.data.len == 0);
}

TEST("a view asks another contract") {
	begin();
	CHECK(OK(call_peek(bob)).value == 20);
	REFUSED(call_peek(payer), PeekFailed, 5, {(const u8 *)"\x63no!", 4});
	ENDED(call_peek(carol), CHAIN_CALL_FAILED);
}

TEST("the contract calls itself") {
	begin();
	CHECK(OK(call_recurse(0)).value == 0);
	CHECK(OK(call_recurse(3)).value == 3);
}
