//! `add`: fields that every record gets, the same in every record of a run. `now` is when
//! the run began and not when the record passed: a batch that is made again, after a
//! crash, must have the bytes it had.

use rows::json::push_string;

use super::RunFacts;
use super::error::StepError;
use super::path::{Node, Path};
use super::record::Placing;
use super::scan::text;
use crate::config::Added;

/// Fields and what is put into them.
#[derive(Debug)]
pub(super) struct Add {
    tree: Node,
    values: Vec<String>,
    in_place: Vec<Option<Vec<u8>>>,
}

impl Add {
    pub(super) fn new(fields: Vec<(Path, &Added)>, run: &RunFacts<'_>) -> Self {
        let mut tree = Node::default();
        let mut values = Vec::new();
        for (number, (path, added)) in fields.into_iter().enumerate() {
            tree.insert(&path).target = Some(number);
            values.push(match added {
                Added::Now => encoded(&run.began()),
                Added::RunId => encoded(run.run_id),
                Added::Source => encoded(run.pipeline),
                Added::Value(constant) => constant.0.to_string(),
            });
        }
        Add { tree, in_place: vec![None; values.len()], values }
    }

    pub(super) fn apply(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), StepError> {
        let values: Vec<Option<&str>> = self.values.iter().map(|value| Some(&**value)).collect();
        Ok(Placing::new(&values, &self.in_place).place(text(row)?, &self.tree, out)?)
    }
}

fn encoded(text: &str) -> String {
    let mut out = Vec::new();
    push_string(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}
