//! Encoded images: what their headers say, and their pixels where statistics need them.
//!
//! [`header`] walks the markers of a JPEG file (ITU-T T.81, B.1.1.3) or the first chunk of a PNG file (W3C PNG,
//! 11.2.2) and decodes nothing; [`decode_rgb`] decodes whole files to 8-bit RGB.
//!
//! Invariants: no input makes either panic, read past its end, or allocate more than [`MAX_PIXELS`] pixels allow.
//! Decoding runs the portable code paths only, so the same file gives the same pixels on every machine.

use std::io::Cursor;

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// The largest image that is decoded, in pixels: 64 Mi, an 8192 × 8192 frame.
pub const MAX_PIXELS: usize = 1 << 26;

/// The largest side of an image that is decoded, in pixels.
const MAX_SIDE: usize = 1 << 15;

/// The eight bytes every PNG file starts with.
const PNG_SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A];

/// The file formats that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// JPEG, any process.
    Jpeg,
    /// PNG.
    Png,
}

/// What the header of an image file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header {
    /// The file format.
    pub codec: Codec,
    /// Rows of pixels, at least 1.
    pub height: usize,
    /// Pixels per row, at least 1.
    pub width: usize,
    /// Samples per pixel as decoded: 1 grey, 2 grey and alpha, 3 colour (palettes included), 4 colour and alpha
    /// or CMYK.
    pub channels: usize,
}

/// Why an image cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Neither signature is there.
    #[error("neither a JPEG nor a PNG file")]
    Unknown,
    /// The file ends, or says something impossible, before its size is known.
    #[error("{0}")]
    Header(&'static str),
    /// It claims more pixels than are decoded.
    #[error("{height} x {width} pixels are more than the limit of {MAX_PIXELS}")]
    TooLarge {
        /// Claimed rows.
        height: usize,
        /// Claimed pixels per row.
        width: usize,
    },
    /// The pixels cannot be decoded.
    #[error("cannot be decoded: {0}")]
    Decode(String),
}

/// Reads the size of a JPEG or PNG file from its header.
///
/// # Errors
/// If the bytes are neither, or end before the size is known.
pub fn header(bytes: &[u8]) -> Result<Header, ImageError> {
    if bytes.starts_with(&PNG_SIGNATURE) {
        png_header(bytes)
    } else if bytes.starts_with(&[0xFF, 0xD8]) {
        jpeg_header(bytes)
    } else {
        Err(ImageError::Unknown)
    }
}

fn png_header(bytes: &[u8]) -> Result<Header, ImageError> {
    let chunk = bytes.get(8..26).ok_or(ImageError::Header("PNG file ends inside its header"))?;
    if chunk[..8] != [0, 0, 0, 13, b'I', b'H', b'D', b'R'] {
        return Err(ImageError::Header("PNG file does not start with an IHDR chunk"));
    }
    let side = |at: usize| u32::from_be_bytes([chunk[at], chunk[at + 1], chunk[at + 2], chunk[at + 3]]);
    // Bit 31 is reserved (PNG, 7.1), so every legal side fits in an i32.
    let (width, height) = (side(8), side(12));
    if width == 0 || height == 0 || width > i32::MAX as u32 || height > i32::MAX as u32 {
        return Err(ImageError::Header("PNG file has an impossible size"));
    }
    let channels = match chunk[17] {
        0 => 1,
        2 | 3 => 3,
        4 => 2,
        6 => 4,
        _ => return Err(ImageError::Header("PNG file has an unknown colour type")),
    };
    Ok(Header { codec: Codec::Png, height: height as usize, width: width as usize, channels })
}

fn jpeg_header(bytes: &[u8]) -> Result<Header, ImageError> {
    const TRUNCATED: ImageError = ImageError::Header("JPEG file ends before its frame header");
    let mut at = 2;
    loop {
        if *bytes.get(at).ok_or(TRUNCATED)? != 0xFF {
            return Err(ImageError::Header("JPEG file has no marker where one must be"));
        }
        // Any number of fill bytes may precede a marker's code.
        while *bytes.get(at).ok_or(TRUNCATED)? == 0xFF {
            at += 1;
        }
        let marker = bytes[at];
        at += 1;
        match marker {
            // Markers without a segment: TEM, RSTn, SOI.
            0x01 | 0xD0..=0xD8 => continue,
            0xD9 | 0xDA => return Err(ImageError::Header("JPEG file has no frame header before its data")),
            _ => {}
        }
        let length = bytes.get(at..at + 2).ok_or(TRUNCATED)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length < 2 {
            return Err(ImageError::Header("JPEG file has a segment shorter than its length field"));
        }
        // SOF0 to SOF15, without DHT, JPG and DAC, which share their range.
        if matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC) {
            let frame = bytes.get(at + 2..at + length).ok_or(TRUNCATED)?;
            return jpeg_frame(frame);
        }
        at += length;
    }
}

/// `frame` is a frame header after its length: precision, height, width, number of components.
fn jpeg_frame(frame: &[u8]) -> Result<Header, ImageError> {
    let &[_, h1, h0, w1, w0, channels, ..] = frame else {
        return Err(ImageError::Header("JPEG file has a frame header that is too short"));
    };
    let height = usize::from(u16::from_be_bytes([h1, h0]));
    let width = usize::from(u16::from_be_bytes([w1, w0]));
    if height == 0 || width == 0 {
        // Height 0 is legal and means that a DNL marker after the first scan tells it; no camera writes that.
        return Err(ImageError::Header("JPEG file does not state its size in the frame header"));
    }
    if !matches!(channels, 1 | 3 | 4) {
        return Err(ImageError::Header("JPEG file has neither 1, 3 nor 4 components"));
    }
    Ok(Header { codec: Codec::Jpeg, height, width, channels: usize::from(channels) })
}

/// Decodes a JPEG or PNG file to `(height, width, pixels)`, 8-bit RGB row by row, `height * width * 3` bytes: what
/// `PIL.Image.open(f).convert("RGB")` gives. Grey becomes three equal channels; alpha is dropped, not blended; of
/// 16-bit samples the high byte is kept.
///
/// # Errors
/// If the bytes are not an image of at most [`MAX_PIXELS`] pixels that decodes.
pub fn decode_rgb(bytes: &[u8]) -> Result<(usize, usize, Vec<u8>), ImageError> {
    let Header { codec, height, width, channels } = header(bytes)?;
    if height > MAX_SIDE || width > MAX_SIDE || height * width > MAX_PIXELS {
        return Err(ImageError::TooLarge { height, width });
    }
    let (pixels, channels) = match codec {
        Codec::Jpeg => decode_jpeg(bytes, channels)?,
        Codec::Png => decode_png(bytes)?,
    };
    if pixels.len() != height * width * channels {
        return Err(ImageError::Decode("the pixels do not fill the stated size".to_owned()));
    }
    Ok((height, width, to_rgb(pixels, channels)))
}

fn decode_jpeg(bytes: &[u8], channels: usize) -> Result<(Vec<u8>, usize), ImageError> {
    let (space, channels) = if channels == 1 { (ColorSpace::Luma, 1) } else { (ColorSpace::RGB, 3) };
    // Vector instructions round differently from one CPU to another, so they stay off.
    let options = DecoderOptions::new_safe()
        .set_use_unsafe(false)
        .set_strict_mode(false)
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_out_colorspace(space);
    let pixels = JpegDecoder::new_with_options(ZCursor::new(bytes), options)
        .decode()
        .map_err(|error| ImageError::Decode(error.to_string()))?;
    Ok((pixels, channels))
}

fn decode_png(bytes: &[u8]) -> Result<(Vec<u8>, usize), ImageError> {
    let fail = |error: png::DecodingError| ImageError::Decode(error.to_string());
    let limits = png::Limits { bytes: MAX_PIXELS * 8 };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(fail)?;
    let size = reader.output_buffer_size().filter(|&size| size <= MAX_PIXELS * 4);
    let mut pixels = vec![0; size.ok_or_else(|| ImageError::Decode("too many pixels".to_owned()))?];
    let info = reader.next_frame(&mut pixels).map_err(fail)?;
    pixels.truncate(info.buffer_size());
    Ok((pixels, info.color_type.samples()))
}

/// Spreads grey over three channels and drops alpha.
fn to_rgb(pixels: Vec<u8>, channels: usize) -> Vec<u8> {
    match channels {
        3 => pixels,
        1 | 2 => pixels.chunks_exact(channels).flat_map(|pixel| [pixel[0]; 3]).collect(),
        _ => pixels.chunks_exact(channels).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A PNG file of `height` × `width` pixels.
    pub(crate) fn png_file(height: usize, width: usize, color: png::ColorType, samples: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, width as u32, height as u32);
        encoder.set_color(color);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(samples).unwrap();
        writer.finish().unwrap();
        out
    }

    /// The start of a JPEG file: APP0, a table, then a frame header.
    fn jpeg_start(marker: u8, height: u16, width: u16, channels: u8) -> Vec<u8> {
        let mut out =
            vec![0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 1, 2, 0xFF, 0xFF, 0xC4, 0, 3, 9, 0xFF, marker, 0, 8, 8];
        out.extend(height.to_be_bytes());
        out.extend(width.to_be_bytes());
        out.push(channels);
        out
    }

    #[test]
    fn headers_of_both_formats() {
        let file = png_file(2, 3, png::ColorType::Rgba, &[7; 24]);
        assert_eq!(header(&file), Ok(Header { codec: Codec::Png, height: 2, width: 3, channels: 4 }));
        for marker in [0xC0, 0xC2, 0xCF] {
            let want = Header { codec: Codec::Jpeg, height: 480, width: 640, channels: 3 };
            assert_eq!(header(&jpeg_start(marker, 480, 640, 3)), Ok(want));
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let png = png_file(2, 3, png::ColorType::Rgb, &[7; 18]);
        let jpeg = jpeg_start(0xC0, 4, 5, 1);
        for end in 0..26 {
            assert!(header(&png[..end]).is_err());
        }
        for end in 0..jpeg.len() {
            assert!(header(&jpeg[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn impossible_headers_are_errors() {
        assert!(header(&jpeg_start(0xC0, 0, 5, 3)).is_err());
        assert!(header(&jpeg_start(0xC0, 5, 5, 2)).is_err());
        assert!(header(&jpeg_start(0xDA, 5, 5, 3)).is_err());
        assert!(header(&[0xFF, 0xD8, 0xFF, 0xE0, 0, 1]).is_err());
        let mut png = png_file(1, 1, png::ColorType::Rgb, &[0; 3]);
        png[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(header(&png).is_err());
    }

    #[test]
    fn huge_claims_are_refused_before_anything_is_allocated() {
        let mut png = png_file(1, 1, png::ColorType::Rgb, &[0; 3]);
        png[16..20].copy_from_slice(&20_000_u32.to_be_bytes());
        png[20..24].copy_from_slice(&20_000_u32.to_be_bytes());
        assert_eq!(decode_rgb(&png), Err(ImageError::TooLarge { height: 20_000, width: 20_000 }));
        assert!(matches!(decode_rgb(&jpeg_start(0xC0, 65535, 65535, 3)), Err(ImageError::TooLarge { .. })));
    }

    #[test]
    fn grey_spreads_and_alpha_is_dropped() {
        let grey = png_file(1, 2, png::ColorType::Grayscale, &[5, 9]);
        assert_eq!(decode_rgb(&grey), Ok((1, 2, vec![5, 5, 5, 9, 9, 9])));
        let rgba = png_file(1, 1, png::ColorType::Rgba, &[1, 2, 3, 0]);
        assert_eq!(decode_rgb(&rgba), Ok((1, 1, vec![1, 2, 3])));
    }

    /// An 8 × 8 grey JPEG file of one value, encoded by hand: one quantisation table of ones and Huffman tables
    /// that hold only the symbols used.
    pub(crate) fn grey_jpeg() -> Vec<u8> {
        let mut out = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
        out.extend([1; 64]);
        out.extend([0xFF, 0xC0, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0]);
        for class in [0x00, 0x10] {
            // One code of one bit, for the symbol 0: no DC difference, end of block.
            out.extend([0xFF, 0xC4, 0, 20, class, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        out.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0x3F, 0xFF, 0xD9]);
        out
    }

    #[test]
    fn grey_jpeg_decodes_to_three_equal_channels() {
        assert_eq!(decode_rgb(&grey_jpeg()), Ok((8, 8, vec![128; 192])));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(prefix in 0..3_usize, tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let start: &[u8] = [&[][..], &[0xFF, 0xD8], &PNG_SIGNATURE][prefix];
            let bytes = [start, &tail].concat();
            let _ = header(&bytes);
            let _ = decode_rgb(&bytes);
        }

        #[test]
        fn damaged_files_never_panic(at in 0..400_usize, value: u8, png: bool) {
            let mut bytes = if png { png_file(4, 4, png::ColorType::Rgb, &[9; 48]) } else { grey_jpeg() };
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = decode_rgb(&bytes);
        }
    }
}
