//! Calls other contracts, and goes on when they fail.

use fondaco::prelude::*;

contract!();

#[state]
static TOKEN: Value<Addr> = Value::new("token");
/// How many payments failed.
#[state]
static FAILURES: Counter = Counter::new("failures");

#[data]
struct Payment {
    to: Addr,
    amount: u128,
}

/// How a call ended: its status, and its output or the data of its abort.
#[data]
struct Result {
    status: i32,
    data: Vec<u8>,
}

#[event(indexed = [to])]
struct PaidOut {
    to: Addr,
    amount: u128,
}

#[event(indexed = [to])]
struct Failed {
    to: Addr,
    amount: u128,
    status: i32,
    data: Vec<u8>,
}

#[error(1001)]
struct TooMany {
    count: u32,
    most: u32,
}

#[error(1002)]
struct PeekFailed {
    status: i32,
    data: Vec<u8>,
}

const MOST_PAYMENTS: usize = 50;

/// Names the token that payments are made in.
#[init]
fn init(_: &Ctx, token: Addr) {
    TOKEN.set(&token);
}

/// Pays from the transaction's sender, who has to approve it at the token before. A payment that fails is told, and the
/// others go on.
#[tx]
fn pay_many(ctx: &Ctx, payments: Vec<Payment>) -> fondaco::Result<Vec<Result>> {
    ensure!(payments.len() <= MOST_PAYMENTS, TooMany { count: payments.len() as u32, most: MOST_PAYMENTS as u32 });
    let (token, sender) = (TOKEN.load(), ctx.origin());
    let pay = |Payment { to, amount }| {
        let Reply { status, data } = call(token, "transfer_from", (sender, to, amount)).send();
        if status == 0 {
            ctx.emit(PaidOut { to, amount });
        } else {
            FAILURES.add(1, 0..=i64::MAX);
            ctx.emit(Failed { to, amount, status, data: data.clone() });
        }
        Result { status, data }
    };
    Ok(payments.into_iter().map(pay).collect())
}

/// Makes any call, with at most so much gas (0: what may be passed on), and returns how it ended.
#[tx]
fn probe(_: &Ctx, target: Addr, method: String, args: Vec<u8>, gas: u64) -> Result {
    let Reply { status, data } = call(target, &method, Raw(args)).gas(gas).send();
    Result { status, data }
}

/// Calls itself, and returns how many calls deep it got.
#[tx]
fn recurse(ctx: &Ctx, depth: u32) -> u32 {
    if depth == 0 {
        return 0;
    }
    let reply = call(ctx.this(), "recurse", (depth - 1,)).allow_reentry().send();
    1 + reply.returned::<u32>().unwrap_or(0)
}

/// Returns the token's balance of who.
#[view]
fn peek(_: &Ctx, who: Addr) -> fondaco::Result<u128> {
    let reply = call(TOKEN.load(), "balance_of", (who,)).read_only().send();
    ensure!(reply.ok(), PeekFailed { status: reply.status, data: reply.data });
    reply.returned()
}

/// Returns how many payments failed.
#[view]
fn failures(_: &Ctx) -> i64 {
    FAILURES.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fondaco::mock::Host;

    const TOKEN: Addr = Addr([1; 20]);
    const SENDER: Addr = Addr([2; 20]);
    const RICH: Addr = Addr([3; 20]);
    const POOR: Addr = Addr([4; 20]);
    const SELF: Addr = Addr([5; 20]);

    /// A chain whose token refuses payments to POOR.
    fn chain() -> Host {
        let mut chain = Host { this: SELF, caller: SENDER, origin: SENDER, ..Host::new() };
        chain.run(|ctx| init(ctx, TOKEN)).unwrap();
        chain.answer(|called| match called.method.as_str() {
            "transfer_from" if called.args::<(Addr, Addr, u128)>().1 == POOR => Reply::refused(denied("poor")),
            "transfer_from" => Reply::done(),
            "balance_of" => Reply::value(7u128),
            "recurse" => Reply::value(called.args::<(u32,)>().0),
            _ => Reply::failed(Reply::NOT_FOUND),
        });
        chain
    }

    #[test]
    fn a_payment_that_fails_does_not_stop_the_others() {
        let mut chain = chain();
        let payments = vec![Payment { to: POOR, amount: 1 }, Payment { to: RICH, amount: 2 }];
        let results = chain.run(|ctx| pay_many(ctx, payments)).unwrap();
        assert_eq!(results.iter().map(|r| r.status).collect::<Vec<_>>(), [5, 0]);
        assert_eq!(chain.view(failures), Ok(1));
        assert_eq!(chain.events.last(), Some(&PaidOut { to: RICH, amount: 2 }.into()));
    }

    #[test]
    fn at_most_fifty_payments_are_made() {
        let payments = vec![Payment { to: RICH, amount: 1 }; 51];
        assert_eq!(chain().run(|ctx| pay_many(ctx, payments)), Err(TooMany { count: 51, most: 50 }.into()));
    }

    #[test]
    fn a_probe_returns_how_the_call_ended() {
        let mut chain = chain();
        let result = chain.run(|ctx| probe(ctx, TOKEN, "nothing".into(), vec![0x80], 1_000)).unwrap();
        assert_eq!((result.status, result.data), (Reply::NOT_FOUND, vec![]));
        assert_eq!(chain.calls[0].gas, 1_000);
    }

    #[test]
    fn recursion_counts_its_calls() {
        let mut chain = chain();
        assert_eq!(chain.run(|ctx| recurse(ctx, 0)), Ok(0));
        assert_eq!(chain.run(|ctx| recurse(ctx, 3)), Ok(3));
        chain.answer(|_| Reply::failed(Reply::OUT_OF_DEPTH));
        assert_eq!(chain.run(|ctx| recurse(ctx, 3)), Ok(1));
    }

    #[test]
    fn peek_reads_the_token() {
        let mut chain = chain();
        assert_eq!(chain.view(|ctx| peek(ctx, RICH)), Ok(7));
        chain.answer(|_| Reply::failed(Reply::TRAPPED));
        assert_eq!(chain.view(|ctx| peek(ctx, RICH)), Err(PeekFailed { status: Reply::TRAPPED, data: vec![] }.into()));
        chain.answer(|_| Reply::value(String::from("seven")));
        assert_eq!(chain.view(|ctx| peek(ctx, RICH)).unwrap_err().code, fondaco::code::CALL_FAILED);
    }
}
