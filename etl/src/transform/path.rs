//! Paths to fields, `user.name`, and all paths of a step as one tree, so that a record
//! is gone through once however many fields a step names.

use rows::json::push_string;

/// Names within each other in a path.
const STEPS_MAX: usize = 32;

/// The way to a field, through objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    text: String,
    steps: Vec<String>,
}

impl Path {
    /// Reads `user.name`; a dot that is part of a name is written `\.`, a backslash `\\`.
    ///
    /// # Errors
    /// What is wrong, in words that follow "a path".
    pub(crate) fn parse(text: &str) -> Result<Path, &'static str> {
        let mut steps = vec![String::new()];
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '.' => steps.push(String::new()),
                '\\' => match characters.next() {
                    Some(literal @ ('.' | '\\')) => push(&mut steps, literal),
                    _ => return Err("has a lone `\\`; write `\\.` for a dot, `\\\\` for itself"),
                },
                plain => push(&mut steps, plain),
            }
        }
        if text.is_empty() {
            return Err("is empty");
        }
        if steps.iter().any(String::is_empty) {
            return Err("has an empty name; it is written as in `user.name`");
        }
        if steps.len() > STEPS_MAX {
            return Err("has more than 32 names");
        }
        Ok(Path { text: text.to_owned(), steps })
    }

    /// As it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The field's own name, encoded: `"name"`.
    pub(super) fn key(&self) -> Vec<u8> {
        let mut key = Vec::new();
        push_string(&mut key, self.steps.last().map_or("", String::as_str));
        key
    }

    /// Whether both are fields of the same object.
    pub(super) fn is_beside(&self, other: &Path) -> bool {
        self.steps.split_last().map(|(_, parents)| parents)
            == other.steps.split_last().map(|(_, parents)| parents)
    }

    /// Whether both are the same field, however they are written.
    pub(crate) fn is_same(&self, other: &Path) -> bool {
        self.steps == other.steps
    }

    /// In order name by name: a path comes right before those that lie within it.
    pub(crate) fn cmp_names(&self, other: &Path) -> std::cmp::Ordering {
        self.steps.cmp(&other.steps)
    }

    /// Whether one is the other or lies within it.
    pub(crate) fn overlaps(&self, other: &Path) -> bool {
        self.steps.starts_with(&other.steps) || other.steps.starts_with(&self.steps)
    }
}

fn push(steps: &mut [String], character: char) {
    if let Some(step) = steps.last_mut() {
        step.push(character);
    }
}

/// The paths of a step as a tree of names.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) name: String,
    /// The name, encoded: `"name"`.
    pub(super) key: Vec<u8>,
    /// The number of the path that ends here and is read.
    pub(super) source: Option<usize>,
    /// The number of the path that ends here and is written.
    pub(super) target: Option<usize>,
    /// In the order in which the paths name them.
    pub(super) children: Vec<Node>,
    /// Places in `children`, by name.
    by_name: Vec<usize>,
}

impl Node {
    /// A tree of paths that are read, numbered in their order.
    pub(super) fn of_sources<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Node {
        let mut root = Node::default();
        for (number, path) in paths.into_iter().enumerate() {
            root.insert(path).source = Some(number);
        }
        root
    }

    /// The node at the end of a path, made where it is missing.
    pub(super) fn insert(&mut self, path: &Path) -> &mut Node {
        let mut node = self;
        for step in &path.steps {
            let at = match node.search(step) {
                Ok(at) => node.by_name[at],
                Err(at) => {
                    let mut key = Vec::new();
                    push_string(&mut key, step);
                    let at_end = node.children.len();
                    node.children.push(Node { name: step.clone(), key, ..Node::default() });
                    node.by_name.insert(at, at_end);
                    at_end
                }
            };
            node = &mut node.children[at];
        }
        node
    }

    /// The child of this name.
    pub(super) fn child(&self, name: &str) -> Option<&Node> {
        let at = self.search(name).ok()?;
        self.children.get(self.by_name[at])
    }

    fn search(&self, name: &str) -> Result<usize, usize> {
        self.by_name.binary_search_by(|at| self.children[*at].name.as_str().cmp(name))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::{Node, Path};

    #[test]
    fn paths_are_names_between_dots() {
        let steps = |text: &str| Path::parse(text).unwrap().steps;
        assert_eq!(steps("id"), ["id"]);
        assert_eq!(steps("user.name"), ["user", "name"]);
        assert_eq!(steps(r"user\.name.x\\"), ["user.name", r"x\"]);
        assert_eq!(steps("größe.a b"), ["größe", "a b"]);
        for bad in ["", ".", "a.", ".a", "a..b", r"a\b", r"a\", &"a.".repeat(40)] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn overlapping_paths_are_known() {
        let path = |text: &str| Path::parse(text).unwrap();
        assert!(path("user").overlaps(&path("user.name")));
        assert!(path("user.name").overlaps(&path("user")));
        assert!(!path("user").overlaps(&path("username")));
        assert!(path("a.b").is_beside(&path("a.c")) && !path("a.b").is_beside(&path("b")));
    }

    #[test]
    fn a_tree_finds_its_names_in_any_order() {
        let paths: Vec<Path> =
            ["z", "a.x", "m", "a.b"].iter().map(|text| Path::parse(text).unwrap()).collect();
        let root = Node::of_sources(&paths);
        assert_eq!(
            root.children.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
            ["z", "a", "m"]
        );
        assert_eq!(root.child("a").unwrap().child("b").unwrap().source, Some(3));
        assert_eq!(root.child("m").unwrap().source, Some(2));
        assert!(root.child("b").is_none());
    }
}
