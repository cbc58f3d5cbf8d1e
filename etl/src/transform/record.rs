//! The four things that steps do to a record: find fields, keep some, change or remove
//! some, put some in. What a step does not name is copied as it is written, in its order.
//!
//! Of a name that stands twice in an object the last one counts where it is read; where
//! fields are kept, changed or removed, all of that name are.

use super::error::StepError;
use super::path::Node;
use super::scan::{Fault, Field, Fields, is_object};

/// Finds the values of a tree's sources; `found` has a place for each.
pub(super) fn find<'a>(
    object: &'a str,
    node: &Node,
    found: &mut [Option<&'a str>],
) -> Result<(), Fault> {
    let mut fields = Fields::new(object)?;
    while let Some(field) = fields.next()? {
        let Some(child) = node.child(&field.name()) else { continue };
        forget(child, found);
        if let Some(number) = child.source {
            found[number] = Some(field.value);
        }
        if !child.children.is_empty() && is_object(field.value) {
            find(field.value, child, found)?;
        }
    }
    Ok(())
}

/// An earlier field of the same name does not count, nor what was in it.
fn forget(node: &Node, found: &mut [Option<&str>]) {
    if let Some(number) = node.source {
        found[number] = None;
    }
    node.children.iter().for_each(|child| forget(child, found));
}

/// Appends the object with the tree's sources only; an object of which nothing stays
/// goes, too. Says whether anything was kept.
pub(super) fn keep(object: &str, node: &Node, out: &mut Vec<u8>) -> Result<bool, Fault> {
    let mut writer = Writer::begin(out);
    let mut fields = Fields::new(object)?;
    while let Some(field) = fields.next()? {
        let Some(child) = node.child(&field.name()) else { continue };
        if child.source.is_some() {
            writer.copy(&field);
        } else if is_object(field.value) {
            let mark = writer.key(field.key.as_bytes());
            if !keep(field.value, child, writer.out)? {
                writer.take_back(mark);
            }
        }
    }
    Ok(writer.end())
}

/// What becomes of a field that a step names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It has the value that was appended.
    Changed,
    /// It stays as it is; nothing was appended.
    Same,
    /// It goes; nothing was appended.
    Removed,
}

/// Decides about a field that a step names: gets the number of the step's source, the
/// value, and where to append a new one.
pub(super) type Change<'a> = dyn FnMut(usize, &str, &mut Vec<u8>) -> Result<Fate, StepError> + 'a;

/// Appends the object with each of the tree's sources as `change` wants it.
pub(super) fn edit(
    object: &str,
    node: &Node,
    out: &mut Vec<u8>,
    change: &mut Change<'_>,
) -> Result<(), Broken> {
    let mut writer = Writer::begin(out);
    let mut fields = Fields::new(object)?;
    while let Some(field) = fields.next()? {
        let Some(child) = node.child(&field.name()) else {
            writer.copy(&field);
            continue;
        };
        let mark = writer.key(field.key.as_bytes());
        if let Some(number) = child.source {
            match change(number, field.value, writer.out)? {
                Fate::Changed => {}
                Fate::Same => writer.out.extend_from_slice(field.value.as_bytes()),
                Fate::Removed => writer.take_back(mark),
            }
        } else if is_object(field.value) {
            edit(field.value, child, writer.out, change)?;
        } else {
            writer.out.extend_from_slice(field.value.as_bytes());
        }
    }
    writer.end();
    Ok(())
}

/// Values on their way to the places that a tree's targets name.
pub(super) struct Placing<'v> {
    /// The value of each number as JSON; `None` where there is nothing to put.
    pub(super) values: &'v [Option<&'v str>],
    /// For each number the encoded name, when its source is beside its target: the field
    /// is renamed where it stands.
    pub(super) in_place: &'v [Option<Vec<u8>>],
    pub(super) placed: Vec<bool>,
}

impl<'v> Placing<'v> {
    pub(super) fn new(values: &'v [Option<&'v str>], in_place: &'v [Option<Vec<u8>>]) -> Self {
        Placing { values, in_place, placed: vec![false; values.len()] }
    }

    /// The value of a number, when it is not in its place yet.
    fn pending(&self, number: usize) -> Option<&'v str> {
        self.values[number].filter(|_| !self.placed[number])
    }

    fn pends_below(&self, node: &Node) -> bool {
        node.children.iter().any(|child| {
            child.target.is_some_and(|number| self.pending(number).is_some())
                || self.pends_below(child)
        })
    }

    /// Appends the object with every value at its target and without the sources of
    /// those values. A field that is at a target already gives way to the value; what is
    /// missing is made at the end of its object.
    pub(super) fn place(
        &mut self,
        object: &str,
        node: &Node,
        out: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        let mut writer = Writer::begin(out);
        let mut fields = Fields::new(object)?;
        while let Some(field) = fields.next()? {
            match node.child(&field.name()) {
                None => writer.copy(&field),
                Some(child) => self.place_field(&field, child, &mut writer)?,
            }
        }
        for child in &node.children {
            self.append_missing(child, &mut writer);
        }
        writer.end();
        Ok(())
    }

    fn place_field(
        &mut self,
        field: &Field<'_>,
        child: &Node,
        writer: &mut Writer<'_>,
    ) -> Result<(), Broken> {
        if let Some(number) = child.source.filter(|number| self.values[*number].is_some()) {
            if let (Some(key), Some(value)) = (&self.in_place[number], self.pending(number)) {
                writer.put(key, value);
                self.placed[number] = true;
            }
            return Ok(());
        }
        if let Some(number) = child.target.filter(|number| self.values[*number].is_some()) {
            if let Some(value) = self.pending(number) {
                writer.put(field.key.as_bytes(), value);
                self.placed[number] = true;
            }
            return Ok(());
        }
        if child.children.is_empty() {
            writer.copy(field);
        } else if is_object(field.value) {
            writer.key(field.key.as_bytes());
            self.place(field.value, child, writer.out)?;
        } else if self.pends_below(child) {
            let reason = "is not an object, so no field can be put into it";
            return Err(Broken::Step(StepError::of(&child.name, field.value, reason)));
        } else {
            writer.copy(field);
        }
        Ok(())
    }

    fn append_missing(&mut self, child: &Node, writer: &mut Writer<'_>) {
        if let Some(number) = child.target
            && let Some(value) = self.pending(number)
        {
            writer.put(&child.key, value);
            self.placed[number] = true;
        } else if self.pends_below(child) {
            writer.key(&child.key);
            let mut inner = Writer::begin(writer.out);
            for child in &child.children {
                self.append_missing(child, &mut inner);
            }
            inner.end();
        }
    }
}

/// Why an edit came to nothing.
#[derive(Debug)]
pub(super) enum Broken {
    /// The bytes are no record.
    Fault(Fault),
    /// The step refuses a value.
    Step(StepError),
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Broken::Fault(fault)
    }
}

impl From<StepError> for Broken {
    fn from(error: StepError) -> Self {
        Broken::Step(error)
    }
}

/// Writes one object's fields with the commas between them.
struct Writer<'o> {
    out: &'o mut Vec<u8>,
    any: bool,
}

/// Where a field began, and whether there was one before it.
struct Mark {
    length: usize,
    any: bool,
}

impl<'o> Writer<'o> {
    fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Writer { out, any: false }
    }

    /// Appends a name, encoded, and its colon.
    fn key(&mut self, key: &[u8]) -> Mark {
        let mark = Mark { length: self.out.len(), any: self.any };
        if self.any {
            self.out.push(b',');
        }
        self.any = true;
        self.out.extend_from_slice(key);
        self.out.push(b':');
        mark
    }

    fn put(&mut self, key: &[u8], value: &str) {
        self.key(key);
        self.out.extend_from_slice(value.as_bytes());
    }

    fn copy(&mut self, field: &Field<'_>) {
        self.put(field.key.as_bytes(), field.value);
    }

    fn take_back(&mut self, mark: Mark) {
        self.out.truncate(mark.length);
        self.any = mark.any;
    }

    /// Ends the object; says whether it has a field.
    fn end(self) -> bool {
        self.out.push(b'}');
        self.any
    }
}
