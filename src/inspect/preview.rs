//! Smaller pictures of a picture, and what it looks like from afar.
//!
//! This is the only place where pixels are decoded. Decoders are given a bound of pixels and of memory; a picture that they
//! cannot read, or at which one of them panics, has no previews, and stays an attachment all the same. What is made carries no
//! metadata; it is turned as it is shown.
//!
//! Memory: the picture as it comes, its pixels (3 or 4 bytes each, 8 if it has 16 bits a channel), and for a progressive
//! JPEG its coefficients (6 bytes a pixel). Whoever calls this decides how many at a time.

use std::fs::File;
use std::io::{BufReader, Cursor, Seek as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ExtendedColorType, ImageDecoder as _, ImageEncoder as _, ImageReader, RgbaImage};

use super::Limits;
use crate::domain::attachment::Thumbnail;

/// The longest edges that smaller pictures are made for.
const EDGES: [u32; 2] = [320, 1024];
/// Of JPEG, out of 100.
const QUALITY: u8 = 80;
/// What a hash is made of: it says nothing finer.
const FROM_AFAR: u32 = 32;
/// Waves of a hash across and down.
const WAVES: (u32, u32) = (4, 3);
/// Bytes that a decoder may take for each pixel that is allowed, and whatever is allowed.
const BYTES: u64 = 8;
const LEAST: u64 = 16 * 1024 * 1024;

/// What is made of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previews {
    /// What it looks like from afar (<https://blurha.sh>), in 4 by 3 waves.
    pub blurhash: String,
    /// The smaller pictures and their bytes, the smallest first.
    pub thumbnails: Vec<(Thumbnail, Vec<u8>)>,
}

/// Nothing if the decoder cannot read it, or panics: this is caught here. Never fails the attachment. Takes long: not for the
/// threads that serve requests.
#[must_use]
pub fn previews(file: &File, limits: &Limits) -> Option<Previews> {
    catch_unwind(AssertUnwindSafe(|| make(file, *limits))).ok().flatten()
}

fn make(mut file: &File, limits: Limits) -> Option<Previews> {
    file.rewind().ok()?;
    let mut reader = ImageReader::new(BufReader::new(file)).with_guessed_format().ok()?;
    let mut bounds = image::Limits::default();
    bounds.max_alloc = Some(limits.pixels.saturating_mul(BYTES).max(LEAST));
    reader.limits(bounds);
    let mut decoder = reader.into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.pixels {
        return None;
    }
    let orientation = decoder.orientation().ok()?;
    let whole = DynamicImage::from_decoder(decoder).ok()?;
    let longest = width.max(height);
    let [small, large] = EDGES;
    // Made smaller first: what follows has less to do, and the whole is let go.
    let mut large_one = if longest > large { whole.thumbnail(large, large) } else { whole };
    large_one.apply_orientation(orientation);
    let large_one = plain(large_one);
    let small_one = if longest > small { smaller(&large_one, small) } else { large_one.clone() };
    let blurhash = from_afar(&smaller(&small_one, FROM_AFAR))?;
    let mut thumbnails = vec![encode(&small_one, small)?];
    if longest > small {
        thumbnails.push(encode(&large_one, large)?);
    }
    Some(Previews { blurhash, thumbnails })
}

/// With 8 bits a channel, and transparency only if something is transparent.
fn plain(picture: DynamicImage) -> DynamicImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8().into();
    }
    let picture = picture.into_rgba8();
    if picture.pixels().all(|pixel| pixel.0[3] == u8::MAX) {
        return DynamicImage::from(picture).into_rgb8().into();
    }
    picture.into()
}

fn smaller(picture: &DynamicImage, edge: u32) -> DynamicImage {
    if picture.width().max(picture.height()) <= edge {
        return picture.clone();
    }
    picture.resize(edge, edge, FilterType::Triangle)
}

/// On white, because a hash knows no transparency.
fn from_afar(picture: &DynamicImage) -> Option<String> {
    let mut pixels: RgbaImage = picture.to_rgba8();
    for pixel in pixels.pixels_mut() {
        let [red, green, blue, alpha] = pixel.0;
        let over = |channel: u8| {
            let mixed = u16::from(channel) * u16::from(alpha) + 255 * (255 - u16::from(alpha));
            u8::try_from(mixed / 255).unwrap_or(u8::MAX)
        };
        pixel.0 = [over(red), over(green), over(blue), u8::MAX];
    }
    blurhash::encode(WAVES.0, WAVES.1, pixels.width(), pixels.height(), pixels.as_raw()).ok()
}

/// JPEG, or WebP without loss if something is transparent.
fn encode(picture: &DynamicImage, edge: u32) -> Option<(Thumbnail, Vec<u8>)> {
    let mut bytes = Cursor::new(Vec::new());
    let (width, height) = (picture.width(), picture.height());
    let media_type = match picture {
        DynamicImage::ImageRgb8(pixels) => {
            JpegEncoder::new_with_quality(&mut bytes, QUALITY)
                .write_image(pixels.as_raw(), width, height, ExtendedColorType::Rgb8)
                .ok()?;
            "image/jpeg"
        }
        other => {
            let pixels = other.to_rgba8();
            WebPEncoder::new_lossless(&mut bytes)
                .encode(pixels.as_raw(), width, height, ExtendedColorType::Rgba8)
                .ok()?;
            "image/webp"
        }
    };
    let bytes = bytes.into_inner();
    let size = u64::try_from(bytes.len()).ok()?;
    Some((Thumbnail { edge, width, height, media_type: media_type.to_owned(), size }, bytes))
}
