//! `mode: replace`: the first batch of a run for a partition deletes what earlier runs
//! put there, in its own transaction, noted in the ledger of partitions. Batches of an
//! older run that come after that are not for the table any more.

use tokio_postgres::Error;

use super::copy::Encoded;
use super::link::Link;
use super::sql::{Dialect, Run, literal, quoted};
use super::table::Table;

/// What the ledger of partitions says about a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// All its partitions are this run's.
    Ours,
    /// A newer run has replaced some of them.
    SomeSuperseded,
    /// A newer run has replaced all of them.
    AllSuperseded,
}

/// Makes the partitions of a batch this run's, inside its transaction.
pub(super) async fn claim(
    link: &Link,
    table: &Table,
    batch: &Encoded,
    run: &Run,
) -> Result<Claim, Error> {
    let Some(at) = table.partition else { return Ok(Claim::Ours) };
    let (column, kind) = (quoted(&table.loaded[at].column), table.loaded[at].kind);
    let mut superseded = 0;
    // In order, so that two batches cannot wait for each other.
    for value in &batch.partitions {
        let (noted, matches) = match value {
            // The database writes the value, so that two spellings of a day are one.
            Some(text) => {
                let value = format!("{}::{kind}", literal(text));
                (format!("'=' || ({value})::text"), format!("{column} = {value}"))
            }
            None => ("''".to_owned(), format!("{column} IS NULL")),
        };
        let place = format!("target = {} AND partition = {noted}", literal(&table.plain));
        let ours = format!(
            "SELECT 1 FROM {} WHERE {place} AND run = {}",
            table.partitions,
            literal(&run.id)
        );
        // Shared with the other batches of this run; a newer run waits for us.
        if link.ask(&format!("{ours} FOR SHARE")).await?.is_some() {
            continue;
        }
        if link.run(&Dialect::Postgres.claim_partition(table, &noted, run)).await? == 1 {
            link.run(&format!("DELETE FROM {} WHERE {matches}", table.name)).await?;
        } else if link.ask(&ours).await?.is_none() {
            superseded += 1;
        }
    }
    Ok(match superseded {
        0 => Claim::Ours,
        all if all == batch.partitions.len() => Claim::AllSuperseded,
        _ => Claim::SomeSuperseded,
    })
}
