//! Conditions on parameters.

use std::marker::PhantomData;
use std::ops::{BitAnd, BitOr, Not};

use super::arg::ArgKind;
use super::handle::Brand;
use super::{Arg, IntoValue, Value};
use crate::component::{Ordered, Param};

/// Something that holds or doesn't once its parameters are known. Made by comparing a [`Value`]; such, and a
/// `Value<bool>` as it is, are joined with `&` and `|` and turned round with `!`.
#[derive(Clone, Debug)]
pub struct Condition<'p> {
    pub(super) expr: Expr,
    pub(super) brand: Brand<'p>,
}

#[derive(Clone, Debug)]
pub(super) enum Expr {
    Compare { left: Arg, operator: &'static str, right: Arg },
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
}

impl<'p> Condition<'p> {
    pub(super) fn new(expr: Expr) -> Self {
        Self { expr, brand: PhantomData }
    }
}

impl<'p, T: Param> Value<'p, T> {
    fn compare(self, operator: &'static str, other: impl IntoValue<'p, T>) -> Condition<'p> {
        let left = Arg(ArgKind::Source(self.source, T::TYPE));
        Condition::new(Expr::Compare { left, operator, right: other.into_value() })
    }

    /// Whether it equals `other`.
    pub fn eq(self, other: impl IntoValue<'p, T>) -> Condition<'p> {
        self.compare("==", other)
    }

    /// Whether it differs from `other`.
    pub fn ne(self, other: impl IntoValue<'p, T>) -> Condition<'p> {
        self.compare("!=", other)
    }

    /// Whether it is less than `other`.
    pub fn lt(self, other: impl IntoValue<'p, T>) -> Condition<'p>
    where
        T: Ordered,
    {
        self.compare("<", other)
    }

    /// Whether it is at most `other`.
    pub fn le(self, other: impl IntoValue<'p, T>) -> Condition<'p>
    where
        T: Ordered,
    {
        self.compare("<=", other)
    }

    /// Whether it is greater than `other`.
    pub fn gt(self, other: impl IntoValue<'p, T>) -> Condition<'p>
    where
        T: Ordered,
    {
        self.compare(">", other)
    }

    /// Whether it is at least `other`.
    pub fn ge(self, other: impl IntoValue<'p, T>) -> Condition<'p>
    where
        T: Ordered,
    {
        self.compare(">=", other)
    }
}

macro_rules! operators {
    ($($condition:ty),*) => {$(
        impl<'p, C: IntoCondition<'p>> BitAnd<C> for $condition {
            type Output = Condition<'p>;

            fn bitand(self, other: C) -> Condition<'p> {
                let (left, right) = (self.into_condition().expr, other.into_condition().expr);
                Condition::new(Expr::And(Box::new(left), Box::new(right)))
            }
        }

        impl<'p, C: IntoCondition<'p>> BitOr<C> for $condition {
            type Output = Condition<'p>;

            fn bitor(self, other: C) -> Condition<'p> {
                let (left, right) = (self.into_condition().expr, other.into_condition().expr);
                Condition::new(Expr::Or(Box::new(left), Box::new(right)))
            }
        }

        impl<'p> Not for $condition {
            type Output = Condition<'p>;

            fn not(self) -> Condition<'p> {
                Condition::new(Expr::Not(Box::new(self.into_condition().expr)))
            }
        }
    )*};
}

operators!(Condition<'p>, Value<'p, bool>);

/// What may stand as a condition: a [`Condition`], or a `Value<bool>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a condition",
    label = "expected a comparison of a parameter, or `Value<bool>`",
    note = "compare a parameter, such as `report.accuracy.ge(0.95)`; an artifact's content is for a component to look at"
)]
pub trait IntoCondition<'p> {
    /// The condition.
    fn into_condition(self) -> Condition<'p>;
}

impl<'p> IntoCondition<'p> for Condition<'p> {
    fn into_condition(self) -> Condition<'p> {
        self
    }
}

impl<'p> IntoCondition<'p> for Value<'p, bool> {
    fn into_condition(self) -> Condition<'p> {
        self.eq(true)
    }
}

impl Expr {
    /// What the condition compares.
    pub(super) fn args(&self) -> Vec<&Arg> {
        fn add<'e>(expr: &'e Expr, args: &mut Vec<&'e Arg>) {
            match expr {
                Expr::Compare { left, right, .. } => args.extend([left, right]),
                Expr::And(left, right) | Expr::Or(left, right) => {
                    add(left, args);
                    add(right, args);
                }
                Expr::Not(inner) => add(inner, args),
            }
        }
        let mut args = Vec::new();
        add(self, &mut args);
        args
    }
}
