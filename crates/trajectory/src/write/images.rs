//! Statistics of image columns: histograms of 8-bit samples per colour channel.
//!
//! An episode contributes at most [`SAMPLED_FRAMES`] evenly spaced distinct frames, decoded to RGB at full size. The
//! histograms are exact for those frames and add up, so the statistics of the whole dataset come from their sum. As in
//! lerobot 0.4.4, samples are divided by 255 and `count` is the number of frames.

use serde::{Deserialize, Serialize};

use super::stats::{ColumnStats, ComponentStats, Counted};
use super::{WriteError, table};
use crate::image::{self, ImageError};
use crate::{Blobs, ColumnSpec, Frames};

/// Most frames of an episode that are decoded for statistics.
pub const SAMPLED_FRAMES: usize = 32;

/// How often each 8-bit value occurs in each colour channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageHistogram {
    /// Frames that were decoded.
    pub frames: u64,
    /// Red, green and blue, 256 counts each.
    pub channels: [Vec<u64>; 3],
}

impl Default for ImageHistogram {
    fn default() -> Self {
        Self { frames: 0, channels: std::array::from_fn(|_| vec![0; 256]) }
    }
}

impl ImageHistogram {
    fn add(&mut self, rgb: &[u8]) {
        self.frames += 1;
        let mut counts = [[0_u64; 256]; 3];
        for pixel in rgb.chunks_exact(3) {
            for (counts, &sample) in counts.iter_mut().zip(pixel) {
                counts[usize::from(sample)] += 1;
            }
        }
        for (all, counts) in self.channels.iter_mut().zip(counts) {
            all.iter_mut().zip(counts).for_each(|(all, n)| *all += n);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.frames = self.frames.saturating_add(other.frames);
        for (mine, theirs) in self.channels.iter_mut().zip(&other.channels) {
            mine.iter_mut().zip(theirs).for_each(|(mine, n)| *mine = mine.saturating_add(*n));
        }
    }

    /// Per channel, of samples in `[0, 1]`.
    pub(super) fn stats(&self) -> ColumnStats {
        let channel = |counts: &Vec<u64>| -> ComponentStats {
            let pairs = counts.iter().enumerate().map(|(value, &n)| (value as f64 / 255.0, n));
            Counted::new(pairs).stats()
        };
        ColumnStats { rows: self.frames, components: self.channels.iter().map(channel).collect() }
    }
}

/// Checks every image of a column against its declared size and counts the samples of some of them.
pub(super) fn examine(
    frames: &Frames,
    spec: &ColumnSpec,
    values: &Blobs,
    index: &[u32],
) -> Result<ImageHistogram, WriteError> {
    let fail = |row: usize, source: ImageError| WriteError::Image {
        origin: frames.origin.to_string(),
        column: spec.name.clone(),
        row,
        source,
    };
    let mut seen = vec![false; values.len()];
    let mut unmasked: Vec<(usize, usize)> = Vec::new();
    let mut counted = vec![false; values.len()];
    for (row, &at) in index.iter().enumerate() {
        let at = at as usize;
        if !std::mem::replace(&mut seen[at], true) {
            check(spec, values.get(at)).map_err(|error| match error {
                Ok(source) => fail(row, source),
                Err(problem) => {
                    WriteError::episode(&frames.origin, format!("column {}, row {row}: {problem}", spec.name))
                }
            })?;
        }
        if !frames.masked[row] && !std::mem::replace(&mut counted[at], true) {
            unmasked.push((row, at));
        }
    }
    let mut out = ImageHistogram::default();
    for (row, at) in evenly(&unmasked, SAMPLED_FRAMES) {
        let (_, _, rgb) = image::decode_rgb(values.get(at)).map_err(|error| fail(row, error))?;
        out.add(&rgb);
    }
    Ok(out)
}

/// The header must say what the schema says: a loader stacks the frames into one tensor.
fn check(spec: &ColumnSpec, bytes: &[u8]) -> Result<(), Result<ImageError, String>> {
    if bytes.len() > table::VALUE_BYTES {
        return Err(Err(format!("image of {} bytes is too large", bytes.len())));
    }
    let header = image::header(bytes).map_err(Ok)?;
    let found = [header.height, header.width, header.channels];
    if spec.shape != found {
        return Err(Err(format!("image has the shape {found:?} and not {:?}", spec.shape)));
    }
    Ok(())
}

/// At most `most` of `items`, evenly spaced, first and last among them.
fn evenly<T: Copy>(items: &[T], most: usize) -> impl Iterator<Item = T> {
    let count = items.len().min(most);
    (0..count).map(move |i| items[if count > 1 { i * (items.len() - 1) / (count - 1) } else { 0 }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_evenly_spaced_and_distinct() {
        let items: Vec<usize> = (0..100).collect();
        let got: Vec<usize> = evenly(&items, 32).collect();
        assert_eq!((got.len(), got[0], got[31]), (32, 0, 99));
        assert!(got.windows(2).all(|w| w[1] - w[0] >= 3 && w[1] - w[0] <= 4));
        assert_eq!(evenly(&items[..2], 32).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(evenly(&items[..0], 32).count(), 0);
    }

    #[test]
    fn statistics_come_from_the_counts() {
        let mut histogram = ImageHistogram::default();
        histogram.add(&[0, 10, 255, 255, 10, 255]);
        let stats = histogram.stats();
        let red = stats.components[0];
        assert_eq!((stats.rows, red.moments.valid), (1, 2));
        assert_eq!(
            (red.moments.min, red.moments.max, red.moments.mean, red.moments.std()),
            (0.0, 1.0, 0.5, 0.5)
        );
        assert_eq!(red.quantiles[2], 0.5);
        assert_eq!(stats.components[1].moments.std(), 0.0);
    }
}
