use proptest::prelude::*;

use super::*;

fn texts(pieces: &[Piece]) -> Vec<&str> {
    pieces.iter().filter_map(|piece| std::str::from_utf8(piece.body.as_deref()?).ok()).collect()
}

fn split(records: &Records, text: &'static str, is_last: bool) -> Vec<Piece> {
    records.split(&Bytes::from_static(text.as_bytes()), is_last, 100, &[])
}

#[test]
fn a_line_ends_where_it_ends_and_the_last_one_at_the_end_of_the_file() {
    let lines = Records::lines();
    let pieces = split(&lines, "a\r\n\nb\nc", false);
    assert_eq!(texts(&pieces), ["a", "", "b"]);
    assert_eq!(pieces.last().unwrap().end, 6);
    assert_eq!(texts(&split(&lines, "b\nc", true)), ["b", "c"]);
    assert!(split(&lines, "", true).is_empty());
}

#[test]
fn lines_together_keep_their_ends() {
    let pieces = split(&Records::lines_together(2), "a\nb\nc\nd", false);
    assert_eq!(texts(&pieces), ["a\nb\n", "c\n"]);
    let pieces = split(&Records::lines_together(2), "a\nb\nc\nd", true);
    assert_eq!(texts(&pieces), ["a\nb\n", "c\nd"]);
    assert_eq!(pieces.iter().map(|piece| piece.records).sum::<u64>(), 4);
}

#[test]
fn what_is_no_json_is_broken_and_blank_lines_are_nothing() {
    let pieces = split(&Records::json_lines(), "{\"a\":1}\n \n{secret\n", false);
    assert_eq!(pieces.iter().map(|piece| piece.body.is_some()).collect::<Vec<_>>(), [true, false, true]);
    let broken = pieces[2].broken.as_deref().unwrap();
    assert!(broken.starts_with("is no JSON") && !broken.contains("secret"), "{broken}");
}

#[test]
fn a_record_of_a_csv_file_may_span_lines_and_is_an_object() {
    let csv = Records::csv();
    let buffer = Bytes::from_static(b"id,text\r\n1,\"a\nb, \"\"c\"\"\"\r\n\r\n2\n3,x");
    let (header, end) = csv.header(&buffer, false).unwrap().unwrap();
    assert_eq!(header, ["id", "text"]);
    let rest = buffer.slice(end..);
    let pieces = csv.split(&rest, false, 100, &header);
    assert_eq!(texts(&pieces), [r#"{"id":"1","text":"a\nb, \"c\""}"#, "2"]);
    assert!(pieces[1].broken.as_deref().unwrap().contains("has 1 fields, and the header 2"));
    let pieces = csv.split(&rest.slice(pieces[1].end..), true, 100, &header);
    assert_eq!(texts(&pieces), [r#"{"id":"3","text":"x"}"#]);
}

#[test]
fn refuses_what_cannot_separate() {
    let problem = |delimiter| Records::Delimited { delimiter, header: true }.problem();
    assert!(problem('"').unwrap_err().contains("give one ASCII character"));
    assert!(problem('→').is_err());
    problem('\t').unwrap();
}

proptest! {
    /// Wherever a block ends, the records are the same.
    #[test]
    fn records_do_not_depend_on_blocks(text in "[ab,\"\n\r]{0,60}", block in 1_usize..20) {
        for records in [Records::lines(), Records::json_lines(), Records::Delimited { delimiter: ',', header: false }] {
            let all = Bytes::from(text.clone().into_bytes());
            let whole: Vec<_> = records.split(&all, true, usize::MAX, &[]).into_iter().filter_map(|piece| piece.body).collect();
            let (mut parts, mut at, mut length) = (Vec::new(), 0, block);
            while at < all.len() {
                let end = all.len().min(at + length);
                let pieces = records.split(&all.slice(at..end), end == all.len(), 3, &[]);
                match pieces.last() {
                    Some(last) => { at += last.end; length = block; }
                    None if end == all.len() => break,
                    None => length += block,
                }
                parts.extend(pieces.into_iter().filter_map(|piece| piece.body));
            }
            prop_assert_eq!(&parts, &whole);
        }
    }
}
