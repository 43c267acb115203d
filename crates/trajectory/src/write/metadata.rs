//! The `meta/` files of either format.

use super::{Dataset, Format, Histograms, WriteError, lerobot, parquet};

/// The `meta/` files of a dataset, `(path, content)`, in the order to publish them: nothing reads the dataset before the
/// last one, `meta/info.json`, is there.
///
/// # Errors
/// If `histograms` are not those of all the dataset's files.
pub fn metadata(
    dataset: &Dataset<'_>,
    histograms: &Histograms,
) -> Result<Vec<(String, Vec<u8>)>, WriteError> {
    let named = |path: &str, content| (path.to_owned(), content);
    Ok(match dataset.format {
        Format::LeRobot => vec![
            named(lerobot::EPISODES_PATH, lerobot::episodes_table(dataset)?),
            named(lerobot::TASKS_PATH, lerobot::tasks_table(dataset)?),
            named(lerobot::STATS_PATH, lerobot::stats(dataset, histograms)?),
            named(lerobot::INFO_PATH, lerobot::info(dataset)?),
        ],
        Format::Parquet => vec![
            named(parquet::EPISODES_PATH, parquet::episodes_table(dataset)?),
            named(parquet::STATS_PATH, parquet::stats(dataset, histograms)?),
            named(parquet::INFO_PATH, parquet::info(dataset)?),
        ],
    })
}
