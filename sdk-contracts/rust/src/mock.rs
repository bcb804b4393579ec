//! A host in memory, for unit tests of a contract's code with `cargo test`. What a node denies, such as a key that is too long, ends the
//! call with [`code::DENIED`]. It has no gas, and of other contracts only what [`Host::answer`] says; `fondaco contract test` runs the real module.
//!
//! ```ignore
//! let mut chain = Host { caller: ALICE, ..Host::new() };
//! let refused = chain.run(|ctx| transfer(ctx, BOB, 5)).unwrap_err();
//! assert_eq!(refused, InsufficientFunds { have: 0, need: 5 }.into());
//! ```

use crate::cbor::{self, Args, Data};
use crate::runtime::{message, panicked, Outcome};
use crate::{code, Addr, Ctx, Error, Event, Hash, Reply, Result, Signature};
use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{catch_unwind, resume_unwind, set_hook, take_hook, AssertUnwindSafe, PanicInfo};
use std::sync::Once;

/// A chain with one contract, whose state is empty at first. Between calls a test may change whatever it likes.
#[derive(Default)]
pub struct Host {
    /// What the contract keeps, as it keeps it.
    pub state: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What was emitted, in order.
    pub events: Vec<Emitted>,
    /// What was logged.
    pub logs: Vec<String>,
    /// The calls of other contracts, in order.
    pub calls: Vec<Called>,

    /// Who calls.
    pub caller: Addr,
    /// Who signed the transaction.
    pub origin: Addr,
    /// The contract.
    pub this: Addr,
    /// The caller's institution.
    pub institution: Option<String>,
    /// The caller's roles.
    pub roles: Vec<String>,
    /// Height of the block.
    pub height: u64,
    /// The block's time in Unix milliseconds.
    pub time_ms: u64,
    /// The ledger's name.
    pub group: String,
    /// The method that is called.
    pub method: String,
    /// The transaction's id.
    pub tx_id: Hash,
    /// Whether writes are denied.
    pub read_only: bool,

    #[doc(hidden)]
    pub answers: Option<Answers>,
    #[doc(hidden)]
    pub hashes: Option<Hashes>,
    #[doc(hidden)]
    pub signatures: Option<Signatures>,
    #[doc(hidden)]
    pub scans: Vec<Option<Vec<Entry>>>, // None when closed
    #[doc(hidden)]
    pub emitted: usize, // by this call
}

// What a node denies beyond.
const MAX_KEY: usize = 256;
const MAX_VALUE: usize = 128 << 10;
const MAX_SCAN: u32 = 1_024;
const MAX_OPEN_SCANS: usize = 8;
const MAX_EVENTS: usize = 64;

type Hashes = Box<dyn FnMut(u32, &[u8]) -> Hash>;
type Signatures = Box<dyn FnMut(Signature, &[u8], &[u8], &[u8]) -> bool>;
type Answers = Box<dyn FnMut(&Called) -> Reply>;
type Entry = (Vec<u8>, Vec<u8>);

/// An event that was emitted; any event's struct becomes one by `into`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// The name of the event's type.
    pub topic: String,
    /// Its fields.
    pub data: Vec<u8>,
}

impl<E: Event> From<E> for Emitted {
    fn from(event: E) -> Self {
        Emitted { topic: E::TOPIC.into(), data: cbor::encode(&event) }
    }
}

/// A call that the contract made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// 20 bytes of an address, or a CNS name.
    pub to: Vec<u8>,
    /// The method.
    pub method: String,
    /// The array of its arguments.
    pub args: Vec<u8>,
    /// The gas limit; 0 is none.
    pub gas: u64,
}

impl Called {
    /// The call's arguments, which must be of these types.
    pub fn args<A: Args>(&self) -> A {
        let mut from = cbor::Decoder::new(&self.args);
        match A::decode_args(&mut from).and_then(|args| from.end().map(|()| args)) {
            Ok(args) => args,
            Err(_) => panic!("the arguments of {} have other types", self.method),
        }
    }
}

impl Reply {
    /// The reply of a call that succeeded and returned a value.
    pub fn value<T: Data>(value: T) -> Self {
        Reply { status: 0, data: cbor::encode(&value) }
    }

    /// The reply of a call that succeeded and returned nothing.
    pub fn done() -> Self {
        Reply { status: 0, data: Vec::new() }
    }

    /// The reply of a call that aborted.
    pub fn refused(error: impl Into<Error>) -> Self {
        let error = error.into();
        Reply { status: error.code as i32, data: error.data }
    }

    /// The reply of a call that the host ended, such as [`Reply::TRAPPED`].
    pub fn failed(status: i32) -> Self {
        Reply { status, data: Vec::new() }
    }
}

thread_local! {
    static HOST: RefCell<Option<Host>> = RefCell::new(None); // of the call that runs
    static PANIC: RefCell<Option<Error>> = RefCell::new(None); // the last one within a call
}

impl Host {
    /// An empty chain at height 0.
    pub fn new() -> Self {
        Host::default()
    }

    /// Answers calls to other contracts; without it they end with [`Reply::NOT_FOUND`].
    pub fn answer(&mut self, answers: impl FnMut(&Called) -> Reply + 'static) {
        self.answers = Some(Box::new(answers));
    }

    /// Answers [`sm3`](crate::sm3) (1), [`sha256`](crate::sha256) (2) and [`keccak256`](crate::keccak256) (3); without it they panic, as the
    /// standard library has no hashes.
    pub fn hash(&mut self, hashes: impl FnMut(u32, &[u8]) -> Hash + 'static) {
        self.hashes = Some(Box::new(hashes));
    }

    /// Answers [`verify`](crate::verify), of an algorithm, a public key, a signature and a digest; without it no signature is valid.
    pub fn verify(&mut self, signatures: impl FnMut(Signature, &[u8], &[u8], &[u8]) -> bool + 'static) {
        self.signatures = Some(Box::new(signatures));
    }

    /// Runs a call as the chain does: an error, an abort or a panic in it undoes everything it did.
    pub fn run<R: Outcome>(&mut self, call: impl FnOnce(&Ctx) -> R) -> Result<R::Value> {
        let (state, events) = (self.state.clone(), self.events.len());
        install();
        self.emitted = 0;
        HOST.with(|host| *host.borrow_mut() = Some(std::mem::take(self)));
        let outcome = catch_unwind(AssertUnwindSafe(|| call(&Ctx::new()).outcome()));
        *self = HOST.with(|host| host.borrow_mut().take()).unwrap_or_default();
        self.scans.clear();
        let result = outcome.unwrap_or_else(|payload| Err(ended(payload)));
        if result.is_err() {
            self.state = state;
            self.events.truncate(events);
        }
        result
    }

    /// Runs a call in which writes are denied.
    pub fn view<R: Outcome>(&mut self, call: impl FnOnce(&Ctx) -> R) -> Result<R::Value> {
        let before = std::mem::replace(&mut self.read_only, true);
        let result = self.run(call);
        self.read_only = before;
        result
    }
}

/// How an abort unwinds.
struct Abortion(Error);

fn ended(payload: Box<dyn Any + Send>) -> Error {
    match payload.downcast::<Abortion>() {
        Ok(abortion) => abortion.0,
        Err(payload) => PANIC.with(|last| last.borrow_mut().take()).unwrap_or_else(|| panicked(message(&*payload), None)),
    }
}

/// Keeps panics within calls quiet: they are the contract's way of failing, and the test sees them as errors.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |info: &PanicInfo| {
            let running = HOST.with(|host| host.try_borrow().map_or(true, |host| host.is_some()));
            if running {
                PANIC.with(|last| *last.borrow_mut() = Some(panicked(message(info.payload()), info.location())));
            } else {
                others(info);
            }
        }));
    });
}

fn with<T>(f: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with(|host| match host.borrow_mut().as_mut() {
        Some(host) => f(host),
        None => panic!("contract code outside of a call: run it within Host::run"),
    })
}

fn deny(why: &str) -> ! {
    abort(code::DENIED, &cbor::encode_text(why))
}

fn check_key(key: &[u8]) {
    if key.is_empty() || key.len() > MAX_KEY {
        deny(&format!("a key of {} bytes, want 1 to {MAX_KEY}", key.len()));
    }
}

fn write<T>(f: impl FnOnce(&mut Host) -> T) -> T {
    if with(|host| host.read_only) {
        deny("a write in a view");
    }
    with(f)
}

pub(crate) fn abort(code: u32, data: &[u8]) -> ! {
    resume_unwind(Box::new(Abortion(Error { code, data: data.to_vec() })))
}

pub(crate) fn ctx() -> Vec<u8> {
    fn entry<T: Data>(out: &mut Vec<u8>, name: &str, value: &T) {
        cbor::append_text(name, out);
        value.encode(out);
    }
    with(|host| {
        let mut out = Vec::new();
        cbor::head(&mut out, cbor::MAP, 11);
        entry(&mut out, "self", &host.this);
        entry(&mut out, "group", &host.group);
        entry(&mut out, "tx_id", &host.tx_id);
        entry(&mut out, "caller", &host.caller);
        entry(&mut out, "height", &host.height);
        entry(&mut out, "method", &host.method);
        entry(&mut out, "origin", &host.origin);
        entry(&mut out, "time_ms", &host.time_ms);
        entry(&mut out, "gas_left", &gas_left());
        entry(&mut out, "tx_index", &0u64);
        entry(&mut out, "read_only", &host.read_only);
        out
    })
}

pub(crate) fn caller_attr(kind: u32) -> Option<Vec<u8>> {
    with(|host| match kind {
        1 => host.institution.as_ref().map(cbor::encode),
        2 => Some(cbor::encode(&host.roles)),
        _ => None,
    })
}

pub(crate) fn get(key: &[u8]) -> Option<Vec<u8>> {
    check_key(key);
    with(|host| host.state.get(key).cloned())
}

pub(crate) fn set(key: &[u8], value: &[u8]) {
    check_key(key);
    if value.len() > MAX_VALUE {
        deny(&format!("a value of {} bytes, at most {MAX_VALUE} are allowed", value.len()));
    }
    write(|host| host.state.insert(key.to_vec(), value.to_vec()));
}

pub(crate) fn del(key: &[u8]) {
    check_key(key);
    write(|host| host.state.remove(key));
}

pub(crate) fn has(key: &[u8]) -> bool {
    check_key(key);
    with(|host| host.state.contains_key(key))
}

pub(crate) fn add(key: &[u8], delta: i64, least: i64, most: i64) -> bool {
    check_key(key);
    write(|host| {
        let now = match host.state.get(key) {
            Some(data) if matches!(cbor::decode::<u128>(data), Ok(wide) if wide >> 63 != 0) => return false,
            Some(data) => cbor::decode(data).expect("the value is no counter"),
            None => 0,
        };
        match i64::checked_add(now, delta) {
            Some(sum) if least <= sum && sum <= most => {
                host.state.insert(key.to_vec(), cbor::encode(&sum));
                true
            }
            _ => false,
        }
    })
}

pub(crate) fn scan(start: &[u8], end: &[u8], flags: u32, limit: u32) -> u32 {
    if start.len().max(end.len()) > MAX_KEY {
        deny(&format!("scan: a bound of {} bytes, at most {MAX_KEY} are allowed", start.len().max(end.len())));
    }
    if !(1..=MAX_SCAN).contains(&limit) {
        deny(&format!("scan: limit {limit}, want 1 to {MAX_SCAN}"));
    }
    if with(|host| host.scans.iter().flatten().count()) == MAX_OPEN_SCANS {
        deny(&format!("scan: {MAX_OPEN_SCANS} are open already"));
    }
    with(|host| {
        let mut found: Vec<_> = host.state.range(start.to_vec()..end.to_vec()).map(|(k, v)| (k.clone(), v.clone())).collect();
        if flags & 1 == 0 {
            found.reverse(); // they are taken from the back
        }
        found.drain(..found.len().saturating_sub(limit as usize));
        host.scans.push(Some(found));
        host.scans.len() as u32 - 1
    })
}

pub(crate) fn scan_next(iterator: u32) -> Option<Vec<u8>> {
    with(|host| {
        let entry = host.scans[iterator as usize].as_mut()?.pop()?;
        let mut out = Vec::new();
        entry.encode_args(&mut out);
        Some(out)
    })
}

pub(crate) fn scan_close(iterator: u32) {
    HOST.with(|host| {
        // a call that unwinds closes its scans as well
        if let Some(host) = host.try_borrow_mut().ok().as_mut().and_then(|host| host.as_mut()) {
            host.scans[iterator as usize] = None;
        }
    });
}

pub(crate) fn emit(topic: &str, data: &[u8]) {
    let emitted = write(|host| {
        host.events.push(Emitted { topic: topic.into(), data: data.to_vec() });
        host.emitted += 1;
        host.emitted
    });
    if emitted > MAX_EVENTS {
        deny(&format!("more than {MAX_EVENTS} events"));
    }
}

pub(crate) fn call(to: &[u8], method: &str, args: &[u8], gas: u64, _: u32) -> (i32, Vec<u8>) {
    let called = Called { to: to.to_vec(), method: method.into(), args: args.to_vec(), gas };
    let answers = with(|host| {
        host.calls.push(called.clone());
        host.answers.take()
    });
    let mut reply = Reply::failed(Reply::NOT_FOUND);
    if let Some(mut answer) = answers {
        reply = answer(&called);
        with(|host| host.answers = Some(answer));
    }
    (reply.status, reply.data)
}

pub(crate) fn hash(algorithm: u32, data: &[u8]) -> [u8; 32] {
    match with(|host| host.hashes.take()) {
        Some(mut hashes) => {
            let digest = hashes(algorithm, data);
            with(|host| host.hashes = Some(hashes));
            digest.0
        }
        None => panic!("this host has no hashes: answer them with Host::hash, or use fondaco contract test"),
    }
}

pub(crate) fn verify(algorithm: Signature, public: &[u8], signature: &[u8], digest: &[u8]) -> bool {
    let signatures = with(|host| host.signatures.take());
    signatures.map_or(false, |mut verify| {
        let valid = verify(algorithm, public, signature, digest);
        with(|host| host.signatures = Some(verify));
        valid
    })
}

pub(crate) fn rand(bytes: &mut [u8]) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = i as u8;
    }
}

pub(crate) fn log(_: u32, text: &str) {
    with(|host| host.logs.push(text.into()));
}

pub(crate) fn gas_left() -> u64 {
    1 << 40
}
