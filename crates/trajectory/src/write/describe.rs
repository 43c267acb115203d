//! Statistics in the shape that files hold: lists per name, typed by the column they describe.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array};

use super::WriteError;
use super::json::Object;
use super::stats::{ComponentStats, QUANTILE_NAMES};
use super::table;
use crate::Dtype;

/// What the values of a column are, as far as its statistics go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Int,
    Bool,
    /// Three channels, shaped `[3][1][1]` so that they broadcast over pixels.
    Image,
}

impl Kind {
    /// `None` for columns without statistics, which lerobot skips too.
    pub(super) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::Float32 => Some(Self::Float),
            Dtype::Int64 => Some(Self::Int),
            Dtype::Bool => Some(Self::Bool),
            Dtype::Image => Some(Self::Image),
            Dtype::String | Dtype::Bytes => None,
        }
    }
}

/// The names of all statistics, in lerobot's order.
pub(super) const NAMES: [&str; 10] =
    ["min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"];

/// The statistic `name` of a component.
fn pick(component: &ComponentStats, name: &str) -> f64 {
    match name {
        "min" => component.moments.min,
        "max" => component.moments.max,
        "mean" => component.moments.mean,
        "std" => component.moments.std(),
        _ => {
            let at = QUANTILE_NAMES.iter().position(|&quantile| quantile == name);
            at.map_or(0.0, |at| component.quantiles[at])
        }
    }
}

/// The statistics of a feature as a JSON object. `count` is the number of rows.
pub(super) fn object(
    kind: Kind,
    rows: u64,
    components: &[ComponentStats],
) -> Object<&'static str, serde_json::Value> {
    use serde_json::{Value, json};
    let entry = |name: &'static str| {
        let value = |component: &ComponentStats| {
            let value = pick(component, name);
            match kind {
                Kind::Int if matches!(name, "min" | "max") => json!(value as i64),
                Kind::Bool if matches!(name, "min" | "max") => json!(value != 0.0),
                Kind::Image => json!([[value]]),
                _ => json!(value),
            }
        };
        let list = if name == "count" { vec![json!(rows)] } else { components.iter().map(value).collect() };
        (name, Value::Array(list))
    };
    Object(NAMES.into_iter().map(entry).collect())
}

/// The statistic `name` of one feature over several episodes, a list per episode: the columns of lerobot's
/// `meta/episodes`.
pub(super) fn array(
    kind: Kind,
    name: &str,
    components: usize,
    episodes: &[(u64, Vec<ComponentStats>)],
) -> Result<ArrayRef, WriteError> {
    if name == "count" {
        let rows: Int64Array = episodes.iter().map(|(rows, _)| *rows as i64).collect();
        return table::nest(Arc::new(rows), &[1], true);
    }
    let values = || episodes.iter().flat_map(|(_, all)| all.iter().map(|c| pick(c, name)));
    let array: ArrayRef = match kind {
        Kind::Int if matches!(name, "min" | "max") => {
            Arc::new(values().map(|value| value as i64).collect::<Int64Array>())
        }
        Kind::Bool if matches!(name, "min" | "max") => {
            Arc::new(values().map(|value| Some(value != 0.0)).collect::<BooleanArray>())
        }
        _ => Arc::new(values().collect::<Float64Array>()),
    };
    match kind {
        Kind::Image => table::nest(array, &[components, 1, 1], true),
        _ => table::nest(array, &[components], true),
    }
}
