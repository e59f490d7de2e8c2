use proptest::prelude::*;

use super::super::samples;
use super::told;
use super::*;

#[test]
fn every_kind_is_known_by_its_bytes_and_stays_as_it_is() {
    for (name, media_type, bytes) in samples::all() {
        for declared in [None, Some(media_type), Some("application/octet-stream")] {
            let (kept, inspected) = look(name, declared, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(inspected.media_type, media_type, "{name}");
            assert_eq!(inspected.name, name);
            assert!(kept == bytes, "{name} is changed");
        }
    }
}

#[test]
fn what_is_said_of_it_must_agree() {
    for (name, media_type, bytes) in samples::all() {
        let is_picture = media_type.starts_with("image/");
        let others = ["a.jpg", "a.pdf", "a.docx", "a.zip", "a.mp4"];
        for other in others.iter().filter(|other| name.rsplit('.').next() != other.rsplit('.').next()) {
            // Films go by one another's names, and so do pictures.
            let alike = match *other {
                "a.jpg" => is_picture,
                "a.mp4" => ["video/quicktime", "audio/mp4"].contains(&media_type),
                _ => false,
            };
            assert_eq!(reason(other, &bytes), (!alike).then_some("type_mismatch"), "{name} as {other}");
        }
        let declared = if is_picture { "application/pdf" } else { "image/png" };
        let error = look(name, Some(declared), &bytes).expect_err(name);
        assert_eq!(error.reason(), "type_mismatch", "{name} as {declared}");
        assert!(look("a", Some(media_type), &bytes).is_ok(), "{name} without an extension");
    }
}

#[test]
fn a_picture_with_another_pictures_name_is_taken_as_what_it_is() {
    let pictures: Vec<_> =
        samples::all().into_iter().filter(|(_, media_type, _)| media_type.starts_with("image/")).collect();
    for (name, media_type, bytes) in &pictures {
        for (other, declared, _) in &pictures {
            let (kept, inspected) =
                look(other, Some(declared), bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(&kept == bytes && inspected.media_type == *media_type, "{name} as {other}");
            let (stem, _) = other.rsplit_once('.').expect("an extension");
            assert!(inspected.name.starts_with(stem), "{name} as {other}");
            // The name that it is kept under is its own.
            let (_, again) = look(&inspected.name, Some(media_type), bytes).expect("good");
            assert_eq!(again, inspected);
        }
    }
    let (_, saved) = look("photo.jpg", Some("image/jpeg"), &samples::webp(4, 4)).expect("good");
    assert_eq!((saved.name.as_str(), saved.media_type), ("photo.webp", "image/webp"));
    // Nothing else is a picture by its name.
    for (name, bytes) in [("a.png", samples::pdf()), ("a.png", b"hello".to_vec()), ("a.webp", samples::mp4(b"isom"))] {
        assert_eq!(reason(name, &bytes), Some("type_mismatch"));
    }
    assert_eq!(reason("a.svg", &samples::png(4, 4)), Some("unsafe_extension"));
}

#[test]
fn what_is_not_on_the_list_is_refused() {
    let elf = [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 64]].concat();
    let exe = [b"MZ\x90\0\x03\0\0\0".as_slice(), &[0; 64]].concat();
    let zip = samples::zipped(&[("a.txt", b"hello")]);
    let jar = samples::zipped(&[("META-INF/MANIFEST.MF", b"Main-Class: A"), ("A.class", b"\xca\xfe\xba\xbe")]);
    let epub = samples::zipped(&[("mimetype", b"application/epub+zip"), ("META-INF/container.xml", b"<x/>")]);
    for (what, bytes) in [
        ("elf", elf.as_slice()),
        ("exe", &exe),
        ("zip", &zip),
        ("jar", &jar),
        ("epub", &epub),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03"),
        ("svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
        ("svg with a declaration", b"<?xml version='1.0'?><svg/>"),
        ("html", b"<!DOCTYPE html><p>hello"),
        ("shell", b"#!/bin/sh\nrm -rf /\n"),
        ("rtf", b"{\\rtf1 hello}"),
        ("utf-16", b"\xff\xfeh\0i\0"),
        ("latin-1", b"caf\xe9"),
        ("noise", b"\x01\x02\x03\x04\x05"),
        ("theora", &samples::ogg(b"\x80theora")),
        ("message", &samples::ole(&["__properties_version1.0"])),
        ("3gp", &samples::mp4(b"3gp4")),
        ("jpeg only in name", b"\xff\xd8\xff\xe0 no picture"),
        ("png only in name", b"\x89PNG\r\n\x1a\n no picture at all, not even a header"),
        ("gif only in name", b"GIF89a=1;alert(1)//"),
    ] {
        assert_eq!(reason("a", bytes), Some("type_not_allowed"), "{what}");
    }
    assert_eq!(reason("a.txt", b""), Some("empty_attachment"));
    assert_eq!(reason("a.txt", b"BMW is a make, GIF a format, ID3 a tag, MZ are letters"), None);
}

#[test]
fn text_that_is_not_in_utf_8_is_taken_if_it_is_called_a_text() {
    let spreadsheet = b"Gr\xf6\xdfe;Preis\r\nXL;1 \x80\r\n".as_slice();
    let unicode: Vec<u8> = "\u{feff}Größe\tPreis\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [spreadsheet, &unicode] {
        for (name, declared, media_type) in [
            ("prices.csv", None, "text/csv"),
            ("prices.csv", Some("application/vnd.ms-excel"), "text/csv"),
            ("prices.txt", Some("application/octet-stream"), "text/plain"),
            ("prices", Some("text/csv"), "text/csv"),
            ("prices", Some("text/plain; charset=windows-1252"), "text/plain"),
        ] {
            let (kept, inspected) = look(name, declared, bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(kept == bytes && inspected.name == name, "{name}");
            assert_eq!(inspected.media_type, media_type, "{name} {declared:?}");
            assert!(!is_inline(inspected.media_type), "it is only saved");
        }
        for name in ["prices", "prices.pdf", "prices.png", "prices.md"] {
            assert_eq!(reason(name, bytes), Some("type_not_allowed"), "{name}");
        }
    }
    let followed = |more: &[u8]| [unicode.as_slice(), more].concat();
    let zip = samples::zipped(&[("a.txt", b"hello")]);
    for (what, bytes, wanted) in [
        ("a page", b"<html>\xe9".to_vec(), "type_not_allowed"),
        ("a script", b"#!/bin/sh\n# caf\xe9".to_vec(), "type_not_allowed"),
        ("a page in it", b"caf\xe9 <script>alert(1)</script>".to_vec(), "ambiguous_content"),
        ("a pdf in it", b"caf\xe9 %PDF-1.4".to_vec(), "type_not_allowed"),
        ("a page between the letters", followed(b"<script "), "ambiguous_content"),
        ("an archive between the letters", followed(&zip), "type_not_allowed"),
        (
            "the end of an archive, made of letters",
            {
                let mut text = [b"\xff\xfe".as_slice(), &b"a\0".repeat(0x4_8000)].concat();
                text.resize(0x9_0020, b'a');
                [&text, b"PK\x01\x02PK\x05\x06".as_slice(), &[b'a'; 12], b"\x20\0\x09\0aa"].concat()
            },
            "ambiguous_content",
        ),
        ("a program", b"MZ\xe9 hello".to_vec(), "type_not_allowed"),
    ] {
        assert_eq!(reason("a.txt", &bytes), Some(wanted), "{what}");
    }
}

#[test]
fn a_pictures_size_is_told_as_it_is_shown() {
    let turned =
        samples::jpeg_with(&samples::jpeg(40, 30), &[samples::segment(0xe1, &[b"Exif\0\0", &samples::exif(6)])]);
    for (name, bytes, size, previewable) in [
        ("a.jpg", samples::jpeg(40, 30), Some((40, 30)), true),
        ("a.jpg", turned, Some((30, 40)), true),
        ("a.png", samples::png(7, 5), Some((7, 5)), true),
        ("a.gif", samples::gif(20, 10, 2), Some((20, 10)), true),
        ("a.webp", samples::webp(9, 8), Some((9, 8)), true),
        ("a.bmp", samples::bmp(2, -3), Some((2, 3)), false),
        ("a.tif", samples::tiff(300, 200, 1), Some((300, 200)), false),
        ("a.tif", samples::tiff(300, 200, 8), Some((200, 300)), false),
        ("a.heic", samples::heif(b"heic", (4032, 3024), true), Some((3024, 4032)), false),
        ("a.avif", samples::heif(b"avif", (640, 480), false), Some((640, 480)), false),
        ("a.heic", [samples::heif(b"heic", (1, 1), false)[..24].to_vec(), vec![0; 64]].concat(), None, false),
        ("a.pdf", samples::pdf(), None, false),
        ("a.mp4", samples::mp4(b"isom"), None, false),
    ] {
        let (_, inspected) = look(name, None, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((inspected.dimensions, inspected.previewable), (size, previewable), "{name}");
    }
}

/// What happens to bytes on their way, or on purpose.
#[derive(Debug, Clone)]
enum Change {
    Set(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Double(usize, usize),
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if bytes.is_empty() {
            return bytes;
        }
        let size = bytes.len();
        match change {
            Change::Set(at, byte) => bytes[at % size] = *byte,
            Change::Cut(at) => bytes.truncate(at % size),
            Change::Insert(at, more) => drop(bytes.splice(at % size..at % size, more.iter().copied())),
            Change::Double(from, to) => {
                let (from, to) = ((from % size).min(to % size), (from % size).max(to % size));
                bytes.extend_from_within(from..to);
            }
        }
    }
    bytes
}

fn change() -> impl Strategy<Value = Change> {
    // Most of what matters stands at the beginning.
    let place = prop_oneof![0usize..128, any::<usize>()];
    prop_oneof![
        6 => (place.clone(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        4 => (place.clone(), prop_oneof![Just(0u8), Just(1), Just(0x7f), Just(0x80), Just(0xff)])
            .prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => any::<usize>().prop_map(Change::Cut),
        2 => (place.clone(), proptest::collection::vec(any::<u8>(), 1..16)).prop_map(|(at, more)| Change::Insert(at, more)),
        1 => (place, any::<usize>()).prop_map(|(from, to)| Change::Double(from, to)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn no_bytes_make_it_panic_and_what_was_taken_is_taken_again(
        sample in any::<prop::sample::Index>(),
        changes in proptest::collection::vec(change(), 0..6),
    ) {
        let mut samples: Vec<(&str, Vec<u8>)> =
            samples::all().into_iter().map(|(name, _, bytes)| (name, bytes)).collect();
        samples.extend(told::all());
        let (name, bytes) = sample.get(&samples);
        if let Ok((kept, inspected)) = look(name, None, &changed(bytes.clone(), &changes)) {
            let (again, same) = look(name, None, &kept).expect("what is kept is good");
            prop_assert!(again == kept);
            prop_assert_eq!(same, inspected);
        }
    }
}
