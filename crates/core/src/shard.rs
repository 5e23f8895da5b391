//! An ordered map that is cheap to copy: shards shared by reference, copied only when written.
//!
//! It refuses shard boundaries that depend on history: equal contents have equal shards, so that replicas can compare
//! digests shard by shard.
//!
//! Keys stay in order and a new shard begins at every key whose hash ends in zeros, as in a prolly tree. Which shards
//! there are is therefore a function of the keys alone, whatever the order of insertions and removals was.

use std::sync::Arc;

/// One key in this many begins a shard, on average.
const SHARD_KEYS_MEAN: u64 = 128;

/// A key that can be hashed without a seed: the same on every replica and in every release.
pub trait ShardKey: Ord + Clone {
    /// Feeds the key's canonical octets.
    fn feed(&self, hash: &mut Fnv);
}

/// A value that knows its own key, so that the map need not hold it twice.
pub trait Keyed {
    /// The key's type.
    type Key: ShardKey;

    /// The key.
    fn key(&self) -> &Self::Key;
}

/// FNV-1a, 64 bits, seedless; for placement and jitter, never against adversaries.
#[derive(Clone, Copy, Debug)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Feeds octets.
    pub fn write(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.0 = (self.0 ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Feeds a number, big-endian.
    pub fn write_u64(&mut self, number: u64) {
        self.write(&number.to_be_bytes());
    }

    /// The hash, its bits mixed (FNV alone leaves the low bits poor on short inputs; splitmix64's finaliser).
    pub fn finish(self) -> u64 {
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A run of neighbouring values in key order; compare by pointer to see whether it changed.
pub type Shard<V> = Arc<Vec<Arc<V>>>;

/// An ordered copy-on-write map. Cloning costs one reference count per shard.
#[derive(Debug)]
pub struct Sharded<K, V> {
    shards: Vec<Shard<V>>,
    /// The first key of each shard: a search goes through these, side by side, and then through one shard.
    firsts: Arc<Vec<K>>,
    len: usize,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self { shards: Vec::new(), firsts: Arc::default(), len: 0 }
    }
}

impl<K, V> Clone for Sharded<K, V> {
    fn clone(&self) -> Self {
        Self { shards: self.shards.clone(), firsts: Arc::clone(&self.firsts), len: self.len }
    }
}

impl<K, V: PartialEq> PartialEq for Sharded<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.shards == other.shards
    }
}

impl<K, V: Eq> Eq for Sharded<K, V> {}

fn begins_shard<K: ShardKey>(key: &K) -> bool {
    let mut hash = Fnv::default();
    key.feed(&mut hash);
    hash.finish() % SHARD_KEYS_MEAN == 0
}

impl<K: ShardKey, V: Keyed<Key = K>> Sharded<K, V> {
    /// How many values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The shards in key order; a pointer that did not change holds values that did not change.
    pub fn shards(&self) -> &[Shard<V>] {
        &self.shards
    }

    /// Every value in key order.
    pub fn iter(&self) -> impl Iterator<Item = &V> {
        self.shards.iter().flat_map(|shard| shard.iter().map(|value| &**value))
    }

    /// The value of this key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let (shard, at) = self.find(key).ok()?;
        Some(&self.shards[shard][at])
    }

    /// Whether the key is there.
    pub fn contains(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// The value of this key, to be changed; copied first if a cut still holds it. The key must not be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V>
    where
        V: Clone,
    {
        let (shard, at) = self.find(key).ok()?;
        Some(Arc::make_mut(&mut Arc::make_mut(&mut self.shards[shard])[at]))
    }

    /// Every value in key order, to be changed; keys must not be changed. Copies what a cut still holds.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V>
    where
        V: Clone,
    {
        self.shards.iter_mut().flat_map(|shard| {
            let values = Arc::make_mut(shard);
            values.shrink_to_fit();
            values.iter_mut().map(Arc::make_mut)
        })
    }

    /// Puts the value under its key; returns what was there.
    pub fn insert(&mut self, value: V) -> Option<Arc<V>> {
        // In order, as snapshots hold them, each goes behind the last one.
        if self.shards.last().and_then(|shard| shard.last()).is_some_and(|last| last.key() < value.key()) {
            let shard = self.shards.len() - 1;
            self.insert_new(shard, self.shards[shard].len(), value);
            return None;
        }
        match self.find(value.key()) {
            Ok((shard, at)) => {
                let slot = &mut Arc::make_mut(&mut self.shards[shard])[at];
                Some(std::mem::replace(slot, Arc::new(value)))
            }
            Err((shard, at)) => {
                self.insert_new(shard, at, value);
                None
            }
        }
    }

    /// Takes the value of this key away.
    pub fn remove(&mut self, key: &K) -> Option<Arc<V>> {
        let (shard, at) = self.find(key).ok()?;
        let values = Arc::make_mut(&mut self.shards[shard]);
        let removed = values.remove(at);
        if values.is_empty() {
            self.remove_shard(shard);
        } else if at == 0 && shard > 0 {
            // The boundary is gone: what it began belongs to the shard before.
            let rest = self.remove_shard(shard);
            Arc::make_mut(&mut self.shards[shard - 1]).extend(rest.iter().cloned());
        } else if at == 0 {
            Arc::make_mut(&mut self.firsts)[shard] = values[0].key().clone();
        }
        self.len -= 1;
        Some(removed)
    }

    /// At most `limit` values in key order that come after `key` (from the beginning for `None`) and pass `filter`.
    pub fn page_after<'a>(&'a self, key: Option<&K>, limit: usize, mut filter: impl FnMut(&V) -> bool) -> Vec<&'a V> {
        self.after(key).filter(|value| filter(value)).take(limit).collect()
    }

    /// The values in key order that come after `key`.
    pub fn after(&self, key: Option<&K>) -> impl Iterator<Item = &V> {
        let (shard, at) = match key.map(|key| self.find(key)) {
            None => (0, 0),
            Some(Ok((shard, at))) => (shard, at + 1),
            Some(Err(place)) => place,
        };
        let head = self.shards.get(shard).map_or(&[][..], |values| &values[at.min(values.len())..]);
        let tail = self.shards.iter().skip(shard + 1).flat_map(|values| values.iter());
        head.iter().chain(tail).map(|value| &**value)
    }

    /// Where the key is, or else the shard and place where it would have to be put.
    fn find(&self, key: &K) -> Result<(usize, usize), (usize, usize)> {
        let after = self.firsts.partition_point(|first| first <= key);
        let Some(shard) = after.checked_sub(1) else {
            return Err((0, 0));
        };
        match self.shards[shard].binary_search_by(|value| value.key().cmp(key)) {
            Ok(at) => Ok((shard, at)),
            Err(at) => Err((shard, at)),
        }
    }

    fn insert_new(&mut self, shard: usize, at: usize, value: V) {
        let begins = begins_shard(value.key());
        let value = Arc::new(value);
        self.len += 1;
        let Some(values) = self.shards.get_mut(shard) else {
            return self.insert_shard(shard, vec![value]);
        };
        if at == 0 && begins_shard(values[0].key()) {
            // Before the first key of all, and that one begins a shard whatever stands before it.
            self.insert_shard(shard, vec![value]);
        } else if begins && at > 0 {
            let values = Arc::make_mut(values);
            let mut rest = Vec::with_capacity(values.len() - at + 1);
            rest.push(value);
            rest.extend(values.drain(at..));
            self.insert_shard(shard + 1, rest);
        } else {
            if at == 0 {
                Arc::make_mut(&mut self.firsts)[shard] = value.key().clone();
            }
            Arc::make_mut(values).insert(at, value);
        }
    }

    fn insert_shard(&mut self, at: usize, values: Vec<Arc<V>>) {
        Arc::make_mut(&mut self.firsts).insert(at, values[0].key().clone());
        self.shards.insert(at, Arc::new(values));
    }

    fn remove_shard(&mut self, at: usize) -> Shard<V> {
        Arc::make_mut(&mut self.firsts).remove(at);
        self.shards.remove(at)
    }
}

impl<K: ShardKey, V: Keyed<Key = K>> FromIterator<V> for Sharded<K, V> {
    fn from_iter<I: IntoIterator<Item = V>>(values: I) -> Self {
        let mut sharded = Self::default();
        for value in values {
            sharded.insert(value);
        }
        sharded
    }
}

#[cfg(test)]
mod tests;
