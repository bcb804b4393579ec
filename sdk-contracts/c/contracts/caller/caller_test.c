#include "caller.c"

#include "../../fondaco_mock.h"

static const addr payer = {{1}}, bob = {{2}}, carol = {{3}}, self = {{5}}, other = {{6}};
static const addr ledger = {{7}};

// answer pays what is not 13, says that bob has 20 units, and runs the contract's own recurse up to three deep.
static outcome answer(target to, str method, bytes args) {
	static const u8 twenty[] = {20}, refusal[] = {0x63, 'n', 'o', '!'};
	reader r = fd_reader(args);
	if (str_eq(method, TEXT("recurse"))) {
		CHECK(addr_eq(to.to, self) && to.allow_reentry);
		if (args.at[1] == 0) return (outcome){STATUS_OUT_OF_DEPTH, {0, 0}};
		return fd_mock_call(false, TEXT("recurse"), fd_export_recurse, args);
	}
	if (str_eq(method, TEXT("balance_of"))) {
		CHECK(to.read_only && addr_eq(to.to, ledger));
		addr who;
		fd_take_exactly(&r, 1);
		fd_take_addr(&r, &who);
		return addr_eq(who, bob) ? (outcome){0, {twenty, 1}} : addr_eq(who, carol) ? (outcome){0, {refusal, 4}} : (outcome){5, {refusal, 4}};
	}
	if (str_eq(method, TEXT("transfer_from"))) {
		addr from, payee;
		u128 amount;
		fd_take_exactly(&r, 3);
		fd_take_addr(&r, &from);
		fd_take_addr(&r, &payee);
		fd_take_u128(&r, &amount);
		CHECK(fd_done(&r) && addr_eq(from, payer));
		return amount == 13 ? (outcome){1001, {refusal, 4}} : (outcome){0, {0, 0}};
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
	CHECK(fd_event_count == 3 && OK(call_failures()).value == 1);
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
	REFUSED(call_peek(carol), PeekFailed, STATUS_BAD_OUTPUT, {(const u8 *)"\x63no!", 4});
}

TEST("the contract calls itself") {
	begin();
	CHECK(OK(call_recurse(0)).value == 0);
	CHECK(OK(call_recurse(3)).value == 3);
}
