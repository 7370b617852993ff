//! The fields under an operation's `not`.

use std::ops::{Deref, DerefMut};
use std::sync::LazyLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::OperationFields;

/// Fields of which nothing may hold. It reads as the fields themselves; mostly none is given, and then they take no space.
#[derive(Clone, Debug, Default, Eq)]
pub struct Excluded(Option<Box<OperationFields>>);

static NONE: LazyLock<OperationFields> = LazyLock::new(OperationFields::default);

impl Excluded {
    /// The fields, if any is given.
    pub(crate) fn given(&self) -> Option<&OperationFields> {
        self.0.as_deref()
    }
}

impl From<OperationFields> for Excluded {
    fn from(fields: OperationFields) -> Self {
        Self((fields != *NONE).then(|| Box::new(fields)))
    }
}

impl Deref for Excluded {
    type Target = OperationFields;

    fn deref(&self) -> &OperationFields {
        self.given().unwrap_or(&NONE)
    }
}

impl DerefMut for Excluded {
    fn deref_mut(&mut self) -> &mut OperationFields {
        self.0.get_or_insert_default()
    }
}

/// No fields are no fields, whatever space they take.
impl PartialEq for Excluded {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl PartialEq<OperationFields> for Excluded {
    fn eq(&self, other: &OperationFields) -> bool {
        **self == *other
    }
}

impl Serialize for Excluded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Excluded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        OperationFields::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    #[test]
    fn no_fields_are_the_default_and_take_no_space() {
        let none = Excluded::from(OperationFields::default());
        assert!(none.0.is_none());
        let json = serde_json::to_string(&none).unwrap();
        assert_eq!(json, serde_json::to_string(&*NONE).unwrap());
        assert_eq!(serde_json::from_str::<Excluded>(&json).unwrap(), none);
        assert_eq!(size_of_val(&none), size_of::<usize>());
    }

    #[test]
    fn fields_that_are_given_are_read_through_it() {
        let fields = OperationFields {
            ports: smallvec![80],
            ..OperationFields::default()
        };
        let excluded = Excluded::from(fields.clone());
        assert_eq!(excluded, fields);
        assert_eq!(excluded.ports.as_slice(), [80]);
        let mut more = Excluded::default();
        more.ports.push(80);
        assert_eq!(more, excluded);
    }
}
