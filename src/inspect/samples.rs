//! Small files of every kind, made as their formats say: by the encoders where there are some, by hand otherwise. The tests of
//! the whole server use them too, so nothing here is of this crate.

use std::io::{Cursor, Write as _};

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, Frame, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use zip::write::SimpleFileOptions;

/// What must not be found in a picture any more.
pub const SECRET: &[u8] = b"46.0569 N 14.5058 E";

/// Coloured so that no two corners are alike.
pub fn pixels(width: u32, height: u32) -> RgbImage {
    let shade = |at: u32, of: u32| u8::try_from(at * 255 / of.max(1)).expect("a shade");
    RgbImage::from_fn(width, height, |x, y| Rgb([shade(x, width), shade(y, height), shade(x + y, width + height)]))
}

pub fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).expect("encoded");
    bytes.into_inner()
}

pub fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&pixels(width, height)).expect("encoded");
    bytes
}

pub fn png(width: u32, height: u32) -> Vec<u8> {
    encoded(pixels(width, height), ImageFormat::Png)
}

pub fn webp(width: u32, height: u32) -> Vec<u8> {
    encoded(pixels(width, height), ImageFormat::WebP)
}

pub fn glass(width: u32, height: u32) -> RgbaImage {
    RgbaImage::from_fn(width, height, |x, y| Rgba([200, 100, 50, if (x + y) % 2 == 0 { 0 } else { 255 }]))
}

pub fn gif(width: u32, height: u32, frames: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    encoder.set_repeat(image::codecs::gif::Repeat::Infinite).expect("encoded");
    for _ in 0..frames {
        encoder.encode_frame(Frame::new(DynamicImage::from(pixels(width, height)).into_rgba8())).expect("encoded");
    }
    drop(encoder);
    bytes
}

/// A block of Exif with an orientation and a description, big endian as cameras write it.
pub fn exif(orientation: u8) -> Vec<u8> {
    let mut block = b"MM\0*\0\0\0\x08\0\x02".to_vec();
    block.extend(b"\x01\x0e\0\x02");
    block.extend(u32::try_from(SECRET.len()).expect("short").to_be_bytes());
    block.extend(38u32.to_be_bytes());
    block.extend([1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
    block.extend([0; 4]);
    block.extend(SECRET);
    block
}

/// A segment of a JPEG.
pub fn segment(marker: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let size = u16::try_from(body.len() + 2).expect("short").to_be_bytes();
    [[0xff, marker].as_slice(), &size, &body].concat()
}

/// A JPEG with more segments behind its beginning.
pub fn jpeg_with(picture: &[u8], segments: &[Vec<u8>]) -> Vec<u8> {
    [&picture[..2], &segments.concat(), &picture[2..]].concat()
}

/// A PNG with more chunks behind its header.
pub fn png_with(picture: &[u8], chunks: &[Vec<u8>]) -> Vec<u8> {
    [&picture[..33], &chunks.concat(), &picture[33..]].concat()
}

pub fn png_chunk(name: &[u8], body: &[u8]) -> Vec<u8> {
    let mut chunk = u32::try_from(body.len()).expect("short").to_be_bytes().to_vec();
    chunk.extend(name);
    chunk.extend(body);
    let sum = !chunk[4..].iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    chunk.extend(sum.to_be_bytes());
    chunk
}

/// A GIF with more blocks behind its screen and colours.
pub fn gif_with(picture: &[u8], blocks: &[Vec<u8>]) -> Vec<u8> {
    let colours = if picture[10] & 0x80 == 0 { 0 } else { 3 << ((picture[10] & 7) + 1) };
    [&picture[..13 + colours], &blocks.concat(), &picture[13 + colours..]].concat()
}

pub fn gif_extension(label: u8, pieces: &[&[u8]]) -> Vec<u8> {
    let mut block = vec![0x21, label];
    for piece in pieces {
        block.push(u8::try_from(piece.len()).expect("short"));
        block.extend(*piece);
    }
    block.push(0);
    block
}

pub fn riff_chunk(name: &[u8], body: &[u8]) -> Vec<u8> {
    let mut chunk = name.to_vec();
    chunk.extend(u32::try_from(body.len()).expect("short").to_le_bytes());
    chunk.extend(body);
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    chunk
}

pub fn riff(form: &[u8], chunks: &[Vec<u8>]) -> Vec<u8> {
    riff_chunk(b"RIFF", &[form, &chunks.concat()].concat())
}

/// An extended WebP, with these flags and these chunks behind the picture.
pub fn webp_with(picture: &[u8], (width, height): (u32, u32), flags: u8, more: &[Vec<u8>]) -> Vec<u8> {
    let mut header = vec![flags, 0, 0, 0];
    header.extend(&(width - 1).to_le_bytes()[..3]);
    header.extend(&(height - 1).to_le_bytes()[..3]);
    let mut chunks = vec![riff_chunk(b"VP8X", &header), picture[12..].to_vec()];
    chunks.extend_from_slice(more);
    riff(b"WEBP", &chunks)
}

/// A WebP that moves: one frame of that size, made of these chunks.
pub fn animation((width, height): (u32, u32), chunks: &[&[u8]]) -> Vec<u8> {
    let measures = [&(width - 1).to_le_bytes()[..3], &(height - 1).to_le_bytes()[..3]].concat();
    let frame = [[0; 6].as_slice(), &measures, &[0; 4], &chunks.concat()].concat();
    let header = [[2, 0, 0, 0].as_slice(), &measures].concat();
    let chunks = [riff_chunk(b"VP8X", &header), riff_chunk(b"ANIM", &[0; 6]), riff_chunk(b"ANMF", &frame)];
    riff(b"WEBP", &chunks)
}

pub fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, body) in entries {
        archive.start_file(*name, options).expect("an entry");
        archive.write_all(body).expect("written");
    }
    archive.finish().expect("finished").into_inner()
}

/// An office document: `word`, `xl` or `ppt`.
pub fn office(folder: &str, more: &[(&str, &[u8])]) -> Vec<u8> {
    let part = format!("{folder}/document.xml");
    let types: &[u8] =
        br#"<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>"#;
    let mut entries: Vec<(&str, &[u8])> = vec![("[Content_Types].xml", types), ("_rels/.rels", b"<Relationships/>")];
    entries.push((&part, b"<?xml version='1.0'?><document>Hello</document>"));
    entries.extend(more);
    zipped(&entries)
}

pub fn open_document(sort: &str) -> Vec<u8> {
    let mimetype = format!("application/vnd.oasis.opendocument.{sort}");
    zipped(&[
        ("mimetype", mimetype.as_bytes()),
        ("content.xml", b"<office/>"),
        ("META-INF/manifest.xml", b"<manifest/>"),
    ])
}

/// An OLE container whose directory has these streams.
pub fn ole(streams: &[&str]) -> Vec<u8> {
    let mut file = vec![0; 512 * 4];
    file[..8].copy_from_slice(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1");
    file[24..34].copy_from_slice(&[0x3e, 0, 3, 0, 0xfe, 0xff, 9, 0, 6, 0]);
    file[44] = 1;
    file[48] = 1;
    file[76..512].fill(0xff);
    file[76..80].fill(0);
    // The table: itself, and a directory of two sectors.
    file[512..1024].fill(0xff);
    file[512..524].copy_from_slice(&[0xfd, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff]);
    for (at, name) in ["Root Entry"].iter().chain(streams).enumerate() {
        let entry = &mut file[1024 + at * 128..][..128];
        let letters: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        entry[..letters.len()].copy_from_slice(&letters);
        entry[64] = u8::try_from(letters.len() + 2).expect("short");
        entry[66] = if at == 0 { 5 } else { 2 };
    }
    file
}

pub fn pdf() -> Vec<u8> {
    b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[]/Count 0>>\n\
      endobj\nxref\n0 3\ntrailer\n<</Root 1 0 R/Size 3>>\nstartxref\n110\n%%EOF\n"
        .to_vec()
}

pub fn boxed(name: &[u8], body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let mut whole = u32::try_from(body.len() + 8).expect("short").to_be_bytes().to_vec();
    whole.extend(name);
    whole.extend(body);
    whole
}

pub fn mp4(brand: &[u8]) -> Vec<u8> {
    let ftyp = boxed(b"ftyp", &[brand, b"\0\0\x02\0", brand, b"iso2"]);
    let moov = boxed(b"moov", &[&boxed(b"mvhd", &[&[0; 100]])]);
    [ftyp, moov, boxed(b"mdat", &[&[7; 64]])].concat()
}

/// A HEIF picture's header: tiles of 512 pixels, the whole of that size, turned by a quarter or not.
pub fn heif(brand: &[u8], (width, height): (u32, u32), turned: bool) -> Vec<u8> {
    let extent = |width: u32, height: u32| boxed(b"ispe", &[&[0; 4], &width.to_be_bytes(), &height.to_be_bytes()]);
    let rotation = boxed(b"irot", &[&[u8::from(turned)]]);
    let properties = boxed(b"ipco", &[&extent(512, 512), &extent(width, height), &rotation]);
    let meta = boxed(b"meta", &[&[0; 4], &boxed(b"hdlr", &[&[0; 25]]), &boxed(b"iprp", &[&properties])]);
    [boxed(b"ftyp", &[brand, b"\0\0\0\0", b"mif1", brand]), meta, boxed(b"mdat", &[&[1; 64]])].concat()
}

pub fn ogg(codec: &[u8]) -> Vec<u8> {
    let mut page = b"OggS\0\x02".to_vec();
    page.extend([0; 20]);
    page.extend([1, 64]);
    page.extend(codec);
    page.resize(28 + 64, 0);
    page
}

pub fn wav() -> Vec<u8> {
    let format = [1, 0, 1, 0, 0x40, 0x1f, 0, 0, 0x40, 0x1f, 0, 0, 1, 0, 8, 0];
    riff(b"WAVE", &[riff_chunk(b"fmt ", &format), riff_chunk(b"data", &[128; 64])])
}

pub fn webm() -> Vec<u8> {
    let mut file =
        b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webmB\x87\x81\x04B\x85\x81\x02"
            .to_vec();
    file.extend(b"\x18S\x80g\x01\xff\xff\xff\xff\xff\xff\xff");
    file.resize(512, 0);
    file
}

pub fn bmp(width: i32, height: i32) -> Vec<u8> {
    let mut file = b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    file.extend(width.to_le_bytes());
    file.extend(height.to_le_bytes());
    file.extend([1, 0, 24, 0]);
    file.resize(70, 0);
    file
}

pub fn tiff(width: u16, height: u16, orientation: u8) -> Vec<u8> {
    let mut file = b"II*\0\x08\0\0\0\x03\0".to_vec();
    for (tag, value) in [(256u16, width), (257, height), (274, orientation.into())] {
        file.extend(tag.to_le_bytes());
        file.extend([3, 0, 1, 0, 0, 0]);
        file.extend(value.to_le_bytes());
        file.extend([0; 2]);
    }
    file.extend([0; 16]);
    file
}

/// A file of each kind: its name, its media type, its bytes.
pub fn all() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    vec![
        ("photo.jpg", "image/jpeg", jpeg(40, 30)),
        ("photo.png", "image/png", png(40, 30)),
        ("moving.gif", "image/gif", gif(20, 10, 3)),
        ("photo.webp", "image/webp", webp(40, 30)),
        ("photo.avif", "image/avif", heif(b"avif", (640, 480), false)),
        ("IMG_0001.HEIC", "image/heic", heif(b"heic", (4032, 3024), true)),
        ("photo.heif", "image/heif", heif(b"mif1", (640, 480), false)),
        ("photo.bmp", "image/bmp", bmp(2, -2)),
        ("scan.tiff", "image/tiff", tiff(300, 200, 6)),
        ("invoice.pdf", "application/pdf", pdf()),
        ("notes.txt", "text/plain", "Dober dan, Jože!\n".into()),
        ("prices.csv", "text/csv", b"sku;price\n1;2\n".to_vec()),
        ("README.md", "text/markdown", b"# Hello\n\n<b>bold</b>\n".to_vec()),
        ("letter.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", office("word", &[])),
        ("sheet.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", office("xl", &[])),
        (
            "slides.pptx",
            "application/vnd.openxmlformats-officedocument.presentationml.presentation",
            office("ppt", &[]),
        ),
        ("letter.odt", "application/vnd.oasis.opendocument.text", open_document("text")),
        ("sheet.ods", "application/vnd.oasis.opendocument.spreadsheet", open_document("spreadsheet")),
        ("slides.odp", "application/vnd.oasis.opendocument.presentation", open_document("presentation")),
        ("old.doc", "application/msword", ole(&["1Table", "WordDocument"])),
        ("old.xls", "application/vnd.ms-excel", ole(&["a", "b", "c", "d", "Workbook"])),
        ("old.ppt", "application/vnd.ms-powerpoint", ole(&["PowerPoint Document"])),
        (
            "song.mp3",
            "audio/mpeg",
            [b"ID3\x04\0\0\0\0\0\x0a".as_slice(), &[0; 10], b"\xff\xfb\x90\x64", &[0; 64]].concat(),
        ),
        ("bare.mp3", "audio/mpeg", [b"\xff\xfa\x90\x64".as_slice(), &[0; 413]].concat()),
        ("voice.m4a", "audio/mp4", mp4(b"M4A ")),
        ("phone.m4a", "audio/mp4", mp4(b"isom")),
        ("song.aac", "audio/aac", [b"\xff\xf1\x50\x80\x02\x1f\xfc".as_slice(), &[0; 64]].concat()),
        ("voice.ogg", "audio/ogg", ogg(b"\x01vorbis")),
        ("voice.opus", "audio/ogg", ogg(b"OpusHead")),
        ("beep.wav", "audio/wav", wav()),
        ("song.flac", "audio/flac", [b"fLaC\x80\0\0\x22".as_slice(), &[0; 34]].concat()),
        ("film.mp4", "video/mp4", mp4(b"isom")),
        ("film.webm", "video/webm", webm()),
        ("voice.weba", "audio/webm", webm()),
        ("film.mov", "video/quicktime", mp4(b"qt  ")),
    ]
}
