use proptest::prelude::*;

use super::super::samples;
use super::*;

#[test]
fn every_kind_is_known_by_its_bytes_and_stays_as_it_is() {
    for (name, media_type, bytes) in samples::all() {
        for declared in [None, Some(media_type), Some("application/octet-stream")] {
            let (kept, inspected) = look(name, declared, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(inspected.media_type, media_type, "{name}");
            assert_eq!(inspected.name, name);
            assert!(kept == bytes && !inspected.rewritten, "{name} is changed");
        }
    }
}

#[test]
fn what_is_said_of_it_must_agree() {
    for (name, media_type, bytes) in samples::all() {
        let others = ["a.jpg", "a.pdf", "a.docx", "a.zip"];
        for other in others.iter().filter(|other| name.rsplit('.').next() != other.rsplit('.').next()) {
            assert_eq!(reason(other, &bytes), Some("type_mismatch"), "{name} as {other}");
        }
        let declared = if media_type == "image/png" { "image/gif" } else { "image/png" };
        let error = look(name, Some(declared), &bytes).expect_err(name);
        assert_eq!(error.reason(), "type_mismatch", "{name} as {declared}");
        assert!(look("a", Some(media_type), &bytes).is_ok(), "{name} without an extension");
    }
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
        let samples = samples::all();
        let (name, _, bytes) = sample.get(&samples);
        if let Ok((kept, inspected)) = look(name, None, &changed(bytes.clone(), &changes)) {
            let (again, same) = look(name, None, &kept).expect("what is kept is good");
            prop_assert!(again == kept);
            prop_assert_eq!(same, Inspected { rewritten: false, ..inspected });
        }
    }
}
