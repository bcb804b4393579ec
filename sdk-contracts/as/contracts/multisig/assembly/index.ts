import { Address, StateMap, StateValue, call, checkedAdd, ctx, emit } from "fondaco";

enum Status {
  open,
  executed,
  rejected,
}

@struct class Motion {
  proposer: Address;
  text: string;
  target: Address;
  method: string;
  args: Uint8Array; // a CBOR array
  yes: Address[];
  no: Address[];
  status: Status;
}

@event class Proposed {
  @indexed id: u64;
  @indexed proposer: Address;
  text: string;
}

@event class Voted {
  @indexed id: u64;
  @indexed voter: Address;
  approve: bool;
}

@event class Executed {
  @indexed id: u64;
  result: Uint8Array;
}

@event class Rejected {
  @indexed id: u64;
}

@error(1001) class NotVoter {
  who: Address;
}

@error(1002) class NoSuchMotion {
  id: u64;
}

@error(1003) class AlreadyVoted {
  id: u64;
  voter: Address;
}

@error(1004) class NotOpen {
  id: u64;
  status: Status;
}

@error(1005) class NotEnough {
  have: u32;
  need: u32;
}

@error(1006) class BadCommittee {
  reason: string;
}

@error(1007) class CallFailed {
  status: i32;
  data: Uint8Array;
}

const MOST_VOTERS = 32;

const committee = new StateValue<Address[]>("voters");
const needed = new StateValue<u32>("threshold");
const next = new StateValue<u64>("next");
const motions = new StateMap<u64, Motion>("motion");

@init
export function init(voters: Address[], threshold: u32): void {
  if (voters.length < 1 || voters.length > MOST_VOTERS) throw new BadCommittee("voters");
  for (let i = 0; i < voters.length; i++) {
    if (contains(voters.slice(0, i), voters[i])) throw new BadCommittee("double");
  }
  if (threshold < 1 || threshold > u32(voters.length)) throw new BadCommittee("threshold");
  committee.set(voters);
  needed.set(threshold);
  next.set(1);
}

/** Proposes a call. That is no vote for it yet. */
@tx
export function propose(text: string, target: Address, method: string, args: Uint8Array): u64 {
  onlyVoters();
  const id = next.get();
  next.set(checkedAdd<u64>(id, 1));
  motions.set(id, new Motion(ctx.caller, text, target, method, args, [], [], Status.open));
  emit(new Proposed(id, ctx.caller, text));
  return id;
}

/** Votes for or against. A motion that can no longer get enough votes is rejected. */
@tx
export function vote(id: u64, approve: bool): void {
  const voters = onlyVoters();
  const motion = opened(id);
  const voter = ctx.caller;
  if (contains(motion.yes, voter) || contains(motion.no, voter)) throw new AlreadyVoted(id, voter);
  if (approve) motion.yes.push(voter);
  else motion.no.push(voter);
  emit(new Voted(id, voter, approve));
  if (u32(voters.length - motion.no.length) < needed.get()) {
    motion.status = Status.rejected;
    emit(new Rejected(id));
  }
  motions.set(id, motion);
}

/** Makes the call of a motion that has enough votes, once, and returns its output. */
@tx
export function execute(id: u64): Uint8Array {
  onlyVoters();
  const motion = opened(id);
  if (u32(motion.yes.length) < needed.get()) throw new NotEnough(motion.yes.length, needed.get());
  motion.status = Status.executed;
  motions.set(id, motion); // before the call, which could come back here
  const done = call(motion.target, motion.method).encoded(motion.args).send();
  if (!done.ok) throw new CallFailed(done.status, done.data);
  emit(new Executed(id, done.data));
  return done.data;
}

@view
export function get(id: u64): Motion {
  return find(id);
}

@view
export function voters(): Address[] {
  return committee.get();
}

@view
export function threshold(): u32 {
  return needed.get();
}

function onlyVoters(): Address[] {
  const voters = committee.get();
  if (!contains(voters, ctx.caller)) throw new NotVoter(ctx.caller);
  return voters;
}

function find(id: u64): Motion {
  const motion = motions.find(id);
  if (motion === null) throw new NoSuchMotion(id);
  return motion;
}

function opened(id: u64): Motion {
  const motion = find(id);
  if (motion.status != Status.open) throw new NotOpen(id, motion.status);
  return motion;
}

function contains(list: Address[], who: Address): bool {
  for (let i = 0; i < list.length; i++) {
    if (list[i] == who) return true;
  }
  return false;
}
