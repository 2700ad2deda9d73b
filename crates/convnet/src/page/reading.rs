//! Reads pages in tests: their elements and attributes.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Calls `seen` for every element after checking that all are closed in order and that every reference is to a letter.
pub(crate) fn elements(page: &str, mut seen: impl FnMut(&str, &BytesStart<'_>)) {
    let mut reader = Reader::from_str(page);
    reader.config_mut().check_end_names = true;
    let mut depth = 0_usize;
    loop {
        match reader.read_event().unwrap_or_else(|error| panic!("at byte {}: {error}", reader.error_position())) {
            Event::Start(element) => {
                depth += 1;
                seen(&String::from_utf8_lossy(element.name().as_ref()), &element);
            }
            Event::Empty(element) => seen(&String::from_utf8_lossy(element.name().as_ref()), &element),
            Event::End(_) => depth -= 1,
            Event::GeneralRef(reference) => assert!(reference.resolve_char_ref().unwrap().is_some(), "{reference:?}"),
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(depth, 0, "elements are left open");
}

/// The values of an attribute, wherever it stands.
pub(crate) fn attributes(page: &str, wanted: &str) -> Vec<String> {
    let mut values = Vec::new();
    elements(page, |_, element| {
        for attribute in element.attributes() {
            let attribute = attribute.unwrap();
            if attribute.key.as_ref() == wanted.as_bytes() {
                values.push(attribute.unescape_value().unwrap().into_owned());
            }
        }
    });
    values
}
