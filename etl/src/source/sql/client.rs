//! What one connection to one shard must be able to do.
//!
//! Values cross this border as JSON, written by the client with `values`. A key or a
//! bound comes back as the text of what the client wrote (a JSON text without its quotes,
//! a number digit for digit), and the client makes a parameter or a literal of the
//! column's type of it again.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::error::SqlError;
use super::key::Key;
use super::rows::RowWriter;
use crate::config::CursorClock;

/// Something under way on a connection. Dropping it is always safe; the connection is
/// then dropped too.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, SqlError>> + Send + 'a>>;

/// Connects to one shard.
pub trait Connector: fmt::Debug + Send + Sync + 'static {
    /// A new connection, logged in, that can only read (read-only transactions,
    /// `ApplicationIntent=ReadOnly`), within the source's `connect_timeout`. One
    /// attempt: the source tries again.
    fn connect(&self) -> Doing<'_, Box<dyn Client>>;
}

/// One connection to one shard. Every call has the source's `timeout` for its statement,
/// and [`Client::page`] again for each wait for more rows; a call that failed leaves a
/// connection that is used no more.
pub trait Client: fmt::Debug + Send {
    /// What the server says it is, for messages: `PostgreSQL 15.14`.
    fn version(&mut self) -> Doing<'_, String>;

    /// The columns of a table or query, in its order, with their types.
    fn describe<'a>(&'a mut self, relation: &'a Relation) -> Doing<'a, Vec<Column>>;

    /// The database's own clock less `back`, as the text of a value as [`Client::page`]
    /// writes those of `column`, a time of `relation`. `clock` says
    /// which clock a column without a zone is written by.
    fn clock<'a>(
        &'a mut self,
        relation: &'a Relation,
        column: &'a Column,
        clock: CursorClock,
        back: Duration,
    ) -> Doing<'a, String>;

    /// Whether an index begins with `columns` in this order, so that a page needs no
    /// sort; `None` where that cannot be known, as for a query.
    fn is_indexed<'a>(
        &'a mut self,
        relation: &'a Relation,
        columns: &'a [&'a str],
    ) -> Doing<'a, Option<bool>>;

    /// Whether a row has NULL in `column`.
    fn has_null<'a>(&'a mut self, relation: &'a Relation, column: &'a str) -> Doing<'a, bool>;

    /// Reads one page in the order of its key and writes its rows as they come, each
    /// with [`RowWriter::value`] for every one of `page.columns` and then
    /// [`RowWriter::end_row`].
    fn page<'a>(&'a mut self, page: &'a Page, rows: &'a mut RowWriter) -> Doing<'a, ()>;
}

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// A table's name, perhaps with its schema, as the user wrote it: `sales.orders`.
    Table(String),
    /// A SELECT without ORDER BY, to be put in parentheses.
    Query(String),
}

/// One column of a table or query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, to be quoted as it is.
    pub name: String,
    /// What its values are.
    pub kind: Kind,
    /// Its type as the database calls it: `numeric(10,2)`.
    pub declared: String,
    /// Whether it may be NULL.
    pub nullable: bool,
}

/// What a column's values are, whatever the database calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number of at most 64 bits.
    Integer,
    /// An exact decimal, also money.
    Decimal,
    /// A binary floating-point number: no key, for what is read may not be found again.
    Float,
    /// Text.
    Text,
    /// Bytes, as base64.
    Bytes,
    /// A UUID.
    Uuid,
    /// A date.
    Date,
    /// A time of day.
    Time,
    /// A date and time without a zone.
    DateTime,
    /// An instant: a date and time with a zone.
    Instant,
    /// A JSON document.
    Json,
    /// XML.
    Xml,
    /// A type that cannot be read without loss: refused before a row is read.
    Unsupported,
}

/// One page: at most `limit` rows, ascending by `columns[order[0]]`, `columns[order[1]]`…
#[derive(Debug, Clone)]
pub struct Page {
    /// What is read.
    pub relation: Relation,
    /// The columns to read, in this order; the last ones may be there for the key alone.
    pub columns: Vec<Column>,
    /// Which columns rows are ordered by: the cursor first, then the primary key.
    pub order: Vec<usize>,
    /// Only rows after this key.
    pub after: Option<Key>,
    /// Only rows up to this key, and with it.
    pub until: Option<Key>,
    /// Only rows whose first column of the order is at least this.
    pub from: Option<String>,
    /// Only rows whose first column of the order is less than this.
    pub below: Option<String>,
    /// The most rows.
    pub limit: u32,
}

impl Kind {
    /// Whether the database's clock bounds it: a cursor of this kind is a time.
    #[must_use]
    pub fn is_time(self) -> bool {
        matches!(self, Kind::DateTime | Kind::Instant)
    }

    /// Whether rows can be ordered by it and found again.
    #[must_use]
    pub fn is_key(self) -> bool {
        !matches!(self, Kind::Float | Kind::Json | Kind::Xml | Kind::Unsupported)
    }
}

impl Page {
    /// The columns that rows are ordered by.
    pub fn ordered(&self) -> impl Iterator<Item = &Column> {
        self.order.iter().filter_map(|at| self.columns.get(*at))
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Relation::Table(name) => f.write_str(name),
            Relation::Query(_) => f.write_str("the query"),
        }
    }
}
