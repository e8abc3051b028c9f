//! Upper and lower case of Unicode as tables that gathers read: pages of code points, entries of pages, rows of entries.
//!
//! Made from the standard library's own mapping, in its version of Unicode. The mapping is the full one of Unicode's default case
//! conversion, which Python's `str.upper` and `str.lower` have too: `ß` in upper case is `SS`, `İ` in lower case two code points.
//! Knows nothing of ops.
//!
//! ```text
//! page = pages[code / PAGE]    entry = entries[page * PAGE + code % PAGE]    first = code + column 0 [entry], second = column 1 [entry], ..
//! ```

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::OnceLock;

/// Code points per page.
pub(crate) const PAGE: u32 = 128;
/// Where capital sigma stands, and what it becomes at the end of a word.
pub(crate) const SIGMA: [char; 2] = ['Σ', 'ς'];
/// Planes that have letters with case, or signs that stand within words: all others are ideographs, private or unassigned.
const PLANES: [RangeInclusive<u32>; 2] = [0..=0x1_ffff, 0xe_0000..=0xe_ffff];

/// Which case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Lower,
    Upper,
}

/// Columns of a row, by place.
const COLUMNS: usize = 5;
/// Of lower case: 1 for a letter with case that is not passed over, and 1 for what is not passed over when a word's end is looked for.
pub(crate) const CASED: usize = 3;
pub(crate) const COUNTED: usize = 4;

/// What becomes of a code point: the distance to the first of its mapping, the second and third or 0, and the two marks.
type Row = [i64; COLUMNS];

/// A mapping as tables.
#[derive(Debug)]
pub(crate) struct CaseTable {
    /// The page of each [`PAGE`] code points; whatever follows has the last one.
    pub(crate) pages: Vec<i64>,
    /// The row of each code point of each page.
    pub(crate) entries: Vec<i64>,
    /// The rows, column by column.
    pub(crate) columns: [Vec<i64>; COLUMNS],
    /// The most code points that one becomes.
    pub(crate) width: usize,
}

/// The table of a case; made at first use.
pub(crate) fn case_table(case: Case) -> &'static CaseTable {
    static TABLES: [OnceLock<CaseTable>; 2] = [OnceLock::new(), OnceLock::new()];
    TABLES[case as usize].get_or_init(|| made(case))
}

fn made(case: Case) -> CaseTable {
    let mut rows: BTreeMap<Row, i64> = BTreeMap::new();
    let mut pages_of: BTreeMap<Vec<i64>, i64> = BTreeMap::new();
    let mut table =
        CaseTable { pages: Vec::new(), entries: Vec::new(), columns: Default::default(), width: 1 };
    let mut plain_page = None;
    let plain: Row = [0, 0, 0, 0, i64::from(case == Case::Lower)];
    for first in (0..=u32::from(char::MAX)).step_by(PAGE as usize) {
        let is_plain = !PLANES.iter().any(|plane| plane.contains(&first));
        if let (true, Some(page)) = (is_plain, plain_page) {
            table.pages.push(page);
            continue;
        }
        let entries = (first..first + PAGE).map(|code| {
            let character = char::from_u32(code).filter(|_| !is_plain);
            let row = character.map_or(plain, |character| row_of(character, case));
            let next = rows.len() as i64;
            *rows.entry(row).or_insert_with(|| {
                table.columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
                next
            })
        });
        let entries: Vec<i64> = entries.collect();
        let next = pages_of.len() as i64;
        let page = *pages_of.entry(entries).or_insert_with_key(|entries| {
            table.entries.extend(entries);
            next
        });
        plain_page = plain_page.or(is_plain.then_some(page));
        table.pages.push(page);
    }
    while let [.., a, b] = table.pages.as_slice()
        && a == b
    {
        table.pages.pop();
    }
    table.width =
        1 + [1, 2].into_iter().filter(|at| table.columns[*at].iter().any(|code| *code != 0)).count();
    table
}

fn row_of(character: char, case: Case) -> Row {
    let mapped: Vec<i64> = match case {
        Case::Lower => character.to_lowercase().map(|one| i64::from(u32::from(one))).collect(),
        Case::Upper => character.to_uppercase().map(|one| i64::from(u32::from(one))).collect(),
    };
    let distance = mapped[0] - i64::from(u32::from(character));
    let more = |at: usize| mapped.get(at).copied().unwrap_or(0);
    if case == Case::Upper {
        return [distance, more(1), more(2), 0, 0];
    }
    let [is_cased, is_counted] = marks_of(character);
    [distance, more(1), more(2), i64::from(is_cased), i64::from(is_counted)]
}

/// Whether a sigma behind a character stands at the end of a word because of it, and whether it is seen at all: what Unicode calls
/// Cased and Case_Ignorable, found in what the standard library makes of sigmas.
fn marks_of(character: char) -> [bool; 2] {
    let ends_word =
        |before: &str| format!("{before}{character}{}", SIGMA[0]).to_lowercase().ends_with(SIGMA[1]);
    let is_cased = ends_word("");
    [is_cased, is_cased || !ends_word("a")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked_up(table: &CaseTable, code: u32) -> Vec<char> {
        let page = table.pages[((code / PAGE) as usize).min(table.pages.len() - 1)];
        let entry = table.entries[(page * i64::from(PAGE) + i64::from(code % PAGE)) as usize] as usize;
        let first = i64::from(code) + table.columns[0][entry];
        let codes = [first, table.columns[1][entry], table.columns[2][entry]];
        let codes = codes.into_iter().enumerate().filter(|(at, code)| *at == 0 || *code != 0);
        codes.map(|(_, code)| char::from_u32(code as u32).unwrap()).collect()
    }

    #[test]
    fn every_character_is_mapped_as_the_standard_library_maps_it() {
        for case in [Case::Lower, Case::Upper] {
            let table = case_table(case);
            for one in '\0'..=char::MAX {
                let wanted: Vec<char> = match case {
                    Case::Lower => one.to_lowercase().collect(),
                    Case::Upper => one.to_uppercase().collect(),
                };
                assert_eq!(looked_up(table, one.into()), wanted, "{case:?} {:x}", u32::from(one));
            }
        }
    }

    #[test]
    fn the_tables_are_small() {
        for (case, width) in [(Case::Lower, 2), (Case::Upper, 3)] {
            let table = case_table(case);
            assert_eq!(table.width, width);
            assert!(table.columns[0].len() < 256 && table.entries.len() < 256 * PAGE as usize);
            assert!(table.pages.len() + table.entries.len() < 32 << 10, "{case:?}");
        }
    }

    #[test]
    fn planes_that_are_passed_over_are_plain() {
        let is_plain = |one: char| {
            row_of(one, Case::Lower) == [0, 0, 0, 0, 1] && row_of(one, Case::Upper) == [0; COLUMNS]
        };
        let mut others =
            ('\0'..=char::MAX).filter(|one| !PLANES.iter().any(|plane| plane.contains(&u32::from(*one))));
        assert_eq!(others.find(|one| !is_plain(*one)), None);
    }
}
