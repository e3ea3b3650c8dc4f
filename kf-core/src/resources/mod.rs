//! What a task asks for, what a machine has, and who has taken what: pure accounting, in whole thousandths.

mod capacity;
mod pool;
mod quantity;
mod request;

pub use capacity::Capacity;
pub use pool::Pool;
pub use request::Resources;
