//! What a file consists of, and where its records end: pure.

use leasehold_core::bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a message is made of. In a file: `"whole"`, `"reference"`, `{ lines = {} }`, `{ lines = { together = 1000 } }`,
/// `{ json-lines = {} }` or `{ delimited = { delimiter = ";", header = true } }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Records {
    /// The whole file, in memory.
    #[default]
    Whole,
    /// The whole file, which the handler reads by itself: see [`FileRef`](super::FileRef).
    Reference,
    /// Each line, without its end; or `together` lines at most, with their ends, so that a handler of millions of small ones is
    /// called less often.
    Lines {
        /// Lines of a message at most.
        #[serde(default = "one")]
        together: usize,
    },
    /// Each line that is not blank, a JSON value. One that is none cannot be handled.
    JsonLines {},
    /// Each record of a CSV file: a JSON object of texts by the names of the header, or an array where there is no header.
    Delimited {
        /// Between fields; one byte.
        #[serde(default = "comma")]
        delimiter: char,
        /// The first record names the fields.
        #[serde(default = "yes")]
        header: bool,
    },
}

fn one() -> usize {
    1
}

fn comma() -> char {
    ','
}

fn yes() -> bool {
    true
}

impl Records {
    /// Each line.
    pub fn lines() -> Self {
        Self::Lines { together: 1 }
    }

    /// So many lines at most to a message.
    pub fn lines_together(lines: usize) -> Self {
        Self::Lines { together: lines }
    }

    /// Each line, a JSON value.
    pub fn json_lines() -> Self {
        Self::JsonLines {}
    }

    /// Each record of a file with commas and a header.
    pub fn csv() -> Self {
        Self::Delimited { delimiter: ',', header: true }
    }

    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole | Self::Reference)
    }

    pub(crate) fn has_header(&self) -> bool {
        matches!(self, Self::Delimited { header: true, .. })
    }

    pub(crate) fn content_type(&self) -> Option<&'static str> {
        match self {
            Self::Whole | Self::Reference => None,
            Self::Lines { .. } => Some("text/plain"),
            Self::JsonLines {} | Self::Delimited { .. } => Some("application/json"),
        }
    }

    pub(crate) fn problem(&self) -> Result<(), String> {
        match self {
            Self::Lines { together: 0 } => Err("records lines together 0: give at least 1".to_owned()),
            Self::Delimited { delimiter, .. }
                if !delimiter.is_ascii() || matches!(delimiter, '"' | '\r' | '\n') =>
            {
                Err(format!(
                    "records delimiter {delimiter:?} cannot be: give one ASCII character, for example \";\""
                ))
            }
            _ => Ok(()),
        }
    }

    /// Complete records of `buffer`, which begins with one, at most `room` pieces. `is_last`: the file ends with it.
    pub(crate) fn split(&self, buffer: &Bytes, is_last: bool, room: usize, header: &[String]) -> Vec<Piece> {
        match self {
            Self::Lines { together: 1 } => single_lines(buffer, is_last, room, |body| Some((body, None))),
            Self::Lines { together } => lines_together(buffer, is_last, room, *together),
            Self::JsonLines {} => single_lines(buffer, is_last, room, json_line),
            Self::Delimited { delimiter, .. } => {
                let (mut pieces, mut at, mut fields) = (Vec::new(), 0, Fields::default());
                while pieces.len() < room
                    && let Some(end) = fields.read(&buffer[at..], is_last, *delimiter)
                {
                    at += end;
                    pieces.push(row(&fields, header, at));
                }
                pieces
            }
            Self::Whole | Self::Reference => Vec::new(),
        }
    }

    /// The names in the first record, and where it ends.
    pub(crate) fn header(
        &self,
        buffer: &[u8],
        is_last: bool,
    ) -> Option<Result<(Vec<String>, usize), String>> {
        let Self::Delimited { delimiter, header: true } = self else { return Some(Ok((Vec::new(), 0))) };
        let mut fields = Fields::default();
        let end = fields.read(buffer, is_last, *delimiter)?;
        let names =
            fields.iter().map(|field| String::from_utf8(field.to_vec())).collect::<Result<Vec<_>, _>>();
        Some(names.map(|names| (names, end)).map_err(|_| "its header is not UTF-8".to_owned()))
    }
}

/// Records that become one message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) body: Option<Bytes>,
    /// How many there are; without a body, what is passed over.
    pub(crate) records: u64,
    /// Where they end in the buffer.
    pub(crate) end: usize,
    /// It cannot be handled.
    pub(crate) broken: Option<String>,
}

fn single_lines(
    buffer: &Bytes,
    is_last: bool,
    room: usize,
    judge: impl Fn(Bytes) -> Option<(Bytes, Option<String>)>,
) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut begin, mut taken) = (0, 0);
    let mut ends = memchr::memchr_iter(b'\n', buffer);
    while taken < room && begin < buffer.len() {
        let (stop, end) = match ends.next() {
            Some(at) => (at, at + 1),
            None if is_last => (buffer.len(), buffer.len()),
            None => break,
        };
        let stop = if stop > begin && buffer[stop - 1] == b'\r' { stop - 1 } else { stop };
        let (body, broken) = match judge(buffer.slice(begin..stop)) {
            Some((body, broken)) => (Some(body), broken),
            None => (None, None),
        };
        taken += usize::from(body.is_some());
        pieces.push(Piece { body, records: 1, end, broken });
        begin = end;
    }
    pieces
}

fn json_line(line: Bytes) -> Option<(Bytes, Option<String>)> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return None;
    }
    let broken = serde_json::from_slice::<serde::de::IgnoredAny>(&line).err();
    // The error tells line and column, and nothing of the content.
    let broken = broken.map(|error| format!("is no JSON: {error}"));
    Some((line, broken))
}

fn lines_together(buffer: &Bytes, is_last: bool, room: usize, together: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut begin, mut end, mut lines) = (0, 0, 0_u64);
    for at in memchr::memchr_iter(b'\n', buffer) {
        (end, lines) = (at + 1, lines + 1);
        if lines >= together as u64 {
            pieces.push(Piece { body: Some(buffer.slice(begin..end)), records: lines, end, broken: None });
            (begin, lines) = (end, 0);
            if pieces.len() == room {
                return pieces;
            }
        }
    }
    if is_last && end < buffer.len() {
        (end, lines) = (buffer.len(), lines + 1);
    }
    if lines > 0 {
        pieces.push(Piece { body: Some(buffer.slice(begin..end)), records: lines, end, broken: None });
    }
    pieces
}

/// The fields of a record, in memory that is used again for the next.
#[derive(Default)]
struct Fields {
    text: Vec<u8>,
    ends: Vec<usize>,
    many: usize,
}

impl Fields {
    /// Reads the first record: where the next one begins. None: it is not complete.
    fn read(&mut self, buffer: &[u8], is_last: bool, delimiter: char) -> Option<usize> {
        self.text.resize(self.text.len().max(1024), 0);
        self.ends.resize(self.ends.len().max(16), 0);
        self.many = 0;
        let mut reader =
            csv_core::ReaderBuilder::new().delimiter(u8::try_from(delimiter).unwrap_or(b',')).build();
        let (mut read, mut written) = (0, 0);
        loop {
            let (text, ends) = (&mut self.text[written..], &mut self.ends[self.many..]);
            let (result, nin, nout, nends) = reader.read_record(&buffer[read..], text, ends);
            (read, written, self.many) = (read + nin, written + nout, self.many + nends);
            match result {
                csv_core::ReadRecordResult::Record => break,
                csv_core::ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                csv_core::ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                // A second time with nothing: that is the end.
                csv_core::ReadRecordResult::InputEmpty if is_last => {}
                csv_core::ReadRecordResult::InputEmpty | csv_core::ReadRecordResult::End => return None,
            }
        }
        // The rest of its end, and blank lines.
        Some(read + buffer[read..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count())
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends[..self.many]).map(|(begin, &end)| &self.text[begin..end])
    }
}

fn row(fields: &Fields, header: &[String], end: usize) -> Piece {
    let texts: Result<Vec<&str>, _> = fields.iter().map(std::str::from_utf8).collect();
    let raw = || Bytes::from(fields.iter().collect::<Vec<_>>().join(&b','));
    let broken = |problem: String| Piece { body: Some(raw()), records: 1, end, broken: Some(problem) };
    let Ok(texts) = texts else { return broken("is not UTF-8".to_owned()) };
    if header.is_empty() {
        return Piece {
            body: serde_json::to_vec(&texts).ok().map(Bytes::from),
            records: 1,
            end,
            broken: None,
        };
    }
    if texts.len() != header.len() {
        return broken(format!("has {} fields, and the header {}", texts.len(), header.len()));
    }
    // In the order of the header: a map of serde_json would sort them.
    let mut body = Vec::with_capacity(end.min(4096));
    for (n, (name, text)) in header.iter().zip(texts).enumerate() {
        body.push(if n == 0 { b'{' } else { b',' });
        // Writing a text to memory cannot fail.
        let _ = serde_json::to_writer(&mut body, name);
        body.push(b':');
        let _ = serde_json::to_writer(&mut body, text);
    }
    body.push(b'}');
    Piece { body: Some(body.into()), records: 1, end, broken: None }
}

#[cfg(test)]
mod tests;
