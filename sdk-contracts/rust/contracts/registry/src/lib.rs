//! Keys and values, each with an owner: who wrote it first.

use fondaco::prelude::*;

contract!();

#[state]
static ENTRIES: Map<String, Entry> = Map::new("entry");
/// How many entries there are.
#[state]
static COUNT: Counter = Counter::new("count");

#[data]
struct Entry {
    owner: Addr,
    value: Vec<u8>,
    updated: u64, // block time, Unix ms
}

#[data]
struct Item {
    key: String,
    entry: Entry,
}

/// Entries in the order of their keys, and the key of the one after them.
#[data]
struct Page {
    items: Vec<Item>,
    next: Option<String>,
}

#[event(indexed = [key, owner])]
struct Written {
    key: String,
    owner: Addr,
    value: Vec<u8>,
}

#[event(indexed = [key, owner])]
struct Removed {
    key: String,
    owner: Addr,
}

#[error(1001)]
struct NotOwner {
    key: String,
    owner: Addr,
}

#[error(1002)]
struct NoSuchKey {
    key: String,
}

/// Keys have 1 to 64 bytes.
#[error(1003)]
struct BadKey {
    length: u32,
}

#[error(1004)]
struct BadLimit {
    limit: u32,
    most: u32,
}

const LONGEST_KEY: usize = 64;
const LARGEST_PAGE: u32 = 100;

#[init]
fn init(_: &Ctx) {}

/// Writes a value. A new key is the caller's from now on.
#[tx(conflicts = ["entry/{key}"])]
fn put(ctx: &Ctx, key: String, value: Vec<u8>) -> Result<()> {
    let owner = ctx.caller();
    ensure!((1..=LONGEST_KEY).contains(&key.len()), BadKey { length: key.len() as u32 });
    match ENTRIES.get(&key) {
        Some(entry) => ensure!(entry.owner == owner, NotOwner { key, owner: entry.owner }),
        None => {
            COUNT.add(1, 0..=i64::MAX);
        }
    }
    ENTRIES.set(&key, &Entry { owner, value: value.clone(), updated: ctx.time_ms() });
    ctx.emit(Written { key, owner, value });
    Ok(())
}

/// Removes a key of the caller's.
#[tx(conflicts = ["entry/{key}"])]
fn remove(ctx: &Ctx, key: String) -> Result<()> {
    let entry = match ENTRIES.get(&key) {
        Some(entry) => entry,
        None => return Err(NoSuchKey { key }.into()),
    };
    let owner = entry.owner;
    ensure!(ctx.caller() == owner, NotOwner { key, owner });
    ENTRIES.remove(&key);
    COUNT.add(-1, 0..=i64::MAX);
    ctx.emit(Removed { key, owner });
    Ok(())
}

/// Returns the entry of a key, or nothing.
#[view]
fn get(_: &Ctx, key: String) -> Option<Entry> {
    ENTRIES.get(&key)
}

/// Returns at most limit entries whose keys begin with the prefix, from a key on.
#[view]
fn list(_: &Ctx, prefix: String, from: Option<String>, limit: u32) -> Result<Page> {
    ensure!((1..=LARGEST_PAGE).contains(&limit), BadLimit { limit, most: LARGEST_PAGE });
    let mut scan = ENTRIES.scan(limit + 1).starting_with(&prefix);
    if let Some(from) = from {
        scan = scan.from(&from);
    }
    let mut items = Vec::new();
    for (key, entry) in scan {
        if items.len() == limit as usize {
            return Ok(Page { items, next: Some(key) });
        }
        items.push(Item { key, entry });
    }
    Ok(Page { items, next: None })
}

/// Returns how many entries there are.
#[view]
fn count(_: &Ctx) -> i64 {
    COUNT.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fondaco::mock::Host;

    const ALICE: Addr = Addr([1; 20]);
    const BOB: Addr = Addr([2; 20]);

    /// A chain on which Alice wrote the keys.
    fn chain(keys: &[&str]) -> Host {
        let mut chain = Host { caller: ALICE, time_ms: 1_000, ..Host::new() };
        for key in keys {
            chain.run(|ctx| put(ctx, key.to_string(), vec![7])).unwrap();
        }
        chain
    }

    fn page(chain: &mut Host, prefix: &str, from: Option<&str>, limit: u32) -> (Vec<String>, Option<String>) {
        let page = chain.view(|ctx| list(ctx, prefix.into(), from.map(String::from), limit)).unwrap();
        (page.items.into_iter().map(|item| item.key).collect(), page.next)
    }

    #[test]
    fn a_key_belongs_to_who_wrote_it_first() {
        let mut chain = chain(&["a"]);
        chain.run(|ctx| put(ctx, "a".into(), vec![8])).unwrap();
        chain.caller = BOB;
        let refused = NotOwner { key: "a".into(), owner: ALICE };
        assert_eq!(chain.run(|ctx| put(ctx, "a".into(), vec![9])), Err(refused.clone().into()));
        assert_eq!(chain.run(|ctx| remove(ctx, "a".into())), Err(refused.into()));
        let entry = Entry { owner: ALICE, value: vec![8], updated: 1_000 };
        assert_eq!(chain.view(|ctx| get(ctx, "a".into())), Ok(Some(entry)));
        assert_eq!(chain.view(count), Ok(1));
    }

    #[test]
    fn what_is_removed_is_gone_and_not_counted() {
        let mut chain = chain(&["a", "b"]);
        chain.run(|ctx| remove(ctx, "a".into())).unwrap();
        assert_eq!(chain.view(count), Ok(1));
        assert_eq!(chain.view(|ctx| get(ctx, "a".into())), Ok(None));
        assert_eq!(chain.run(|ctx| remove(ctx, "a".into())), Err(NoSuchKey { key: "a".into() }.into()));
    }

    #[test]
    fn pages_follow_one_another() {
        let mut chain = chain(&["x", "ab", "b", "aa", "ac", "a"]);
        assert_eq!(page(&mut chain, "a", None, 2), (vec!["a".into(), "aa".into()], Some("ab".into())));
        assert_eq!(page(&mut chain, "a", Some("ab"), 2), (vec!["ab".into(), "ac".into()], None));
        assert_eq!(page(&mut chain, "", None, 100).0.len(), 6);
        assert_eq!(page(&mut chain, "b", Some("a"), 1), (vec!["b".into()], None));
        assert_eq!(page(&mut chain, "a", Some("x"), 1), (vec![], None));
    }

    #[test]
    fn lengths_and_limits_are_bounded() {
        let mut chain = chain(&[]);
        assert_eq!(chain.run(|ctx| put(ctx, "".into(), vec![])), Err(BadKey { length: 0 }.into()));
        assert_eq!(chain.run(|ctx| put(ctx, "k".repeat(65), vec![])), Err(BadKey { length: 65 }.into()));
        chain.run(|ctx| put(ctx, "k".repeat(64), vec![])).unwrap();
        for limit in [0, 101] {
            assert_eq!(chain.view(|ctx| list(ctx, "".into(), None, limit)), Err(BadLimit { limit, most: 100 }.into()));
        }
    }
}
