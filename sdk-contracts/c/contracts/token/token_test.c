#include "token.c"

#include "../../fondaco_mock.h"

static const addr issuer = {{9}}, alice = {{1}}, bob = {{2}}, carol = {{3}}, dave = {{4}};
static const u128 most = ~(u128)0;

static u128 balance(addr who) { return OK(call_balance_of(who)).value; }

// answer says who is frozen: dave, what he gives and what he is given.
static outcome answer(target to, str method, bytes args) {
	CHECK(str_eq(method, TEXT("stopped")) && to.read_only);
	ARGUMENTS(args, (addr, from), (addr, receiver));
	if (addr_eq(from, dave) || addr_eq(receiver, dave)) return ANSWER(addr, dave);
	return (outcome){STATUS_OK, {(const u8 *)"\xf6", 1}};
}

// begin issues 100 units to alice, who calls what follows.
static void begin(void) {
	mock.answer = answer;
	OK(call_init(TEXT("Gold"), TEXT("XAU"), issuer));
	mock.caller = issuer;
	OK(call_issue(alice, 100));
	EMITTED(Issued, alice, 100);
	mock.caller = alice;
}

TEST("a token tells its name, symbol and issuer") {
	begin();
	About a = OK(call_about()).value;
	CHECK(str_eq(a.name, TEXT("Gold")) && str_eq(a.symbol, TEXT("XAU")) && addr_eq(a.issuer, issuer));
}

TEST("only the issuer issues, and no more than fits") {
	begin();
	REFUSED(call_issue(alice, 1), NotIssuer, issuer);
	mock.caller = issuer;
	ENDED(call_issue(bob, most), CHAIN_OVERFLOW);
	OK(call_issue(bob, most - 100));
	CHECK(OK(call_total_supply()).value == most);
	CHECK(balance(bob) == most - 100);
}

TEST("a holder transfers what it has") {
	begin();
	OK(call_transfer(bob, 40));
	EMITTED(Transferred, alice, bob, 40);
	CHECK(balance(alice) == 60 && balance(bob) == 40);
	REFUSED(call_transfer(bob, 61), InsufficientFunds, 60, 61);
	EVENTS(0);
	OK(call_pay(bob, 60, (bytes){(const u8 *)"inv", 3}));
	EMITTED(Paid, alice, bob, 60, {(const u8 *)"inv", 3});
	CHECK(bal_has(alice) && balance(alice) == 0);
}

TEST("a transfer to oneself changes nothing") {
	begin();
	OK(call_transfer(alice, 100));
	CHECK(balance(alice) == 100 && OK(call_total_supply()).value == 100);
}

TEST("a spender moves what the owner allows") {
	begin();
	OK(call_approve(carol, 150));
	EMITTED(Approved, alice, carol, 150);
	mock.caller = carol;
	REFUSED(call_transfer_from(alice, bob, 151), InsufficientAllowance, 150, 151);
	REFUSED(call_transfer_from(alice, bob, 150), InsufficientFunds, 100, 150);
	OK(call_transfer_from(alice, bob, 30));
	EMITTED(Transferred, alice, bob, 30);
	CHECK(OK(call_allowance(alice, carol)).value == 120 && balance(bob) == 30);
	mock.caller = bob;
	REFUSED(call_transfer_from(alice, bob, 1), InsufficientAllowance, 0, 1);
}

TEST("nothing moves to who is frozen, nor from them by a spender") {
	begin();
	OK(call_approve(bob, 50));
	REFUSED(call_transfer(dave, 1), Frozen, dave);
	REFUSED(call_pay(dave, 1, (bytes){0, 0}), Frozen, dave);
	mock.caller = issuer;
	REFUSED(call_issue(dave, 1), Frozen, dave);
	mock.caller = dave;
	OK(call_approve(bob, 50));
	mock.caller = bob;
	REFUSED(call_transfer_from(alice, dave, 1), Frozen, dave);
	REFUSED(call_transfer_from(dave, alice, 1), Frozen, dave);
	OK(call_transfer_from(alice, bob, 1));
	mock.answer = 0;
	ENDED(call_transfer_from(alice, bob, 1), CHAIN_CALL_FAILED);
	CHECK(OK(call_allowance(alice, bob)).value == 49);
}

TEST("arguments that do not fit are refused") {
	begin();
	static const u8 args[] = {0x82, 0x41, 0x01, 0x05};
	ENDED(fd_mock_call(false, "", TEXT("transfer"), fd_export_transfer, (bytes){args, sizeof args}), CHAIN_BAD_ARGUMENTS);
}
