#include "escrow.c"

#include "../../fondaco_mock.h"

static const addr token = {{7}}, buyer = {{1}}, seller = {{2}}, carol = {{3}}, escrow = {{8}};

// ledger answers as the token: it pays unless the amount is 13, and remembers the last payment.
static struct { str method; addr from, to; u128 amount; } paid;

static outcome ledger(target to, str method, bytes args) {
	static const u8 refusal[] = {0x82, 0x00, 0x0d};
	CHECK(addr_eq(to.to, token));
	paid.method = method;
	if (str_eq(method, TEXT("transfer_from"))) {
		ARGUMENTS(args, (addr, from), (addr, to), (u128, amount));
		paid.from = from;
		paid.to = to;
		paid.amount = amount;
	} else {
		ARGUMENTS(args, (addr, to), (u128, amount));
		paid.from = escrow;
		paid.to = to;
		paid.amount = amount;
	}
	return paid.amount == 13 ? (outcome){1001, {refusal, 3}} : (outcome){STATUS_OK, {0, 0}};
}

static void begin(void) {
	mock.self = escrow;
	mock.caller = buyer;
	mock.now = 1000;
	mock.answer = ledger;
	OK(call_init(token));
}

TEST("the seller gets what the buyer releases, once") {
	begin();
	u64 id = OK(call_open(seller, 50, 2000)).value;
	CHECK(id == 1 && addr_eq(paid.from, buyer) && addr_eq(paid.to, escrow) && paid.amount == 50);
	EMITTED(Opened, 1, buyer, seller, 50, 2000);
	mock.caller = seller;
	REFUSED(call_release(id), NotYours, id);
	mock.caller = buyer;
	OK(call_release(id));
	CHECK(str_eq(paid.method, TEXT("transfer")) && addr_eq(paid.to, seller));
	EMITTED(Released, id, seller, 50);
	REFUSED(call_release(id), NotOpen, id, Status_released);
	mock.caller = carol;
	REFUSED(call_refund(id), NotOpen, id, Status_released);
	CHECK(OK(call_get(id)).value.status == Status_released);
	mock.caller = buyer;
	CHECK(OK(call_open(seller, 1, 2000)).value == 2);
}

TEST("the buyer waits for the deadline, the seller need not") {
	begin();
	u64 first = OK(call_open(seller, 50, 2000)).value, second = OK(call_open(seller, 60, 2000)).value;
	REFUSED(call_refund(first), TooEarly, 2000, 1000);
	mock.caller = carol;
	REFUSED(call_refund(first), NotYours, first);
	mock.caller = seller;
	OK(call_refund(first));
	EMITTED(Refunded, first, buyer, 50);
	mock.caller = buyer;
	mock.now = 2000;
	OK(call_refund(second));
	CHECK(addr_eq(paid.to, buyer) && paid.amount == 60);
}

TEST("bad terms are refused in order") {
	begin();
	REFUSED(call_open(buyer, 0, 0), BadTerms, TEXT("amount"));
	REFUSED(call_open(buyer, 1, 0), BadTerms, TEXT("seller"));
	REFUSED(call_open(seller, 1, 1000), BadTerms, TEXT("deadline"));
	REFUSED(call_get(1), NoSuchAgreement, 1);
}

TEST("a payment that fails undoes the agreement") {
	begin();
	REFUSED(call_open(seller, 13, 2000), PaymentFailed, 1001, {(const u8 *)"\x82\x00\x0d", 3});
	REFUSED(call_get(1), NoSuchAgreement, 1);
	EVENTS(0);
}
