//! Takes and returns values of every type.

use fondaco::prelude::*;
use fondaco::{abort, gas_left, keccak256, log, mul_div, random, sha256, sm3, verify, Level, Signature};
use std::collections::BTreeMap;

contract!(random);

/// Has all integers.
#[data]
pub struct Numbers {
    a: u8,
    b: u16,
    c: u32,
    d: u64,
    e: u128,
    f: i8,
    g: i16,
    h: i32,
    i: i64,
    j: bool,
}

#[data]
pub enum Side {
    Buy,
    Sell { at: u128, firm: bool },
    TimedOut,
}

#[data]
pub struct Leg {
    pub(crate) side: Side,
    notes: Vec<String>,
}

/// A "deal": it has a bit of everything, \ included.
#[data]
pub struct Deal {
    numbers: Numbers,
    name: std::string::String,
    blob: Vec<u8>,
    digest: [u8; 32],
    legs: Vec<Leg>,
    agent: Option<Addr>,
    spare: Option<Box<Leg>>,
    weights: BTreeMap<String, u16>,
    r#type: u64,
}

#[data]
struct Nothing {}

#[data]
struct Day {
    number: i16,
    name: String,
    value: u8,
}

#[data]
struct Who {
    caller: Addr,
    origin: Addr,
    this: Addr,
    height: u64,
    time: u64,
    group: String,
    method: String,
    read_only: bool,
    regulator: bool,
    institution: Option<String>,
}

#[event]
struct Stored {
    deal: Deal,
}

#[event]
struct Marked {}

#[error(1001)]
struct TooBig {
    deal: Deal,
}

#[error(4_294_967_295)]
struct Always {}

#[state]
static DEAL: Value<Deal> = Value::new("deal");
#[state]
static COUNT: Counter = Counter::new("count");
#[state]
pub(crate) static DAYS: Map<(i16, String), u8> = Map::new("day");

#[init]
fn init(_: &Ctx) {}

#[upgrade]
fn upgrade(_: &Ctx) {
    COUNT.add(1000, 0..=i64::MAX);
}

#[view]
fn echo(_: &Ctx, deal: Deal) -> Deal {
    deal
}

#[view]
fn empty(_: &Ctx, nothing: Nothing) -> Nothing {
    nothing
}

#[tx(conflicts = ["deal", "count"])]
fn store(ctx: &Ctx, deal: Deal) -> Result<Deal> {
    ensure!(deal.legs.len() <= 2, TooBig { deal });
    DEAL.set(&deal);
    COUNT.add(1, 0..=i64::MAX);
    ctx.emit(Stored { deal });
    Ok(DEAL.load())
}

#[view]
fn count(_: &Ctx) -> i64 {
    COUNT.get()
}

#[tx]
fn always(_: &Ctx) -> Result<()> {
    Err(Always {}.into())
}

#[tx(roles = ["regulator", "auditor"])]
fn restricted(_: &Ctx) {}

/// Keeps a day, or removes it if the value is 0.
#[tx]
fn mark(ctx: &Ctx, number: i16, name: String, value: u8) {
    match value {
        0 => DAYS.remove(&(number, name)),
        _ => DAYS.set(&(number, name), &value),
    }
    ctx.emit(Marked {});
}

#[view]
fn days(_: &Ctx, limit: u32, descending: bool) -> Vec<Day> {
    let scan = DAYS.scan(limit);
    let scan = if descending { scan.descending() } else { scan };
    scan.map(|((number, name), value)| Day { number, name, value }).collect()
}

#[view]
fn who(ctx: &Ctx) -> Who {
    Who {
        caller: ctx.caller(),
        origin: ctx.origin(),
        this: ctx.this(),
        height: ctx.height(),
        time: ctx.time_ms(),
        group: ctx.group(),
        method: ctx.method(),
        read_only: ctx.read_only(),
        regulator: ctx.has_role("regulator"),
        institution: ctx.institution(),
    }
}

#[view]
fn digest(_: &Ctx, algorithm: String, data: Vec<u8>) -> Hash {
    match algorithm.as_str() {
        "sha256" => sha256(&data),
        "sm3" => sm3(&data),
        _ => keccak256(&data),
    }
}

#[view]
fn signed(_: &Ctx, public: Vec<u8>, signature: Vec<u8>, digest: Hash) -> bool {
    verify(Signature::Ed25519, &public, &signature, &digest)
}

/// Draws 32 bytes twice, and tells whether they differ.
#[tx]
fn dice(_: &Ctx) -> bool {
    let (mut first, mut second) = ([0; 32], [0; 32]);
    random(&mut first);
    random(&mut second);
    first != second
}

/// Takes and frees so much memory.
#[view]
fn large(_: &Ctx, bytes: u32, times: u32) -> u64 {
    (0..times).map(|i| vec![i as u8; bytes as usize].iter().map(|byte| *byte as u64).sum::<u64>()).sum()
}

#[repr(align(64))]
struct Line([u8; 64]);

/// Frees and takes blocks of one size, and tells whether those that must begin at a multiple of 64 do.
#[view]
fn aligned(_: &Ctx, size: u32) -> bool {
    let odd = vec![1u8; size as usize / 4]; // what comes next begins behind it
    let plain: Vec<_> = (0..8u8).map(|i| vec![i; size as usize]).collect();
    let sum: u32 = plain.iter().chain([&odd]).map(|bytes| bytes[0] as u32).sum();
    assert_eq!(sum, 29);
    drop(plain);
    let lines: Vec<_> = (0..8u8).map(|i| Box::new(Line([i; 64]))).collect();
    lines.iter().enumerate().all(|(i, line)| {
        let at = &**line as *const Line as usize;
        let at = unsafe { std::ptr::read_volatile(&at) }; // the compiler takes for granted what is to be seen
        at % 64 == 0 && line.0 == [i as u8; 64]
    })
}

#[view]
fn calculate(_: &Ctx, operation: String, a: u128, b: u128, c: u128) -> u128 {
    match operation.as_str() {
        "add" => a + b,
        "sub" => a - b,
        "mul" => a * b,
        "div" => a / b,
        "rem" => a % b,
        "mul_div" => mul_div(a, b, c),
        _ => abort(not_found(&operation)),
    }
}

#[view]
fn fail(_: &Ctx, how: String) -> Result<u64> {
    log(Level::Warning, &how);
    match how.as_str() {
        "panic" => panic!("no {} today", 7),
        "index" => Ok([1, 2][how.len()]),
        "denied" => Err(denied("not you")),
        "recursion" => Ok(fail(&deeper(), how)? + gas_left()),
        _ => Ok(how.parse::<u64>().expect("a number")),
    }
}

fn deeper() -> Ctx {
    abort(not_found("a way down"))
}
