use super::super::picture::orientation;
use super::super::samples::boxed;
use super::told::{self, ANOTHER, PIXELS, block, film, heif, tiff, xmp};
use super::*;

/// Where this stands, which it does once.
fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    let mut found = bytes.windows(wanted.len()).enumerate().filter(|(_, window)| *window == wanted);
    let place = found.next().expect("it is there").0;
    assert_eq!(found.next(), None, "it is there twice");
    place
}

/// With something else in a place.
fn put(bytes: &[u8], at: usize, new: &[u8]) -> Vec<u8> {
    [&bytes[..at], new, &bytes[at + new.len()..]].concat()
}

fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let new = [new, &vec![0; old.len() - new.len()]].concat();
    put(bytes, find(bytes, old), &new)
}

/// The box, without what was in it.
fn freed(bytes: &[u8], old: &[u8]) -> Vec<u8> {
    replaced(bytes, old, &[&old[..4], b"free"].concat())
}

#[test]
fn nothing_of_what_is_told_is_left_and_nothing_moves() {
    for (name, bytes) in told::all() {
        assert!(has_secret(&bytes), "{name}");
        let (kept, inspected) = look(name, None, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!has_secret(&kept) && kept.len() == bytes.len(), "{name}");
        // Once more, there is nothing left to lose.
        let (again, same) = look(name, None, &kept).expect("good");
        assert!(again == kept && same == inspected, "{name}");
    }
}

#[test]
fn a_heif_picture_loses_items_and_nothing_else() {
    for brand in [b"heic", b"avif"] {
        for (version, wide, within) in [
            (0, false, false),
            (0, true, false),
            (1, false, true),
            (1, true, false),
            (2, false, false),
            (2, true, true),
        ] {
            let bytes = heif(brand, version, wide, within);
            let (kept, inspected) = look("a", Some("image/heif"), &bytes)
                .unwrap_or_else(|error| panic!("{version} {wide} {within}: {error}"));
            let (block, silent) = (block(), [[0; 4].as_slice(), &told::block_of(1)].concat());
            let wanted = replaced(&bytes, &block[..20], &silent[..20]);
            let wanted = replaced(&wanted, &block[20..], &silent[20..]);
            let wanted = replaced(&wanted, &xmp(), b"");
            assert!(kept == wanted, "{version} {wide} {within}");
            assert!(find(&kept, PIXELS) == find(&bytes, PIXELS) && find(&kept, ANOTHER) > 0);
            // It is turned by its properties; what is left of Exif is good, and turns nothing.
            assert_eq!(inspected.dimensions, Some((480, 640)));
            assert_eq!(orientation(&silent[4..]), Some(1));
        }
    }
}

#[test]
fn what_phones_put_beside_a_heif_picture_goes() {
    let picture = heif(b"heic", 0, false, false);
    let (plain, _) = look("a.heic", None, &picture).expect("good");
    for beside in [
        boxed(b"mpvd", &[&film(b"mp42").0]),
        boxed(b"sefd", &[SECRET]),
        boxed(b"uuid", &[b"\xbe\x7a\xcf\xcb\x97\xa9\x42\xe8\x9c\x71\x99\x94\x91\xe3\xaf\xac", SECRET]),
    ] {
        let (kept, _) = look("a.heic", None, &[picture.as_slice(), &beside].concat()).expect("good");
        assert!(kept == [plain.as_slice(), &freed(&beside, &beside)].concat());
    }
    let moving = boxed(b"moov", &[&boxed(b"udta", &[&boxed(b"loci", &[SECRET])])]);
    let (kept, _) = look("a.heic", None, &[picture.as_slice(), &moving].concat()).expect("good");
    assert!(!has_secret(&kept) && kept.starts_with(&plain));
}

#[test]
fn a_heif_picture_whose_items_cannot_be_found_is_refused() {
    let picture = heif(b"heic", 0, false, false);
    let place = |at: usize| u32::try_from(at).expect("short").to_be_bytes();
    let moved = |to: usize| {
        let from = find(&picture, &block()[..20]);
        replaced(&picture, &[place(from), place(20)].concat(), &[place(to), place(20)].concat())
    };
    let named = |old: &[u8], new: &[u8]| replaced(&picture, old, new);
    let places = find(&picture, b"iloc");
    for (what, bytes) in [
        ("where the pixels are", moved(find(&picture, PIXELS))),
        ("half where the pixels are", moved(find(&picture, PIXELS) - 19)),
        ("where another picture is", moved(find(&picture, ANOTHER) - 10)),
        ("in the directory", moved(find(&picture, b"iinf"))),
        ("at the beginning", moved(0)),
        ("behind the end", moved(picture.len() - 19)),
        ("far behind the end", moved(0xffff_ff00)),
        ("no table", named(b"iloc", b"free")),
        ("a table of no version", put(&picture, places + 4, &[3])),
        ("a table that counts too many", put(&picture, places + 10, &[0xff, 0xff])),
        ("numbers of three bytes", put(&picture, places + 8, &[0x33])),
        ("a box that is too long", put(&picture, find(&picture, b"iprp") - 4, &[0xff; 4])),
        ("entries that are too long", put(&picture, find(&picture, b"iinf") + 11, &[0xff])),
        ("cut off", picture[..picture.len() - 90].to_vec()),
    ] {
        assert_eq!(reason("a.heic", &bytes), Some("type_not_allowed"), "{what}");
    }
    // Of another item, or in another file.
    let within = heif(b"heic", 1, false, true);
    let item = find(&within, &[0, 2, 0, 1, 0, 0, 0, 2]);
    assert_eq!(reason("a.heic", &within), None);
    for (method, file) in [(2, 0), (0, 0), (1, 1)] {
        let bytes = put(&within, item + 2, &[0, method, 0, file]);
        assert_eq!(reason("a.heic", &bytes), Some("type_not_allowed"), "{method} {file}");
    }
}

#[test]
fn a_film_loses_its_places_and_nothing_else() {
    for (name, brand) in [("a.mp4", b"isom"), ("a.m4a", b"M4A "), ("a.mov", b"qt  ")] {
        let (bytes, told) = film(brand);
        let (kept, inspected) = look(name, None, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let wanted = told.iter().fold(bytes, |film, told| freed(&film, told));
        assert!(kept == wanted, "{name}");
        assert_eq!((inspected.dimensions, inspected.previewable), (None, false));
    }
    // Without its first box, as cameras wrote it before there was one.
    let (bytes, _) = film(b"qt  ");
    let (kept, _) = look("a.mov", None, &bytes[find(&bytes, b"moov") - 4..]).expect("good");
    assert!(!has_secret(&kept));
}

#[test]
fn a_film_that_cannot_be_read_is_kept() {
    let (bytes, _) = film(b"isom");
    for (what, bytes) in [
        ("a box that is too long", put(&bytes, find(&bytes, b"moov") - 4, &[0xff; 4])),
        ("a list that is too long", put(&bytes, find(&bytes, b"keys") - 4, &[0xff; 4])),
        ("names that are too long", put(&bytes, find(&bytes, b"mdtacom.apple.quicktime.make") - 4, &[0xff; 4])),
        ("too many names", put(&bytes, find(&bytes, b"keys") + 8, &[0xff; 4])),
        ("cut off", bytes[..bytes.len() - 100].to_vec()),
    ] {
        let (kept, _) = look("a.mp4", None, &bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(kept.len(), bytes.len(), "{what}");
    }
    let deep = (0..20).fold(boxed(b"loci", &[SECRET]), |inner, _| boxed(b"udta", &[&inner]));
    let deep = [boxed(b"ftyp", &[b"isom\0\0\0\0"]), boxed(b"moov", &[&deep])].concat();
    assert!(look("a.mp4", None, &deep).expect("good").0 == deep, "boxes in boxes without end");
}

/// The tags of the directory there, and where the next one is.
fn tags(bytes: &[u8], at: usize) -> (Vec<u16>, usize) {
    let little = bytes.starts_with(b"II");
    let number = |at: usize, size: usize| {
        let digits = bytes[at..at + size].iter().map(|digit| usize::from(*digit));
        let all: Vec<usize> = if little { digits.rev().collect() } else { digits.collect() };
        all.into_iter().fold(0, |number, digit| number * 256 + digit)
    };
    let at = if at == 0 { number(4, 4) } else { at };
    let count = number(at, 2);
    let tag = |entry: usize| u16::try_from(number(at + 2 + entry * 12, 2)).expect("a tag");
    ((0..count).map(tag).collect(), number(at + 2 + count * 12, 4))
}

#[test]
fn a_tiff_loses_entries_and_keeps_its_pixels() {
    for little in [true, false] {
        let bytes = tiff(little);
        let (kept, inspected) = look("a.tif", None, &bytes).expect("good");
        assert_eq!(inspected.dimensions, Some((4, 8)), "it is still turned");
        let (first, next) = tags(&kept, 0);
        assert_eq!(first, [256, 257, 273, 274, 279, 34_675]);
        assert_eq!(next, tags(&bytes, 0).1);
        assert_eq!(tags(&kept, next), (vec![256, 257, 34_675], 0));
        for same in [PIXELS, b"a profile"] {
            assert_eq!(find(&kept, same), find(&bytes, same));
        }
        for gone in [b"serl".as_slice(), b"xmpmeta", &0x927c_u16.to_le_bytes(), &0x927c_u16.to_be_bytes()] {
            assert!(!kept.windows(gone.len()).any(|window| window == gone));
        }
    }
}

#[test]
fn a_tiff_that_contradicts_itself_is_refused() {
    let picture = tiff(false);
    let entry = |tag: u16| find(&picture, &[tag.to_be_bytes(), 4u16.to_be_bytes()].concat());
    let pixels = u32::try_from(find(&picture, PIXELS)).expect("short");
    let moved = |tag: u16, to: u32| put(&picture, entry(tag) + 8, &to.to_be_bytes());
    let maker = find(&picture, &[271u16.to_be_bytes(), 2u16.to_be_bytes()].concat());
    for (what, bytes) in [
        ("a name where the pixels are", put(&picture, maker + 8, &pixels.to_be_bytes())),
        ("a name in the header", put(&picture, maker + 8, &2u32.to_be_bytes())),
        ("pixels where a directory is", moved(273, u32::try_from(entry(0x8769)).expect("short"))),
        ("as many as there are bytes", put(&picture, entry(279) + 8, &[0xff; 4])),
        ("no directory", put(&picture, 4, &[0, 0xff, 0xff, 0xff])),
        ("a directory of nothing", put(&picture, 4, &pixels.to_be_bytes())),
    ] {
        assert_eq!(reason("a.tif", &bytes), Some("type_not_allowed"), "{what}");
    }
    // What leads nowhere is left out.
    for to in [u32::MAX, 8_000] {
        let (kept, _) = look("a.tif", None, &moved(0x8769, to)).expect("good");
        assert_eq!(tags(&kept, 0).0, [256, 257, 273, 274, 279, 34_675]);
    }
    // Directories that go round.
    let (_, next) = tags(&picture, 0);
    let (second, _) = tags(&picture, next);
    let round = put(&picture, next + 2 + second.len() * 12, &picture[4..8]);
    assert!(!has_secret(&look("a.tif", None, &round).expect("good").0));
}
