//! Raw contents of a request body, valid or not.
//!
//! Deserializing straight into the validated types would stop at the first error. Client developers
//! need all of them at once, so this module keeps what each member contains, and the modules of
//! the requests validate it. Strings without escapes borrow from the body.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Maximum nesting depth of objects and arrays.
pub(crate) const NESTING_MAX: usize = 16;

/// Raw state of one member of an object.
#[derive(Debug, Default)]
pub(crate) enum RawMember<'a> {
    #[default]
    Missing,
    /// The member appears more than once, so its value is ambiguous.
    Duplicate,
    Null,
    Bool(bool),
    /// A whole number in the range of an `i64`, `1.0` included.
    Integer(i64),
    OtherNumber,
    String(Cow<'a, str>),
    Array,
    Object,
}

/// Raw state of a member that should be an array of objects, or of strings.
#[derive(Debug, Default)]
pub(crate) enum RawArray<T> {
    #[default]
    Missing,
    Duplicate,
    Null,
    NotAnArray,
    Array {
        /// The first elements, up to the maximum; `None` for an element of another type.
        elements: Vec<Option<T>>,
        /// Number of elements in the body.
        count: usize,
    },
}

/// Parses a body that should be an object; `Ok(None)` if it is JSON but not an object.
pub(crate) fn parse_object<'a, T: SetMember<'a> + Default>(
    body: &'a [u8],
) -> Result<Option<T>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let object =
        ObjectSeed { levels_left: NESTING_MAX, new: T::default }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(object)
}

/// Object whose members are deserialized one by one.
pub(crate) trait SetMember<'de> {
    fn set_member<A: MapAccess<'de>>(
        &mut self,
        name: &str,
        value: &mut A,
        levels_left: usize,
    ) -> Result<(), A::Error>;
}

/// Sets a member that should be a scalar.
pub(crate) fn set_once<'de, A: MapAccess<'de>>(
    member: &mut RawMember<'de>,
    value: &mut A,
    levels_left: usize,
) -> Result<(), A::Error> {
    let raw = value.next_value_seed(MemberSeed { levels_left })?;
    *member = if matches!(member, RawMember::Missing) { raw } else { RawMember::Duplicate };
    Ok(())
}

/// Sets a member that should be an array of objects.
pub(crate) fn set_objects_once<'de, A: MapAccess<'de>, T: SetMember<'de> + Default>(
    member: &mut RawArray<T>,
    value: &mut A,
    levels_left: usize,
    elements_max: usize,
) -> Result<(), A::Error> {
    let element = |levels_left| ObjectSeed { levels_left, new: T::default };
    set_array_once(member, value, ArraySeed { levels_left, elements_max, element })
}

/// Sets a member that should be an array of strings.
pub(crate) fn set_strings_once<'de, A: MapAccess<'de>>(
    member: &mut RawArray<Cow<'de, str>>,
    value: &mut A,
    levels_left: usize,
    elements_max: usize,
) -> Result<(), A::Error> {
    let element = |levels_left| StringSeed { levels_left };
    set_array_once(member, value, ArraySeed { levels_left, elements_max, element })
}

fn set_array_once<'de, A, T, S, F>(
    member: &mut RawArray<T>,
    value: &mut A,
    seed: ArraySeed<F>,
) -> Result<(), A::Error>
where
    A: MapAccess<'de>,
    S: DeserializeSeed<'de, Value = Option<T>>,
    F: Fn(usize) -> S,
{
    *member = if matches!(member, RawArray::Missing) {
        value.next_value_seed(seed)?
    } else {
        skip(value, seed.levels_left)?;
        RawArray::Duplicate
    };
    Ok(())
}

/// Skips a member that the protocol does not define.
pub(crate) fn skip<'de, A: MapAccess<'de>>(
    value: &mut A,
    levels_left: usize,
) -> Result<(), A::Error> {
    value.next_value_seed(SkipSeed { levels_left })
}

fn descend<E: Error>(levels_left: usize) -> Result<usize, E> {
    levels_left
        .checked_sub(1)
        .ok_or_else(|| E::custom(format_args!("nested more than {NESTING_MAX} levels deep")))
}

/// Visitor methods for scalars, which differ between the visitors in their result only.
macro_rules! visit_scalars {
    ($scalar:ident => $result:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any JSON value")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            let $scalar = RawMember::Null;
            Ok($result)
        }

        fn visit_bool<E: Error>(self, bool: bool) -> Result<Self::Value, E> {
            let $scalar = RawMember::Bool(bool);
            Ok($result)
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
            let $scalar = RawMember::Integer(number);
            Ok($result)
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
            let $scalar = i64::try_from(number).map_or(RawMember::OtherNumber, RawMember::Integer);
            Ok($result)
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
            let $scalar = integer(number).map_or(RawMember::OtherNumber, RawMember::Integer);
            Ok($result)
        }

        fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
            let $scalar = RawMember::String(Cow::Borrowed(text));
            Ok($result)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            let $scalar = RawMember::String(Cow::Owned(text.to_owned()));
            Ok($result)
        }
    };
}

/// Converts `1.0` and `1e0` to 1, because JavaScript does not distinguish them.
fn integer(number: f64) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_991.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole and in the range of an i64")]
    (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i64)
}

/// Keeps a scalar; skips an object or array.
struct MemberSeed {
    levels_left: usize,
}

impl<'de> DeserializeSeed<'de> for MemberSeed {
    type Value = RawMember<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MemberSeed {
    type Value = RawMember<'de>;

    visit_scalars!(scalar => scalar);

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        SkipSeed { levels_left: self.levels_left }.visit_seq(seq).map(|()| RawMember::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        SkipSeed { levels_left: self.levels_left }.visit_map(map).map(|()| RawMember::Object)
    }
}

/// Skips a value, checking its nesting depth.
struct SkipSeed {
    levels_left: usize,
}

impl<'de> DeserializeSeed<'de> for SkipSeed {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SkipSeed {
    type Value = ();

    visit_scalars!(_scalar => ());

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let levels_left = descend(self.levels_left)?;
        while seq.next_element_seed(SkipSeed { levels_left })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let levels_left = descend(self.levels_left)?;
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(SkipSeed { levels_left })?;
        }
        Ok(())
    }
}

/// Deserializes an object into the `T` that `new` creates; `None` for any other value.
struct ObjectSeed<F> {
    levels_left: usize,
    new: F,
}

impl<'de, T: SetMember<'de>, F: FnOnce() -> T> DeserializeSeed<'de> for ObjectSeed<F> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, T: SetMember<'de>, F: FnOnce() -> T> Visitor<'de> for ObjectSeed<F> {
    type Value = Option<T>;

    visit_scalars!(_scalar => None);

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        SkipSeed { levels_left: self.levels_left }.visit_seq(seq).map(|()| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let levels_left = descend(self.levels_left)?;
        let mut object = (self.new)();
        while let Some(MemberName(name)) = map.next_key()? {
            object.set_member(&name, &mut map, levels_left)?;
        }
        Ok(Some(object))
    }
}

/// Deserializes a string; `None` for any other value.
struct StringSeed {
    levels_left: usize,
}

impl<'de> DeserializeSeed<'de> for StringSeed {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        let raw = MemberSeed { levels_left: self.levels_left }.deserialize(from)?;
        Ok(if let RawMember::String(text) = raw { Some(text) } else { None })
    }
}

/// Deserializes an array, and each of its elements by the seed that `element` creates from the levels left.
struct ArraySeed<F> {
    levels_left: usize,
    elements_max: usize,
    element: F,
}

impl<'de, T, S, F> DeserializeSeed<'de> for ArraySeed<F>
where
    S: DeserializeSeed<'de, Value = Option<T>>,
    F: Fn(usize) -> S,
{
    type Value = RawArray<T>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, T, S, F> Visitor<'de> for ArraySeed<F>
where
    S: DeserializeSeed<'de, Value = Option<T>>,
    F: Fn(usize) -> S,
{
    type Value = RawArray<T>;

    visit_scalars!(scalar => match scalar {
        RawMember::Null => RawArray::Null,
        _ => RawArray::NotAnArray,
    });

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        SkipSeed { levels_left: self.levels_left }.visit_map(map).map(|()| RawArray::NotAnArray)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let levels_left = descend(self.levels_left)?;
        let mut elements = Vec::new();
        while elements.len() < self.elements_max {
            let Some(element) = seq.next_element_seed((self.element)(levels_left))? else {
                let count = elements.len();
                return Ok(RawArray::Array { elements, count });
            };
            elements.push(element);
        }
        let mut count = elements.len();
        while seq.next_element_seed(SkipSeed { levels_left })?.is_some() {
            count += 1;
        }
        Ok(RawArray::Array { elements, count })
    }
}

/// A member's name, borrowed if it has no escapes.
struct MemberName<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for MemberName<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match (MemberSeed { levels_left: 0 }).deserialize(from)? {
            RawMember::String(name) => Ok(Self(name)),
            _ => Err(D::Error::custom("the name of a member must be a string")),
        }
    }
}
