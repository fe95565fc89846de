//! The schema: what it lacks, how it is brought up to date, and the SQL for whoever owns the database.

use leasehold_core::store::{self, schema_script};
use serde::Serialize;

use crate::arguments::{Migrate, Place};
use crate::cluster::{new_target, target};
use crate::failure::Failure;
use crate::output::{Report, one_line, write};

#[derive(Serialize)]
struct Fields<'a> {
    complete: bool,
    pending: &'a [String],
    /// Of a newer program; they stop nobody.
    unknown: &'a [String],
}

pub(super) async fn migrate(place: &Place, what: Migrate) -> Result<(), Failure> {
    // A file that is not there has no schema, and would be made by looking.
    let target = if matches!(what, Migrate::Status) { target(place)? } else { new_target(place)? };
    match what {
        Migrate::Sql { after } => {
            let script = schema_script(target.backend(), after.as_deref());
            write(&script.map_err(|error| Failure::invalid(error.to_string()))?)
        }
        Migrate::Status => {
            let state = store::schema_state(&target).await?;
            let mut text = match state.is_complete() {
                true => "the schema is complete\n".to_owned(),
                false => format!(
                    "the schema lacks {}: `leasehold migrate up` applies it, `leasehold migrate sql` prints it\n",
                    state.pending.join(", ")
                ),
            };
            if !state.unknown.is_empty() {
                let unknown = one_line(&state.unknown.join(", "));
                text.push_str(&format!("a newer program has applied {unknown}\n"));
            }
            report(&state, text)?.print(place.json)
        }
        Migrate::Up => {
            store::inspect(&target).await?;
            let before = store::migrate(&target).await?;
            let text = match before.is_complete() {
                true => "the schema was complete already\n".to_owned(),
                false => format!("applied {}\n", before.pending.join(", ")),
            };
            report(&before, text)?.print(place.json)
        }
    }
}

fn report(state: &store::SchemaState, text: String) -> Result<Report, Failure> {
    let (pending, unknown) = (&state.pending, &state.unknown);
    Report::new(text, &Fields { complete: state.is_complete(), pending, unknown })
}
