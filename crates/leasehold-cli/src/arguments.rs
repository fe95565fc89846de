//! What the program is told.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use leasehold_core::duration;

/// See, explain and steer a cluster of leasehold, and run a service so that its death is known at once.
#[derive(Debug, Parser)]
#[command(name = "leasehold", version, propagate_version = true, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done, 1 the database or the system failed, 2 invalid, 3 nothing of that name, 4 the state \
                        forbids it, 5 not done in time. `run` exits as its program does."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which cluster.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Where the cluster meets, as the nodes are told: sqlite://, postgres://, mysql:// or mariadb://.
    #[arg(long, global = true, env = "LEASEHOLD_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database: Option<Secret>,
    /// The cluster.
    #[arg(long, global = true, env = "LEASEHOLD_CLUSTER", value_name = "NAME", default_value = "default")]
    pub(crate) cluster: String,
    /// Answer in JSON, with the fields of docs/cli.md.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// A URL that may hold a password, and is not shown.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// How a view is shown.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Viewed {
    /// Redraw it every second, until Ctrl-C.
    #[arg(long, short)]
    pub(crate) watch: bool,
}

/// How something is changed.
#[derive(Clone, Debug, Args)]
pub(crate) struct Asked {
    /// Why, for the audit trail.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    /// Who asks, for the audit trail.
    #[arg(long, value_name = "NAME", env = "USER", hide_env = true, default_value = "")]
    pub(crate) by: String,
}

/// Whether the end is waited for.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Awaited {
    /// Return when it is done, not when it is asked for.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long --wait waits.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
}

/// Consent to what destroys, cuts off or delivers again.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Consent {
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The cluster at a glance: what does not run, and why.
    Status(Viewed),
    /// The nodes that take part.
    Nodes(Viewed),
    /// The artifacts, and who holds them.
    Artifacts(Viewed),
    /// Everything about one artifact.
    Show {
        /// The artifact.
        name: String,
        #[command(flatten)]
        viewed: Viewed,
    },
    /// Why an artifact does not run, or runs where it does; and what to do.
    Explain {
        /// The artifact.
        name: String,
        #[command(flatten)]
        viewed: Viewed,
    },
    /// Let nobody run an artifact until it is resumed.
    Pause {
        /// The artifact.
        name: String,
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        awaited: Awaited,
    },
    /// Let a paused artifact run again.
    Resume {
        /// The artifact.
        name: String,
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        awaited: Awaited,
    },
    /// Move an artifact to a node, and keep it there while that node may run it.
    Move {
        /// The artifact.
        name: String,
        /// The node.
        #[arg(long, value_name = "NODE")]
        to: String,
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        awaited: Awaited,
    },
    /// End a move: the placement decides again.
    Unmove {
        /// The artifact.
        name: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Let a scheduled task fire now, once, on whoever holds it.
    Fire {
        /// The task.
        name: String,
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        awaited: Awaited,
    },
    /// Take a node's leases away politely and give it no new ones, until `undrain`.
    Drain {
        /// The node.
        node: String,
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        awaited: Awaited,
    },
    /// Let a drained or evicted node take part again.
    Undrain {
        /// The node.
        node: String,
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        awaited: Awaited,
    },
    /// Forbid the renewals of a node that answers to nothing else, and wait out its ttl.
    Evict {
        /// The node.
        node: String,
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        awaited: Awaited,
        #[command(flatten)]
        consent: Consent,
    },
    /// Forget an artifact that no node deploys any more.
    Forget {
        /// The artifact.
        name: String,
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        consent: Consent,
    },
    /// What has happened: the audit trail.
    Events(Events),
    /// The firings of a task.
    History {
        /// The task.
        task: String,
        /// So many of them.
        #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// Message stores: how full, what is in them, replay what was parked.
    #[command(subcommand)]
    Store(Store),
    /// Who held what, when: a picture of lanes by node, with failovers marked.
    Timeline {
        /// How far it goes back.
        #[arg(long, value_name = "TIME", default_value = "2h", value_parser = parse_duration)]
        since: Duration,
        /// The file to write; - for the standard output.
        #[arg(long, value_name = "FILE")]
        svg: PathBuf,
        /// Of these artifacts only.
        #[arg(long = "artifact", value_name = "NAME")]
        artifacts: Vec<String>,
    },
    /// Settings of the cluster.
    #[command(subcommand)]
    Cluster(Cluster),
    /// The schema.
    #[command(subcommand)]
    Migrate(Migrate),
    /// Whether this database can carry leases, and what to mend.
    Doctor,
    /// Run a service as its parent: when it dies, its leases are free at once.
    Run {
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
        program: Vec<OsString>,
    },
    /// Completions for a shell, to be sourced.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Events {
    /// Go on with what happens, until Ctrl-C.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Of this artifact.
    #[arg(long, value_name = "NAME")]
    pub(crate) artifact: Option<String>,
    /// Of this node.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Of these kinds, for example started or paused.
    #[arg(long = "kind", value_name = "KIND")]
    pub(crate) kinds: Vec<String>,
    /// So many of the past.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    pub(crate) limit: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// How many messages wait and are parked; of all stores unless one is named.
    Depth {
        /// The store.
        store: Option<String>,
        #[command(flatten)]
        viewed: Viewed,
    },
    /// The messages that wait, or are parked, without what they hold.
    List {
        /// The store.
        store: String,
        /// Those that are parked.
        #[arg(long)]
        parked: bool,
        /// After this place.
        #[arg(long, value_name = "ID", default_value_t = i64::MIN, hide_default_value = true)]
        after: i64,
        /// So many of them.
        #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// What one message holds.
    Peek {
        /// The store.
        store: String,
        /// Its place, as `list` shows it.
        id: i64,
    },
    /// Send parked messages again: they come out of order.
    Replay {
        /// The store.
        store: String,
        #[command(flatten)]
        which: WhichMessages,
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        consent: Consent,
    },
    /// Delete messages that wait, or are parked.
    Purge {
        /// The store.
        store: String,
        /// Those that are parked.
        #[arg(long)]
        parked: bool,
        #[command(flatten)]
        which: WhichMessages,
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        consent: Consent,
    },
}

/// Which messages.
#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhichMessages {
    /// The one at this place.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<i64>,
    /// All of them.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Change a setting.
    #[command(subcommand)]
    Set(Setting),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Setting {
    /// The longest ttl that a node may have: while no node lives.
    MaxTtl {
        /// For example 10s.
        #[arg(value_parser = parse_duration)]
        time: Duration,
        #[command(flatten)]
        asked: Asked,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Migrate {
    /// Bring the schema up to date.
    Up,
    /// What the schema lacks.
    Status,
    /// Print the SQL, for whoever owns the database.
    Sql {
        /// Only what follows this migration.
        #[arg(long, value_name = "MIGRATION")]
        after: Option<String>,
    },
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text)
}
