// A contract: a buyer deposits an amount of a token for a seller, and releases it, or gets it back after a deadline.
#include "../../fondaco.h"

CONTRACT(escrow, "1.0.0", doc("Amounts of a token that wait for the buyer's release or a deadline."))

ENUM(Status, open, released, refunded)
STRUCT(Agreement, (addr, buyer), (addr, seller), (u128, amount), (u64, deadline), (Status, status)) // deadline: Unix ms

VALUE(token, addr)
VALUE(next, u64) // id of the next agreement; absent: 1
MAP(agreement, (u64), Agreement)

EVENT(Opened, (u64, id), (addr, buyer), (addr, seller), (u128, amount), (u64, deadline), indexed("id,buyer,seller"))
EVENT(Released, (u64, id), (addr, seller), (u128, amount), indexed("id,seller"))
EVENT(Refunded, (u64, id), (addr, buyer), (u128, amount), indexed("id,buyer"))

ERROR(1001, NoSuchAgreement, (u64, id))
ERROR(1002, NotYours, (u64, id))
ERROR(1003, NotOpen, (u64, id), (Status, status))
ERROR(1004, TooEarly, (u64, deadline), (u64, now))
ERROR(1005, BadTerms, (str, reason))
ERROR(1006, PaymentFailed, (i32, status), (bytes, data))

REMOTE(void, Token, transfer, (addr, to), (u128, amount))
REMOTE(void, Token, transfer_from, (addr, owner), (addr, to), (u128, amount))

static Agreement find(u64 id) {
	Agreement a;
	if (!agreement_find(id, &a)) fail(NoSuchAgreement, id);
	return a;
}

static Agreement find_open(u64 id) {
	Agreement a = find(id);
	if (a.status != Status_open) fail(NotOpen, id, a.status);
	return a;
}

// end writes the new status before it pays, so that nothing can come between.
static void end(u64 id, Agreement a, Status status, addr payee) {
	a.status = status;
	agreement_set(id, a);
	Token_transfer_outcome paid = Token_transfer(chain_at(token_get()), payee, a.amount);
	if (paid.status != STATUS_OK) fail(PaymentFailed, paid.status, paid.data);
}

INIT((addr, token)) { token_set(token); }

TX(u64, open, (addr, seller), (u128, amount), (u64, deadline)) {
	addr buyer = chain_caller();
	if (amount == 0) fail(BadTerms, TEXT("amount"));
	if (addr_eq(seller, buyer)) fail(BadTerms, TEXT("seller"));
	if (deadline <= chain_now()) fail(BadTerms, TEXT("deadline"));
	u64 id;
	if (!next_find(&id)) id = 1;
	next_set(checked_add(id, 1));
	agreement_set(id, (Agreement){buyer, seller, amount, deadline, Status_open});
	Token_transfer_from_outcome paid = Token_transfer_from(chain_at(token_get()), buyer, chain_self(), amount);
	if (paid.status != STATUS_OK) fail(PaymentFailed, paid.status, paid.data);
	emit(Opened, id, buyer, seller, amount, deadline);
	return id;
}

TX(void, release, (u64, id)) {
	Agreement a = find_open(id);
	if (!addr_eq(chain_caller(), a.buyer)) fail(NotYours, id);
	end(id, a, Status_released, a.seller);
	emit(Released, id, a.seller, a.amount);
}

TX(void, refund, (u64, id)) {
	Agreement a = find_open(id);
	addr caller = chain_caller();
	if (!addr_eq(caller, a.seller)) {
		if (!addr_eq(caller, a.buyer)) fail(NotYours, id);
		if (chain_now() < a.deadline) fail(TooEarly, a.deadline, chain_now());
	}
	end(id, a, Status_refunded, a.buyer);
	emit(Refunded, id, a.buyer, a.amount);
}

VIEW(Agreement, get, (u64, id)) { return find(id); }
