// A contract: voters decide about calls of other contracts.
#include "../../fondaco.h"

CONTRACT(multisig, "1.0.0", doc("Calls that are made when enough of a committee's voters are for them."))

LIST(addr)
ENUM(Status, open, executed, rejected)
STRUCT(Motion, (addr, proposer), (str, text), (addr, target), (str, method), (bytes, args), (list(addr), yes), (list(addr), no), (Status, status))

VALUE(voters, list(addr))
VALUE(threshold, u32)
VALUE(next, u64) // id of the next motion; absent: 1
MAP(motion, (u64), Motion)

EVENT(Proposed, (u64, id), (addr, proposer), (str, text), indexed("id,proposer"))
EVENT(Voted, (u64, id), (addr, voter), (bool, approve), indexed("id,voter"))
EVENT(Executed, (u64, id), (bytes, result), indexed("id"))
EVENT(Rejected, (u64, id), indexed("id"))

ERROR(1001, NotVoter, (addr, who))
ERROR(1002, NoSuchMotion, (u64, id))
ERROR(1003, AlreadyVoted, (u64, id), (addr, voter))
ERROR(1004, NotOpen, (u64, id), (Status, status))
ERROR(1005, NotEnough, (u32, have), (u32, need))
ERROR(1006, BadCommittee, (str, reason))
ERROR(1007, CallFailed, (i32, status), (bytes, data))

enum { LARGEST_COMMITTEE = 32 };

static bool among(list_addr all, addr who) {
	for (u32 i = 0; i < all.len; i++) {
		if (addr_eq(all.at[i], who)) return true;
	}
	return false;
}

// voter returns the caller, who must be one.
static addr voter(void) {
	addr who = chain_caller();
	if (!among(voters_get(), who)) fail(NotVoter, who);
	return who;
}

static Motion find(u64 id) {
	Motion m;
	if (!motion_find(id, &m)) fail(NoSuchMotion, id);
	return m;
}

static Motion find_open(u64 id) {
	Motion m = find(id);
	if (m.status != Status_open) fail(NotOpen, id, m.status);
	return m;
}

INIT((list(addr), voters), (u32, threshold)) {
	if (voters.len < 1 || voters.len > LARGEST_COMMITTEE) fail(BadCommittee, TEXT("voters"));
	for (u32 i = 0; i < voters.len; i++) {
		if (among((list_addr){voters.at, i, i}, voters.at[i])) fail(BadCommittee, TEXT("double"));
	}
	if (threshold < 1 || threshold > voters.len) fail(BadCommittee, TEXT("threshold"));
	voters_set(voters);
	threshold_set(threshold);
}

TX(u64, propose, (str, text), (addr, target), (str, method), (bytes, args)) {
	addr proposer = voter();
	u64 id;
	if (!next_find(&id)) id = 1;
	next_set(checked_add(id, 1));
	Motion m = {.proposer = proposer, .text = text, .target = target, .method = method, .args = args};
	motion_set(id, m);
	emit(Proposed, id, proposer, text);
	return id;
}

TX(void, vote, (u64, id), (bool, approve)) {
	addr who = voter();
	Motion m = find_open(id);
	if (among(m.yes, who) || among(m.no, who)) fail(AlreadyVoted, id, who);
	list_addr_append(approve ? &m.yes : &m.no, who);
	bool lost = voters_get().len - m.no.len < threshold_get();
	if (lost) m.status = Status_rejected;
	motion_set(id, m);
	emit(Voted, id, who, approve);
	if (lost) emit(Rejected, id);
}

TX(bytes, execute, (u64, id)) {
	voter();
	Motion m = find_open(id);
	u32 need = threshold_get();
	if (m.yes.len < need) fail(NotEnough, m.yes.len, need);
	m.status = Status_executed;
	motion_set(id, m); // before the call, which may come back here
	outcome o = chain_call(chain_at(m.target), m.method, m.args);
	if (o.status != STATUS_OK) fail(CallFailed, o.status, o.data);
	emit(Executed, id, o.data);
	return o.data;
}

VIEW(Motion, get, (u64, id)) { return find(id); }

VIEW(list(addr), voters) { return voters_get(); }

VIEW(u32, threshold) { return threshold_get(); }
