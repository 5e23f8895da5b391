//! The map against a plain one, and its shards against their definition.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::ids::ObjectName;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Item {
    name: ObjectName,
    value: u32,
}

impl Keyed for Item {
    type Key = ObjectName;

    fn key(&self) -> &ObjectName {
        &self.name
    }
}

type Map = Sharded<ObjectName, Item>;

fn key(n: u32) -> ObjectName {
    ObjectName::parse(&format!("k{n}")).unwrap()
}

fn item(n: u32, value: u32) -> Item {
    Item { name: key(n), value }
}

/// The definition: sorted keys, cut before every key that begins a shard.
fn shards_by_definition(map: &Map) -> Vec<Vec<Item>> {
    let mut shards: Vec<Vec<Item>> = Vec::new();
    for item in map.iter() {
        match shards.last_mut().filter(|_| !begins_shard(&item.name)) {
            Some(shard) => shard.push(item.clone()),
            None => shards.push(vec![item.clone()]),
        }
    }
    shards
}

fn check(map: &Map, model: &BTreeMap<ObjectName, u32>) {
    assert_eq!(map.len(), model.len());
    assert!(map.iter().map(|item| (&item.name, item.value)).eq(model.iter().map(|(name, value)| (name, *value))));
    assert!(map.shards().iter().map(|shard| shard[0].key()).eq(map.firsts.iter()), "searches go through these");
    let shards: Vec<Vec<Item>> = map.shards().iter().map(|s| s.iter().map(|item| (**item).clone()).collect()).collect();
    assert_eq!(shards, shards_by_definition(map));
}

proptest! {
    #[test]
    fn is_a_map_whose_shards_depend_on_its_keys_alone(ops in prop::collection::vec((0u32..2000, any::<Option<u32>>()), 0..1500)) {
        let (mut map, mut model) = (Map::default(), BTreeMap::new());
        for (n, value) in ops {
            match value {
                Some(value) => {
                    let before = map.insert(item(n, value)).map(|item| item.value);
                    prop_assert_eq!(before, model.insert(key(n), value));
                }
                None => {
                    let before = map.remove(&key(n)).map(|item| item.value);
                    prop_assert_eq!(before, model.remove(&key(n)));
                }
            }
            prop_assert_eq!(map.get(&key(n)).map(|item| item.value), model.get(&key(n)).copied());
        }
        check(&map, &model);
    }

    #[test]
    fn pages_are_what_a_plain_map_would_give(keys in prop::collection::btree_set(0u32..3000, 0..600), after in 0u32..3000, limit in 0usize..50) {
        let map: Map = keys.iter().map(|n| item(*n, *n)).collect();
        let odd = |item: &Item| item.value % 2 == 1;
        let mut expected: Vec<ObjectName> = keys.iter().filter(|n| *n % 2 == 1).map(|n| key(*n)).collect();
        expected.sort();
        expected.retain(|name| *name > key(after));
        expected.truncate(limit);
        let page: Vec<ObjectName> = map.page_after(Some(&key(after)), limit, odd).iter().map(|i| i.name.clone()).collect();
        prop_assert_eq!(page, expected);
    }
}

#[test]
fn there_are_many_shards_of_bounded_size() {
    let map: Map = (0..20_000).map(|n| item(n, n)).collect();
    let longest = map.shards().iter().map(|shard| shard.len()).max().unwrap();
    assert!((100..300).contains(&map.shards().len()), "{} shards", map.shards().len());
    assert!(longest < 2000, "{longest}");
}

#[test]
fn a_cut_is_not_changed_by_what_comes_after_and_shares_what_did_not_change() {
    let mut map: Map = (0..2000).map(|n| item(n, 0)).collect();
    let cut = map.clone();
    map.get_mut(&key(7)).unwrap().value = 1;
    map.remove(&key(1500));
    map.insert(item(5000, 1));
    assert_eq!(cut.get(&key(7)).unwrap().value, 0);
    assert!(cut.contains(&key(1500)) && !cut.contains(&key(5000)));
    let shared = cut.shards().iter().filter(|shard| map.shards().iter().any(|other| Arc::ptr_eq(shard, other)));
    assert!(shared.count() >= cut.shards().len() - 4);
}

#[test]
fn every_value_can_be_changed() {
    let mut map: Map = (0..500).map(|n| item(n, n)).collect();
    let cut = map.clone();
    map.values_mut().for_each(|item| item.value += 1);
    assert_eq!(map.get(&key(9)).unwrap().value, 10);
    assert_eq!(cut.get(&key(9)).unwrap().value, 9);
}

#[test]
fn the_hash_never_changes() {
    let hash = |text: &str| {
        let mut hash = Fnv::default();
        hash.write(text.as_bytes());
        hash.finish()
    };
    assert_eq!([hash(""), hash("a"), hash("certwright")], GOLDEN);
}

/// Computed apart from this code; shard boundaries and renewal jitter of every release depend on it.
const GOLDEN: [u64; 3] = [17665956581633026203, 198367012849983736, 17290841161744964688];
