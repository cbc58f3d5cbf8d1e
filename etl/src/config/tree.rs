//! The tree a file becomes. Scalars keep their text: what type a text means is
//! decided by the schema, not guessed from its looks (`version: 1.1` stays
//! `1.1`). Every key and value keeps its place.

use super::origin::Extent;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub extent: Extent,
    pub value: Value,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    /// In the order of the file, duplicates included.
    Mapping(Vec<(Key, Node)>),
}

/// A key and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub name: String,
    pub extent: Extent,
}

/// A single value, not yet typed.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub text: String,
    /// Written without quotes, so it may mean a number, `true` or nothing.
    pub plain: bool,
    pub filled: Filled,
}

/// Whether variables took part in a scalar's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filled {
    /// The text stands in the file.
    AsWritten,
    /// The text holds values of these variables (or their defaults): never show it.
    From(Vec<String>),
    /// A variable was missing; the error is already reported.
    Missing,
}

impl Scalar {
    /// A scalar as written.
    pub fn written(text: impl Into<String>, plain: bool) -> Self {
        Scalar { text: text.into(), plain, filled: Filled::AsWritten }
    }

    /// Whether it means "nothing": empty, `null` or `~`, without quotes.
    pub fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

impl Node {
    /// A mapping's value for a key; the last one where it stands twice.
    pub fn get(&self, name: &str) -> Option<(&Key, &Node)> {
        let Value::Mapping(entries) = &self.value else { return None };
        entries.iter().rev().find(|(key, _)| key.name == name).map(|(key, node)| (key, node))
    }

    /// The best place for an error about a dotted key: its value, else its key,
    /// else the deepest of its parents that is there.
    pub fn locate(&self, dotted: &str) -> Extent {
        self.locate_steps(dotted.split('.'))
    }

    /// [`Node::locate`] where a key's own name may hold dots.
    pub fn locate_steps<'s>(&self, steps: impl IntoIterator<Item = &'s str>) -> Extent {
        let mut node = self;
        let mut best = self.extent;
        for step in steps {
            let next = match &node.value {
                Value::Mapping(_) => node.get(step).map(|(key, node)| (Some(key), node)),
                Value::Sequence(items) => {
                    step.parse::<usize>().ok().and_then(|at| items.get(at)).map(|node| (None, node))
                }
                Value::Scalar(_) => None,
            };
            let Some((key, found)) = next else { return best };
            node = found;
            best = match (&found.value, key) {
                (Value::Scalar(scalar), _) if !scalar.text.is_empty() => found.extent,
                (_, Some(key)) => key.extent,
                (_, None) => found.start_extent(),
            };
        }
        best
    }

    /// The place of a key itself, where [`Node::locate_steps`] gives that of its value.
    pub fn locate_key<'s>(&self, steps: impl IntoIterator<Item = &'s str>) -> Option<Extent> {
        let (mut node, mut last) = (self, None);
        for step in steps {
            (node, last) = match &node.value {
                Value::Mapping(_) => node.get(step).map(|(key, node)| (node, Some(key.extent)))?,
                Value::Sequence(items) => (items.get(step.parse::<usize>().ok()?)?, None),
                Value::Scalar(_) => return None,
            };
        }
        last
    }

    /// Whether a dotted key is written.
    pub fn holds(&self, dotted: &str) -> bool {
        let mut node = self;
        for step in dotted.split('.') {
            let next = match &node.value {
                Value::Mapping(_) => node.get(step).map(|(_, node)| node),
                Value::Sequence(items) => step.parse().ok().and_then(|at: usize| items.get(at)),
                Value::Scalar(_) => None,
            };
            let Some(found) = next else { return false };
            node = found;
        }
        true
    }

    /// Where a value begins: for a mapping its first key, which is narrower than the whole.
    pub fn start_extent(&self) -> Extent {
        match &self.value {
            Value::Mapping(entries) => entries.first().map_or(self.extent, |(key, _)| key.extent),
            _ => self.extent,
        }
    }
}
