//! What a suite must know about SQLite: a writer that is stopped stops the others.

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use tempfile::TempDir;

/// A file of a suite's own, as a URL; it goes with the folder.
///
/// # Panics
/// When there can be no folder.
#[allow(clippy::expect_used, reason = "a harness")]
pub fn database() -> (TempDir, String) {
    let folder = TempDir::new().expect("a folder");
    let url = format!("sqlite://{}/suite.db?mode=rwc", folder.path().display());
    (folder, url)
}

/// Whether nobody holds the write lock of this file. A replica that was stopped in the middle of a commit does, and the
/// others wait for it: G1 holds, G3 cannot.
///
/// # Panics
/// When the file cannot be opened.
#[allow(clippy::expect_used, reason = "a harness")]
pub async fn writable(url: &str) -> bool {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1);
    let db = Database::connect(options).await.expect("the file opens");
    db.execute_unprepared("pragma busy_timeout = 100").await.expect("a pragma");
    let immediate = Some(SqliteTransactionMode::Immediate);
    let begun = db
        .begin_with_options(TransactionOptions { sqlite_transaction_mode: immediate, ..Default::default() })
        .await;
    match begun {
        Ok(transaction) => transaction.rollback().await.is_ok(),
        Err(_) => false,
    }
}
