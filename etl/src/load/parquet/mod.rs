//! Parquet files: each batch's records as columns, with the schema that all batches of the
//! sink have built so far. Values are checked one by one before they become columns, because
//! a cast that loses digits in silence loses data; a record that does not fit is rejected
//! with its field and value, and the others go on.

mod arrays;
mod cells;
mod learn;
mod schema;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use bytes::Bytes;

use self::cells::{Cell, row};
use self::schema::KeptSchema;
use super::answer::FailedRecord;
use super::files::FilesError;
use super::files::encode::{Draft, Encoded, Encoder, Unfit};
use super::files::name::file_name;
use super::files::partition::Partition;
use super::files::record::Fields;
use super::kinds::SinkHome;
use crate::batch::Payload;
use crate::config::{ParquetColumn, ParquetCompression, ParquetLoad};

/// Cells held at once on the way to columns; what bounds memory beside the batch itself.
const CELLS_MAX: usize = 1 << 18;
/// Rows turned into columns at once.
const CHUNK_ROWS_MAX: usize = 8192;

/// Makes Parquet files of batches.
#[derive(Debug)]
pub(super) struct ParquetFiles {
    pipeline: String,
    prefix: String,
    partition: Partition,
    compression: Compression,
    row_group: usize,
    schema: KeptSchema,
}

impl ParquetFiles {
    /// What `parquet` says, with the schema kept for the sink called `sink`.
    pub(super) fn new(
        sink: &str,
        parquet: &ParquetLoad,
        home: &SinkHome<'_>,
    ) -> Result<ParquetFiles, FilesError> {
        let compression = match parquet.compression {
            ParquetCompression::None => Compression::UNCOMPRESSED,
            ParquetCompression::Snappy => Compression::SNAPPY,
            ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
        };
        Ok(ParquetFiles {
            pipeline: home.pipeline.to_owned(),
            prefix: parquet.prefix.clone().unwrap_or_else(|| home.pipeline.to_owned()),
            partition: Partition::new(parquet.partition.as_deref(), parquet.partition_by.clone()),
            compression,
            row_group: parquet.row_group,
            schema: KeptSchema::open(&home.directory.join("state"), sink, &parquet.schema)?,
        })
    }

    fn properties(&self, payload: &Payload) -> WriterProperties {
        let entry = |key: &str, value: String| KeyValue::new(format!("etl.{key}"), value);
        WriterProperties::builder()
            .set_compression(self.compression)
            .set_max_row_group_row_count(Some(self.row_group))
            .set_key_value_metadata(Some(vec![
                entry("pipeline", self.pipeline.clone()),
                entry("run_id", payload.run_id.to_string()),
                entry("batch_key", payload.key.to_string()),
                entry("first_record", payload.range.start.to_string()),
            ]))
            .build()
    }

    /// One file of the records at `indices`; `None` when none of them fits.
    fn file(
        &self,
        payload: &Payload,
        rows: &[&[u8]],
        indices: &[usize],
        columns: &[ParquetColumn],
        failed: &mut Vec<FailedRecord>,
    ) -> Result<Option<Bytes>, ParquetError> {
        let schema = arrays::schema(columns);
        let properties = self.properties(payload);
        let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))?;
        let chunk_rows = (CELLS_MAX / learn::leaves(columns).max(1)).clamp(1, CHUNK_ROWS_MAX);
        let mut written = 0;
        for chunk in indices.chunks(chunk_rows) {
            let mut table: Vec<Vec<Cell<'_>>> = Vec::with_capacity(chunk.len());
            for index in chunk {
                match self.cells(rows[*index], columns) {
                    Ok(cells) => table.push(cells),
                    Err(reason) => failed.push(FailedRecord { index: *index, reason }),
                }
            }
            if !table.is_empty() {
                writer.write(&arrays::batch(&schema, columns, &table)?)?;
                written += table.len();
            }
        }
        let bytes = writer.into_inner()?;
        Ok((written > 0).then(|| Bytes::from(bytes)))
    }

    fn cells<'a>(
        &self,
        record: &'a [u8],
        columns: &[ParquetColumn],
    ) -> Result<Vec<Cell<'a>>, String> {
        let mut fields = Fields::of(record).ok_or("the record is not an object")?;
        if columns.is_empty() {
            return Err("no record so far has a value to make a column of".to_owned());
        }
        if let Some(left_out) = self.partition.left_out() {
            fields.0.retain(|(name, _)| name != left_out);
        }
        row(columns, &fields)
    }
}

impl Encoder for ParquetFiles {
    fn encode(&self, payload: &Payload) -> Result<Encoded, Unfit> {
        let spread = self.partition.spread(payload).map_err(Unfit::Refused)?;
        let rows: Vec<&[u8]> = payload.rows().collect();
        let columns = self
            .schema
            .learn(&rows, self.partition.left_out())
            .map_err(|error| Unfit::Broken(error.to_string()))?;
        let mut encoded = Encoded { drafts: Vec::new(), failed: spread.failed };
        for (directories, indices) in spread.groups {
            let file = self
                .file(payload, &rows, &indices, &columns, &mut encoded.failed)
                .map_err(Unfit::broken)?;
            if let Some(bytes) = file {
                encoded.drafts.push(Draft { directories, name: String::new(), bytes });
            }
        }
        // Known only now, which records are in none.
        let name = file_name(&self.prefix, payload, &encoded.failed, "parquet");
        encoded.drafts.iter_mut().for_each(|draft| draft.name.clone_from(&name));
        Ok(encoded)
    }
}
