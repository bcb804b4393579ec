#include "multisig.c"

#include "../../fondaco_mock.h"

static const addr a = {{1}}, b = {{2}}, c = {{3}}, outsider = {{4}}, callee = {{9}};

static i32 answered;

static outcome answer(target to, str method, bytes args) {
	CHECK(addr_eq(to.to, callee) && str_eq(method, TEXT("act")) && args.len == 1 && args.at[0] == 0x80);
	return (outcome){answered, {(const u8 *)"\x18\x2a", 2}};
}

static u64 begin(void) {
	answered = 0;
	mock.answer = answer;
	OK(call_init((list_addr){(addr[]){a, b, c}, 3, 3}, 2));
	mock.caller = a;
	return OK(call_propose(TEXT("why"), callee, TEXT("act"), (bytes){(const u8 *)"\x80", 1})).value;
}

static void vote_as(addr who, u64 id, bool approve) {
	mock.caller = who;
	OK(call_vote(id, approve));
	EMITTED(Voted, id, who, approve);
}

TEST("enough votes execute a motion, once") {
	u64 id = begin();
	CHECK(id == 1);
	REFUSED(call_execute(id), NotEnough, 0, 2);
	vote_as(a, id, true);
	REFUSED(call_vote(id, false), AlreadyVoted, id, a);
	vote_as(b, id, true);
	bytes result = OK(call_execute(id)).value;
	CHECK(result.len == 2 && result.at[1] == 42);
	EMITTED(Executed, id, result);
	REFUSED(call_execute(id), NotOpen, id, Status_executed);
	Motion m = OK(call_get(id)).value;
	CHECK(m.yes.len == 2 && addr_eq(m.yes.at[1], b) && m.no.len == 0 && m.status == Status_executed && str_eq(m.text, TEXT("why")));
}

TEST("a motion that cannot win any more is rejected") {
	u64 id = begin();
	vote_as(a, id, false);
	vote_as(c, id, false);
	EMITTED(Rejected, id);
	mock.caller = b;
	REFUSED(call_vote(id, true), NotOpen, id, Status_rejected);
	REFUSED(call_execute(id), NotOpen, id, Status_rejected);
}

TEST("a call that fails leaves the motion open") {
	u64 id = begin();
	vote_as(a, id, true);
	vote_as(b, id, true);
	answered = 1001;
	REFUSED(call_execute(id), CallFailed, 1001, {(const u8 *)"\x18\x2a", 2});
	CHECK(OK(call_get(id)).value.status == Status_open);
}

TEST("only voters take part") {
	u64 id = begin();
	mock.caller = outsider;
	REFUSED(call_propose(TEXT(""), callee, TEXT("act"), (bytes){0, 0}), NotVoter, outsider);
	REFUSED(call_vote(7, true), NotVoter, outsider);
	REFUSED(call_execute(id), NotVoter, outsider);
	mock.caller = a;
	REFUSED(call_vote(7, true), NoSuchMotion, 7);
	REFUSED(call_execute(7), NoSuchMotion, 7);
}

TEST("a committee is checked") {
	addr many[33];
	for (u32 i = 0; i < 33; i++) many[i] = (addr){{(u8)i}};
	REFUSED(call_init((list_addr){many, 0, 0}, 1), BadCommittee, TEXT("voters"));
	REFUSED(call_init((list_addr){many, 33, 33}, 1), BadCommittee, TEXT("voters"));
	REFUSED(call_init((list_addr){(addr[]){a, b, a}, 3, 3}, 9), BadCommittee, TEXT("double"));
	REFUSED(call_init((list_addr){many, 32, 32}, 33), BadCommittee, TEXT("threshold"));
	REFUSED(call_init((list_addr){many, 32, 32}, 0), BadCommittee, TEXT("threshold"));
	OK(call_init((list_addr){many, 32, 32}, 32));
	CHECK(OK(call_voters()).value.len == 32 && OK(call_threshold()).value == 32);
}
