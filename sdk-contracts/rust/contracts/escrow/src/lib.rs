//! Holds a buyer's tokens until the buyer releases them to the seller, the seller gives them back, or the deadline passes and the
//! buyer takes them back.

use fondaco::prelude::*;

contract!();

#[state]
static TOKEN: Value<Addr> = Value::new("token");
/// The id of the next agreement.
#[state]
static NEXT: Value<u64> = Value::new("next");
#[state]
static AGREEMENTS: Map<u64, Agreement> = Map::new("agreement");

#[data]
#[derive(Copy)]
enum Status {
    Open,
    Released,
    Refunded,
}

#[data]
struct Agreement {
    buyer: Addr,
    seller: Addr,
    amount: u128,
    deadline: u64, // Unix ms
    status: Status,
}

#[event(indexed = [id, buyer, seller])]
struct Opened {
    id: u64,
    buyer: Addr,
    seller: Addr,
    amount: u128,
    deadline: u64,
}

#[event(indexed = [id, seller])]
struct Released {
    id: u64,
    seller: Addr,
    amount: u128,
}

#[event(indexed = [id, buyer])]
struct Refunded {
    id: u64,
    buyer: Addr,
    amount: u128,
}

#[error(1001)]
struct NoSuchAgreement {
    id: u64,
}

/// The caller is not the side that may do that.
#[error(1002)]
struct NotYours {
    id: u64,
}

/// The agreement has ended.
#[error(1003)]
struct NotOpen {
    id: u64,
    status: Status,
}

/// The buyer has to wait for the deadline.
#[error(1004)]
struct TooEarly {
    deadline: u64,
    now: u64,
}

#[error(1005)]
struct BadTerms {
    reason: String,
}

/// The token refused.
#[error(1006)]
struct PaymentFailed {
    status: i32,
    data: Vec<u8>,
}

/// Names the token that is held.
#[init]
fn init(_: &Ctx, token: Addr) {
    TOKEN.set(&token);
    NEXT.set(&1);
}

/// Moves the amount from the caller, the buyer, to the escrow. The buyer has to approve it at the token before.
#[tx]
fn open(ctx: &Ctx, seller: Addr, amount: u128, deadline: u64) -> Result<u64> {
    let buyer = ctx.caller();
    let bad = |reason: &str| BadTerms { reason: reason.into() };
    ensure!(amount > 0, bad("amount"));
    ensure!(seller != buyer, bad("seller"));
    ensure!(deadline > ctx.time_ms(), bad("deadline"));
    let id = NEXT.load();
    NEXT.set(&(id + 1));
    AGREEMENTS.set(&id, &Agreement { buyer, seller, amount, deadline, status: Status::Open });
    paid(call(TOKEN.load(), "transfer_from", (buyer, ctx.this(), amount)).send())?;
    ctx.emit(Opened { id, buyer, seller, amount, deadline });
    Ok(id)
}

/// The buyer lets the seller have the amount.
#[tx]
fn release(ctx: &Ctx, id: u64) -> Result<()> {
    let agreement = opened(id)?;
    let Agreement { buyer, seller, amount, .. } = agreement;
    ensure!(ctx.caller() == buyer, NotYours { id });
    end(id, Agreement { status: Status::Released, ..agreement }, seller)?;
    ctx.emit(Released { id, seller, amount });
    Ok(())
}

/// The buyer gets the amount back: from the seller at any time, by himself from the deadline on.
#[tx]
fn refund(ctx: &Ctx, id: u64) -> Result<()> {
    let agreement = opened(id)?;
    let Agreement { buyer, seller, amount, deadline, .. } = agreement;
    let (caller, now) = (ctx.caller(), ctx.time_ms());
    ensure!(caller == buyer || caller == seller, NotYours { id });
    ensure!(caller == seller || now >= deadline, TooEarly { deadline, now });
    end(id, Agreement { status: Status::Refunded, ..agreement }, buyer)?;
    ctx.emit(Refunded { id, buyer, amount });
    Ok(())
}

/// Returns an agreement.
#[view]
fn get(_: &Ctx, id: u64) -> Result<Agreement> {
    AGREEMENTS.get(&id).ok_or_else(|| NoSuchAgreement { id }.into())
}

/// Returns an agreement that has not ended.
fn opened(id: u64) -> Result<Agreement> {
    let agreement = AGREEMENTS.get(&id).ok_or(NoSuchAgreement { id })?;
    ensure!(agreement.status == Status::Open, NotOpen { id, status: agreement.status });
    Ok(agreement)
}

/// Keeps an agreement that has ended and pays its amount out. The state is written first: the token might call back.
fn end(id: u64, agreement: Agreement, to: Addr) -> Result<()> {
    AGREEMENTS.set(&id, &agreement);
    paid(call(TOKEN.load(), "transfer", (to, agreement.amount)).send())
}

fn paid(Reply { status, data }: Reply) -> Result<()> {
    ensure!(status == 0, PaymentFailed { status, data });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fondaco::mock::Host;

    const TOKEN: Addr = Addr([1; 20]);
    const BUYER: Addr = Addr([2; 20]);
    const SELLER: Addr = Addr([3; 20]);
    const ESCROW: Addr = Addr([4; 20]);

    /// A chain with an agreement over 100 until the time 5,000.
    fn chain() -> Host {
        let mut chain = Host { this: ESCROW, caller: BUYER, time_ms: 1_000, ..Host::new() };
        chain.answer(|_| Reply::done());
        chain.run(|ctx| init(ctx, TOKEN)).unwrap();
        assert_eq!(chain.run(|ctx| open(ctx, SELLER, 100, 5_000)), Ok(1));
        chain
    }

    fn status(chain: &mut Host) -> Status {
        chain.view(|ctx| get(ctx, 1)).unwrap().status
    }

    #[test]
    fn opening_moves_the_amount_to_the_escrow() {
        let chain = chain();
        assert_eq!(chain.calls.len(), 1);
        assert_eq!((chain.calls[0].method.as_str(), chain.calls[0].args()), ("transfer_from", (BUYER, ESCROW, 100u128)));
    }

    #[test]
    fn a_release_pays_the_seller_once() {
        let mut chain = chain();
        chain.run(|ctx| release(ctx, 1)).unwrap();
        assert_eq!(chain.calls[1].args::<(Addr, u128)>(), (SELLER, 100));
        assert_eq!(chain.events.last(), Some(&Released { id: 1, seller: SELLER, amount: 100 }.into()));
        assert_eq!(chain.run(|ctx| release(ctx, 1)), Err(NotOpen { id: 1, status: Status::Released }.into()));
    }

    #[test]
    fn the_buyer_waits_for_the_deadline_and_the_seller_does_not() {
        let mut chain = chain();
        assert_eq!(chain.run(|ctx| refund(ctx, 1)), Err(TooEarly { deadline: 5_000, now: 1_000 }.into()));
        chain.caller = SELLER;
        chain.run(|ctx| refund(ctx, 1)).unwrap();
        assert_eq!(status(&mut chain), Status::Refunded);
        assert_eq!(chain.calls[1].args::<(Addr, u128)>(), (BUYER, 100));
    }

    #[test]
    fn strangers_and_sellers_release_nothing() {
        let mut chain = chain();
        chain.caller = SELLER;
        assert_eq!(chain.run(|ctx| release(ctx, 1)), Err(NotYours { id: 1 }.into()));
        assert_eq!(chain.run(|ctx| release(ctx, 2)), Err(NoSuchAgreement { id: 2 }.into()));
    }

    #[test]
    fn a_refusal_of_the_token_undoes_the_release() {
        let mut chain = chain();
        chain.answer(|_| Reply::failed(Reply::OUT_OF_GAS));
        let failed = PaymentFailed { status: Reply::OUT_OF_GAS, data: vec![] };
        assert_eq!(chain.run(|ctx| release(ctx, 1)), Err(failed.into()));
        assert_eq!(status(&mut chain), Status::Open);
    }

    #[test]
    fn terms_are_checked_in_order() {
        let mut chain = chain();
        for (seller, amount, deadline, reason) in [(BUYER, 0, 0, "amount"), (BUYER, 1, 0, "seller"), (SELLER, 1, 1_000, "deadline")] {
            let refused = chain.run(|ctx| open(ctx, seller, amount, deadline));
            assert_eq!(refused, Err(BadTerms { reason: reason.into() }.into()));
        }
    }
}
