//! Things by name, and fields that are not known, in little room.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Index};
use std::sync::LazyLock;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Things by name, in the order of their names. Takes no more room than the things and their names do, which counts
/// since a pipeline has many of these, most with one thing or none.
///
/// Many things in no order are put in at once, by `collect` or `extend`: each [`insert`](Self::insert) moves what comes
/// after.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Named<T>(Vec<(String, T)>);

impl<T> Named<T> {
    /// Nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The thing of this name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.find(name).ok().map(|at| &self.0[at].1)
    }

    /// The thing of this name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.find(name).ok().map(|at| &mut self.0[at].1)
    }

    /// The thing of this name, made where there is none.
    pub fn get_or_insert_with(&mut self, name: &str, make: impl FnOnce() -> T) -> &mut T {
        let at = self.find(name).unwrap_or_else(|at| {
            self.put(at, name.to_owned(), make());
            at
        });
        &mut self.0[at].1
    }

    /// Whether there is a thing of this name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// Puts a thing in, and gives what had its name before.
    pub fn insert(&mut self, name: String, thing: T) -> Option<T> {
        match self.find(&name) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, thing)),
            Err(at) => {
                self.put(at, name, thing);
                None
            }
        }
    }

    /// Takes the thing of this name out.
    pub fn remove(&mut self, name: &str) -> Option<T> {
        self.find(name).ok().map(|at| self.0.remove(at).1)
    }

    /// Names and things.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&String, &T)> + ExactSizeIterator + Clone {
        self.0.iter().map(|(name, thing)| (name, thing))
    }

    /// Names and things, which can be changed.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&String, &mut T)> + ExactSizeIterator {
        self.0.iter_mut().map(|(name, thing)| (&*name, thing))
    }

    /// The names.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &String> + ExactSizeIterator + Clone {
        self.0.iter().map(|(name, _)| name)
    }

    /// The things.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator + Clone {
        self.0.iter().map(|(_, thing)| thing)
    }

    /// The things, which can be changed.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> + ExactSizeIterator {
        self.0.iter_mut().map(|(_, thing)| thing)
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        match self.0.last() {
            Some((last, _)) if last.as_str() < name => Err(self.0.len()),
            _ => self.0.binary_search_by(|(other, _)| other.as_str().cmp(name)),
        }
    }

    fn put(&mut self, at: usize, name: String, thing: T) {
        if self.0.is_empty() {
            self.0.reserve_exact(1);
        }
        self.0.insert(at, (name, thing));
    }

    /// Of things with the same name, the last counts.
    fn sort(&mut self) {
        if !self.0.is_sorted_by(|(before, _), (after, _)| before < after) {
            self.0.sort_by(|(one, _), (other, _)| one.cmp(other));
            self.0.dedup_by(|later, kept| {
                let same = later.0 == kept.0;
                if same {
                    std::mem::swap(later, kept);
                }
                same
            });
        }
        self.0.shrink_to_fit();
    }
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for Named<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<T> Index<&str> for Named<T> {
    type Output = T;

    /// The thing of this name.
    ///
    /// # Panics
    /// Where there is none.
    fn index(&self, name: &str) -> &T {
        self.get(name).expect("a thing of this name")
    }
}

impl<T> Extend<(String, T)> for Named<T> {
    fn extend<I: IntoIterator<Item = (String, T)>>(&mut self, things: I) {
        self.0.extend(things);
        self.sort();
    }
}

impl<T> FromIterator<(String, T)> for Named<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(things: I) -> Self {
        let mut named = Self(things.into_iter().collect());
        named.sort();
        named
    }
}

impl<T, const N: usize> From<[(String, T); N]> for Named<T> {
    fn from(things: [(String, T); N]) -> Self {
        things.into_iter().collect()
    }
}

impl<T> IntoIterator for Named<T> {
    type Item = (String, T);
    type IntoIter = std::vec::IntoIter<(String, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Named<T> {
    type Item = (&'a String, &'a T);
    type IntoIter = std::iter::Map<std::slice::Iter<'a, (String, T)>, fn(&(String, T)) -> (&String, &T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(name, thing)| (name, thing))
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Things<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Things<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Named<T>, M::Error> {
                let mut things = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    things.push(entry);
                }
                let mut named = Named(things);
                named.sort();
                Ok(named)
            }
        }

        deserializer.deserialize_map(Things(PhantomData))
    }
}

/// Fields that a type does not know, in the order in which they came. A word where there are none.
#[derive(Clone, Default, Eq)]
pub struct Extra(Option<Box<Map<String, Value>>>);

static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

impl Extra {
    /// None.
    pub const fn new() -> Self {
        Self(None)
    }
}

impl Deref for Extra {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Self::Target {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for Extra {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.0.get_or_insert_default()
    }
}

impl From<Map<String, Value>> for Extra {
    fn from(fields: Map<String, Value>) -> Self {
        Self((!fields.is_empty()).then(|| Box::new(fields)))
    }
}

impl PartialEq for Extra {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl std::hash::Hash for Extra {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Serialize for Extra {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Extra {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(names: &[&str]) -> Named<usize> {
        names.iter().enumerate().map(|(index, name)| ((*name).to_owned(), index)).collect()
    }

    #[test]
    fn lie_in_the_order_of_their_names_and_the_last_of_a_name_counts() {
        let mut things = named(&["c", "a", "b", "a", "c", "a"]);
        assert_eq!(
            things.iter().map(|(name, at)| (name.as_str(), *at)).collect::<Vec<_>>(),
            [("a", 5), ("b", 2), ("c", 4)]
        );
        assert_eq!(things.insert("b".to_owned(), 9), Some(2));
        assert_eq!(things.insert("aa".to_owned(), 7), None);
        assert_eq!(things.remove("a"), Some(5));
        assert_eq!(things.remove("a"), None);
        *things.get_or_insert_with("d", || 1) += 1;
        *things.get_or_insert_with("d", || 1) += 1;
        assert_eq!(serde_json::to_string(&things).unwrap(), r#"{"aa":7,"b":9,"c":4,"d":3}"#);
    }

    #[test]
    fn read_as_a_tree_map_does() {
        for text in [r#"{"b":1,"a":2,"b":3}"#, "{}", r#"{"a":1}"#, r#"{"z":0,"y":1,"x":2,"y":3,"zz":4}"#] {
            let tree: std::collections::BTreeMap<String, usize> = serde_json::from_str(text).unwrap();
            let read: Named<usize> = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), serde_json::to_string(&tree).unwrap());
            assert!(tree.iter().all(|(name, at)| read.get(name) == Some(at)));
        }
        assert!(
            serde_json::from_str::<Named<usize>>("[1]").unwrap_err().to_string().contains("expected a map")
        );
    }

    #[test]
    fn unknown_fields_are_equal_whether_none_were_ever_there_or_all_were_taken_away() {
        let mut fields = Extra::new();
        fields.insert("new".to_owned(), json!([1]));
        assert_eq!(fields["new"], json!([1]));
        fields.remove("new");
        assert_eq!(fields, Extra::new());
        assert_eq!(size_of::<Extra>(), size_of::<usize>());
    }
}
