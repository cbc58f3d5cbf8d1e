//! A record with quotes, as csv-core reads it: its fields are copied out, unquoted,
//! one after the other.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

/// What a quoted record's fields and their ends have room for at first.
const FIELD_BYTES: usize = if cfg!(test) { 7 } else { 4096 };
const FIELD_ENDS: usize = if cfg!(test) { 2 } else { 64 };

/// The ends of more fields are not kept: no header has so many columns, so that such
/// a record is refused for its number of fields.
pub const FIELDS_MAX: usize = 1 << 16;

/// Longer fields than these bytes do not keep their memory.
const FIELDS_BYTES_KEPT: usize = 1 << 20;

/// csv-core and the fields it has copied out.
#[derive(Debug)]
pub struct Quoted {
    reader: Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
    field_bytes: usize,
    field_count: usize,
    dropped: usize,
}

impl Quoted {
    /// For rows whose fields end with this byte.
    #[must_use]
    pub fn new(delimiter: u8) -> Self {
        let mut parser = Quoted {
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            fields: vec![0; FIELD_BYTES],
            ends: vec![0; FIELD_ENDS],
            field_bytes: 0,
            field_count: 0,
            dropped: 0,
        };
        parser.reset();
        parser
    }

    /// Before a record.
    pub fn begin(&mut self) {
        if self.fields.len() > FIELDS_BYTES_KEPT {
            self.fields = vec![0; FIELD_BYTES];
        }
        (self.field_bytes, self.field_count, self.dropped) = (0, 0, 0);
    }

    /// Gives up on a record that is not complete.
    pub fn reset(&mut self) {
        self.reader.reset();
        // Having read something, csv-core does not look for a byte order mark, which
        // could also be the beginning of a field.
        let _ = self.reader.read_record(b"\n", &mut [0; 8], &mut [0; 8]);
        self.begin();
    }

    /// The number of fields, all of them.
    #[must_use]
    pub fn field_count(&self) -> usize {
        self.dropped + self.field_count
    }

    /// The fields, if there are at most [`FIELDS_MAX`].
    pub fn fields(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut start = 0;
        self.ends[..self.field_count].iter().map(move |end| {
            let field = &self.fields[start..*end];
            start = *end;
            field
        })
    }

    /// Feeds `input`, which is not empty, until the record ends or all is taken; says
    /// whether it has ended, and how much was taken.
    pub fn read(&mut self, input: &[u8]) -> (bool, usize) {
        let mut taken = 0;
        loop {
            let (result, count, written, ended) = self.reader.read_record(
                &input[taken..],
                &mut self.fields[self.field_bytes..],
                &mut self.ends[self.field_count..],
            );
            taken += count;
            self.field_bytes += written;
            self.field_count += ended;
            match result {
                ReadRecordResult::OutputFull => self.fields.resize(2 * self.fields.len(), 0),
                ReadRecordResult::OutputEndsFull if self.ends.len() < FIELDS_MAX => {
                    self.ends.resize(2 * self.ends.len(), 0);
                }
                ReadRecordResult::OutputEndsFull => {
                    self.dropped += self.field_count;
                    self.field_count = 0;
                }
                ReadRecordResult::Record => return (true, taken),
                _ => return (false, taken),
            }
            // An empty input would mean its end to csv-core.
            if taken == input.len() {
                return (false, taken);
            }
        }
    }
}
