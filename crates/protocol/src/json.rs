//! A push body, read as it stands: what each member holds, right or wrong.
//!
//! Decoding straight into the right types would stop at the first wrong one. A client's author wants
//! all of them at once, so decoding keeps what it finds and `push` judges it.
//! Texts are borrowed from the body where they have no escapes.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::OPERATIONS_MAX;

/// How deep objects and arrays may stand in one another.
pub(crate) const NESTING_MAX: usize = 16;

/// What stands at one place of a body.
#[derive(Debug, Default)]
pub(crate) enum Found<'a> {
    #[default]
    Nothing,
    Null,
    Bool(bool),
    /// A number that is whole, `1.0` included, and in the range of an `i64`.
    Whole(i64),
    OtherNumber,
    Text(Cow<'a, str>),
    Array,
    Object,
    /// The same member twice in one object: no telling which one is meant.
    Twice,
}

/// The members of an operation that mean something here.
#[derive(Debug, Default)]
pub(crate) struct FoundOperation<'a> {
    pub(crate) record_id: Found<'a>,
    pub(crate) base_version: Found<'a>,
    pub(crate) ciphertext: Found<'a>,
    pub(crate) deleted: Found<'a>,
}

/// What stands where `operations` should.
#[derive(Debug, Default)]
pub(crate) enum FoundOperations<'a> {
    #[default]
    Nothing,
    Twice,
    NoArray,
    /// The first [`OPERATIONS_MAX`] of them (`None`: not an object) and how many there are.
    Array(Vec<Option<FoundOperation<'a>>>, usize),
}

/// The members of a push body that mean something here.
#[derive(Debug, Default)]
pub(crate) struct FoundPush<'a> {
    pub(crate) operations: FoundOperations<'a>,
    pub(crate) epoch: Found<'a>,
}

/// Reads a body; `Ok(None)` where it is JSON but not an object.
pub(crate) fn read(body: &[u8]) -> Result<Option<FoundPush<'_>>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let found = Object { levels_left: NESTING_MAX, make: FoundPush::default }
        .deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(found)
}

/// An object whose members are set one by one.
trait Members<'de> {
    fn set<A: MapAccess<'de>>(
        &mut self,
        name: &str,
        value: &mut A,
        levels_left: usize,
    ) -> Result<(), A::Error>;
}

impl<'de> Members<'de> for FoundPush<'de> {
    fn set<A: MapAccess<'de>>(
        &mut self,
        name: &str,
        value: &mut A,
        levels_left: usize,
    ) -> Result<(), A::Error> {
        match (name, &self.operations) {
            ("operations", FoundOperations::Nothing) => {
                self.operations = value.next_value_seed(Operations { levels_left })?;
            }
            ("operations", _) => {
                value.next_value_seed(Skip { levels_left })?;
                self.operations = FoundOperations::Twice;
            }
            ("epoch", _) => set_once(&mut self.epoch, value, levels_left)?,
            _ => value.next_value_seed(Skip { levels_left })?,
        }
        Ok(())
    }
}

impl<'de> Members<'de> for FoundOperation<'de> {
    fn set<A: MapAccess<'de>>(
        &mut self,
        name: &str,
        value: &mut A,
        levels_left: usize,
    ) -> Result<(), A::Error> {
        match name {
            "recordId" => set_once(&mut self.record_id, value, levels_left),
            "baseVersion" => set_once(&mut self.base_version, value, levels_left),
            "ciphertext" => set_once(&mut self.ciphertext, value, levels_left),
            "deleted" => set_once(&mut self.deleted, value, levels_left),
            _ => value.next_value_seed(Skip { levels_left }),
        }
    }
}

fn set_once<'de, A: MapAccess<'de>>(
    member: &mut Found<'de>,
    value: &mut A,
    levels_left: usize,
) -> Result<(), A::Error> {
    let found = value.next_value_seed(Anything { levels_left })?;
    *member = if matches!(member, Found::Nothing) { found } else { Found::Twice };
    Ok(())
}

fn one_level_down<E: Error>(levels_left: usize) -> Result<usize, E> {
    levels_left
        .checked_sub(1)
        .ok_or_else(|| E::custom(format_args!("nested more than {NESTING_MAX} levels deep")))
}

/// The visits of a scalar, alike for every visitor here but for what becomes of it.
macro_rules! on_scalars {
    ($found:ident => $result:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any JSON value")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            let $found = Found::Null;
            Ok($result)
        }

        fn visit_bool<E: Error>(self, bool: bool) -> Result<Self::Value, E> {
            let $found = Found::Bool(bool);
            Ok($result)
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
            let $found = Found::Whole(number);
            Ok($result)
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
            let $found = i64::try_from(number).map_or(Found::OtherNumber, Found::Whole);
            Ok($result)
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
            let $found = whole(number).map_or(Found::OtherNumber, Found::Whole);
            Ok($result)
        }

        fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
            let $found = Found::Text(Cow::Borrowed(text));
            Ok($result)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            let $found = Found::Text(Cow::Owned(text.to_owned()));
            Ok($result)
        }
    };
}

/// `1.0` and `1e0` are 1 to every JavaScript client, so they are 1 here.
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_991.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole and in the range of an i64")]
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// Keeps a scalar, skips through an object or array.
struct Anything {
    levels_left: usize,
}

impl<'de> DeserializeSeed<'de> for Anything {
    type Value = Found<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Anything {
    type Value = Found<'de>;

    on_scalars!(found => found);

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Skip { levels_left: self.levels_left }.visit_seq(seq).map(|()| Found::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Skip { levels_left: self.levels_left }.visit_map(map).map(|()| Found::Object)
    }
}

/// Passes over a value of which only the depth matters.
struct Skip {
    levels_left: usize,
}

impl<'de> DeserializeSeed<'de> for Skip {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Skip {
    type Value = ();

    on_scalars!(_found => ());

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let levels_left = one_level_down(self.levels_left)?;
        while seq.next_element_seed(Skip { levels_left })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let levels_left = one_level_down(self.levels_left)?;
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Skip { levels_left })?;
        }
        Ok(())
    }
}

/// Fills an object's known members; `None` where something else stands there.
struct Object<F> {
    levels_left: usize,
    make: F,
}

impl<'de, T: Members<'de>, F: FnOnce() -> T> DeserializeSeed<'de> for Object<F> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, T: Members<'de>, F: FnOnce() -> T> Visitor<'de> for Object<F> {
    type Value = Option<T>;

    on_scalars!(_found => None);

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Skip { levels_left: self.levels_left }.visit_seq(seq).map(|()| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let levels_left = one_level_down(self.levels_left)?;
        let mut members = (self.make)();
        while let Some(Name(name)) = map.next_key()? {
            members.set(&name, &mut map, levels_left)?;
        }
        Ok(Some(members))
    }
}

/// The array of operations.
struct Operations {
    levels_left: usize,
}

impl<'de> DeserializeSeed<'de> for Operations {
    type Value = FoundOperations<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Operations {
    type Value = FoundOperations<'de>;

    on_scalars!(_found => FoundOperations::NoArray);

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Skip { levels_left: self.levels_left }.visit_map(map).map(|()| FoundOperations::NoArray)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let levels_left = one_level_down(self.levels_left)?;
        let mut kept = Vec::new();
        let make = FoundOperation::default;
        while kept.len() < OPERATIONS_MAX {
            let Some(operation) = seq.next_element_seed(Object { levels_left, make })? else {
                let count = kept.len();
                return Ok(FoundOperations::Array(kept, count));
            };
            kept.push(operation);
        }
        let mut count = kept.len();
        while seq.next_element_seed(Skip { levels_left })?.is_some() {
            count += 1;
        }
        Ok(FoundOperations::Array(kept, count))
    }
}

/// A member's name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match (Anything { levels_left: 0 }).deserialize(from)? {
            Found::Text(name) => Ok(Self(name)),
            _ => Err(D::Error::custom("a member's name must be a string")),
        }
    }
}
