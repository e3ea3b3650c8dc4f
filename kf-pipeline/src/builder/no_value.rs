//! Says that artifacts can't be compared, where otherwise the compiler would speak of iterators.

use super::{Artifact, ArtifactList, Condition};

/// Of no artifact.
#[diagnostic::on_unimplemented(
    message = "an artifact has no value to compare",
    label = "this compares an artifact",
    note = "compare a parameter, such as `report.accuracy.ge(0.95)`; an artifact's content is for a component to look at"
)]
pub trait HasValue {}

macro_rules! refuse {
    ($($handle:ident)*) => {$(
        refuse!($handle: eq ne lt le gt ge);
    )*};
    ($handle:ident: $($comparison:ident)*) => {
        impl<'p, K> $handle<'p, K> {$(
            /// Artifacts are not compared.
            #[doc(hidden)]
            pub fn $comparison<T>(self, _: T) -> Condition<'p>
            where
                Self: HasValue,
            {
                unreachable!("no artifact has a value")
            }
        )*}
    };
}

refuse!(Artifact ArtifactList);
