//! The kinds that are taken, what each is called, and whether what the client says agrees.

use super::name::{extension, with_extension};
use super::not_allowed;
use crate::error::{Error, Result};

/// A kind of content that is taken. There is no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    // Pictures.
    Jpeg,
    Png,
    Gif,
    Webp,
    Avif,
    Heic,
    Heif,
    Bmp,
    Tiff,
    // Documents.
    Pdf,
    Text,
    Csv,
    Markdown,
    /// Not in UTF-8: little tells it from something else.
    OlderText,
    OlderCsv,
    Docx,
    Xlsx,
    Pptx,
    Odt,
    Ods,
    Odp,
    Doc,
    Xls,
    Ppt,
    // Audio.
    Mp3,
    M4a,
    Aac,
    Ogg,
    Wav,
    Flac,
    WebmAudio,
    // Video.
    Mp4,
    Webm,
    Quicktime,
}

/// What a kind is called.
struct Names {
    kind: Kind,
    media_type: &'static str,
    extensions: &'static [&'static str],
    /// Other media types that clients declare for it.
    aliases: &'static [&'static str],
}

const fn names(
    kind: Kind,
    media_type: &'static str,
    extensions: &'static [&'static str],
    aliases: &'static [&'static str],
) -> Names {
    Names { kind, media_type, extensions, aliases }
}

const ZIPPED: &[&str] = &["application/zip", "application/x-zip-compressed"];

const TEXT: &[&str] = &["txt", "text", "log"];
const TABLES: &[&str] =
    &["text/plain", "application/csv", "text/x-csv", "text/comma-separated-values", "application/vnd.ms-excel"];

const ALL: &[Names] = &[
    names(Kind::Jpeg, "image/jpeg", &["jpg", "jpeg", "jpe", "jfif"], &["image/jpg", "image/pjpeg"]),
    names(Kind::Png, "image/png", &["png", "apng"], &["image/x-png", "image/apng", "image/vnd.mozilla.apng"]),
    names(Kind::Gif, "image/gif", &["gif"], &[]),
    names(Kind::Webp, "image/webp", &["webp"], &[]),
    names(Kind::Avif, "image/avif", &["avif", "avifs"], &["image/avif-sequence"]),
    names(
        Kind::Heic,
        "image/heic",
        &["heic", "heif", "hif"],
        &["image/heif", "image/heic-sequence", "image/heif-sequence"],
    ),
    names(
        Kind::Heif,
        "image/heif",
        &["heif", "heic", "hif"],
        &["image/heic", "image/heif-sequence", "image/heic-sequence"],
    ),
    names(Kind::Bmp, "image/bmp", &["bmp", "dib"], &["image/x-bmp", "image/x-ms-bmp"]),
    names(Kind::Tiff, "image/tiff", &["tif", "tiff"], &["image/x-tiff"]),
    names(Kind::Pdf, "application/pdf", &["pdf"], &["application/x-pdf"]),
    names(Kind::Text, "text/plain", TEXT, &["text/x-log"]),
    names(Kind::Csv, "text/csv", &["csv"], TABLES),
    names(Kind::Markdown, "text/markdown", &["md", "markdown"], &["text/plain", "text/x-markdown"]),
    names(Kind::OlderText, "text/plain", TEXT, &["text/x-log"]),
    names(Kind::OlderCsv, "text/csv", &["csv"], TABLES),
    names(Kind::Docx, "application/vnd.openxmlformats-officedocument.wordprocessingml.document", &["docx"], ZIPPED),
    names(Kind::Xlsx, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", &["xlsx"], ZIPPED),
    names(Kind::Pptx, "application/vnd.openxmlformats-officedocument.presentationml.presentation", &["pptx"], ZIPPED),
    names(Kind::Odt, "application/vnd.oasis.opendocument.text", &["odt"], ZIPPED),
    names(Kind::Ods, "application/vnd.oasis.opendocument.spreadsheet", &["ods"], ZIPPED),
    names(Kind::Odp, "application/vnd.oasis.opendocument.presentation", &["odp"], ZIPPED),
    names(Kind::Doc, "application/msword", &["doc"], &["application/vnd.ms-word"]),
    names(
        Kind::Xls,
        "application/vnd.ms-excel",
        &["xls"],
        &["application/excel", "application/x-excel", "application/x-msexcel"],
    ),
    names(
        Kind::Ppt,
        "application/vnd.ms-powerpoint",
        &["ppt"],
        &["application/powerpoint", "application/mspowerpoint"],
    ),
    names(
        Kind::Mp3,
        "audio/mpeg",
        &["mp3", "mpga"],
        &["audio/mp3", "audio/x-mp3", "audio/mpeg3", "audio/x-mpeg", "audio/mpg"],
    ),
    names(Kind::M4a, "audio/mp4", &["m4a", "mp4"], &["audio/m4a", "audio/x-m4a", "audio/aac", "audio/mp4a-latm"]),
    names(Kind::Aac, "audio/aac", &["aac"], &["audio/x-aac", "audio/aacp", "audio/x-hx-aac-adts"]),
    names(
        Kind::Ogg,
        "audio/ogg",
        &["ogg", "oga", "opus"],
        &["application/ogg", "audio/opus", "audio/x-ogg", "audio/vorbis", "video/ogg"],
    ),
    names(Kind::Wav, "audio/wav", &["wav", "wave"], &["audio/x-wav", "audio/wave", "audio/vnd.wave", "audio/x-pn-wav"]),
    names(Kind::Flac, "audio/flac", &["flac"], &["audio/x-flac"]),
    names(Kind::WebmAudio, "audio/webm", &["weba", "webm"], &[]),
    names(Kind::Mp4, "video/mp4", &["mp4", "m4v", "mov"], &["application/mp4", "video/x-m4v", "video/quicktime"]),
    names(Kind::Webm, "video/webm", &["webm"], &[]),
    names(Kind::Quicktime, "video/quicktime", &["mov", "qt", "mp4"], &["video/mp4"]),
];

/// Whether a browser may show this where it is: raster pictures, audio and video. Never what can hold a script (SVG, HTML,
/// PDF), and no text.
#[must_use]
pub fn is_inline(media_type: &str) -> bool {
    let shown = ["image/", "audio/", "video/"].iter().any(|group| media_type.starts_with(group));
    shown && ALL.iter().any(|names| names.media_type == media_type)
}

impl Kind {
    fn names(self) -> Option<&'static Names> {
        ALL.iter().find(|names| names.kind == self)
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        self.names().map_or("application/octet-stream", |names| names.media_type)
    }

    /// Whether it is a picture.
    pub const fn is_picture(self) -> bool {
        matches!(
            self,
            Self::Jpeg
                | Self::Png
                | Self::Gif
                | Self::Webp
                | Self::Avif
                | Self::Heic
                | Self::Heif
                | Self::Bmp
                | Self::Tiff
        )
    }

    /// Whether it loses what it tells: pictures, and what is made of the same boxes as films are.
    pub const fn is_stripped(self) -> bool {
        self.is_picture() || matches!(self, Self::Mp4 | Self::M4a | Self::Quicktime)
    }

    /// Whether smaller pictures can be made of it here.
    pub const fn is_previewable(self) -> bool {
        matches!(self, Self::Jpeg | Self::Png | Self::Gif | Self::Webp)
    }

    /// Whether its text is the whole of it: nothing else can be hidden there. Not so if it is not in UTF-8.
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Csv | Self::Markdown)
    }

    /// Whether it is a zip archive.
    pub const fn is_zip(self) -> bool {
        matches!(self, Self::Docx | Self::Xlsx | Self::Pptx | Self::Odt | Self::Ods | Self::Odp)
    }

    /// Whether it is an OLE container.
    pub const fn is_ole(self) -> bool {
        matches!(self, Self::Doc | Self::Xls | Self::Ppt)
    }

    /// Other kinds that look the same in their bytes, so that only the client can tell which it is.
    const fn lookalikes(self) -> &'static [Self] {
        match self {
            Self::Text => &[Self::Csv, Self::Markdown],
            Self::OlderText => &[Self::OlderCsv],
            Self::Mp4 => &[Self::M4a],
            Self::Webm => &[Self::WebmAudio],
            _ => &[],
        }
    }

    /// Whether this extension and this declared type may stand for it. Programs save a picture under the name of another kind
    /// of picture every day; no harm comes of it, because what the bytes say is what is told to whoever gets them.
    fn goes_by(self, extension: Option<&str>, media_type: Option<&str>) -> bool {
        let mut stand = ALL.iter().filter(|names| names.kind == self || (self.is_picture() && names.kind.is_picture()));
        let mut also = stand.clone();
        extension.is_none_or(|given| stand.any(|names| names.has_extension(given)))
            && media_type.is_none_or(|given| also.any(|names| names.has_type(given)))
    }

    /// The name, with an extension of this kind if it has that of another picture.
    pub fn rename(self, name: String) -> String {
        let (Some(given), Some(names)) = (extension(&name), self.names()) else { return name };
        match names.extensions.first() {
            Some(own) if !names.has_extension(given) => with_extension(&name, own),
            _ => name,
        }
    }
}

impl Names {
    fn has_extension(&self, given: &str) -> bool {
        self.extensions.iter().any(|one| one.eq_ignore_ascii_case(given))
    }

    fn has_type(&self, given: &str) -> bool {
        std::iter::once(&self.media_type).chain(self.aliases).any(|one| one.eq_ignore_ascii_case(given))
    }
}

/// The kind that the bytes allow and the client says. Without an extension the declared type decides, and the other way
/// round.
pub fn agree(sniffed: Kind, name: &str, media_type: Option<&str>) -> Result<Kind> {
    let declared = media_type
        .map(|given| given.split(';').next().unwrap_or_default().trim())
        .filter(|given| !given.is_empty() && !given.eq_ignore_ascii_case("application/octet-stream"));
    let extension = extension(name);
    let mut candidates = std::iter::once(sniffed).chain(sniffed.lookalikes().iter().copied());
    let found = candidates.find(|kind| kind.goes_by(extension, declared));
    // Bytes that could be anything are a text only if somebody says so.
    if sniffed == Kind::OlderText && (found.is_none() || (extension.is_none() && declared.is_none())) {
        return Err(not_allowed(
            "attachments of this type are not taken; a text should be in UTF-8, and be called a text",
        ));
    }
    found.ok_or_else(|| {
        let what = sniffed.media_type();
        Error::invalid(
            "type_mismatch",
            format!("the attachment is {what}, but its name or its declared type says otherwise"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_names_and_goes_by_them() {
        for names in ALL {
            assert_eq!(ALL.iter().filter(|other| other.kind == names.kind).count(), 1, "{:?}", names.kind);
            assert!(!names.extensions.is_empty());
            for extension in names.extensions {
                for media_type in names.aliases.iter().chain([&names.media_type]) {
                    assert!(names.kind.goes_by(Some(*extension), Some(*media_type)));
                }
            }
        }
    }

    #[test]
    fn what_is_said_must_agree_with_what_is() {
        for (sniffed, name, declared, wanted) in [
            (Kind::Jpeg, "a.jpg", None, Some(Kind::Jpeg)),
            (Kind::Jpeg, "a.JPEG", Some("image/jpg"), Some(Kind::Jpeg)),
            (Kind::Jpeg, "a", Some("application/octet-stream"), Some(Kind::Jpeg)),
            (Kind::Jpeg, "a", Some(""), Some(Kind::Jpeg)),
            (Kind::Jpeg, "a.png", None, Some(Kind::Jpeg)),
            (Kind::Jpeg, "a.jpg", Some("image/png"), Some(Kind::Jpeg)),
            (Kind::Webp, "a.jpg", Some("image/jpeg"), Some(Kind::Webp)),
            (Kind::Jpeg, "a.HEIC", Some("image/heif"), Some(Kind::Jpeg)),
            (Kind::Jpeg, "a.pdf", None, None),
            (Kind::Jpeg, "a.png", Some("application/pdf"), None),
            (Kind::Jpeg, "a.svg", Some("image/svg+xml"), None),
            (Kind::Jpeg, "a.jpg.unknown", None, None),
            (Kind::Pdf, "a.png", None, None),
            (Kind::Pdf, "a.pdf", Some("image/png"), None),
            (Kind::Mp4, "a.jpg", None, None),
            (Kind::Mp3, "a.mp3", Some("audio/mp3"), Some(Kind::Mp3)),
            (Kind::Wav, "a.wav", Some("audio/x-wav"), Some(Kind::Wav)),
            (Kind::Ogg, "a.opus", Some("application/ogg"), Some(Kind::Ogg)),
            (Kind::Quicktime, "a.mov", Some("video/mp4"), Some(Kind::Quicktime)),
            (Kind::Mp4, "a.mp4", Some("video/quicktime"), Some(Kind::Mp4)),
            (Kind::Mp4, "voice.m4a", None, Some(Kind::M4a)),
            (Kind::Mp4, "voice", Some("audio/mp4"), Some(Kind::M4a)),
            (Kind::Webm, "voice.webm", Some("audio/webm;codecs=opus"), Some(Kind::WebmAudio)),
            (Kind::Webm, "a.webm", None, Some(Kind::Webm)),
            (Kind::Text, "a.csv", Some("application/vnd.ms-excel"), Some(Kind::Csv)),
            (Kind::Text, "a.csv", Some("text/plain; charset=utf-8"), Some(Kind::Csv)),
            (Kind::Text, "a", Some("text/csv"), Some(Kind::Csv)),
            (Kind::Text, "a.md", None, Some(Kind::Markdown)),
            (Kind::Text, "README", None, Some(Kind::Text)),
            (Kind::Text, "a.txt", Some("application/vnd.ms-excel"), None),
            (Kind::Text, "a.pdf", None, None),
            (Kind::Xls, "a.csv", None, None),
            (Kind::OlderText, "a.txt", None, Some(Kind::OlderText)),
            (Kind::OlderText, "a.csv", Some("application/vnd.ms-excel"), Some(Kind::OlderCsv)),
            (Kind::OlderText, "a", Some("text/csv"), Some(Kind::OlderCsv)),
            (Kind::OlderText, "a", Some("text/plain;charset=windows-1252"), Some(Kind::OlderText)),
            (Kind::OlderText, "a", None, None),
            (Kind::OlderText, "a", Some("application/octet-stream"), None),
            (Kind::OlderText, "a.md", None, None),
            (Kind::OlderText, "a.txt", Some("image/png"), None),
            (Kind::Pdf, "report.v1.2", Some("application/pdf"), Some(Kind::Pdf)),
            (Kind::Docx, "a.xlsx", None, None),
        ] {
            assert_eq!(agree(sniffed, name, declared).ok(), wanted, "{sniffed:?} {name} {declared:?}");
        }
    }

    #[test]
    fn a_picture_gets_an_extension_of_its_own() {
        for (kind, name, wanted) in [
            (Kind::Webp, "photo.jpg", "photo.webp"),
            (Kind::Png, "a.b.JPG", "a.b.png"),
            (Kind::Jpeg, "photo.heic", "photo.jpg"),
            (Kind::Jpeg, "photo.JPEG", "photo.JPEG"),
            (Kind::Heif, "photo.heic", "photo.heic"),
            (Kind::Webp, "photo", "photo"),
            (Kind::Csv, "a.csv", "a.csv"),
        ] {
            assert_eq!(kind.rename(name.to_owned()), wanted);
        }
    }

    #[test]
    fn only_what_holds_no_script_is_shown_in_place() {
        for shown in ["image/jpeg", "image/webp", "audio/mpeg", "video/mp4", "video/webm"] {
            assert!(is_inline(shown), "{shown}");
        }
        for saved in ["image/svg+xml", "text/html", "text/plain", "application/pdf", "image/x-unknown", ""] {
            assert!(!is_inline(saved), "{saved}");
        }
    }
}
