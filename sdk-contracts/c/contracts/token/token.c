// A contract: an issuer puts units of a token into circulation, and holders transfer them.
#include "../../fondaco.h"

CONTRACT(token, "1.0.0", doc("Units that an issuer puts into circulation and holders transfer."))

// What the token says of itself.
STRUCT(About, (str, name), (str, symbol), (addr, issuer))

VALUE(about, About)
VALUE(supply, u128)
BALANCES(bal, (addr))
MAP(allow, (addr, addr), u128) // owner, spender

EVENT(Issued, (addr, to), (u128, amount), indexed("to"))
EVENT(Transferred, (addr, from), (addr, to), (u128, amount), indexed("from,to"))
EVENT(Paid, (addr, from), (addr, to), (u128, amount), (bytes, reference), indexed("from,to"))
EVENT(Approved, (addr, owner), (addr, spender), (u128, amount), indexed("owner,spender"))

EVENT(Adjusted, (addr, account), (u128, amount), (bool, credit), (u64, correction), indexed("account"))

ERROR(1001, InsufficientFunds, (u128, have), (u128, need))
ERROR(1002, NotIssuer, (addr, issuer))
ERROR(1003, InsufficientAllowance, (u128, have), (u128, need))

ERROR(1004, NotCorrections)
ERROR(1005, Frozen, (addr, account))

// The system contract that applies corrections which institutions approved.
static const addr corrections = {{[19] = 10}};

static const addr nobody;

// ask refuses what a freeze stops. Of who calls it need not ask, and is given nobody: the chain keeps a frozen account from calling.
static void ask(addr from, addr to) {
	addr account;
	if (chain_stopped(from, to, &account)) fail(Frozen, account);
}

static void move(addr from, addr to, u128 amount) {
	if (!bal_sub(from, amount)) fail(InsufficientFunds, bal_get(from), amount);
	bal_add(to, amount);
}

INIT((str, name), (str, symbol), (addr, issuer)) { about_set((About){name, symbol, issuer}); }

TX(void, issue, (addr, to), (u128, amount), conflicts("supply,bal/{to}")) {
	addr issuer = about_get().issuer;
	if (!addr_eq(chain_caller(), issuer)) fail(NotIssuer, issuer);
	ask(nobody, to);
	supply_set(checked_add(supply_get(), amount));
	bal_add(to, amount);
	emit(Issued, to, amount);
}

TX(void, transfer, (addr, to), (u128, amount), conflicts("bal/{$caller},bal/{to}")) {
	addr from = chain_caller();
	ask(nobody, to);
	move(from, to, amount);
	emit(Transferred, from, to, amount);
}

// A transfer that names what it is for, such as an invoice's number.
TX(void, pay, (addr, to), (u128, amount), (bytes, reference), conflicts("bal/{$caller},bal/{to}")) {
	addr from = chain_caller();
	ask(nobody, to);
	move(from, to, amount);
	emit(Paid, from, to, amount, reference);
}

TX(void, approve, (addr, spender), (u128, amount)) {
	addr owner = chain_caller();
	allow_set(owner, spender, amount);
	emit(Approved, owner, spender, amount);
}

TX(void, transfer_from, (addr, owner), (addr, to), (u128, amount), conflicts("bal/{owner},bal/{to}")) {
	addr spender = chain_caller();
	u128 allowed = allow_get(owner, spender);
	if (allowed < amount) fail(InsufficientAllowance, allowed, amount);
	ask(owner, to);
	move(owner, to, amount);
	allow_set(owner, spender, allowed - amount);
	emit(Transferred, owner, to, amount);
}

// Gives an account units, or takes them, as a correction says.
TX(void, adjust, (addr, account), (u128, amount), (bool, credit), (u64, correction), conflicts("supply,bal/{account}")) {
	if (!addr_eq(chain_caller(), corrections)) fail(NotCorrections);
	if (credit) {
		supply_set(checked_add(supply_get(), amount));
		bal_add(account, amount);
	} else {
		if (!bal_sub(account, amount)) fail(InsufficientFunds, bal_get(account), amount);
		supply_set(supply_get() - amount);
	}
	emit(Adjusted, account, amount, credit, correction);
}

VIEW(u128, balance_of, (addr, who)) { return bal_get(who); }

VIEW(u128, allowance, (addr, owner), (addr, spender)) { return allow_get(owner, spender); }

VIEW(u128, total_supply) { return supply_get(); }

VIEW(About, about) { return about_get(); }
