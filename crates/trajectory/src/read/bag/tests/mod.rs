//! Tests of the reader as a whole, on recordings built here with the mcap crate's writer.

mod build;
mod decoding;
mod episodes;
mod hostile;
mod streams;
