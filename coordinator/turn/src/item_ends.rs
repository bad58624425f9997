//! What the items of live tasks left, as it is loaded.

use std::collections::BTreeMap;

use flotilla_engine::Json;
use flotilla_engine::execution::{Run, Spread};
use flotilla_protocol::RunNo;

use crate::rows::LoadedExecution;

/// Adds the ends of items to the live runs that they belong to.
pub(crate) fn add(live: &mut BTreeMap<RunNo, Run>, loaded: &LoadedExecution) {
    for end in &loaded.item_ends {
        if let Some(spread) = spread_of(live, end.item_of) {
            let result = end.result.clone().unwrap_or_else(Json::null);
            spread.ends.add(end.item_index, &result, end.error.as_ref());
            if end.is_kept {
                spread.kept.insert(end.item_index);
            }
        }
    }
    for no in &loaded.too_large {
        if let Some(spread) = spread_of(live, *no) {
            spread.ends.lose_results();
        }
    }
}

fn spread_of(live: &mut BTreeMap<RunNo, Run>, no: RunNo) -> Option<&mut Spread> {
    live.get_mut(&no).and_then(|run| run.spread.as_deref_mut())
}
