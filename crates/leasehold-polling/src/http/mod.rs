//! A URL, page by page.
//!
//! ```no_run
//! use leasehold_core::handler::HandlerError;
//! use leasehold_core::lease::Lease;
//! use leasehold_core::message::Message;
//! use leasehold_core::secret::Secret;
//! use leasehold_polling::Http;
//! use leasehold_polling::http::{Auth, Pages};
//!
//! # fn make() -> Result<leasehold_polling::Endpoint, leasehold_core::Error> {
//! Http::get("orders-feed", "https://shop.example/orders?status=new")?
//!     .auth(Auth::Bearer(Secret::env("SHOP_TOKEN")))
//!     .items("/orders")
//!     .id("/id")
//!     .pages(Pages::Link)
//!     .handler(|order: Message, _: Lease| async move {
//!         println!("{}", order.text()?);
//!         Ok::<_, HandlerError>(())
//!     })
//! # }
//! ```
//!
//! # What is promised
//!
//! - The first page is asked for with the ETag and the time that the last one had; an answer that nothing has changed brings nothing.
//! - Items of a page come in its order, each exactly as it is written there. After a failover the page is asked for again: if it is the
//!   same, the next holder goes on at the item that was not done, else it begins with its first.
//! - An answer is bounded in size and time, redirects are not followed, and neither is a next page on another host, which would get
//!   the secrets. `Retry-After` is honoured up to an hour.

mod answer;
mod builder;
mod config;
mod json;
mod pages;

pub use builder::Http;
pub use config::{Auth, DEFAULT_MAX_BYTES, HttpConfig, Pages};
