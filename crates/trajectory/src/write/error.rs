//! What can go wrong while writing.

use parquet::errors::ParquetError;

use crate::image::ImageError;

/// Why output cannot be written. [`Sink`](WriteError::Sink) is the only kind that trying again may cure.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The output format cannot hold what the schema declares.
    #[error("column {column}: {problem}")]
    Schema {
        /// The column's name.
        column: String,
        /// One sentence that says what and, where it helps, what to do.
        problem: String,
    },
    /// The rate or the episodes do not fit the format.
    #[error("{0}")]
    Dataset(String),
    /// An episode does not have the shape that the schema declares.
    #[error("{origin}: {problem}")]
    Episode {
        /// The episode.
        origin: String,
        /// One sentence.
        problem: String,
    },
    /// An image of an episode cannot be used.
    #[error("{origin}, column {column}, row {row}: image {source}")]
    Image {
        /// The episode.
        origin: String,
        /// The column's name.
        column: String,
        /// The first row that shows it.
        row: usize,
        /// What is wrong with it.
        source: ImageError,
    },
    /// A staged file or a summary is not the one that this schema and plan gave.
    #[error("staged data does not match: {0}")]
    Staged(String),
    /// The sink or the staged file failed.
    #[error("{0}")]
    Sink(#[from] std::io::Error),
    /// Parquet refused.
    #[error("parquet: {0}")]
    Parquet(ParquetError),
}

impl From<ParquetError> for WriteError {
    fn from(error: ParquetError) -> Self {
        // A failing sink must stay recognisable below the encoder, since only that is worth another try.
        match error {
            ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
                Ok(io) => Self::Sink(*io),
                Err(inner) => Self::Parquet(ParquetError::External(inner)),
            },
            other => Self::Parquet(other),
        }
    }
}

impl From<arrow_schema::ArrowError> for WriteError {
    fn from(error: arrow_schema::ArrowError) -> Self {
        Self::Parquet(error.into())
    }
}

impl WriteError {
    pub(super) fn schema(column: &str, problem: impl Into<String>) -> Self {
        Self::Schema { column: column.to_owned(), problem: problem.into() }
    }

    pub(super) fn episode(origin: &crate::Origin, problem: impl Into<String>) -> Self {
        Self::Episode { origin: origin.to_string(), problem: problem.into() }
    }
}
