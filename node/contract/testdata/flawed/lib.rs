//! A contract that builds, and that a linter has much to say about; page is as it should be.
use fondaco::prelude::*;

contract!();

#[state]
static MEMBER: Map<Addr, u64> = Map::new("member");
#[state]
static TOTAL: Value<u64> = Value::new("total");

#[tx]
fn size(_: &Ctx) -> u64 {
    TOTAL.get().unwrap_or(0)
}

#[view]
fn peek(_: &Ctx, who: Addr) -> u64 {
    MEMBER.set(&who, &2);
    2
}

#[tx]
fn pay(_: &Ctx, token: Addr) {
    let _ = call(token, "transfer", (token,)).send();
    MEMBER.set(&token, &1);
}

#[view]
fn sum(_: &Ctx, times: u32) -> u64 {
    let mut n = 0;
    for _ in 0..times {
        for (_, value) in MEMBER.scan(10) {
            n += value;
        }
    }
    n
}

#[view]
fn page(_: &Ctx, from: Addr) -> u64 {
    let mut n = 0;
    for (_, value) in MEMBER.scan(10).from(&from).filter(|(_, value)| *value > 0) {
        n += value;
        if n > 1000 {
            return 1000;
        }
    }
    n
}
