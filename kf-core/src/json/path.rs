//! Where in a value.

use std::fmt;

/// A place in a value that is being serialized; each level of nesting borrows the one above.
pub(super) enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'static str),
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn is_root(&self) -> bool {
        matches!(self, Self::Root)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = |above: &Self| if above.is_root() { "" } else { "." };
        match self {
            Self::Root => Ok(()),
            Self::Field(above, name) => write!(f, "{above}{}{name}", dot(above)),
            Self::Key(above, key) => write!(f, "{above}{}{key}", dot(above)),
            Self::Index(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}
