//! The list that `with_items` runs over: JSON, or a range that is never written out.

use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use serde::{Deserialize, Serialize};

use crate::json::Json;

/// The items of one run of a task. Cloning is cheap.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemList {
    /// A JSON list.
    List(Json),
    /// What `range()` gave, as it was written in `with_items`.
    Range(Range),
}

/// Whole numbers at equal distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first.
    pub first: i64,
    /// From each to the next; not 0.
    pub step: i64,
    /// How many.
    pub count: u32,
}

/// A range as the row keeps it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRange {
    range: Range,
}

impl ItemList {
    /// How many items there are; `None` if it is no list, or has more than a `u32` can count.
    #[must_use]
    pub fn count(&self) -> Option<u32> {
        match self {
            Self::List(json) if json.value().kind() == ValueKind::Seq => {
                u32::try_from(json.value().len()?).ok()
            }
            Self::List(_) => None,
            Self::Range(range) => Some(range.count),
        }
    }

    /// The item at `index`, or the list of at most `batch_size` items that begins at item
    /// `index * batch_size`; null and an empty list where there is none.
    #[must_use]
    pub fn piece(&self, index: u32, batch_size: Option<u32>) -> Value {
        let Some(size) = batch_size else {
            return self.at(u64::from(index));
        };
        let from = u64::from(index) * u64::from(size);
        let count = u64::from(self.count().unwrap_or(0));
        let to = count.min(from + u64::from(size));
        Value::from((from..to).map(|at| self.at(at)).collect::<Vec<_>>())
    }

    fn at(&self, index: u64) -> Value {
        match self {
            Self::List(json) => {
                let item = json.value().get_item(&Value::from(index));
                item.unwrap_or_else(|_| Value::from(()))
            }
            Self::Range(range) => range.at(index).map_or_else(|| Value::from(()), Value::from),
        }
    }

    /// The JSON that the row keeps: the list, or `{"range": …}`.
    #[must_use]
    pub fn to_stored(&self) -> Json {
        match self {
            Self::List(json) => json.clone(),
            Self::Range(range) => Json::of(&StoredRange { range: *range }),
        }
    }

    /// Reads what [`Self::to_stored`] gave.
    #[must_use]
    pub fn from_stored(stored: &Json) -> Self {
        match serde_json::from_str::<StoredRange>(stored.text()) {
            Ok(StoredRange { range }) => Self::Range(range),
            Err(_) => Self::List(stored.clone()),
        }
    }
}

impl Range {
    fn at(&self, index: u64) -> Option<i64> {
        if index >= u64::from(self.count) {
            return None;
        }
        let index = i64::try_from(index).ok()?;
        self.first.checked_add(self.step.checked_mul(index)?)
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = u64::try_from(key.clone()).ok()?;
        self.at(index).map(Value::from)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(usize::try_from(self.count).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> ItemList {
        ItemList::List(Json::parse(text.to_owned()).expect("JSON"))
    }

    fn shown(value: &Value) -> String {
        crate::expression::to_json(value)
            .expect("JSON")
            .text()
            .to_owned()
    }

    #[test]
    fn batches_are_lists_and_the_last_may_be_short() {
        let items = list("[1,2,3,4,5]");
        assert_eq!(items.count(), Some(5));
        assert_eq!(shown(&items.piece(0, None)), "1");
        assert_eq!(shown(&items.piece(0, Some(2))), "[1,2]");
        assert_eq!(shown(&items.piece(2, Some(2))), "[5]");
    }

    #[test]
    fn a_range_is_stored_as_one_and_read_back() {
        let range = ItemList::Range(Range {
            first: 10,
            step: -3,
            count: 4,
        });
        assert_eq!(shown(&range.piece(3, None)), "1");
        assert_eq!(shown(&range.piece(1, Some(2))), "[4,1]");
        let stored = range.to_stored();
        assert_eq!(
            stored.text(),
            r#"{"range":{"first":10,"step":-3,"count":4}}"#
        );
        assert_eq!(ItemList::from_stored(&stored), range);
    }

    #[test]
    fn only_a_list_has_a_count() {
        for text in ["null", "7", r#""abc""#, r#"{"a":1}"#] {
            assert_eq!(list(text).count(), None, "{text}");
        }
        assert_eq!(ItemList::from_stored(&Json::null()).count(), None);
    }
}
