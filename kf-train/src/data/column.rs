//! Which columns are asked for, and how their values lie.

use std::path::Path;
use std::sync::Arc;

use arrow_array::Array;
use arrow_schema::{DataType, Field, Schema};

use super::file::DataFile;
use super::{unfit, unfit_column};
use crate::Result;

/// A column that every file has.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) layout: Layout,
}

/// How a column's values lie in memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Layout {
    /// One number a row.
    Scalar(DataType),
    /// As many numbers in every row.
    Vector(DataType, usize),
    /// Anything else, such as text.
    Other(DataType),
}

impl Column {
    /// The field of a batch's schema.
    pub(super) fn field(&self) -> Field {
        let data_type = match &self.layout {
            Layout::Scalar(number) => number.clone(),
            Layout::Vector(number, width) => {
                let width = i32::try_from(*width).unwrap_or(i32::MAX);
                DataType::FixedSizeList(item(number), width)
            }
            Layout::Other(other) => other.clone(),
        };
        Field::new(&self.name, data_type, false)
    }
}

/// The field of a vector's numbers.
pub(super) fn item(number: &DataType) -> Arc<Field> {
    Arc::new(Field::new_list_field(number.clone(), false))
}

/// How a file stores a column.
#[derive(Debug, PartialEq)]
enum Stored {
    Scalar(DataType),
    Vector(DataType, Option<usize>),
    Other(DataType),
}

impl Stored {
    fn of(data_type: &DataType) -> Self {
        let number = |field: &Field| field.data_type().primitive_width().map(|_| field.data_type().clone());
        match data_type {
            DataType::FixedSizeList(field, width) => match (number(field), usize::try_from(*width)) {
                (Some(number), Ok(width)) => Self::Vector(number, Some(width)),
                _ => Self::Other(data_type.clone()),
            },
            DataType::List(field) | DataType::LargeList(field) => match number(field) {
                Some(number) => Self::Vector(number, None),
                None => Self::Other(data_type.clone()),
            },
            scalar if scalar.primitive_width().is_some() => Self::Scalar(scalar.clone()),
            other => Self::Other(other.clone()),
        }
    }

    /// Whether both can be one column. Lists have their lengths looked at row by row.
    fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Vector(number, width), Self::Vector(other, others)) => {
                number == other && (width.is_none() || others.is_none() || width == others)
            }
            _ => self == other,
        }
    }
}

impl std::fmt::Display for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Scalar(data_type) | Self::Other(data_type) => write!(f, "{data_type}"),
            Self::Vector(number, Some(width)) => write!(f, "lists of {width} {number}"),
            Self::Vector(number, None) => write!(f, "lists of {number}"),
        }
    }
}

/// Finds the columns of these names in every file, which must agree on them; gives them, and their places in each
/// file's schema.
pub(super) fn choose(files: &[DataFile], names: &[String]) -> Result<(Vec<Column>, Vec<Vec<usize>>)> {
    let Some(first) = files.first() else { return Ok((Vec::new(), Vec::new())) };
    if names.is_empty() {
        return Err(unfit(
            first.path(),
            "no columns asked for",
            format!("some of {}", listed(first.schema())),
        ));
    }
    let mut columns = Vec::new();
    let mut places = vec![Vec::new(); files.len()];
    for (number, name) in names.iter().enumerate() {
        if names[..number].contains(name) {
            return Err(unfit_column(first.path(), name, None, "asked for twice", "each column once"));
        }
        let mut agreed: Option<(Stored, &Path)> = None;
        for (file, places) in files.iter().zip(&mut places) {
            let Ok(place) = file.schema().index_of(name) else {
                let expected = match &agreed {
                    Some((stored, at)) => format!("{stored}, as in {}", at.display()),
                    None => "a column there is".to_owned(),
                };
                let found = format!("none of that name among {}", listed(file.schema()));
                return Err(unfit_column(file.path(), name, None, found, expected));
            };
            let stored = Stored::of(file.schema().field(place).data_type());
            match &mut agreed {
                Some((before, at)) if !before.agrees(&stored) => {
                    let expected = format!("{before}, as in {}", at.display());
                    return Err(unfit_column(file.path(), name, None, stored.to_string(), expected));
                }
                Some((Stored::Vector(_, width @ None), _)) => {
                    if let Stored::Vector(_, Some(known)) = stored {
                        *width = Some(known);
                    }
                }
                Some(_) => {}
                None => agreed = Some((stored, file.path())),
            }
            places.push(place);
        }
        let Some((stored, _)) = agreed else { continue };
        let layout = match stored {
            Stored::Scalar(number) => Layout::Scalar(number),
            Stored::Other(other) => Layout::Other(other),
            Stored::Vector(number, Some(width)) => Layout::Vector(number, width),
            Stored::Vector(kind, None) => {
                let width = first_width(files, &places, number)?;
                Layout::Vector(kind, width)
            }
        };
        columns.push(Column { name: name.clone(), layout });
    }
    Ok((columns, places))
}

/// How long the first row's list is; 0 where there is no row.
fn first_width(files: &[DataFile], places: &[Vec<usize>], column: usize) -> Result<usize> {
    for (file, places) in files.iter().zip(places) {
        if let Some(block) = file.blocks().iter().position(|rows| *rows > 0) {
            let batch = file.read(block, &places[column..=column], 1)?;
            return Ok(super::chunk::list_width(batch.column(0), 0));
        }
    }
    Ok(0)
}

fn listed(schema: &Schema) -> String {
    const MOST: usize = 20;
    let names: Vec<_> =
        schema.fields().iter().take(MOST).map(|field| format!("`{}`", field.name())).collect();
    match schema.fields().len().saturating_sub(MOST) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// The first row that holds no value.
pub(super) fn first_null(array: &dyn Array) -> Option<usize> {
    let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0)?;
    nulls.iter().position(|valid| !valid)
}
