use image::DynamicImage;
use proptest::prelude::*;

use super::super::kind::Kind;
use super::super::samples::{self, exif, gif_extension, gif_with, jpeg_with, png_chunk, png_with, riff_chunk, segment};
use super::*;

fn decoded(bytes: &[u8]) -> DynamicImage {
    image::load_from_memory(bytes).expect("a picture")
}

/// With its metadata, what may be left of it, and how it is to be turned.
fn told(orientation: u8) -> Vec<(&'static str, Vec<u8>)> {
    let block = exif(orientation);
    let jpeg = jpeg_with(
        &samples::jpeg(40, 30),
        &[
            segment(0xe1, &[b"Exif\0\0", &block]),
            segment(0xe1, &[b"http://ns.adobe.com/xap/1.0/\0", SECRET]),
            segment(0xe2, &[b"ICC_PROFILE\0\x01\x01", b"a profile"]),
            segment(0xe2, &[b"MPF\0", SECRET]),
            segment(0xed, &[b"Photoshop 3.0\0", SECRET]),
            segment(0xee, &[b"Adobe\0\x64\0\0\0\0\x01"]),
            segment(0xfe, &[SECRET]),
            segment(0xe1, &[b"Exif\0\0", &exif(3)]),
        ],
    );
    let png = png_with(
        &samples::png(40, 30),
        &[
            png_chunk(b"gAMA", &45455u32.to_be_bytes()),
            png_chunk(b"eXIf", &block),
            png_chunk(b"tEXt", &[b"Comment\0", SECRET].concat()),
            png_chunk(b"iTXt", &[b"Location\0\0\0\0\0", SECRET].concat()),
            png_chunk(b"tIME", &[7, 0xea, 11, 22, 0, 0, 0]),
            png_chunk(b"prVt", SECRET),
        ],
    );
    let metadata = [riff_chunk(b"EXIF", &block), riff_chunk(b"XMP ", SECRET), riff_chunk(b"odd ", b"odd")];
    let webp = samples::webp_with(&samples::webp(40, 30), (40, 30), 0x0c, &metadata);
    let gif = gif_with(
        &samples::gif(20, 10, 2),
        &[gif_extension(0xfe, &[SECRET]), gif_extension(0xff, &[b"XMP DataXMP", SECRET])],
    );
    vec![("a.jpg", jpeg), ("a.png", png), ("a.webp", webp), ("a.gif", gif)]
}

#[test]
fn a_picture_loses_what_it_tells_and_keeps_its_pixels() {
    for orientation in 1..=8 {
        for (name, bytes) in told(orientation) {
            assert!(has_secret(&bytes));
            let (kept, inspected) = look(name, None, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!has_secret(&kept), "{name}");
            assert_eq!(decoded(&kept), decoded(&bytes), "{name}");
            let turned = name != "a.gif" && orientation >= 5;
            let size = (decoded(&bytes).width(), decoded(&bytes).height());
            assert_eq!(inspected.dimensions, Some(if turned { (size.1, size.0) } else { size }), "{name}");
            // Once more, there is nothing left to lose.
            let (again, same) = look(name, None, &kept).expect("good");
            assert!(again == kept, "{name}");
            assert_eq!(same, inspected);
        }
    }
}

#[test]
fn how_a_picture_is_turned_is_kept_and_nothing_beside_it() {
    for orientation in 1..=8 {
        for (name, bytes) in told(orientation).into_iter().filter(|(name, _)| *name != "a.gif") {
            let (kept, _) = look(name, None, &bytes).expect("good");
            let reader = image::ImageReader::new(std::io::Cursor::new(&kept)).with_guessed_format().expect("reads");
            let mut decoder = reader.into_decoder().expect("a picture");
            let block = image::ImageDecoder::exif_metadata(&mut decoder).expect("reads");
            assert_eq!(block.is_some(), orientation != 1, "{name}");
            let told = image::ImageDecoder::orientation(&mut decoder).expect("reads");
            assert_eq!(told.to_exif(), orientation, "{name}");
            assert!(block.is_none_or(|block| block.len() == 26), "{name}");
        }
    }
}

#[test]
fn what_decides_how_a_picture_looks_is_kept() {
    let find = |bytes: &[u8], wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
    for (name, bytes) in told(6) {
        let (kept, _) = look(name, None, &bytes).expect("good");
        let wanted: &[&[u8]] = match name {
            "a.jpg" => &[b"JFIF\0", b"ICC_PROFILE\0\x01\x01a profile", b"Adobe\0\x64"],
            "a.png" => &[b"gAMA", b"IEND"],
            "a.gif" => &[b"NETSCAPE2.0"],
            _ => &[b"VP8X\x0a\0\0\0\x08", b"VP8L", b"EXIF"],
        };
        for part in wanted {
            assert!(find(&kept, part), "{name} has lost {:?}", String::from_utf8_lossy(part));
        }
        for part in [b"MPF\0".as_slice(), b"Photoshop", b"XMP", b"tIME", b"prVt", b"odd "] {
            assert!(!find(&kept, part), "{name} has kept {:?}", String::from_utf8_lossy(part));
        }
    }
}

#[test]
fn what_phones_append_goes_and_the_picture_stays() {
    let jpeg = samples::jpeg(40, 30);
    let second = jpeg_with(&samples::jpeg(20, 10), &[segment(0xe1, &[b"Exif\0\0", &exif(1)])]);
    let film = [samples::mp4(b"mp42"), SECRET.to_vec()].concat();
    let trailer = [b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1458170015363SEFH".as_slice(), SECRET].concat();
    for (what, more) in [("a picture", second), ("a film", film), ("a trailer", trailer), ("padding", vec![0; 5000])] {
        let (kept, inspected) = look("a.jpg", None, &[jpeg.as_slice(), &more].concat()).expect(what);
        assert!(kept == jpeg, "{what}");
        assert_eq!(inspected.dimensions, Some((40, 30)));
    }
    for (name, bytes) in
        [("a.png", samples::png(4, 4)), ("a.gif", samples::gif(4, 4, 1)), ("a.webp", samples::webp(4, 4))]
    {
        let (kept, _) = look(name, None, &[bytes.as_slice(), &[0; 9], &[0xaa; 30]].concat()).expect(name);
        assert!(kept == bytes, "{name}");
    }
}

#[test]
fn blocks_of_a_gif_that_nobody_knows_go() {
    let plain = samples::gif(20, 10, 2);
    let odd = gif_with(&plain, &[gif_extension(0x42, &[SECRET]), gif_extension(0xff, &[b"short"])]);
    let (kept, _) = look("a.gif", None, &odd).expect("good");
    assert!(kept == plain);
}

#[test]
fn a_picture_that_was_cut_off_on_its_way_is_taken_as_far_as_it_goes() {
    let jpeg = samples::jpeg(40, 30);
    let gif = samples::gif(20, 10, 2);
    let png = samples::png(40, 30);
    for (name, bytes) in
        [("a.jpg", &jpeg[..jpeg.len() - 20]), ("a.gif", &gif[..gif.len() - 1]), ("a.png", &png[..png.len() - 12])]
    {
        let (kept, _) = look(name, None, bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(kept == bytes, "{name}");
    }
}

#[test]
fn a_disk_that_does_not_take_the_new_file_is_not_the_clients_fault() {
    let (name, bytes) = told(1).swap_remove(0);
    let declared = Declared { name, media_type: None };
    let full = || Err(std::io::Error::other("disk full"));
    let error = inspect(spool(&bytes), hash(&bytes), &declared, &LIMITS, full).expect_err("no file");
    assert_eq!((error.reason(), error.transient()), ("attachments_unavailable", true));
}

fn metadata() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let body = || proptest::collection::vec(any::<u8>().prop_filter("no markup", |byte| *byte != b'<'), 0..300);
    let one = prop_oneof![
        (0xe0u8..=0xef, body()).prop_map(|(marker, body)| segment(marker, &[&body])),
        body().prop_map(|body| segment(0xfe, &[&body])),
        (1u8..=8).prop_map(|orientation| segment(0xe1, &[b"Exif\0\0", &exif(orientation)])),
        body().prop_map(|body| segment(0xe1, &[b"Exif\0\0", &body])),
    ];
    proptest::collection::vec(one, 0..6)
}

proptest! {
    #[test]
    fn whatever_stands_in_a_jpeg_it_is_the_same_picture_and_loses_nothing_twice(segments in metadata()) {
        let plain = samples::jpeg(24, 16);
        let bytes = jpeg_with(&plain, &segments);
        let file = reopened(&bytes);
        let plan = strip::plan(Kind::Jpeg, &file).expect("a plan");
        let mut once = Vec::new();
        plan.write(&file, &mut once).expect("written");
        prop_assert!(!has_secret(&once));
        prop_assert_eq!(decoded(&once), decoded(&plain));
        let again = strip::plan(Kind::Jpeg, std::io::Cursor::new(&once)).expect("a plan");
        prop_assert!(!again.changes());
        prop_assert_eq!(plan.changes(), once != bytes);
    }
}
