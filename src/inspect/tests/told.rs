//! Pictures and films that tell where they were taken, and say by places in the file where they do.

use std::collections::BTreeMap;

use super::super::samples::{SECRET, boxed, exif};

pub const PIXELS: &[u8] = &[7; 64];
/// Another picture, under its media type.
pub const ANOTHER: &[u8] = b"another picture";

/// A block of Exif as HEIF has it: how far it is to its beginning, and the block.
pub fn block() -> Vec<u8> {
    [[0; 4].as_slice(), &exif(6)].concat()
}

/// A block of Exif that says how a picture is to be turned, and nothing else.
pub fn block_of(orientation: u8) -> Vec<u8> {
    [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(), &[orientation, 0, 0, 0], &[0; 4]].concat()
}

/// A block of XMP.
pub fn xmp() -> Vec<u8> {
    [b"<x:xmpmeta>".as_slice(), SECRET, b"</x:xmpmeta>"].concat()
}

/// A HEIF picture: its pixels between two pieces of Exif, XMP, and another picture. The table of places is of that version, with
/// numbers of 32 or 64 bits, and the items are in the file or within the directory.
pub fn heif(brand: &[u8], version: u8, wide: bool, within: bool) -> Vec<u8> {
    let (block, xmp) = (block(), xmp());
    let parts: [(u16, &[u8]); 5] = [(2, &block[..20]), (1, PIXELS), (2, &block[20..]), (3, &xmp), (4, ANOTHER)];
    let body: Vec<u8> = parts.iter().flat_map(|(_, part)| part.to_vec()).collect();
    let id = |id: u16| if version < 2 { id.to_be_bytes().to_vec() } else { u32::from(id).to_be_bytes().to_vec() };
    let number = |number: usize| {
        let whole = u64::try_from(number).expect("a number").to_be_bytes();
        whole[if wide { 0 } else { 4 }..].to_vec()
    };
    let entry = |item: u16, kind: &[u8], more: &[u8]| {
        let head = [if version < 2 { 2 } else { 3 }, 0, 0, 0];
        boxed(b"infe", &[&head, &id(item), &[0; 2], kind, b"a name\0", more])
    };
    let entries = [
        entry(1, b"hvc1", b""),
        entry(2, b"Exif", b""),
        entry(3, b"mime", b"application/rdf+xml\0"),
        entry(4, b"mime", b"image/jpeg\0"),
    ];
    let file = |start: usize| {
        let mut at = start;
        let mut places: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
        for (item, part) in parts {
            places.entry(item).or_default().push([number(at), number(part.len())].concat());
            at += part.len();
        }
        let sizes = if wide { 0x88 } else { 0x44 };
        let mut table = vec![version, 0, 0, 0, sizes, 0];
        table.extend(id(4));
        for (item, pieces) in places {
            table.extend(id(item));
            if version > 0 {
                table.extend([0, u8::from(within)]);
            }
            table.extend([0, 0]);
            table.extend(u16::try_from(pieces.len()).expect("short").to_be_bytes());
            table.extend(pieces.concat());
        }
        let extent = boxed(b"ispe", &[&[0; 4], &640u32.to_be_bytes(), &480u32.to_be_bytes()]);
        let meta = [
            boxed(b"hdlr", &[&[0; 25]]),
            boxed(b"iinf", &[&[0, 0, 0, 0, 0, 4], &entries.concat()]),
            boxed(b"iloc", &[&table]),
            boxed(b"iprp", &[&boxed(b"ipco", &[&extent, &boxed(b"irot", &[&[1]])])]),
            if within { boxed(b"idat", &[&body]) } else { Vec::new() },
        ];
        let ftyp = boxed(b"ftyp", &[brand, b"\0\0\0\0", b"mif1", brand]);
        let data = if within { Vec::new() } else { boxed(b"mdat", &[&body]) };
        [ftyp, boxed(b"meta", &[&[0; 4], &meta.concat()]), data].concat()
    };
    // Within the directory they are counted from the beginning of their box.
    let start = if within { 0 } else { file(0).len() - body.len() };
    file(start)
}

/// What a film says, in boxes of several makers; with what of it says where it was, as it stands there.
pub fn film(brand: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let value = |text: &[u8]| boxed(b"data", &[&[0, 0, 0, 1, 0, 0, 0, 0], text]);
    let key = |name: &[u8]| boxed(b"mdta", &[name]);
    let (android, third, adobe) = (
        boxed(b"\xa9xyz", &[b"\0\x13\x15\xc7", SECRET]),
        boxed(b"loci", &[&[0; 6], SECRET]),
        boxed(b"uuid", &[b"\xbe\x7a\xcf\xcb\x97\xa9\x42\xe8\x9c\x71\x99\x94\x91\xe3\xaf\xac", SECRET]),
    );
    let (apple, tunes) = (boxed(&[0, 0, 0, 2], &[&value(SECRET)]), boxed(b"\xa9xyz", &[&value(SECRET)]));
    let adobe_too = boxed(b"XMP_", &[SECRET]);
    let keys = [key(b"com.apple.quicktime.make"), key(b"com.apple.quicktime.location.ISO6709")].concat();
    let names = boxed(b"keys", &[&[0, 0, 0, 0, 0, 0, 0, 2], &keys]);
    let handler = boxed(b"hdlr", &[&[0; 25]]);
    let maker = boxed(&[0, 0, 0, 1], &[&value(b"Apple")]);
    // Apple's own list has no version in front, what others write has.
    let own = boxed(b"meta", &[&handler, &names, &boxed(b"ilst", &[&maker, &apple])]);
    let title = boxed(b"\xa9nam", &[&value(b"a title")]);
    let others = boxed(b"meta", &[&[0; 4], &handler, &boxed(b"ilst", &[&title, &tunes])]);
    let track = boxed(b"trak", &[&boxed(b"tkhd", &[&[1; 84]]), &boxed(b"udta", &[&third, &[0; 4]])]);
    let user = boxed(b"udta", &[&android, &boxed(b"\xa9mod", &[b"a model"]), &adobe_too, &others]);
    let moov = boxed(b"moov", &[&boxed(b"mvhd", &[&[0; 100]]), &track, &own, &user]);
    let ftyp = boxed(b"ftyp", &[brand, b"\0\0\x02\0", brand, b"iso2"]);
    let film = [ftyp, adobe.clone(), moov, boxed(b"mdat", &[&[7; 64]])].concat();
    (film, vec![android, third, adobe, apple, tunes, adobe_too])
}

/// A TIFF file with two pictures, and directories of Exif and GPS behind the first one.
pub fn tiff(little: bool) -> Vec<u8> {
    let short = |number: u16| if little { number.to_le_bytes() } else { number.to_be_bytes() };
    let long = |number: usize| {
        let number = u32::try_from(number).expect("short");
        if little { number.to_le_bytes() } else { number.to_be_bytes() }
    };
    let mut file = [if little { b"II" } else { b"MM" }.as_slice(), &short(42), &[0; 4]].concat();
    let put = |file: &mut Vec<u8>, bytes: &[u8]| {
        file.extend(bytes);
        file.len() - bytes.len()
    };
    // Pixels first, then the values, then what names them.
    let pixels = put(&mut file, PIXELS);
    let place = [SECRET, &[0; 5]].concat();
    let [maker, model, packet, profile, note, degrees] =
        [SECRET, SECRET, &xmp(), b"a profile", SECRET, &place].map(|value| {
            let at = put(&mut file, value);
            (at, value.len())
        });
    let entry = |tag: u16, form: u16, count: usize, value: [u8; 4]| {
        [short(tag).as_slice(), &short(form), &long(count), &value].concat()
    };
    let small = |tag, value| {
        entry(tag, 3, 1, {
            let [first, second] = short(value);
            [first, second, 0, 0]
        })
    };
    let far = |tag, form, (at, size): (usize, usize)| entry(tag, form, size, long(at));
    let directory = |entries: &[Vec<u8>], next: usize| {
        let count = u16::try_from(entries.len()).expect("short");
        [short(count).as_slice(), &entries.concat(), &long(next)].concat()
    };
    let gps = directory(&[entry(1, 2, 2, *b"N\0\0\0"), entry(2, 5, 3, long(degrees.0))], 0);
    let gps = put(&mut file, &gps);
    let exif = directory(&[far(0x927c, 7, note), entry(0xa431, 2, 4, *b"serl")], 0);
    let exif = put(&mut file, &exif);
    let second = directory(&[small(256, 2), small(257, 2), far(272, 2, model), far(34_675, 7, profile)], 0);
    let second = put(&mut file, &second);
    let first = directory(
        &[
            small(256, 8),
            small(257, 4),
            far(271, 2, maker),
            entry(273, 4, 1, long(pixels)),
            small(274, 6),
            entry(279, 4, 1, long(PIXELS.len())),
            far(700, 1, packet),
            entry(0x8769, 4, 1, long(exif)),
            far(34_675, 7, profile),
            entry(0x8825, 4, 1, long(gps)),
        ],
        second,
    );
    let first = put(&mut file, &first);
    file[4..8].copy_from_slice(&long(first));
    file
}

/// One of each.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a.heic", heif(b"heic", 0, false, false)),
        ("b.heic", heif(b"heic", 1, true, true)),
        ("a.avif", heif(b"avif", 2, false, false)),
        ("a.mp4", film(b"isom").0),
        ("a.mov", film(b"qt  ").0),
        ("a.tif", tiff(true)),
        ("b.tif", tiff(false)),
    ]
}
