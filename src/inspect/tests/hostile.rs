use super::super::samples;
use super::*;

/// A zip archive's directory with something else written over it, counted from the beginning of its entries.
fn patched(mut archive: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    let places: Vec<usize> =
        archive.windows(4).enumerate().filter(|(_, window)| *window == b"PK\x01\x02").map(|(at, _)| at).collect();
    for place in places {
        archive[place + at..][..bytes.len()].copy_from_slice(bytes);
    }
    archive
}

fn followed(bytes: &[u8], more: &[u8]) -> Vec<u8> {
    [bytes, more].concat()
}

#[test]
fn a_file_that_could_be_two_things_is_refused() {
    let zip = samples::zipped(&[("a.html", b"<script>alert(1)</script>")]);
    let (jpeg, png, gif, webp) =
        (samples::jpeg(40, 30), samples::png(40, 30), samples::gif(20, 10, 1), samples::webp(40, 30));
    let comment = |text: &[u8]| samples::jpeg_with(&jpeg, &[samples::segment(0xfe, &[text])]);
    for (what, name, bytes) in [
        ("a zip behind a jpeg", "a.jpg", followed(&jpeg, &zip)),
        ("a zip behind a png", "a.png", followed(&png, &zip)),
        ("a zip behind a gif", "a.gif", followed(&gif, &zip)),
        ("a zip behind a webp", "a.webp", followed(&webp, &zip)),
        ("a zip behind a pdf", "a.pdf", followed(&samples::pdf(), &zip)),
        ("a zip behind a film", "a.mp4", followed(&samples::mp4(b"isom"), &zip)),
        ("a zip behind a sound", "a.wav", followed(&samples::wav(), &zip)),
        ("a zip with a comment", "a.jpg", {
            let mut zip = zip.clone();
            let end = zip.len();
            zip[end - 2..].copy_from_slice(&100u16.to_le_bytes());
            followed(&jpeg, &followed(&zip, &[b' '; 100]))
        }),
        ("a zip in a comment of a jpeg at the end", "a.jpg", {
            let end = jpeg.len() - 2;
            [&jpeg[..end], &samples::segment(0xfe, &[&zip]), &jpeg[end..]].concat()
        }),
        ("a page in a comment of a jpeg", "a.jpg", comment(b"<script>alert(1)</script>")),
        ("php in a comment of a jpeg", "a.jpg", comment(b"<?php system($_GET['c']); ?>")),
        ("a drawing in a comment of a jpeg", "a.jpg", comment(b"<SVG onload=alert(1)>")),
        ("a pdf in a comment of a jpeg", "a.jpg", comment(b"%PDF-1.4 1 0 obj")),
        ("a page in a text of a png", "a.png", {
            samples::png_with(&png, &[samples::png_chunk(b"tEXt", b"Comment\0<html><body>")])
        }),
        ("a script in a comment of a gif", "a.gif", {
            samples::gif_with(&gif, &[samples::gif_extension(0xfe, &[b"<script src=//x></script>"])])
        }),
        ("a page behind a jpeg", "a.jpg", followed(&jpeg, b"\n<html><script>alert(1)</script>")),
        ("a page behind a png", "a.png", followed(&png, b"<p onclick=x>")),
        ("a page behind a webp", "a.webp", followed(&webp, b"<!-- -->")),
        ("a script behind a gif", "a.gif", followed(&gif, b"#!/bin/sh\n")),
        ("a pdf behind a png", "a.png", followed(&png, &samples::pdf())),
        ("a program behind a png", "a.png", followed(&png, &[b"\x7fELF\x02\x01\x01".as_slice(), &[0; 64]].concat())),
        ("an archive behind a gif", "a.gif", followed(&gif, b"7z\xbc\xaf\x27\x1c\0\x04")),
        ("a page behind a sound", "a.wav", {
            followed(&samples::riff(b"WAVE", &[samples::riff_chunk(b"data", &[128; 6000])]), b"<html>")
        }),
        ("a page in a pdf", "a.pdf", followed(b"%PDF-1.4\n%<script>alert(1)</script>\n", &samples::pdf())),
        (
            "a page in a tag of a song",
            "a.mp3",
            [b"ID3\x04\0\0\0\0\0\x7f".as_slice(), b"TXXX\0\0\0\x20\0\0<html><script>", &[0; 127], b"\xff\xfb\x90\x64"]
                .concat(),
        ),
        ("a pdf in a text", "a.txt", b"hello\n%PDF-1.4\n".to_vec()),
    ] {
        assert_eq!(reason(name, &bytes), Some("ambiguous_content"), "{what}");
    }
    // A pdf that begins later is not even one.
    assert_eq!(reason("a.pdf", &followed(b"\0\0", &samples::pdf())), Some("type_not_allowed"));
    assert_eq!(reason("a.pdf", &followed(b"\n", &samples::pdf())), Some("type_not_allowed"));
    // Four letters are no archive.
    assert_eq!(reason("a.mp4", &followed(&samples::mp4(b"isom"), b"PK\x05\x06 and more than that, by accident")), None);
    // An archive with a picture in front of it.
    let document = samples::office("word", &[]);
    assert_eq!(reason("a.docx", &followed(&jpeg, &document)), Some("type_mismatch"));
}

#[test]
fn a_document_that_becomes_too_large_is_refused() {
    let document = samples::office("word", &[]);
    let many: Vec<String> = (0..=10_000).map(|number| format!("word/{number}")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
    // So that it is the sum that counts.
    let half = samples::office("word", &[("word/media/a.bin", &[1; 2000]), ("word/media/b.bin", &[2; 2000])]);
    for (what, bytes) in [
        ("more than 500 MiB", patched(document.clone(), 24, &0x2000_0001u32.to_le_bytes())),
        ("more than 200 times as large", patched(document.clone(), 24, &1_000_000u32.to_le_bytes())),
        ("entries that lie over one another", patched(half, 20, &3000u32.to_le_bytes())),
        ("an entry beyond the end", patched(document.clone(), 42, &0x7fff_ffffu32.to_le_bytes())),
        ("too many entries", samples::office("word", &many)),
    ] {
        assert_eq!(reason("a.docx", &bytes), Some("archive_too_large"), "{what}");
    }
}

#[test]
fn a_document_that_reaches_outside_runs_something_or_hides_is_refused() {
    for (what, more) in [
        ("outside", "word/../../../etc/passwd"),
        ("from the root", "/etc/passwd"),
        ("from a drive", "C:\\windows\\a.dll"),
        ("outside, the other way", "word\\..\\..\\a"),
        ("macros", "word/vbaProject.bin"),
        ("macros in capitals", "word/VBAPROJECT.BIN"),
        ("macros of sheets", "xl/macrosheets/sheet1.xml"),
        ("a program", "META-INF/MANIFEST.MF"),
        ("two documents", "xl/workbook.xml"),
    ] {
        let document = samples::office("word", &[(more, b"x")]);
        assert_eq!(reason("a.docx", &document), Some("type_not_allowed"), "{what}");
    }
    let document = samples::office("word", &[]);
    assert_eq!(reason("a.docx", &patched(document.clone(), 8, &[1, 0])), Some("type_not_allowed"), "encrypted");
    assert_eq!(reason("a.docx", &document[..document.len() - 10]), Some("type_not_allowed"), "cut off");
    assert_eq!(reason("a.docx", &followed(b"PK\x03\x04", &document)), Some("type_not_allowed"), "moved");
    for more in [b"<html>".as_slice(), b"\0", b"PK\x05\x06", &samples::pdf()] {
        assert_eq!(reason("a.docx", &followed(&document, more)), Some("type_not_allowed"), "followed by something");
    }
    assert_eq!(reason("a.doc", &samples::ole(&["WordDocument", "Macros"])), Some("type_not_allowed"));
    let mut round = samples::ole(&["a", "b", "c", "d"]);
    round[516] = 1;
    assert_eq!(reason("a.doc", &round), Some("type_not_allowed"), "a directory that goes round");
}

#[test]
fn a_picture_that_becomes_too_large_is_refused() {
    let mut png = samples::png(4, 4);
    png[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    let mut strip = samples::png(4, 4);
    strip[16..24].copy_from_slice(&[0, 0, 0x75, 0x31, 0, 0, 0, 1]);
    let mut jpeg = samples::jpeg(40, 30);
    let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).expect("a frame");
    jpeg[frame + 5..frame + 9].fill(0xff);
    let mut gif = samples::gif(20, 10, 17);
    assert_eq!(reason("a.gif", &gif), None);
    gif[6..10].copy_from_slice(&[0x58, 0x1b, 0x58, 0x1b]);
    let frame = [[0; 4].as_slice(), &5000u32.to_be_bytes(), &5000u32.to_be_bytes(), &[0; 14]].concat();
    let frames = vec![samples::png_chunk(b"fcTL", &frame); 33];
    let mut within = samples::webp(4, 4);
    within[21..25].copy_from_slice(&0x0fff_ffffu32.to_le_bytes());
    let tall = samples::webp_with(&samples::webp(4, 4), (16_000, 16_000), 0, &[]);
    // Lossy pixels: only their header matters.
    let lossy = |edge: u16| {
        let header = [b"\x10\0\0\x9d\x01\x2a".as_slice(), &edge.to_le_bytes(), &edge.to_le_bytes(), &[0; 8]].concat();
        samples::riff_chunk(b"VP8 ", &header)
    };
    let alpha = samples::riff_chunk(b"ALPH", &[0; 5]);
    assert_eq!(reason("a.webp", &samples::animation((8, 8), &[&alpha, &lossy(8)])), None);
    for (what, name, bytes) in [
        ("a png of 30,000 by 30,000", "a.png", png),
        ("an edge of 30,001", "a.png", strip),
        ("a jpeg of 65,535 by 65,535", "a.jpg", jpeg),
        ("a gif of 7,000 by 7,000, 17 times", "a.gif", gif),
        ("an animated png of 33 frames", "a.png", samples::png_with(&samples::png(4, 4), &frames)),
        ("a webp whose canvas is large", "a.webp", tall),
        ("a webp whose picture is larger than its canvas", "a.webp", samples::webp_with(&within, (4, 4), 0, &[])),
        ("a webp whose frame is larger than it says", "a.webp", samples::animation((8, 8), &[&within[12..]])),
        ("the same without loss", "a.webp", samples::animation((8, 8), &[&lossy(16_000)])),
        ("the same behind what is transparent", "a.webp", samples::animation((8, 8), &[&alpha, &lossy(16_000)])),
        ("a bitmap", "a.bmp", samples::bmp(i32::MAX, i32::MIN)),
        ("a tiff", "a.tif", samples::tiff(30_000, 30_000, 1)),
        ("a heic", "a.heic", samples::heif(b"heic", (30_000, 30_000), false)),
    ] {
        assert_eq!(reason(name, &bytes), Some("image_too_large"), "{what}");
    }
}

#[test]
fn a_picture_that_contradicts_itself_is_refused() {
    let (jpeg, png, gif, webp) =
        (samples::jpeg(40, 30), samples::png(40, 30), samples::gif(20, 10, 1), samples::webp(40, 30));
    let scan = jpeg.windows(2).position(|two| two == [0xff, 0xda]).expect("a scan");
    let scans = vec![samples::segment(0xda, &[&jpeg[scan + 4..scan + 14]]); 65].concat();
    for (what, name, bytes) in [
        ("a jpeg without a scan", "a.jpg", jpeg[..scan].to_vec()),
        ("a jpeg of 66 scans", "a.jpg", [&jpeg[..scan], &scans, &jpeg[scan..]].concat()),
        ("a jpeg in a jpeg", "a.jpg", [&jpeg[..scan], &jpeg].concat()),
        ("a segment without an end", "a.jpg", [&jpeg[..2], b"\xff\xe1\xff\xff", &jpeg[2..40]].concat()),
        ("a segment of no length", "a.jpg", [&jpeg[..2], b"\xff\xe1\0\x01", &jpeg[2..]].concat()),
        ("a png without pixels", "a.png", png[..33].to_vec()),
        ("a png with two headers", "a.png", samples::png_with(&png, &[png[8..33].to_vec()])),
        (
            "a png whose header comes late",
            "a.png",
            [&png[..8], &samples::png_chunk(b"tEXt", b"a\0b"), &png[8..]].concat(),
        ),
        ("a chunk without an end", "a.png", png[..50].to_vec()),
        ("a gif without a picture", "a.gif", gif[..13].to_vec()),
        ("a webp that is cut off", "a.webp", webp[..webp.len() - 2].to_vec()),
        ("a frame of nothing", "a.webp", samples::animation((8, 8), &[])),
        ("a frame of something else", "a.webp", samples::animation((8, 8), &[&samples::riff_chunk(b"odd ", &[0; 16])])),
        ("a frame that ends before its pixels", "a.webp", { samples::animation((8, 8), &[&webp[12..24], &[0xff; 4]]) }),
        (
            "a frame whose transparency is not followed by pixels with loss",
            "a.webp",
            samples::animation((8, 8), &[&samples::riff_chunk(b"ALPH", &[0; 5]), &webp[12..]]),
        ),
        ("a webp of nothing", "a.webp", b"RIFF\x04\0\0\0WEBP".to_vec()),
        ("a webp that ends before it begins", "a.webp", [b"RIFF\0\0\0\0".as_slice(), &webp[8..]].concat()),
    ] {
        assert_eq!(reason(name, &bytes), Some("type_not_allowed"), "{what}");
    }
}
