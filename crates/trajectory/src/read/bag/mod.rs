//! Bags: MCAP recordings of ROS 2 and JSON messages.

mod options;

pub use options::{BagMetadataError, BagOptions, EpisodesFrom, ParseEpisodesError, TopicFilter, bag_files};
