use image::{DynamicImage, GenericImageView as _, ImageFormat};

use super::super::preview::{Previews, previews};
use super::super::samples::{self, exif, jpeg_with, png_chunk, png_with, segment};
use super::*;

fn made(bytes: &[u8]) -> Option<Previews> {
    previews(&reopened(bytes), &LIMITS)
}

/// Edges, sizes and types of what is made; each is what it says it is, and carries nothing else.
fn sizes(made: &Previews) -> Vec<(u32, u32, u32, &str)> {
    let mut sizes = Vec::new();
    for (thumbnail, bytes) in &made.thumbnails {
        let picture = image::load_from_memory(bytes).expect("a picture");
        assert_eq!((picture.width(), picture.height()), (thumbnail.width, thumbnail.height));
        assert_eq!(thumbnail.size, u64::try_from(bytes.len()).expect("a size"));
        let (kept, _) = look("a", Some(&thumbnail.media_type), bytes).expect("good");
        assert!(kept == *bytes, "it carries metadata");
        sizes.push((thumbnail.edge, thumbnail.width, thumbnail.height, thumbnail.media_type.as_str()));
    }
    sizes
}

#[test]
fn smaller_pictures_are_smaller_and_never_larger() {
    for (bytes, wanted) in [
        (samples::jpeg(1600, 1200), vec![(320, 320, 240, "image/jpeg"), (1024, 1024, 768, "image/jpeg")]),
        (samples::png(600, 800), vec![(320, 240, 320, "image/jpeg"), (1024, 600, 800, "image/jpeg")]),
        (samples::webp(320, 200), vec![(320, 320, 200, "image/jpeg")]),
        (samples::gif(30, 20, 3), vec![(320, 30, 20, "image/jpeg")]),
        (samples::png(1, 1), vec![(320, 1, 1, "image/jpeg")]),
        (samples::png(2000, 1), vec![(320, 320, 1, "image/jpeg"), (1024, 1024, 1, "image/jpeg")]),
        (
            samples::encoded(samples::glass(400, 100), ImageFormat::Png),
            vec![(320, 320, 80, "image/webp"), (1024, 400, 100, "image/webp")],
        ),
        // Transparency that nothing uses.
        (
            samples::encoded(DynamicImage::from(samples::pixels(50, 50)).into_rgba8(), ImageFormat::Png),
            vec![(320, 50, 50, "image/jpeg")],
        ),
        (
            samples::encoded(DynamicImage::from(samples::pixels(50, 40)).into_rgba16(), ImageFormat::Png),
            vec![(320, 50, 40, "image/jpeg")],
        ),
    ] {
        let made = made(&bytes).expect("previews");
        assert_eq!(sizes(&made), wanted);
        // 4 by 3 waves are 28 letters.
        assert_eq!(made.blurhash.len(), 28);
    }
}

#[test]
fn they_are_turned_as_the_picture_is_shown() {
    let plain = samples::jpeg(400, 200);
    let turned = jpeg_with(&plain, &[segment(0xe1, &[b"Exif\0\0", &exif(6)])]);
    // What is kept of it is turned as well.
    let (kept, _) = look("a.jpg", None, &turned).expect("good");
    for bytes in [turned, kept] {
        let made = made(&bytes).expect("previews");
        assert_eq!(sizes(&made), [(320, 160, 320, "image/jpeg"), (1024, 200, 400, "image/jpeg")]);
        let upright = image::load_from_memory(&plain).expect("a picture");
        let shown = image::load_from_memory(&made.thumbnails[1].1).expect("a picture");
        // The lower left corner has come to the upper left.
        let (was, is) = (upright.get_pixel(2, 197).0, shown.get_pixel(2, 2).0);
        for (was, is) in was.iter().zip(is) {
            assert!(was.abs_diff(is) < 16, "{was} {is}");
        }
    }
    let png = png_with(&samples::png(40, 20), &[png_chunk(b"eXIf", &exif(8))]);
    assert_eq!(sizes(&made(&png).expect("previews")), [(320, 20, 40, "image/jpeg")]);
}

#[test]
fn what_it_looks_like_from_afar_tells_pictures_apart() {
    let hash = |bytes: &[u8]| made(bytes).expect("previews").blurhash;
    let white = hash(&samples::encoded(image::RgbImage::from_pixel(64, 64, image::Rgb([255; 3])), ImageFormat::Png));
    let black = hash(&samples::encoded(image::RgbImage::new(64, 64), ImageFormat::Png));
    // Nothing but transparency is seen as what is behind it.
    let nothing = hash(&samples::encoded(image::RgbaImage::new(64, 64), ImageFormat::Png));
    assert_ne!(white, black);
    assert_eq!(white, nothing);
    assert_eq!(hash(&samples::png(64, 64)), hash(&samples::png(64, 64)));
}

#[test]
fn what_cannot_be_read_has_none() {
    let mut large = samples::png(4, 4);
    large[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    let jpeg = samples::jpeg(40, 30);
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("text", b"hello".to_vec()),
        ("a pdf", samples::pdf()),
        ("a bitmap", samples::bmp(2, 2)),
        ("a heic", samples::heif(b"heic", (64, 64), false)),
        ("a png of 30,000 by 30,000", large),
        ("a jpeg's header", jpeg[..20].to_vec()),
    ] {
        assert_eq!(made(&bytes), None, "{what}");
    }
    let limits = Limits { pixels: 40 * 30 - 1 };
    assert_eq!(previews(&reopened(&jpeg), &limits), None, "more pixels than are allowed");
    assert!(previews(&reopened(&jpeg), &Limits { pixels: 40 * 30 }).is_some());
}
