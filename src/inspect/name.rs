//! Names: shown to everybody, and given to whoever saves the attachment.

use crate::domain::words;
use crate::error::{Error, Result};

/// Bytes of a name, at most: what file systems take.
const LIMIT: usize = 255;
/// Letters and digits of an extension, at most: what is longer is a word.
const EXTENSION_LIMIT: usize = 10;

/// What a web server runs wherever it stands in a name, because it looks at every extension (Apache's `x.php.jpg`), and the
/// programs of Windows: such a name is made to be read wrongly. None of these is anything else in a name.
const UNSAFE: &str = "ashx asmx asp aspx bat cgi cmd exe fcgi hta jse jsp jspx lnk msi phar php php3 php4 php5 php7 php8 phps pht \
    phtml pif ps1 scr shtm shtml vbe vbs wsf";
/// What some system runs, or shows as a page with scripts, by the last extension. In the middle of a name it is a word, a
/// place in the web (`invoice-amazon.com.pdf`), a standard (`ISO.9001`) or what the file was made of (`flag.svg.png`).
const UNSAFE_LAST: &str = "apk appimage appref-ms bash chm com command cpl crx csh deb desktop dll dmg docm dotm elf gadget htaccess \
    htm html inf ipa iso jar js ksh mht mhtml mjs msc msh msix msp mst pkg pl potm ppam ppsm pptm psc1 psd1 psm1 \
    py pyc pyw rb reg rpm run scf scpt sct sh shb shs sldm svg svgz swf sys url vb vhd vhdx website ws wsc wsh xbap \
    xht xhtml xlam xll xlsm xltm xsl xslt zsh";

/// The name as it is kept: composed (NFC), trimmed, without control characters and such as turn the direction of the text
/// around, of 255 bytes at most.
///
/// Fails with `malformed_name` if nothing is left that can be seen or if it is a path, and with `unsafe_extension` if its last
/// extension makes some system run it, or an inner one does so on some server.
pub fn clean_name(name: &str) -> Result<String> {
    if name.contains(['/', '\\', '\0']) {
        return Err(malformed());
    }
    // Composing never makes a text longer than three times its bytes; far more than is kept need not be composed.
    let seen: String = cut(name, LIMIT * 16).chars().filter(|c| !words::breaks_out(*c)).collect();
    let name = cut(&words::line(&seen), LIMIT);
    if words::is_blank(&name) || name.chars().all(|c| c == '.' || c.is_whitespace()) {
        return Err(malformed());
    }
    if is_unsafe(&name) {
        return Err(Error::invalid("unsafe_extension", "attachments with such an extension are not taken"));
    }
    Ok(name)
}

fn malformed() -> Error {
    Error::invalid(
        "malformed_name",
        "the name of an attachment must be a plain file name, not a path, and must not be empty",
    )
}

/// Whether some system runs what has such a name. Windows leaves out dots and blanks at its end.
fn is_unsafe(name: &str) -> bool {
    let name = name.trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    let Some((_, extensions)) = name.split_once('.') else { return false };
    let mut parts = extensions.rsplit('.');
    parts.next().is_some_and(|last| runs(last, true)) || parts.any(|inner| runs(inner, false))
}

/// Whether some system runs what has this between two dots, or at the end. Windows leaves out blanks there, and some servers
/// stop reading at `;`, `%` or `:`: what stands before one of these may be the last extension.
fn runs(part: &str, is_last: bool) -> bool {
    let part = part.trim();
    let word = part.split([':', ';', '%', '$']).next().unwrap_or(part);
    let is_last = is_last || word.len() < part.len();
    let has = |list: &str| list.split(' ').any(|known| word.eq_ignore_ascii_case(known));
    has(UNSAFE) || (is_last && has(UNSAFE_LAST))
}

/// The name with another extension instead of its last one, if it has one.
pub(super) fn with_extension(name: &str, new: &str) -> String {
    let Some(old) = extension(name) else { return name.to_owned() };
    cut(&format!("{}{new}", &name[..name.len() - old.len()]), LIMIT)
}

/// At most so many bytes, cut before the extension.
fn cut(name: &str, limit: usize) -> String {
    if name.len() <= limit {
        return name.to_owned();
    }
    let tail = extension(name).map_or(0, |extension| extension.len() + 1);
    let mut end = limit - tail;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", name[..end].trim_end(), &name[name.len() - tail..])
}

/// The extension, if the name has one: what follows the last dot and looks like one. A number is none (`report.v1.2`).
pub(super) fn extension(name: &str) -> Option<&str> {
    let (stem, extension) = name.rsplit_once('.')?;
    let looks = (1..=EXTENSION_LIMIT).contains(&extension.len())
        && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && extension.bytes().any(|byte| byte.is_ascii_alphabetic());
    (!stem.is_empty() && looks).then_some(extension)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reason(name: &str) -> Option<&'static str> {
        clean_name(name).err().map(|error| error.reason())
    }

    #[test]
    fn a_name_is_made_fit_to_be_shown() {
        for (given, kept) in [
            ("report.pdf", "report.pdf"),
            ("report.v1.2.pdf", "report.v1.2.pdf"),
            ("  Angebot für Jože.docx \u{a0}", "Angebot für Jože.docx"),
            ("cafe\u{301}.png", "café.png"),
            ("line\nbreak\t\u{7}.txt", "linebreak.txt"),
            ("photo\u{202e}gpj.png", "photogpj.png"),
            ("\u{2066}a\u{2069}.png", "a.png"),
            (".env", ".env"),
            ("no extension", "no extension"),
            ("🏖️ beach.jpeg", "🏖️ beach.jpeg"),
        ] {
            assert_eq!(clean_name(given).expect(given), kept);
        }
    }

    #[test]
    fn a_path_or_nothing_is_no_name() {
        for bad in [
            "",
            " ",
            ".",
            "..",
            " .. ",
            "...",
            "\u{200b}",
            "\u{202e}",
            "../../etc/passwd",
            "a/b.png",
            "/a.png",
            "C:\\a.png",
            "..\\a.png",
            "a\0.png",
            "\u{202e}..",
        ] {
            assert_eq!(reason(bad), Some("malformed_name"), "{bad:?}");
        }
    }

    #[test]
    fn what_runs_somewhere_is_refused() {
        for bad in [
            "a.exe",
            "invoice.pdf.exe",
            "photo.php.jpg",
            "a.EXE",
            "a.exe.",
            "a.exe .pdf",
            "a.ex\u{202e}e",
            "a.php%00.jpg",
            "a.asp;.jpg",
            "a.exe::$DATA",
            "page.html",
            "page.xhtml",
            "x.svg",
            "x.sh",
            "x.docm",
            ".htaccess",
            "x.Ps1 ",
            "a.js.",
            "a.js. .",
            "a.com",
            "a.html%00.jpg",
            "a.js:x.jpg",
            "a.cgi.txt",
            "photo.php8.webp",
            "a.aspx.b.c.pdf",
        ] {
            assert_eq!(reason(bad), Some("unsafe_extension"), "{bad:?}");
        }
    }

    #[test]
    fn what_is_only_a_word_in_a_name_is_no_extension() {
        for good in [
            "company.pdf",
            "exe.pdf",
            "com",
            "sh",
            "a.comb.txt",
            "see example.com please.pdf",
            "my.python.txt",
            "invoice-amazon.com.pdf",
            "allegro.pl.pdf",
            "cert.ISO.9001.pdf",
            "vue.js.pdf",
            "get.sh.txt",
            "index.html.pdf",
            "Flag.svg.png",
            "budget.xlsm.pdf",
        ] {
            assert_eq!(reason(good), None, "{good:?}");
        }
    }

    #[test]
    fn an_extension_is_put_right_within_the_limit() {
        for (name, new, wanted) in [
            ("photo.jpg", "webp", "photo.webp"),
            ("a.b.JPEG", "png", "a.b.png"),
            ("photo", "png", "photo"),
            ("report.v1.2", "png", "report.v1.2"),
        ] {
            assert_eq!(with_extension(name, new), wanted);
        }
        let long = with_extension(&format!("{}.jpg", "x".repeat(LIMIT - 4)), "webp");
        assert_eq!((long.len(), extension(&long)), (LIMIT, Some("webp")));
        assert_eq!(clean_name(&long).expect("clean"), long);
    }

    #[test]
    fn a_long_name_keeps_its_extension() {
        let cleaned = clean_name(&format!("{}.pdf", "ž".repeat(300))).expect("long");
        assert!(cleaned.len() <= LIMIT && cleaned.len() > LIMIT - 4 && cleaned.ends_with("ž.pdf"), "{cleaned}");
        let cleaned = clean_name(&"x".repeat(300)).expect("long");
        assert_eq!(cleaned.len(), LIMIT);
        let cleaned = clean_name(&format!("{}.pdf", "x".repeat(1 << 20))).expect("very long");
        assert_eq!((cleaned.len(), extension(&cleaned)), (LIMIT, Some("pdf")));
        assert_eq!(reason(&format!("{}.pdf.exe", "x".repeat(300))), Some("unsafe_extension"));
    }

    #[test]
    fn an_extension_looks_like_one() {
        for (name, wanted) in [
            ("a.pdf", Some("pdf")),
            ("a.b.JPG", Some("JPG")),
            ("report.v1.2", None),
            ("Dr. Smith", None),
            (".pdf", None),
            ("a.", None),
            ("a.extraordinary", None),
        ] {
            assert_eq!(extension(name), wanted, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_clean_name_stays_as_it_is(name in "\\PC{0,400}|[a-z./ \u{202e}\u{301}ž]{0,400}") {
            if let Ok(cleaned) = clean_name(&name) {
                prop_assert!(cleaned.len() <= LIMIT && !cleaned.contains(['/', '\\', '\0']));
                prop_assert_eq!(clean_name(&cleaned).expect("clean"), cleaned);
            }
        }
    }
}
