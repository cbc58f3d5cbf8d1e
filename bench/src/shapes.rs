//! Files of other shapes than the usual one: few columns and many, short rows and long.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// A shape of rows.
#[derive(Debug)]
pub(crate) struct Shape {
    /// What a load of a long file of it is called in the results.
    pub(crate) long: &'static str,
    /// The same for a short file.
    pub(crate) short: &'static str,
    columns: usize,
    /// Bytes of a row with its line end.
    row_bytes: usize,
}

pub(crate) const SHAPES: [Shape; 5] = [
    Shape { long: "etl 1 column", short: "etl 1 column, short", columns: 1, row_bytes: 20 },
    Shape { long: "etl 10 columns", short: "etl 10 columns, short", columns: 10, row_bytes: 100 },
    Shape {
        long: "etl 200 columns",
        short: "etl 200 columns, short",
        columns: 200,
        row_bytes: 2_000,
    },
    Shape { long: "etl 10 bytes", short: "etl 10 bytes, short", columns: 2, row_bytes: 10 },
    Shape { long: "etl 100 KB", short: "etl 100 KB, short", columns: 10, row_bytes: 100_000 },
];

impl Shape {
    /// Rows of a file of about so many bytes, at most `rows_max`.
    pub(crate) fn rows(&self, bytes: u64, rows_max: u64) -> u64 {
        (bytes / self.row_bytes as u64).clamp(1, rows_max)
    }

    /// Writes `rows.csv` with a header into `directory`.
    pub(crate) fn generate(&self, directory: &Path, rows: u64) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(directory.join("rows.csv"))?);
        let names: Vec<String> = (0..self.columns).map(|column| format!("c{column}")).collect();
        writeln!(out, "{}", names.join(","))?;
        let mut line = Vec::new();
        for row in 0..rows {
            line.clear();
            self.push_row(&mut line, row);
            out.write_all(&line)?;
        }
        out.flush()
    }

    /// Every second field is a number, the others are texts; no two rows next to each other
    /// are the same.
    fn push_row(&self, line: &mut Vec<u8>, row: u64) {
        let width = self.row_bytes / self.columns - 1;
        for column in 0..self.columns {
            let value = (row * 7_919 + column as u64 * 104_729) % 1_000_000_007;
            let begin = line.len();
            if column % 2 == 0 {
                line.extend((0..width).map(|at| b'a' + ((value + at as u64 * 31) % 26) as u8));
            } else {
                // A number is at most 17 digits; what is left of the width are texts.
                let digits = width.min(17);
                line.resize(begin + width - digits, b'x');
                let number = value % 10_u64.pow(digits.min(9) as u32);
                line.extend_from_slice(format!("{number:0>digits$}").as_bytes());
            }
            line.push(if column + 1 < self.columns { b',' } else { b'\n' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SHAPES;

    #[test]
    fn rows_have_the_columns_and_the_length_of_their_shape() {
        for shape in &SHAPES {
            let mut line = Vec::new();
            shape.push_row(&mut line, 5);
            assert_eq!(line.len(), shape.row_bytes, "{}", shape.long);
            let text = String::from_utf8(line).unwrap();
            assert_eq!(text.trim_end().split(',').count(), shape.columns, "{}", shape.long);
            assert!(!text.contains('{'), "the sink counts braces");
        }
    }
}
