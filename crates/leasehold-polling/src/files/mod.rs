//! Folders: whole files, or their records as a stream.
//!
//! ```no_run
//! use leasehold_core::handler::HandlerError;
//! use leasehold_core::lease::Lease;
//! use leasehold_core::message::Message;
//! use leasehold_polling::Files;
//! use leasehold_polling::files::{After, Records};
//!
//! # fn make() -> Result<leasehold_polling::Endpoint, leasehold_core::Error> {
//! Files::watch("bank-drop", "/var/spool/bank", "*.csv")?
//!     .records(Records::csv())
//!     .after(After::MoveTo("done".to_owned()))
//!     .handler(|row: Message, _: Lease| async move {
//!         println!("{}", row.text()?);
//!         Ok::<_, HandlerError>(())
//!     })
//! # }
//! ```
//!
//! A message has the headers [`FILE`], the path below the folder, and for records [`RECORD`], the number of the (first) one in the file, counted
//! from 1. Its id is that path, what tells this content from another one, and the record.
//!
//! # What is promised
//!
//! - Records of one file come in their order, and files in the order that was asked for; the next holder goes on at the record that
//!   was not done, as long as the file is what it was. One that was changed meanwhile begins anew.
//! - Whole files are done one by one: what was moved, deleted or remembered does not come again.
//! - Memory is bounded whatever the size of a file.
//! - A file is moved or deleted when all of it is done, under a valid lease, and only if it is still what was listed. Nothing is
//!   ever overwritten. What failed is moved aside with the reason beside it, and never deleted.
//! - What cannot be taken (a name with control characters, a link that leaves the folder, a file that may not be read) is left alone and
//!   told in the node's status; the rest goes on.

mod builder;
mod choice;
mod config;
mod ending;
mod folder;
mod ledger;
mod local;
mod reading;
mod records;
mod reference;
mod state;
mod storage;

pub use builder::Files;
pub use config::{After, Complete, DEFAULT_MAX_BODY, DEFAULT_MAX_RECORD, DEFAULT_STABLE, FilesConfig, Sort};
pub use folder::{FILE, RECORD};
pub use local::Local;
pub use records::Records;
pub use reference::FileRef;
pub use storage::{Abilities, Entry, Listing, Storage, Trouble};
