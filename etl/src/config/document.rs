//! YAML text into a tree whose keys and values know where they stand.
//!
//! The tree is built from the parser's events, so that spans, quoting and
//! duplicate keys stay visible. Size, depth and aliases are bounded.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle};

use super::diagnostic::{Diagnostic, Place};
use super::mask::quoted;
use super::origin::Extent;
use super::tree::{Key, Node, Scalar, Value};

/// The most a pipeline's file may hold; the bound keeps every later step small.
pub(crate) const BYTES_MAX: usize = 1 << 20;
/// Keys and values of one file, aliases counted in full.
const NODES_MAX: usize = 50_000;
/// Levels of nesting.
const DEPTH_MAX: usize = 32;

/// Reads a file up to one byte more than [`BYTES_MAX`], so that a device or a
/// data file named by mistake cannot fill the memory.
pub(crate) fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Parses one document. On failure the errors found until then are returned.
pub(crate) fn parse(text: &str, text_index: usize) -> Result<Node, Vec<Diagnostic>> {
    if text.len() > BYTES_MAX {
        let message = format!("the file is larger than {} KiB", BYTES_MAX >> 10);
        let error = Diagnostic::new(Place::Whole(text_index), message)
            .help("a pipeline is a page of YAML; is this a data file?");
        return Err(vec![error]);
    }
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(text, options),
        text,
        text_index,
        nodes: 0,
        anchors: HashMap::new(),
        errors: Vec::new(),
    };
    match builder.document() {
        Ok(root) if builder.errors.is_empty() => Ok(root),
        Ok(_) => Err(builder.errors),
        Err(stop) => {
            builder.errors.push(*stop);
            Err(builder.errors)
        }
    }
}

type Spanned<'t> = (Event<'t>, granit_parser::Span);

struct Builder<'t> {
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    text: &'t str,
    text_index: usize,
    nodes: usize,
    /// Finished anchored values with their number of nodes.
    anchors: HashMap<usize, (Node, usize)>,
    /// Errors after which reading can go on.
    errors: Vec<Diagnostic>,
}

impl<'t> Builder<'t> {
    fn document(&mut self) -> Result<Node, Box<Diagnostic>> {
        let root = loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::StreamEnd => return Err(Box::new(self.empty_file())),
                event => break self.node(event, span, 0)?,
            }
        };
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::DocumentEnd => {}
                Event::DocumentStart(..) => {
                    let error = Diagnostic::at(self.extent(span), "a second document begins here")
                        .label("a pipeline's file holds one")
                        .help("give each pipeline its own file: etl check takes several");
                    return Err(Box::new(error));
                }
                _ => break,
            }
        }
        match &root.value {
            Value::Scalar(scalar) if scalar.is_null() => Err(Box::new(self.empty_file())),
            _ => Ok(root),
        }
    }

    fn empty_file(&self) -> Diagnostic {
        Diagnostic::new(Place::Whole(self.text_index), "the file is empty")
            .help("a pipeline needs at least `name`, `source` and `load`")
            .section("")
    }

    fn next(&mut self) -> Result<Spanned<'t>, Box<Diagnostic>> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Box::new(self.syntax_error(&error))),
            None => Ok((Event::StreamEnd, granit_parser::Span::default())),
        }
    }

    fn syntax_error(&self, error: &granit_parser::ScanError) -> Diagnostic {
        let at = error.marker().byte_offset().unwrap_or(self.text.len());
        let extent = Extent { text: self.text_index, start: at, end: at + 1 };
        let shown = Diagnostic::at(extent, format!("not valid YAML: {}", error.info()));
        if self.text.get(..at).is_some_and(|before| before.ends_with('$')) {
            return shown.label("inside { } and [ ], put quotes around `${…}`");
        }
        use granit_parser::ErrorKind;
        match error.kind() {
            ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation => shown.label("indent with spaces"),
            ErrorKind::UnexpectedCharacter { .. } => shown.label("put the value in quotes"),
            ErrorKind::InvalidIndentation | ErrorKind::ExpectedBlockMappingKey => {
                shown.label("is the indentation that of the line above?")
            }
            _ => shown,
        }
    }

    fn extent(&self, span: granit_parser::Span) -> Extent {
        let (start, end) = match span.byte_range() {
            Some(range) => (range.start, range.end),
            None => (self.text.len(), self.text.len()),
        };
        Extent { text: self.text_index, start, end: end.max(start) }
    }

    fn node(
        &mut self,
        event: Event<'t>,
        span: granit_parser::Span,
        depth: usize,
    ) -> Result<Node, Box<Diagnostic>> {
        let extent = self.extent(span);
        self.count(1, extent)?;
        if depth > DEPTH_MAX {
            let message = format!("nested more than {DEPTH_MAX} levels deep");
            return Err(Box::new(Diagnostic::at(extent, message)));
        }
        let before = self.nodes;
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span);
                // The parser gives "~" for a value that is not there at all.
                let text = if extent.start == extent.end { "" } else { text.as_ref() };
                let scalar = Scalar::written(text, style == ScalarStyle::Plain);
                (anchor, Node { extent, value: Value::Scalar(scalar) })
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span);
                (anchor, self.sequence(extent, depth)?)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span);
                (anchor, self.mapping(extent, depth)?)
            }
            Event::Alias(id) => return self.alias(id, extent),
            _ => {
                return Err(Box::new(Diagnostic::at(extent, "not valid YAML: a value is missing")));
            }
        };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before + 1));
        }
        Ok(node)
    }

    fn sequence(&mut self, mut extent: Extent, depth: usize) -> Result<Node, Box<Diagnostic>> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                extent.end = self.extent(span).end.max(extent.start);
                return Ok(Node { extent, value: Value::Sequence(items) });
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn mapping(&mut self, mut extent: Extent, depth: usize) -> Result<Node, Box<Diagnostic>> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                extent.end = self.extent(span).end.max(extent.start);
                return Ok(Node { extent, value: Value::Mapping(entries) });
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if let Some(key) = self.key(key) {
                entries.push((key, value));
            }
        }
    }

    /// A key must be a single word; `<<` would merge, which YAML 1.2 no longer does.
    fn key(&mut self, node: Node) -> Option<Key> {
        let error = match node.value {
            Value::Scalar(scalar) if scalar.is_null() => {
                Diagnostic::at(node.extent, "a key is missing before `:`")
            }
            Value::Scalar(scalar) if scalar.plain && scalar.text == "<<" => {
                Diagnostic::at(node.extent, "merge keys (`<<`) are not part of YAML 1.2")
                    .label("write the keys out, or alias a whole value")
            }
            Value::Scalar(scalar) => return Some(Key { name: scalar.text, extent: node.extent }),
            Value::Sequence(_) | Value::Mapping(_) => {
                let extent = Extent { end: node.extent.start + 1, ..node.extent };
                Diagnostic::at(extent, "a key must be a single word")
                    .label("put quotes around `{…}` or `[…]`")
            }
        };
        self.errors.push(error);
        None
    }

    fn alias(&mut self, id: usize, extent: Extent) -> Result<Node, Box<Diagnostic>> {
        let Some((node, size)) = self.anchors.get(&id).cloned() else {
            let error = Diagnostic::at(extent, "an alias may not stand inside its own anchor");
            return Err(Box::new(error));
        };
        self.count(size, extent)?;
        Ok(node)
    }

    fn count(&mut self, nodes: usize, extent: Extent) -> Result<(), Box<Diagnostic>> {
        self.nodes += nodes;
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        let message = format!("more than {NODES_MAX} keys and values, aliases counted in full");
        Err(Box::new(Diagnostic::at(extent, message)))
    }

    fn refuse_tag(&mut self, tagged: bool, span: granit_parser::Span) {
        if !tagged {
            return;
        }
        let extent = self.extent(span.tag_span().unwrap_or(span));
        let written = self.text.get(extent.start..extent.end).unwrap_or_default();
        let message = format!("YAML tags such as {} are not used here", quoted(written.trim()));
        self.errors.push(Diagnostic::at(extent, message).label("remove it; quotes make it text"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::super::tree::{Node, Value};
    use super::parse;

    fn refused(text: &str) -> String {
        parse(text, 0).unwrap_err().into_iter().map(|e| e.message).collect::<Vec<_>>().join("; ")
    }

    fn text_at<'t>(text: &'t str, node: &Node, dotted: &str) -> &'t str {
        let extent = node.locate(dotted);
        &text[extent.start..extent.end]
    }

    #[test]
    fn keys_and_values_know_where_they_stand() {
        let text = "é: 1\nload:\n  - http: { url: 'a b' }\n    workers: # none\n";
        let root = parse(text, 0).unwrap();
        assert_eq!(text_at(text, &root, "é"), "1");
        assert_eq!(text_at(text, &root, "load.0.http.url"), "'a b'");
        assert_eq!(text_at(text, &root, "load.0.http.token"), "http");
        assert_eq!(text_at(text, &root, "load.0.workers"), "workers");
        assert_eq!(text_at(text, &root, "load.0"), "http");
        assert_eq!(text_at(text, &root, "load.3"), "load");
    }

    #[test]
    fn scalars_keep_their_text_and_their_quotes() {
        let root = parse("a: 1.10\nb: '1'\nc: ~\nd: |\n  x\n", 0).unwrap();
        let scalar = |name| match &root.get(name).unwrap().1.value {
            Value::Scalar(scalar) => (scalar.text.clone(), scalar.plain, scalar.is_null()),
            other => panic!("{other:?}"),
        };
        assert_eq!(scalar("a"), ("1.10".to_owned(), true, false));
        assert_eq!(scalar("b"), ("1".to_owned(), false, false));
        assert_eq!(scalar("c"), ("~".to_owned(), true, true));
        assert_eq!(scalar("d"), ("x\n".to_owned(), false, false));
    }

    #[test]
    fn what_is_not_one_plain_document_is_refused() {
        assert_eq!(refused(""), "the file is empty");
        assert_eq!(refused("# only a comment\n"), "the file is empty");
        assert_eq!(refused("---\n"), "the file is empty");
        assert_eq!(refused("a: 1\n---\nb: 2\n"), "a second document begins here");
        assert!(refused("a: [1, 2\n").starts_with("not valid YAML"));
        assert!(refused("a: !!str 1\nb: !x {}\n").starts_with("YAML tags such as `!!str`"));
        assert!(refused("? [a]\n: 1\n").contains("single word"));
        assert!(refused("~: 1\n").contains("key is missing"));
        assert!(refused("a: &a {b: 1}\nc:\n  <<: *a\n").contains("merge keys"));
    }

    #[test]
    fn aliases_are_copied_and_bounded() {
        let root = parse("a: &x { b: 1 }\nc: *x\n", 0).unwrap();
        assert!(root.get("c").unwrap().1.get("b").is_some());
        assert!(refused("a: &x [*x]\n").contains("own anchor"));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let item = format!("*a{}, ", level - 1).repeat(9);
            bomb.push_str(&format!("a{level}: &a{level} [{item}]\n"));
        }
        assert!(refused(&bomb).contains("more than 50000 keys"), "{}", refused(&bomb));
        assert!(refused(&format!("{}1{}", "[".repeat(40), "]".repeat(40))).contains("levels deep"));
        assert!(refused(&"[".repeat(100_000)).starts_with("not valid YAML"));
        assert!(refused(&"x".repeat(2 << 20)).contains("larger than"));
    }
}
