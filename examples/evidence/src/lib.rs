//! Deposits of evidence. The document stays with its owner; its digest goes on the chain, with the time, what it is, and the
//! parties that it is about, who can confirm it. Nothing is ever removed: a deposit that turns out wrong is disavowed or
//! replaced, and both stay to be seen.

use fondaco::prelude::*;

contract!();

#[state]
static LAST: Value<u64> = Value::new("last");
#[state]
static DEPOSITS: Map<u64, Deposit> = Map::new("deposit");
/// The newest deposit of a digest; each tells of the one before it.
#[state]
static NEWEST: Map<Hash, u64> = Map::new("newest");
/// The newest deposit of a digest by a depositor.
#[state]
static BY: Map<(Addr, Hash), u64> = Map::new("by");

/// How a document is digested.
#[data]
#[derive(Copy)]
enum Algorithm {
    Sm3,
    Sha256,
}

/// What somebody deposited.
#[data]
struct Deposit {
    digest: Hash, // of the document, with salt if it could be guessed
    algorithm: Algorithm,
    kind: String, // such as "contract" or "delivery note"
    note: String,
    depositor: Addr,
    institution: Option<String>, // of the depositor, at the time; a contract has none
    time: u64,                   // of the block, Unix ms
    height: u64,
    parties: Vec<Party>,
    replaces: Option<u64>,
    previous: Option<u64>, // deposit of the same digest, by whomever
    disavowed: Option<Disavowal>,
}

/// Whom the document is about, and when they confirmed that they know it.
#[data]
struct Party {
    who: Addr,
    confirmed: Option<u64>,
}

/// The depositor no longer stands by it.
#[data]
struct Disavowal {
    time: u64,
    reason: String,
}

/// A deposit with its number.
#[data]
struct Numbered {
    id: u64,
    deposit: Deposit,
}

#[event(indexed = [id, digest, depositor])]
struct Deposited {
    id: u64,
    digest: Hash,
    algorithm: Algorithm,
    depositor: Addr,
    kind: String,
    replaces: Option<u64>,
}

#[event(indexed = [id, party])]
struct Confirmed {
    id: u64,
    party: Addr,
}

#[event(indexed = [id])]
struct Disavowed {
    id: u64,
    reason: String,
}

#[error(1001)]
struct Unknown {
    id: u64,
}

/// The depositor deposited that digest before.
#[error(1002)]
struct AlreadyDeposited {
    id: u64,
}

/// Who confirms must be a party, and who disavows or replaces the depositor.
#[error(1003)]
struct NotYours {
    id: u64,
}

/// It was confirmed, disavowed or replaced before.
#[error(1004)]
struct Done {
    id: u64,
}

#[error(1005)]
struct BadTerms {
    reason: String,
}

const LONGEST_KIND: usize = 32; // bytes
const LONGEST_NOTE: usize = 256;
const MOST_PARTIES: usize = 16;
const LARGEST_PAGE: usize = 20;

/// Deposits a digest on behalf of the caller, and returns the deposit's number. The parties, who confirm it, are others.
#[tx]
fn deposit(ctx: &Ctx, digest: Hash, algorithm: Algorithm, kind: String, note: String, parties: Vec<Addr>) -> Result<u64> {
    add(ctx, digest, algorithm, kind, note, parties, None)
}

/// Deposits a digest, which may be the same, in the place of one of the caller's deposits, which is disavowed. Whoever
/// confirmed that one is asked again.
#[tx]
fn replace(ctx: &Ctx, id: u64, digest: Hash, algorithm: Algorithm, kind: String, note: String, parties: Vec<Addr>) -> Result<u64> {
    let new = add(ctx, digest, algorithm, kind, note, parties, Some(id))?;
    disavow(ctx, id, format!("replaced by {}", new))?;
    Ok(new)
}

/// The caller, a party, confirms that it knows the document of a deposit.
#[tx(conflicts = ["deposit/{id}"])]
fn confirm(ctx: &Ctx, id: u64) -> Result<()> {
    let mut deposit = get(ctx, id)?;
    ensure!(deposit.disavowed.is_none(), Done { id });
    let caller = ctx.caller();
    let party = deposit.parties.iter_mut().find(|p| p.who == caller).ok_or(NotYours { id })?;
    ensure!(party.confirmed.is_none(), Done { id });
    party.confirmed = Some(ctx.time_ms());
    DEPOSITS.set(&id, &deposit);
    ctx.emit(Confirmed { id, party: caller });
    Ok(())
}

/// The caller no longer stands by a deposit of its own. What was deposited, and when, stays.
#[tx(conflicts = ["deposit/{id}"])]
fn disavow(ctx: &Ctx, id: u64, reason: String) -> Result<()> {
    let mut deposit = get(ctx, id)?;
    ensure!(deposit.depositor == ctx.caller(), NotYours { id });
    ensure!(deposit.disavowed.is_none(), Done { id });
    ensure!((1..=LONGEST_NOTE).contains(&reason.len()), BadTerms { reason: "reason".into() });
    deposit.disavowed = Some(Disavowal { time: ctx.time_ms(), reason: reason.clone() });
    DEPOSITS.set(&id, &deposit);
    ctx.emit(Disavowed { id, reason });
    Ok(())
}

/// A deposit by its number.
#[view]
fn get(_: &Ctx, id: u64) -> Result<Deposit> {
    DEPOSITS.get(&id).ok_or_else(|| Unknown { id }.into())
}

/// Who deposited that digest, and what came of it: all that can be said of a document that somebody shows. The newest come
/// first, at most 20; for older ones ask again with the last one's previous.
#[view]
fn find(_: &Ctx, digest: Hash, from: Option<u64>) -> Vec<Numbered> {
    let mut found = Vec::new();
    let mut next = from.or_else(|| NEWEST.get(&digest));
    for _ in 0..LARGEST_PAGE {
        match next.and_then(|id| DEPOSITS.get(&id).map(|deposit| Numbered { id, deposit })) {
            Some(numbered) if numbered.deposit.digest == digest => {
                next = numbered.deposit.previous;
                found.push(numbered);
            }
            _ => break,
        }
    }
    found
}

fn add(
    ctx: &Ctx,
    digest: Hash,
    algorithm: Algorithm,
    kind: String,
    note: String,
    parties: Vec<Addr>,
    replaces: Option<u64>,
) -> Result<u64> {
    let depositor = ctx.caller();
    let terms = |reason: &str| BadTerms { reason: reason.into() };
    ensure!((1..=LONGEST_KIND).contains(&kind.len()), terms("kind"));
    ensure!(note.len() <= LONGEST_NOTE, terms("note"));
    ensure!(parties.len() <= MOST_PARTIES, terms("parties"));
    for (i, party) in parties.iter().enumerate() {
        ensure!(!party.is_zero(), terms("nobody is no party"));
        ensure!(*party != depositor, terms("the depositor is no party"));
        ensure!(!parties[..i].contains(party), terms("a party is named twice"));
    }
    if let Some(id) = BY.get(&(depositor, digest)) {
        ensure!(replaces == Some(id) || get(ctx, id)?.disavowed.is_some(), AlreadyDeposited { id });
    }
    let id = LAST.get().unwrap_or(0) + 1;
    LAST.set(&id);
    let deposit = Deposit {
        digest,
        algorithm,
        kind: kind.clone(),
        note,
        depositor,
        institution: ctx.institution(),
        time: ctx.time_ms(),
        height: ctx.height(),
        parties: parties.into_iter().map(|who| Party { who, confirmed: None }).collect(),
        replaces,
        previous: NEWEST.get(&digest),
        disavowed: None,
    };
    NEWEST.set(&digest, &id);
    BY.set(&(depositor, digest), &id);
    DEPOSITS.set(&id, &deposit);
    ctx.emit(Deposited { id, digest, algorithm, depositor, kind, replaces });
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::Algorithm::*;
    use super::*;
    use fondaco::mock::Host;

    const BANK: Addr = Addr([1; 20]);
    const BUYER: Addr = Addr([2; 20]);
    const DOCUMENT: Hash = Hash([7; 32]);

    #[test]
    fn a_party_confirms_once() {
        let mut chain = Host::new();
        chain.caller = BANK;
        assert_eq!(chain.run(|ctx| deposit(ctx, DOCUMENT, Sha256, "contract".into(), "".into(), vec![BUYER])), Ok(1));
        assert_eq!(chain.run(|ctx| confirm(ctx, 1)), Err(NotYours { id: 1 }.into()));
        chain.caller = BUYER;
        chain.time_ms = 5_000;
        chain.run(|ctx| confirm(ctx, 1)).unwrap();
        assert_eq!(chain.run(|ctx| confirm(ctx, 1)), Err(Done { id: 1 }.into()));
        assert_eq!(chain.view(|ctx| get(ctx, 1)).unwrap().parties[0].confirmed, Some(5_000));
    }

    #[test]
    fn what_is_replaced_stays() {
        let mut chain = Host::new();
        chain.caller = BANK;
        chain.run(|ctx| deposit(ctx, DOCUMENT, Sha256, "contract".into(), "".into(), vec![])).unwrap();
        assert_eq!(chain.run(|ctx| replace(ctx, 1, Hash([8; 32]), Sha256, "contract".into(), "".into(), vec![])), Ok(2));
        let old = chain.view(|ctx| get(ctx, 1)).unwrap();
        assert_eq!(old.disavowed.unwrap().reason, "replaced by 2");
        assert_eq!(chain.run(|ctx| replace(ctx, 9, DOCUMENT, Sha256, "contract".into(), "".into(), vec![])), Err(Unknown { id: 9 }.into()));
    }
    #[test]
    fn parties_are_corrected_for_the_same_document() {
        let mut chain = Host::new();
        chain.caller = BANK;
        chain.run(|ctx| deposit(ctx, DOCUMENT, Sha256, "contract".into(), "".into(), vec![])).unwrap();
        assert_eq!(chain.run(|ctx| replace(ctx, 1, DOCUMENT, Sha256, "contract".into(), "".into(), vec![BUYER])), Ok(2));
        let again = chain.run(|ctx| replace(ctx, 1, DOCUMENT, Sha256, "contract".into(), "".into(), vec![BUYER]));
        assert_eq!(again, Err(AlreadyDeposited { id: 2 }.into()));
        assert_eq!(chain.view(|ctx| find(ctx, DOCUMENT, None)).unwrap().len(), 2);
    }

    #[test]
    fn parties_are_others_than_the_depositor() {
        let mut chain = Host::new();
        chain.caller = BANK;
        for party in [BANK, Addr::default()] {
            let got = chain.run(|ctx| deposit(ctx, DOCUMENT, Sm3, "contract".into(), "".into(), vec![BUYER, party]));
            assert!(got.is_err(), "{}", party);
        }
    }
}
