//! An issuer puts units of a token into circulation, and holders transfer them.

use fondaco::prelude::*;

contract!();

#[state]
static ABOUT: Value<About> = Value::new("about");
#[state]
static SUPPLY: Value<u128> = Value::new("supply");
#[state]
static BALANCES: Balances<Addr> = Balances::new("bal");
/// What an owner lets a spender move.
#[state]
static ALLOWANCES: Map<(Addr, Addr), u128> = Map::new("allow");

/// What the token says of itself.
#[data]
struct About {
    name: String,
    symbol: String,
    issuer: Addr,
}

/// The issuer put units into circulation.
#[event(indexed = [to])]
struct Issued {
    to: Addr,
    amount: u128,
}

/// Units changed hands.
#[event(indexed = [from, to])]
struct Transferred {
    from: Addr,
    to: Addr,
    amount: u128,
}

/// Units changed hands, and the reference says for what.
#[event(indexed = [from, to])]
struct Paid {
    from: Addr,
    to: Addr,
    amount: u128,
    reference: Vec<u8>,
}

/// A spender may move so much.
#[event(indexed = [owner, spender])]
struct Approved {
    owner: Addr,
    spender: Addr,
    amount: u128,
}

/// A correction gave an account units or took them.
#[event(indexed = [account])]
struct Adjusted {
    account: Addr,
    amount: u128,
    credit: bool,
    correction: u64,
}

/// The holder has less than that.
#[error(1001)]
struct InsufficientFunds {
    have: u128,
    need: u128,
}

/// Only the issuer puts units into circulation.
#[error(1002)]
struct NotIssuer {
    issuer: Addr,
}

/// The spender may move less than that.
#[error(1003)]
struct InsufficientAllowance {
    have: u128,
    need: u128,
}

/// Only the system contract corrections adjusts.
#[error(1004)]
struct NotCorrections {}

/// A freeze keeps the account from giving, or from being given to.
#[error(1005)]
struct Frozen {
    account: Addr,
}

/// The system contract that applies corrections which institutions approved.
const CORRECTIONS: Addr = Addr([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10]);

/// Names the token and who may issue it.
#[init]
fn init(_: &Ctx, name: String, symbol: String, issuer: Addr) {
    ABOUT.set(&About { name, symbol, issuer });
}

/// Puts amount units into circulation, at to.
#[tx(conflicts = ["supply", "bal/{to}"])]
fn issue(ctx: &Ctx, to: Addr, amount: u128) -> Result<()> {
    let issuer = ABOUT.load().issuer;
    ensure!(ctx.caller() == issuer, NotIssuer { issuer });
    ask(NOBODY, to)?;
    SUPPLY.set(&(total_supply(ctx) + amount));
    BALANCES.add(&to, amount);
    ctx.emit(Issued { to, amount });
    Ok(())
}

/// Moves amount units from the caller to to.
#[tx(conflicts = ["bal/{$caller}", "bal/{to}"])]
fn transfer(ctx: &Ctx, to: Addr, amount: u128) -> Result<()> {
    let from = ctx.caller();
    ask(NOBODY, to)?;
    shift(ctx, from, to, amount)?;
    ctx.emit(Transferred { from, to, amount });
    Ok(())
}

/// Is transfer with a reference, such as an invoice's number.
#[tx(conflicts = ["bal/{$caller}", "bal/{to}"])]
fn pay(ctx: &Ctx, to: Addr, amount: u128, reference: Vec<u8>) -> Result<()> {
    let from = ctx.caller();
    ask(NOBODY, to)?;
    shift(ctx, from, to, amount)?;
    ctx.emit(Paid { from, to, amount, reference });
    Ok(())
}

/// Lets the spender move amount units of the caller's, in place of what was allowed before.
#[tx]
fn approve(ctx: &Ctx, spender: Addr, amount: u128) {
    let owner = ctx.caller();
    ALLOWANCES.set(&(owner, spender), &amount);
    ctx.emit(Approved { owner, spender, amount });
}

/// Moves amount units of the owner's, who allowed the caller to.
#[tx(conflicts = ["bal/{owner}", "bal/{to}"])]
fn transfer_from(ctx: &Ctx, owner: Addr, to: Addr, amount: u128) -> Result<()> {
    let spender = ctx.caller();
    let have = allowance(ctx, owner, spender);
    ensure!(have >= amount, InsufficientAllowance { have, need: amount });
    ask(owner, to)?;
    shift(ctx, owner, to, amount)?;
    ALLOWANCES.set(&(owner, spender), &(have - amount));
    ctx.emit(Transferred { from: owner, to, amount });
    Ok(())
}

/// Gives an account units, or takes them, as a correction says.
#[tx(conflicts = ["supply", "bal/{account}"])]
fn adjust(ctx: &Ctx, account: Addr, amount: u128, credit: bool, correction: u64) -> Result<()> {
    ensure!(ctx.caller() == CORRECTIONS, NotCorrections {});
    if credit {
        SUPPLY.set(&(total_supply(ctx) + amount));
        BALANCES.add(&account, amount);
    } else {
        ensure!(BALANCES.sub(&account, amount), InsufficientFunds { have: balance_of(ctx, account), need: amount });
        SUPPLY.set(&(total_supply(ctx) - amount));
    }
    ctx.emit(Adjusted { account, amount, credit, correction });
    Ok(())
}

const NOBODY: Addr = Addr([0; 20]);

/// Refuses what a freeze stops. Of who calls it need not ask, and is given nobody: the chain keeps a frozen account from calling.
fn ask(from: Addr, to: Addr) -> Result<()> {
    match stopped(from, to)? {
        Some(account) => Err(Frozen { account }.into()),
        None => Ok(()),
    }
}

/// Moves units between balances.
fn shift(ctx: &Ctx, from: Addr, to: Addr, amount: u128) -> Result<()> {
    ensure!(BALANCES.sub(&from, amount), InsufficientFunds { have: balance_of(ctx, from), need: amount });
    BALANCES.add(&to, amount);
    Ok(())
}

/// The units that who holds.
#[view]
fn balance_of(_: &Ctx, who: Addr) -> u128 {
    BALANCES.get(&who)
}

/// What the spender may move of the owner's units.
#[view]
fn allowance(_: &Ctx, owner: Addr, spender: Addr) -> u128 {
    ALLOWANCES.get(&(owner, spender)).unwrap_or(0)
}

/// The units in circulation.
#[view]
fn total_supply(_: &Ctx) -> u128 {
    SUPPLY.get().unwrap_or(0)
}

/// The token's name, symbol and issuer.
#[view]
fn about(_: &Ctx) -> About {
    ABOUT.load()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fondaco::{code, mock::Host, Reply};

    const ISSUER: Addr = Addr([1; 20]);
    const ALICE: Addr = Addr([2; 20]);
    const BOB: Addr = Addr([3; 20]);
    const DAVE: Addr = Addr([4; 20]);

    /// A chain on which Alice holds 100, and Dave is frozen.
    fn chain() -> Host {
        let mut chain = Host::new();
        chain.answer(|called| {
            assert_eq!(called.method, "stopped");
            let (from, to) = called.args::<(Addr, Addr)>();
            Reply::value(Some(DAVE).filter(|dave| [from, to].contains(dave)))
        });
        chain.caller = ISSUER;
        chain.run(|ctx| init(ctx, "Gold".into(), "XAU".into(), ISSUER)).unwrap();
        chain.run(|ctx| issue(ctx, ALICE, 100)).unwrap();
        chain.caller = ALICE;
        chain
    }

    #[test]
    fn a_transfer_moves_units_and_tells() {
        let mut chain = chain();
        chain.run(|ctx| transfer(ctx, BOB, 40)).unwrap();
        assert_eq!(chain.view(|ctx| balance_of(ctx, ALICE)), Ok(60));
        assert_eq!(chain.view(|ctx| balance_of(ctx, BOB)), Ok(40));
        assert_eq!(chain.events.last(), Some(&Transferred { from: ALICE, to: BOB, amount: 40 }.into()));
    }

    #[test]
    fn nobody_transfers_more_than_they_have() {
        let mut chain = chain();
        assert_eq!(chain.run(|ctx| transfer(ctx, BOB, 101)), Err(InsufficientFunds { have: 100, need: 101 }.into()));
        assert_eq!(chain.view(|ctx| balance_of(ctx, ALICE)), Ok(100));
    }

    #[test]
    fn a_transfer_to_oneself_changes_nothing() {
        let mut chain = chain();
        chain.run(|ctx| transfer(ctx, ALICE, 100)).unwrap();
        assert_eq!(chain.view(|ctx| balance_of(ctx, ALICE)), Ok(100));
    }

    #[test]
    fn a_spender_moves_what_was_allowed() {
        let mut chain = chain();
        chain.run(|ctx| approve(ctx, BOB, 30)).unwrap();
        chain.caller = BOB;
        chain.run(|ctx| transfer_from(ctx, ALICE, BOB, 20)).unwrap();
        assert_eq!(chain.view(|ctx| allowance(ctx, ALICE, BOB)), Ok(10));
        let refused = chain.run(|ctx| transfer_from(ctx, ALICE, BOB, 11));
        assert_eq!(refused, Err(InsufficientAllowance { have: 10, need: 11 }.into()));
    }

    #[test]
    fn nothing_moves_to_who_is_frozen_nor_from_them_by_a_spender() {
        let mut chain = chain();
        let frozen = Err(Frozen { account: DAVE }.into());
        chain.run(|ctx| approve(ctx, BOB, 30)).unwrap();
        assert_eq!(chain.run(|ctx| transfer(ctx, DAVE, 1)), frozen);
        assert_eq!(chain.run(|ctx| pay(ctx, DAVE, 1, Vec::new())), frozen);
        chain.caller = DAVE;
        chain.run(|ctx| approve(ctx, BOB, 30)).unwrap();
        chain.caller = BOB;
        assert_eq!(chain.run(|ctx| transfer_from(ctx, ALICE, DAVE, 1)), frozen);
        assert_eq!(chain.run(|ctx| transfer_from(ctx, DAVE, ALICE, 1)), frozen);
        chain.run(|ctx| transfer_from(ctx, ALICE, BOB, 20)).unwrap();
        chain.caller = ISSUER;
        assert_eq!(chain.run(|ctx| issue(ctx, DAVE, 1)), frozen);
        chain.answer(|_| Reply::failed(Reply::NOT_FOUND));
        assert_eq!(chain.run(|ctx| issue(ctx, BOB, 1)).unwrap_err().code, code::CALL_FAILED);
    }

    #[test]
    fn amounts_never_wrap_around() {
        let mut chain = chain();
        chain.caller = ISSUER;
        assert_eq!(chain.run(|ctx| issue(ctx, BOB, u128::MAX)).unwrap_err().code, code::OVERFLOW);
        assert_eq!(chain.view(total_supply), Ok(100));
    }

    #[test]
    fn only_the_issuer_issues() {
        assert_eq!(chain().run(|ctx| issue(ctx, ALICE, 1)), Err(NotIssuer { issuer: ISSUER }.into()));
    }
}
