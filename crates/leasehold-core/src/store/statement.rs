//! Statements with numbered parameters, on databases that know none.

#[cfg(any(feature = "mysql", feature = "sqlite"))]
use sea_orm::{ConnectionTrait, ExecResult};
use sea_orm::{DbBackend, Statement, Value};

#[cfg(any(feature = "mysql", feature = "sqlite"))]
use super::error::StoreError;

/// What stands before the number of a parameter in a text for [`statement`].
pub fn marker(backend: DbBackend) -> char {
    if backend == DbBackend::Postgres { '$' } else { '?' }
}

/// A statement of text and values. On SQLite, MariaDB and MySQL `?3` stands for the third value, wherever and however often;
/// on PostgreSQL that is `$3`. A text has no question mark of its own.
pub fn statement(backend: DbBackend, text: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    let values: Vec<Value> = values.into_iter().collect();
    if backend != DbBackend::MySql {
        return Statement::from_sql_and_values(backend, text, values);
    }
    let mut parts = text.split('?');
    let mut sql = parts.next().unwrap_or_default().to_owned();
    let mut used = Vec::new();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let value = part[..digits].parse::<usize>().ok().and_then(|n| values.get(n.checked_sub(1)?));
        used.extend(value.cloned());
        sql.push('?');
        sql.push_str(&part[digits..]);
    }
    Statement::from_sql_and_values(backend, sql, used)
}

/// Executes a statement that returns no rows, as part of `operation`.
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(super) async fn run(
    db: &impl ConnectionTrait,
    operation: &'static str,
    statement: Statement,
) -> Result<ExecResult, StoreError> {
    let done = db.execute_raw(statement).await;
    done.map_err(|error| StoreError::database(db.get_database_backend(), operation, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_parameter_may_be_used_in_any_order_and_often() {
        let values = || [1_i64.into(), "x".into()];
        let made = statement(DbBackend::MySql, "a = ?2 and b = ?1 or c = ?2", values());
        assert_eq!(made.sql, "a = ? and b = ? or c = ?");
        assert_eq!(made.values.unwrap().0, [Value::from("x"), 1_i64.into(), "x".into()]);
        assert_eq!(statement(DbBackend::Sqlite, "a = ?2", values()).sql, "a = ?2");
    }
}
