//! Conditions in CEL.

use super::Lowering;
use crate::builder::Arg;
use crate::builder::arg::ArgKind;
use crate::builder::condition::Expr;
use crate::spec::ParameterType;

impl Lowering<'_> {
    pub(super) fn cel(&self, expr: &Expr) -> String {
        match expr {
            Expr::Compare { left, operator, right } => {
                format!("{} {operator} {}", self.cel_arg(left), self.cel_arg(right))
            }
            Expr::And(left, right) => format!("({}) && ({})", self.cel(left), self.cel(right)),
            Expr::Or(left, right) => format!("({}) || ({})", self.cel(left), self.cel(right)),
            Expr::Not(inner) => format!("!({})", self.cel(inner)),
        }
    }

    pub(super) fn cel_arg(&self, arg: &Arg) -> String {
        match &arg.0 {
            ArgKind::Constant(value) => value.clone().unwrap_or_default().to_string(),
            ArgKind::Source(source, kind) => {
                let value = format!("inputs.parameter_values['{}']", self.channel(*source));
                if *kind == ParameterType::NumberInteger { format!("int({value})") } else { value }
            }
        }
    }
}
