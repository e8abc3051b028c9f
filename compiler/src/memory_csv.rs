//! Memory planning problems as text: the CSV of google/minimalloc (its README and `src/converter.cc` define it).
//!
//! A header names the columns, in any order: `id` (or `buffer`, `buffer_id`), `lower` (`start`, `begin`), `upper`, or `end` for a last
//! moment that belongs to the life, `size`, and optionally `alignment`, `gaps` and `offset`. A gap is `lower-upper`, a time in
//! which nothing is needed, or `lower-upper@low:high`, in which only these bytes are; several are separated by spaces.
//!
//! ```text
//! id,lower,upper,size,gaps
//! weights,0,9,4096,3-5 6-7@0:64
//! ```

use std::sync::Arc;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_targets::memory_plan::{Buffer, Gap, Problem};

/// Problems told at most: a file of another format has one in each line.
const PROBLEMS_MAX: usize = 20;

/// What a column is, under the names it may have.
const COLUMNS: &[(&str, &[&str])] = &[
    ("id", &["id", "buffer", "buffer_id"]),
    ("lower", &["lower", "start", "begin"]),
    ("upper", &["upper", "end"]),
    ("size", &["size"]),
    ("alignment", &["alignment"]),
    ("gaps", &["gaps"]),
    ("offset", &["offset"]),
    ("hint", &["hint"]),
];

/// A file, read.
pub struct MemoryCsv {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    offset_column: Option<usize>,
    /// Line of each buffer, from 1.
    pub lines: Vec<u32>,
    /// Name of each buffer.
    pub ids: Vec<String>,
    /// The buffers, checked.
    pub problem: Problem,
    /// What the file's `offset` column holds.
    pub offsets: Option<Vec<u64>>,
    /// Columns that mean nothing here.
    pub warnings: Diagnostics,
}

/// One field with its place in the file.
struct Field<'a> {
    text: &'a str,
    line: u32,
    column: u32,
}

struct Reader<'a> {
    file: Arc<str>,
    columns: Vec<(usize, &'static str)>,
    inclusive: bool,
    problems: Vec<Diagnostic>,
    text: &'a str,
}

/// Reads a file; `name` is for messages.
///
/// # Errors
/// Everything that is wrong, each with its line, up to 20 problems.
pub fn parse(name: &str, text: &str) -> Result<MemoryCsv, Diagnostics> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader =
        Reader { file: name.into(), columns: Vec::new(), inclusive: false, problems: Vec::new(), text };
    let csv = reader.read();
    match csv {
        Some(csv) if reader.problems.is_empty() => Ok(csv),
        _ => {
            let hidden = reader.problems.len().saturating_sub(PROBLEMS_MAX);
            reader.problems.truncate(PROBLEMS_MAX);
            if hidden > 0 {
                let what = format!("{hidden} further problems are not shown");
                reader.problems.push(Diagnostic::error(Location::Unknown, what));
            }
            Err(reader.problems)
        }
    }
}

impl<'a> Reader<'a> {
    fn fault(&mut self, field: &Field, what: String, help: &str) {
        let location = Location::File(self.file.clone(), field.line, field.column);
        self.problems.push(Diagnostic::error(location, what).with_help(help));
    }

    fn read(&mut self) -> Option<MemoryCsv> {
        let mut lines = self
            .text
            .lines()
            .enumerate()
            .map(|(index, line)| (index as u32 + 1, line.trim_end_matches('\r')))
            .filter(|(_, line)| !line.trim().is_empty());
        let Some((number, first)) = lines.next() else {
            let field = Field { text: "", line: 1, column: 1 };
            self.fault(
                &field,
                "the file is empty".into(),
                "the first line names the columns: id,lower,upper,size",
            );
            return None;
        };
        let header: Vec<String> = first.split(',').map(|word| word.trim().to_string()).collect();
        let warnings = self.header(&fields(number, first))?;
        let mut csv = MemoryCsv {
            offset_column: self.columns.iter().find(|column| column.1 == "offset").map(|column| column.0),
            header,
            rows: Vec::new(),
            lines: Vec::new(),
            ids: Vec::new(),
            problem: Problem::default(),
            offsets: None,
            warnings,
        };
        let (mut buffers, mut offsets) = (Vec::new(), Vec::new());
        for (number, line) in lines {
            let row = fields(number, line);
            if row.len() != csv.header.len() {
                let what = format!("{} fields, the header names {}", row.len(), csv.header.len());
                self.fault(&row[0], what, "each line has one field for each column");
                continue;
            }
            let Some((id, buffer, offset)) = self.row(&row) else { continue };
            csv.lines.push(number);
            csv.ids.push(id);
            csv.rows.push(row.iter().map(|field| field.text.to_string()).collect());
            buffers.push(buffer);
            offsets.extend(offset);
        }
        csv.offsets = csv.offset_column.map(|_| offsets);
        if !self.problems.is_empty() {
            return None;
        }
        match Problem::new(buffers) {
            Ok(problem) => csv.problem = problem,
            Err(faults) => {
                for fault in faults {
                    let field = Field { text: "", line: csv.lines[fault.buffer], column: 1 };
                    let what = format!("buffer '{}': {}", csv.ids[fault.buffer], fault.what);
                    self.fault(
                        &field,
                        what,
                        "times are whole numbers with lower <= upper; windows lie inside the size",
                    );
                }
            }
        }
        Some(csv)
    }

    /// Finds out which column is what; gives warnings about those that mean nothing.
    fn header(&mut self, names: &[Field<'a>]) -> Option<Diagnostics> {
        let mut warnings = Diagnostics::new();
        for (index, field) in names.iter().enumerate() {
            let known = COLUMNS.iter().find(|(_, names)| names.contains(&field.text));
            match known {
                Some((what, _)) if self.columns.iter().any(|column| column.1 == *what) => {
                    self.fault(field, format!("a second column for '{what}'"), "keep one of them");
                }
                Some((what, _)) => {
                    self.columns.push((index, what));
                    self.inclusive |= field.text == "end";
                }
                None => {
                    let location = Location::File(self.file.clone(), field.line, field.column);
                    let what = format!("the column '{}' is not known and passes unread", field.text);
                    warnings.push(Diagnostic::warning(location, what));
                }
            }
        }
        for (what, names) in &COLUMNS[..4] {
            if !self.columns.iter().any(|column| column.1 == *what) {
                let help =
                    format!("the first line names the columns; this one may be {}", names.join(" or "));
                self.fault(&start_of_header(self.text), format!("there is no column '{what}'"), &help);
            }
        }
        self.problems.is_empty().then_some(warnings)
    }

    fn row(&mut self, row: &[Field<'a>]) -> Option<(String, Buffer, Option<u64>)> {
        let before = self.problems.len();
        let (mut id, mut offset) = (String::new(), None);
        let mut buffer = Buffer::new(0, 0, 0);
        for (index, what) in self.columns.clone() {
            let field = &row[index];
            match what {
                "id" => id = field.text.to_string(),
                "lower" => buffer.start = self.number(field),
                "upper" => buffer.end = self.number(field).saturating_add(u64::from(self.inclusive)),
                "size" => buffer.bytes = self.number(field),
                "alignment" => buffer.alignment_bytes = self.number(field),
                "gaps" => buffer.gaps = self.gaps(field),
                "offset" => offset = Some(self.number(field)),
                _ => {}
            }
        }
        (self.problems.len() == before).then_some((id, buffer, offset))
    }

    fn number(&mut self, field: &Field) -> u64 {
        field.text.parse().unwrap_or_else(|_| {
            let what = format!("'{}' is no whole number from 0 on", field.text);
            self.fault(field, what, "times, sizes, alignments and offsets are written in digits");
            0
        })
    }

    fn gaps(&mut self, field: &Field) -> Vec<Gap> {
        let pair = |text: &str, between: char| -> Option<(u64, u64)> {
            let (low, high) = text.split_once(between)?;
            Some((low.parse().ok()?, high.parse().ok()?))
        };
        let inclusive = u64::from(self.inclusive);
        let mut gaps = Vec::new();
        for word in field.text.split_whitespace() {
            let (time, window) = match word.split_once('@') {
                Some((time, window)) => (time, Some(pair(window, ':'))),
                None => (word, None),
            };
            match (pair(time, '-'), window) {
                (Some(_), Some(None)) | (None, _) => {
                    let help =
                        "a gap is LOWER-UPPER or LOWER-UPPER@LOW:HIGH; several are separated by spaces";
                    self.fault(field, format!("cannot read the gap '{word}'"), help);
                }
                (Some((start, end)), window) => gaps.push(Gap {
                    time: start..end.saturating_add(inclusive),
                    window: window.flatten().map(|(low, high)| low..high),
                }),
            }
        }
        gaps.sort_by_key(|gap| gap.time.start);
        gaps
    }
}

/// Where a missing column is missed: the start of the header.
fn start_of_header(text: &str) -> Field<'_> {
    let line = text.lines().position(|line| !line.trim().is_empty()).unwrap_or(0);
    Field { text: "", line: line as u32 + 1, column: 1 }
}

fn fields(line: u32, text: &str) -> Vec<Field<'_>> {
    let mut column = 1;
    text.split(',')
        .map(|word| {
            let field = Field { text: word.trim(), line, column };
            column += word.len() as u32 + 1;
            field
        })
        .collect()
}

impl MemoryCsv {
    /// The same file with the offsets in its column, or in a new last one.
    pub fn with_offsets(&self, offsets: &[u64]) -> String {
        let mut header = self.header.clone();
        let column = self.offset_column.unwrap_or_else(|| {
            header.push("offset".into());
            header.len() - 1
        });
        let mut text = header.join(",") + "\n";
        for (row, offset) in self.rows.iter().zip(offsets) {
            let mut row = row.clone();
            row.resize(header.len(), String::new());
            row[column] = offset.to_string();
            text += &row.join(",");
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(problem: &Diagnostic) -> String {
        match &problem.location {
            Location::File(file, line, column) => format!("{file}:{line}:{column}"),
            other => other.to_string(),
        }
    }

    fn faults(text: &str) -> Vec<String> {
        match parse("x.csv", text) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|one| format!("{}: {}", place(one), one.what)).collect(),
        }
    }

    #[test]
    fn both_forms_of_times_and_all_columns_are_read() {
        let text = "size,buffer,begin,end,alignment,gaps\r\n8,a,0,9,4,5-6@0:2 2-3\r\n\n4,b,1,1,1,\n";
        let csv = parse("x.csv", text).unwrap_or_else(|problems| panic!("{}", problems[0]));
        assert_eq!(csv.ids, ["a", "b"]);
        assert_eq!(csv.lines, [2, 4]);
        let (a, b) = (&csv.problem.buffers()[0], &csv.problem.buffers()[1]);
        assert_eq!((a.start, a.end, a.bytes, a.alignment_bytes), (0, 10, 8, 4));
        assert_eq!(a.gaps[0], Gap { time: 2..4, window: None });
        assert_eq!(a.gaps[1], Gap { time: 5..7, window: Some(0..2) });
        assert_eq!((b.start, b.end), (1, 2));
        let out = csv.with_offsets(&[4, 0]);
        assert_eq!(
            out,
            "size,buffer,begin,end,alignment,gaps,offset\n8,a,0,9,4,5-6@0:2 2-3,4\n4,b,1,1,1,,0\n"
        );
        let again = parse("x.csv", &out).unwrap_or_else(|problems| panic!("{}", problems[0]));
        assert_eq!(again.offsets.as_deref(), Some(&[4, 0][..]));
        assert_eq!(again.with_offsets(&[0, 8]).lines().nth(2), Some("4,b,1,1,1,,8"));
    }

    #[test]
    fn every_fault_has_its_line() {
        assert_eq!(faults(""), ["x.csv:1:1: the file is empty"]);
        assert_eq!(
            faults("id,lower,size,lower\n"),
            ["x.csv:1:15: a second column for 'lower'", "x.csv:1:1: there is no column 'upper'"]
        );
        assert_eq!(
            faults("id,lower,upper,size\na,0,x,4\nb,1,2\nc,0,2,-1\n"),
            [
                "x.csv:2:5: 'x' is no whole number from 0 on",
                "x.csv:3:1: 3 fields, the header names 4",
                "x.csv:4:7: '-1' is no whole number from 0 on"
            ]
        );
        let found = faults("id,lower,upper,size,gaps\na,5,4,1,\nb,0,9,4,2-\nc,0,9,4,2-3@5:6\n");
        assert_eq!(found, ["x.csv:3:9: cannot read the gap '2-'"]);
        let found = faults("id,lower,upper,size,gaps\na,5,4,1,\nc,0,9,4,2-3@5:6\n");
        assert_eq!(found.len(), 2);
        assert!(found[1].starts_with("x.csv:3:1: buffer 'c': window 5:6"), "{found:?}");
        let many = "id,lower,upper,size\n".to_string() + &"a,0,1,x\n".repeat(50);
        assert_eq!(faults(&many).len(), PROBLEMS_MAX + 1);
    }

    #[test]
    fn any_bytes_are_an_answer() {
        let seed =
            "id,lower,upper,size,alignment,gaps,offset\na,0,9,4096,64,3-5 6-7@0:64,128\nb,2,4,1,1,,0\n";
        let bytes: Vec<char> = seed.chars().collect();
        let alphabet: Vec<char> = ",-@: \n\r\u{feff}09é".chars().collect();
        let mut state = 1u64;
        for _ in 0..4000 {
            let mut text = bytes.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (state >> 33) as usize % text.len();
                let with = alphabet[(state >> 13) as usize % alphabet.len()];
                match state % 3 {
                    0 => text[at] = with,
                    1 => text.insert(at, with),
                    _ => drop(text.remove(at)),
                }
            }
            let text: String = text.into_iter().collect();
            if let Ok(csv) = parse("x.csv", &text) {
                assert_eq!(csv.with_offsets(&vec![0; csv.ids.len()]).lines().count(), csv.ids.len() + 1);
            }
        }
    }
}
