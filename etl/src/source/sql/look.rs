//! What `etl doctor` finds out about a shard: can it be reached, and can its tables be
//! read as they should be. No row is read.

use super::client::{Client, Connector};
use super::error::SqlError;
use super::outline::{Outline, named, relation};
use crate::config::{SqlSource, SqlTable};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The table; none: the shard itself.
    pub table: Option<String>,
    /// Whether a run would read it.
    pub fine: bool,
    /// What was found.
    pub text: String,
    /// What to do, or to think about.
    pub advice: Option<String>,
}

/// Looks at a shard and all tables of `source` in it.
pub async fn look(source: &SqlSource, connector: &dyn Connector) -> Vec<Seen> {
    let mut client = match connector.connect().await {
        Ok(client) => client,
        Err(error) => return vec![failed(None, error)],
    };
    let version = match client.version().await {
        Ok(version) => version,
        Err(error) => return vec![failed(None, error)],
    };
    let text = format!("connect ok, {version}");
    let mut seen = vec![Seen { table: None, fine: true, text, advice: None }];
    for table in &source.tables {
        let looked = look_at(source, table, &mut *client).await;
        seen.push(looked.unwrap_or_else(|error| failed(Some(table.name()), error)));
    }
    seen
}

async fn look_at(
    source: &SqlSource,
    table: &SqlTable,
    client: &mut dyn Client,
) -> Result<Seen, SqlError> {
    let relation = relation(table);
    let found = client.describe(&relation).await?;
    let outline = Outline::new(table, found, &source.add)?;
    let columns = outline.fields();
    let order = named(outline.ordered());
    let names: Vec<&str> = outline.ordered().map(|column| column.name.as_str()).collect();
    let indexed = client.is_indexed(&relation, &names).await?;
    let (index, advice) = match indexed {
        Some(true) => (format!("index on ({order})"), None),
        Some(false) => (
            format!("no index on ({order})"),
            Some(format!("make one, or every page sorts the table: CREATE INDEX ON … ({order})")),
        ),
        None => (format!("in the order of ({order})"), None),
    };
    let text = format!("{columns} columns, {index}");
    Ok(Seen { table: Some(table.name().to_owned()), fine: true, text, advice })
}

fn failed(table: Option<&str>, error: SqlError) -> Seen {
    let SqlError { text, remedy, .. } = error;
    let remedy = remedy.unwrap_or_else(|| "start the server, or correct its address".to_owned());
    Seen { table: table.map(str::to_owned), fine: false, text, advice: Some(remedy) }
}
