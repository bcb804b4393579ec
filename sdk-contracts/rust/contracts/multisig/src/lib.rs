//! Voters propose calls of other contracts, and vote on them; with enough votes any voter executes them.

use fondaco::prelude::*;

contract!();

#[state]
static VOTERS: Value<Vec<Addr>> = Value::new("voters");
/// How many votes a motion needs.
#[state]
static THRESHOLD: Value<u32> = Value::new("threshold");
/// The id of the next motion.
#[state]
static NEXT: Value<u64> = Value::new("next");
#[state]
static MOTIONS: Map<u64, Motion> = Map::new("motion");

#[data]
#[derive(Copy)]
enum Status {
    Open,
    Executed,
    Rejected,
}

/// A call that voters decide on.
#[data]
struct Motion {
    proposer: Addr,
    text: String,
    target: Addr,
    method: String,
    args: Vec<u8>, // canonical CBOR array
    yes: Vec<Addr>,
    no: Vec<Addr>,
    status: Status,
}

#[event(indexed = [id, proposer])]
struct Proposed {
    id: u64,
    proposer: Addr,
    text: String,
}

#[event(indexed = [id, voter])]
struct Voted {
    id: u64,
    voter: Addr,
    approve: bool,
}

#[event(indexed = [id])]
struct Executed {
    id: u64,
    result: Vec<u8>,
}

/// So many are against that the threshold cannot be reached.
#[event(indexed = [id])]
struct Rejected {
    id: u64,
}

#[error(1001)]
struct NotVoter {
    who: Addr,
}

#[error(1002)]
struct NoSuchMotion {
    id: u64,
}

#[error(1003)]
struct AlreadyVoted {
    id: u64,
    voter: Addr,
}

#[error(1004)]
struct NotOpen {
    id: u64,
    status: Status,
}

#[error(1005)]
struct NotEnough {
    have: u32,
    need: u32,
}

#[error(1006)]
struct BadCommittee {
    reason: String,
}

/// The call that was decided on failed; nothing has happened.
#[error(1007)]
struct CallFailed {
    status: i32,
    data: Vec<u8>,
}

const MOST_VOTERS: usize = 32;

/// Names the voters, and how many of them decide.
#[init]
fn init(_: &Ctx, voters: Vec<Addr>, threshold: u32) -> Result<()> {
    let bad = |reason: &str| BadCommittee { reason: reason.into() };
    let double = || (1..voters.len()).any(|i| voters[..i].contains(&voters[i]));
    ensure!((1..=MOST_VOTERS).contains(&voters.len()), bad("voters"));
    ensure!(!double(), bad("double"));
    ensure!((1..=voters.len()).contains(&(threshold as usize)), bad("threshold"));
    VOTERS.set(&voters);
    THRESHOLD.set(&threshold);
    NEXT.set(&1);
    Ok(())
}

/// Proposes a call, with its arguments as canonical CBOR array. It counts as no vote.
#[tx]
fn propose(ctx: &Ctx, text: String, target: Addr, method: String, args: Vec<u8>) -> Result<u64> {
    let (proposer, _) = voter(ctx)?;
    let id = NEXT.load();
    NEXT.set(&(id + 1));
    let motion = Motion { proposer, text: text.clone(), target, method, args, yes: vec![], no: vec![], status: Status::Open };
    MOTIONS.set(&id, &motion);
    ctx.emit(Proposed { id, proposer, text });
    Ok(id)
}

/// Votes for or against a motion, once.
#[tx]
fn vote(ctx: &Ctx, id: u64, approve: bool) -> Result<()> {
    let (voter, voters) = voter(ctx)?;
    let mut motion = opened(ctx, id)?;
    ensure!(!motion.yes.contains(&voter) && !motion.no.contains(&voter), AlreadyVoted { id, voter });
    if approve {
        motion.yes.push(voter);
    } else {
        motion.no.push(voter);
    }
    ctx.emit(Voted { id, voter, approve });
    if voters.len() - motion.no.len() < THRESHOLD.load() as usize {
        motion.status = Status::Rejected;
        ctx.emit(Rejected { id });
    }
    MOTIONS.set(&id, &motion);
    Ok(())
}

/// Makes the call of a motion with enough votes, and returns its output.
#[tx]
fn execute(ctx: &Ctx, id: u64) -> Result<Vec<u8>> {
    voter(ctx)?;
    let mut motion = opened(ctx, id)?;
    let (have, need) = (motion.yes.len() as u32, THRESHOLD.load());
    ensure!(have >= need, NotEnough { have, need });
    motion.status = Status::Executed;
    MOTIONS.set(&id, &motion); // before the call: it might come back
    let Reply { status, data } = call(motion.target, &motion.method, Raw(motion.args)).send();
    ensure!(status == 0, CallFailed { status, data });
    ctx.emit(Executed { id, result: data.clone() });
    Ok(data)
}

/// Returns a motion.
#[view]
fn get(_: &Ctx, id: u64) -> Result<Motion> {
    MOTIONS.get(&id).ok_or_else(|| NoSuchMotion { id }.into())
}

/// Returns the voters.
#[view]
fn voters(_: &Ctx) -> Vec<Addr> {
    VOTERS.load()
}

/// Returns how many votes a motion needs.
#[view]
fn threshold(_: &Ctx) -> u32 {
    THRESHOLD.load()
}

/// Returns the caller, who must be a voter, and all voters.
fn voter(ctx: &Ctx) -> Result<(Addr, Vec<Addr>)> {
    let (who, voters) = (ctx.caller(), VOTERS.load());
    ensure!(voters.contains(&who), NotVoter { who });
    Ok((who, voters))
}

/// Returns a motion that is not decided.
fn opened(ctx: &Ctx, id: u64) -> Result<Motion> {
    let motion = get(ctx, id)?;
    ensure!(motion.status == Status::Open, NotOpen { id, status: motion.status });
    Ok(motion)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fondaco::{denied, mock::Host};

    const A: Addr = Addr([1; 20]);
    const B: Addr = Addr([2; 20]);
    const C: Addr = Addr([3; 20]);
    const TARGET: Addr = Addr([9; 20]);

    /// A chain with a motion that two of three voters have to approve.
    fn chain() -> Host {
        let mut chain = Host { caller: A, ..Host::new() };
        chain.run(|ctx| init(ctx, vec![A, B, C], 2)).unwrap();
        assert_eq!(chain.run(|ctx| propose(ctx, "pay".into(), TARGET, "pay".into(), vec![0x81, 5])), Ok(1));
        chain
    }

    fn votes(chain: &mut Host, who: Addr, approve: bool) -> Result<()> {
        chain.caller = who;
        chain.run(|ctx| vote(ctx, 1, approve))
    }

    #[test]
    fn a_motion_with_enough_votes_is_executed_once() {
        let mut chain = chain();
        votes(&mut chain, A, true).unwrap();
        assert_eq!(chain.run(|ctx| execute(ctx, 1)), Err(NotEnough { have: 1, need: 2 }.into()));
        votes(&mut chain, B, true).unwrap();
        chain.answer(|called| Reply::value(called.args::<(u64,)>().0 + 1));
        assert_eq!(chain.run(|ctx| execute(ctx, 1)), Ok(vec![6]));
        assert_eq!(chain.events.last(), Some(&Executed { id: 1, result: vec![6] }.into()));
        assert_eq!(chain.run(|ctx| execute(ctx, 1)), Err(NotOpen { id: 1, status: Status::Executed }.into()));
    }

    #[test]
    fn a_motion_that_cannot_pass_any_more_is_rejected() {
        let mut chain = chain();
        votes(&mut chain, A, false).unwrap();
        votes(&mut chain, C, false).unwrap();
        assert_eq!(chain.events.last(), Some(&Rejected { id: 1 }.into()));
        assert_eq!(votes(&mut chain, B, true), Err(NotOpen { id: 1, status: Status::Rejected }.into()));
    }

    #[test]
    fn each_voter_votes_once_and_nobody_else_does() {
        let mut chain = chain();
        votes(&mut chain, A, true).unwrap();
        assert_eq!(votes(&mut chain, A, false), Err(AlreadyVoted { id: 1, voter: A }.into()));
        assert_eq!(votes(&mut chain, TARGET, true), Err(NotVoter { who: TARGET }.into()));
        assert_eq!(chain.run(|ctx| execute(ctx, 1)), Err(NotVoter { who: TARGET }.into()));
    }

    #[test]
    fn a_call_that_fails_leaves_the_motion_open() {
        let mut chain = chain();
        votes(&mut chain, A, true).unwrap();
        votes(&mut chain, B, true).unwrap();
        chain.answer(|_| Reply::refused(denied("no")));
        let refused = denied("no");
        let failed = CallFailed { status: refused.code as i32, data: refused.data };
        assert_eq!(chain.run(|ctx| execute(ctx, 1)), Err(failed.into()));
        assert_eq!(chain.view(|ctx| get(ctx, 1)).unwrap().status, Status::Open);
    }

    #[test]
    fn committees_are_checked_in_order() {
        let many = (0..33).map(|i| Addr([i; 20])).collect();
        for (voters, threshold, reason) in [
            (vec![], 0, "voters"),
            (many, 1, "voters"),
            (vec![A, B, A], 0, "double"),
            (vec![A, B], 0, "threshold"),
            (vec![A, B], 3, "threshold"),
        ] {
            let refused = Host::new().run(|ctx| init(ctx, voters, threshold));
            assert_eq!(refused, Err(BadCommittee { reason: reason.into() }.into()));
        }
    }
}
