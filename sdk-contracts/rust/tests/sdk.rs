//! The SDK against a host in memory: codec, keys, state, arithmetic and failure.

use fondaco::mock::Host;
use fondaco::prelude::*;
use fondaco::{abort, code, decode, encode, mul_div, Args, Data, Decoder};
use std::collections::BTreeMap;
use std::fmt::Debug;

#[data]
struct Leg {
    side: Side,
    sizes: Vec<u16>,
    note: Option<String>,
}

#[data]
enum Side {
    Buy,
    Sell { at: u128, firm: bool },
    NoSide,
}

#[data]
struct Nothing {}

#[event]
struct Moved {
    to: Addr,
}

#[error(1_001)]
struct Refused {
    why: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is<T: Data + PartialEq + Debug>(value: T, want: &str) {
    let encoded = encode(&value);
    assert_eq!(hex(&encoded), want, "{value:?}");
    assert_eq!(decode::<T>(&encoded), Ok(value));
    for end in 0..encoded.len() {
        assert!(decode::<T>(&encoded[..end]).is_err(), "{end} bytes of {want}");
    }
    assert!(decode::<T>(&[encoded, vec![0]].concat()).is_err(), "a byte after {want}");
}

#[test]
fn values_have_the_bytes_of_rfc_8949() {
    is(0u8, "00");
    is(23u64, "17");
    is(24u8, "1818");
    is(256u16, "190100");
    is(65_536u32, "1a00010000");
    is(u64::MAX, "1bffffffffffffffff");
    is(u64::MAX as u128, "1bffffffffffffffff");
    is(1u128 << 64, "c249010000000000000000");
    is(u128::MAX, "c250ffffffffffffffffffffffffffffffff");
    is(-1i8, "20");
    is(-500i32, "3901f3");
    is(i64::MIN, "3b7fffffffffffffff");
    is(i64::MAX, "1b7fffffffffffffff");
    is(true, "f5");
    is(String::from("ü"), "62c3bc");
    is(vec![1u8, 2], "420102");
    is(vec![1u16, 2], "820102");
    is([7u8; 2], "420707");
    is(Addr([9; 20]), "540909090909090909090909090909090909090909");
    is(None::<u8>, "f6");
    is(Some(5u8), "05");
    is(vec![vec![3u8], vec![]], "82410340");
    is(BTreeMap::from([(String::from("bb"), 1u8), (String::from("c"), 2), (String::from("a"), 3)]), "a361610361630262626201");
    is(BTreeMap::from([(-1i8, 1u8), (0, 2), (100, 3)]), "a300021864032001");
    is(Nothing {}, "80");
    is(Side::Buy, "00");
    is(Side::NoSide, "02");
    is(Side::Sell { at: 5, firm: false }, "830105f4");
    is(Leg { side: Side::NoSide, sizes: vec![1], note: None }, "83028101f6");
}

#[test]
fn other_forms_are_refused() {
    fn refused<T: Data + Debug>(bytes: &[u8]) {
        assert!(decode::<T>(bytes).is_err(), "{}", hex(bytes));
    }
    refused::<u8>(&[0x18, 23]); // longer than need be
    refused::<u64>(&[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    refused::<u8>(&[0x19, 1, 0]); // too large
    refused::<i8>(&[0x18, 128]);
    refused::<u8>(&[0x20]);
    refused::<u128>(&[0xc2, 0x48, 1, 0, 0, 0, 0, 0, 0, 0]); // a bignum of 64 bits
    refused::<u128>(&[0xc2, 0x49, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    refused::<bool>(&[0xf6]);
    refused::<bool>(&[0xf8, 21]);
    refused::<String>(&[0x61, 0xff]);
    refused::<Vec<u8>>(&[0x5f, 0x41, 1, 0xff]); // indefinite
    refused::<Vec<u16>>(&[0x9a, 0xff, 0xff, 0xff, 0xff]); // more elements than bytes
    refused::<[u8; 2]>(&[0x41, 1]);
    refused::<BTreeMap<u8, u8>>(&[0xa2, 2, 0, 1, 0]);
    refused::<BTreeMap<u8, u8>>(&[0xa2, 1, 0, 1, 0]);
    refused::<Side>(&[0x03]);
    refused::<Side>(&[0x01]); // without its fields
    refused::<Side>(&[0x81, 0x00]); // as an array without fields
    refused::<Side>(&[0x82, 0x00, 0x00]);
    refused::<Nothing>(&[0x81, 0]);
}

#[test]
fn arguments_are_an_array() {
    let mut out = Vec::new();
    (1u8, String::from("a"), vec![2u8]).encode_args(&mut out);
    assert_eq!(hex(&out), "830161614102");
    assert!(<(u8, String)>::decode_args(&mut Decoder::new(&out)).is_err());
}

fn in_call<R>(f: impl FnOnce(&Ctx) -> R) -> R {
    let mut result = None;
    Host::new().run(|ctx| result = Some(f(ctx))).unwrap();
    result.unwrap()
}

static DAYS: Map<(i16, String), u8> = Map::new("day");
static NAMES: Map<String, u8> = Map::new("name");
static PLAIN: Value<u128> = Value::new("plain");
static VISITS: Counter = Counter::new("visits");

#[test]
fn keys_sort_as_their_values_do() {
    let mut host = Host::new();
    let keys = [(i16::MIN, ""), (-1, "z"), (0, "a"), (0, "ab"), (0, "b"), (256, "")];
    host.run(|_| {
        for (number, name) in keys.iter().rev() {
            DAYS.set(&(*number, name.to_string()), &1);
        }
        NAMES.set(&"day/".into(), &2);
    })
    .unwrap();
    let found = |scan: fondaco::Scan<(i16, String), u8>| scan.map(|(key, _)| key).collect::<Vec<_>>();
    let want: Vec<_> = keys.iter().map(|(number, name)| (*number, name.to_string())).collect();
    host.view(|_| {
        assert_eq!(found(DAYS.scan(100)), want);
        assert_eq!(found(DAYS.scan(2).descending()), [want[5].clone(), want[4].clone()]);
        assert_eq!(found(DAYS.scan(2).from(&(0, "aa".into()))), want[3..5]);
        assert_eq!(found(DAYS.scan(100).starting_with(0x8000u16.to_be_bytes())), want[2..5]);
    })
    .unwrap();
    assert!(host.state.contains_key(&b"day/\x80\x00ab"[..]));
}

#[test]
fn a_prefix_of_the_highest_bytes_has_an_end() {
    static BYTES: Map<Vec<u8>, u8> = Map::new("b");
    let found = in_call(|_| {
        for key in [vec![0xfe], vec![0xff], vec![0xff, 0xff], vec![0xff, 0xff, 1]] {
            BYTES.set(&key, &0);
        }
        NAMES.set(&"x".into(), &0);
        BYTES.scan(10).starting_with([0xff, 0xff]).count()
    });
    assert_eq!(found, 2);
}

#[test]
fn values_and_counters_are_kept() {
    let mut host = Host::new();
    host.run(|_| {
        assert_eq!((PLAIN.get(), VISITS.get(), NAMES.has(&"a".into())), (None, 0, false));
        PLAIN.set(&7);
        assert!(VISITS.add(5, 0..=5) && !VISITS.add(1, 0..=5) && !VISITS.add(-6, 0..=5));
        NAMES.set(&"a".into(), &1);
        assert!(NAMES.has(&"a".into()));
        NAMES.remove(&"a".into());
        assert_eq!((PLAIN.load(), VISITS.get(), NAMES.get(&"a".into())), (7, 5, None));
        PLAIN.remove();
    })
    .unwrap();
    assert_eq!(host.state.keys().collect::<Vec<_>>(), [b"visits"]);
    assert_eq!(host.run(|_| PLAIN.load()).unwrap_err().code, code::NOT_FOUND);
    host.state.insert(b"plain".to_vec(), vec![0xff]);
    assert_eq!(host.run(|_| PLAIN.get()).unwrap_err().code, code::STATE);
}

#[test]
fn balances_at_the_ends_of_what_is_added_unseen() {
    static HELD: Balances<(i16, String)> = Balances::new("held");
    let edges = [0, 1, 7, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, 1 << 127, u128::MAX];
    for (have, amount) in edges.iter().flat_map(|have| edges.map(|amount| (*have, amount))) {
        let mut host = Host::new();
        let key = (-1, "a".to_string());
        let rest = have.checked_sub(amount).unwrap_or(have);
        host.run(|_| {
            HELD.set(&key, &have);
            assert_eq!(HELD.sub(&key, amount), have >= amount, "{have} less {amount}");
            assert_eq!((HELD.get(&key), HELD.scan(9).next()), (rest, Some((key.clone(), rest))), "{have} less {amount}");
        })
        .unwrap();
        let added = host.run(|_| {
            HELD.add(&key, amount);
            HELD.get(&key)
        });
        match rest.checked_add(amount) {
            Some(sum) => assert_eq!(added, Ok(sum), "{rest} and {amount}"),
            None => assert_eq!(added.unwrap_err().code, code::OVERFLOW, "{rest} and {amount}"),
        }
    }
    assert_eq!(Host::new().run(|_| HELD.sub(&(0, "b".into()), 1)), Ok(false));
}

#[test]
fn the_context_is_the_hosts() {
    let mut host = Host { caller: Addr([1; 20]), height: 9, time_ms: 1 << 40, roles: vec!["regulator".into()], ..Host::new() };
    host.institution = Some("alpha".into());
    host.run(|ctx| {
        assert_eq!((ctx.caller(), ctx.height(), ctx.time_ms(), ctx.read_only()), (Addr([1; 20]), 9, 1 << 40, false));
        assert!(ctx.has_role("regulator") && !ctx.has_role("auditor"));
        assert_eq!(ctx.institution().as_deref(), Some("alpha"));
        fondaco::log(fondaco::Level::Info, "seen");
    })
    .unwrap();
    assert_eq!(host.logs, ["seen"]);
}

#[test]
fn a_failure_undoes_everything() {
    let mut host = Host::new();
    host.run(|_| PLAIN.set(&1)).unwrap();
    let before = host.state.clone();
    let fails: [(fn(&Ctx) -> Result<()>, Error); 3] = [
        (|_| Err(Refused { why: "no".into() }.into()), Error { code: 1001, data: vec![0x81, 0x62, b'n', b'o'] }),
        (|_| abort(denied("stop")), denied("stop")),
        (
            |_| {
                ensure!(PLAIN.load() == 1, not_found("one"));
                Ok(())
            },
            not_found("one"),
        ),
    ];
    for (fail, want) in fails {
        let result = host.run(|ctx| {
            PLAIN.set(&2);
            ctx.emit(Moved { to: ctx.caller() });
            fail(ctx)
        });
        assert_eq!(result, Err(want));
        assert_eq!((&host.state, host.events.len()), (&before, 0));
    }
    assert_eq!(host.view(|_| PLAIN.set(&3)).unwrap_err().code, code::DENIED);
}

#[test]
fn panics_have_codes() {
    let fails = |f: fn(u8) -> u8, n: u8| Host::new().run(|_| f(n)).unwrap_err();
    assert_eq!(fails(|n| n + 250, 6).code, code::OVERFLOW);
    assert_eq!(fails(|n| 5 - n, 6).code, code::OVERFLOW);
    assert_eq!(fails(|n| n * n, 16).code, code::OVERFLOW);
    assert_eq!(fails(|n| 5 / n, 0).code, code::OVERFLOW);
    assert_eq!(fails(|n| 5 % n, 0).code, code::OVERFLOW);
    assert_eq!(fails(|n| 1 << n, 8).code, code::OVERFLOW);
    assert_eq!(fails(|n| -(n as i8) as u8, 128).code, code::OVERFLOW);
    assert_eq!(fails(|n| [1, 2][n as usize], 2).code, code::PANIC);
    let told = fails(|n| panic!("no {n}"), 7);
    assert_eq!(told.code, code::PANIC);
    assert!(decode::<String>(&told.data).unwrap().starts_with("no 7, "), "{told:?}");
}

#[test]
fn shares_lose_no_bits() {
    for (a, b, c, want) in [
        (7, 3, 2, 10),
        (u128::MAX, u128::MAX, u128::MAX, u128::MAX),
        (u128::MAX, 3, 4, u128::MAX / 4 * 3 + 2),
        (1 << 127, 1 << 127, 1 << 126, u128::MAX),
        (u128::MAX - 1, u128::MAX, u128::MAX - 1, u128::MAX),
        (0, 5, 1, 0),
    ] {
        let overflows = want == u128::MAX && a == 1 << 127;
        let got = Host::new().run(|_| mul_div(a, b, c));
        match overflows {
            true => assert_eq!(got.unwrap_err().code, code::OVERFLOW),
            false => assert_eq!(got, Ok(want), "{a}·{b}/{c}"),
        }
    }
    assert_eq!(Host::new().run(|_| mul_div(1, 1, 0)).unwrap_err().code, code::OVERFLOW);
}

#[test]
fn calls_are_answered_and_recorded() {
    let mut host = Host::new();
    let to = Addr([7; 20]);
    assert_eq!(host.run(|_| call(to, "get", ()).send().status), Ok(Reply::NOT_FOUND));
    host.answer(|called| match called.method.as_str() {
        "double" => Reply::value(2 * called.args::<(u32,)>().0),
        _ => Reply::refused(denied("no")),
    });
    assert_eq!(host.run(|_| call(to, "double", (4u32,)).read_only().gas(9).send().returned::<u32>()), Ok(8));
    assert_eq!((&host.calls[1].to[..], host.calls[1].gas), (&to.0[..], 9));
    let error = host.run(|_| fondaco::call_name("token@2", "get", ()).send().returned::<u32>()).unwrap_err();
    assert_eq!((error.code, &error.data[..2]), (code::CALL_FAILED, &[0x82, 5][..]));
    let wrong = host.run(|_| call(to, "double", (4u32,)).send().returned::<String>()).unwrap_err();
    assert_eq!(wrong, Error { code: code::CALL_FAILED, data: vec![0x82, 0, 0x41, 8] });
}

#[test]
fn who_is_frozen_is_asked_and_without_an_answer_nothing_moves() {
    let mut host = Host::new();
    let (alice, bob, carol) = (Addr([1; 20]), Addr([2; 20]), Addr([3; 20]));
    let error = host.run(|_| stopped(alice, bob)).unwrap_err();
    assert_eq!(error, Error { code: code::CALL_FAILED, data: vec![0x82, 0x23, 0x40] }); // Reply::NOT_FOUND
    host.answer(move |called| {
        assert_eq!((&called.to[..], called.method.as_str()), (&[[0; 19].as_slice(), &[3]].concat()[..], "stopped"));
        let (from, to) = called.args::<(Addr, Addr)>();
        assert_eq!(from, alice);
        Reply::value(if to == bob { Some(to) } else { None })
    });
    assert_eq!(host.run(|_| stopped(alice, bob)), Ok(Some(bob)));
    assert_eq!(host.run(|_| stopped(alice, carol)), Ok(None));
    host.answer(|_| Reply::value(7u8));
    assert_eq!(host.run(|_| stopped(alice, bob)).unwrap_err().code, code::CALL_FAILED);
}

#[test]
fn the_host_denies_what_a_node_denies() {
    static NAMES: Map<String, Vec<u8>> = Map::new("name");
    let denied = |f: fn(&Ctx)| assert_eq!(Host::new().run(|ctx| f(ctx)).unwrap_err().code, code::DENIED);
    denied(|_| NAMES.set(&"x".repeat(252), &vec![]));
    denied(|_| drop(NAMES.has(&"x".repeat(252))));
    denied(|_| NAMES.set(&"a".into(), &vec![0; 128 << 10]));
    denied(|_| drop(NAMES.scan(0).next()));
    denied(|_| drop(NAMES.scan(1_025).next()));
    denied(|ctx| (0..65).for_each(|_| ctx.emit(Moved { to: ctx.caller() })));
    denied(|_| {
        let open: Vec<_> = (0..9).map(|_| NAMES.scan(1)).map(|mut scan| (scan.next(), scan)).collect();
        drop(open);
    });
    let mut host = Host::new();
    host.run(|_| NAMES.set(&"x".repeat(251), &vec![0; (128 << 10) - 5])).unwrap();
    host.run(|_| (0..20).for_each(|_| assert_eq!(NAMES.scan(1).count(), 1))).unwrap();
    for _ in 0..2 {
        host.run(|ctx| (0..64).for_each(|_| ctx.emit(Moved { to: ctx.caller() }))).unwrap();
    }
}

#[test]
fn the_host_answers_methods_hashes_and_signatures() {
    use fondaco::{sha256, verify, Hash, Signature};
    let mut host = Host { method: "pay".into(), ..Host::new() };
    assert_eq!(host.run(|ctx| ctx.method()), Ok("pay".into()));
    let valid = |_: &Ctx| verify(Signature::P256, b"key", b"signature", &Hash([7; 32]));
    assert_eq!(host.run(valid), Ok(false));
    host.verify(|algorithm, key, _, _| algorithm == Signature::P256 && key == b"key");
    assert_eq!(host.run(valid), Ok(true));
    assert_eq!(host.run(|_| sha256(b"abc").0[0]).unwrap_err().code, code::PANIC);
    host.hash(|algorithm, data| Hash([algorithm as u8 + data.len() as u8; 32]));
    assert_eq!(host.run(|_| sha256(b"abc").0[0]), Ok(5));
}
