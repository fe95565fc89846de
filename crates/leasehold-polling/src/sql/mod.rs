//! A query: with a watermark, or with a statement that marks what was claimed.
//!
//! ```no_run
//! use leasehold_core::handler::HandlerError;
//! use leasehold_core::lease::Lease;
//! use leasehold_core::message::Message;
//! use leasehold_polling::Sql;
//! use leasehold_polling::sql::{Column, Late, Watermark};
//!
//! # fn make(db: sea_orm::DatabaseConnection) -> Result<leasehold_polling::Endpoint, leasehold_core::Error> {
//! let watermark = Watermark::new(Column::timestamp("changed_at"), Late::lag(std::time::Duration::from_secs(5)));
//! Sql::by_watermark("order-export", &db, "select id, total, changed_at from orders", watermark.tie(Column::integer("id")))?
//!     .handler(|row: Message, _: Lease| async move {
//!         println!("{}", row.text()?);
//!         Ok::<_, HandlerError>(())
//!     })
//! # }
//! ```
//!
//! A message is a row as a JSON object, unless one column is its [`body`](Sql::body).
//!
//! # Which rows are found, and which are not
//!
//! With a **watermark** the next poll finds rows beyond the last one, by a column that only grows and one that tells equals apart. A row
//! that commits late, with a lower watermark than one that was seen, is skipped by that; so it is to be said why there is none
//! ([`Late`]):
//!
//! - [`Late::Lag`]: rows younger than the lag are left for later, by a column with the time of their transaction. No row is skipped whose transaction
//!   took less than the lag, at whatever isolation.
//! - [`Late::Snapshot`], on PostgreSQL: the watermark is the transaction's own id (`xid8 default pg_current_xact_id()`), and only rows of
//!   transactions older than every one that still runs are taken. No row is skipped, however long its transaction took, at READ
//!   COMMITTED (which leasehold's connections have) and above: each poll is one statement, with one snapshot. A sequence is no such column: its
//!   numbers are drawn before the transaction has its id.
//! - [`Late::Never`]: rows are written by one transaction at a time, as on SQLite, or become visible in the order of the watermark.
//!
//! With a **claim** ([`Sql::by_claim`]) a row is found while the query finds it, and a statement of yours marks it when it is done: in
//! the handler's own transaction by [`Message::record`](leasehold_core::message::Message::record), or after the handler. There is nothing
//! that can be late.

mod builder;
mod claimed;
mod config;
mod marked;
mod text;

pub use builder::Sql;
pub use config::{Claim, Column, Kind, Late, Rows, SqlConfig, Watermark};
