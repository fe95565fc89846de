//! PostgreSQL servers of a suite's own, to hurt.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A server with its data in a temporary folder. Dropped, it is stopped.
#[derive(Debug)]
pub struct Server {
    programs: PathBuf,
    user: String,
    folder: TempDir,
    port: u16,
}

#[allow(clippy::expect_used, reason = "a harness")]
impl Server {
    /// A new server, running.
    ///
    /// # Panics
    /// When PostgreSQL's programs are not where `LEASEHOLD_TEST_PG_BIN` says, or the server does not start.
    pub fn start() -> Self {
        let programs = std::env::var_os("LEASEHOLD_TEST_PG_BIN").filter(|programs| !programs.is_empty()).expect(
            "LEASEHOLD_TEST_PG_BIN is not set: this suite starts PostgreSQL servers of its own; run it with `scripts/test`",
        );
        let user = std::env::var("LEASEHOLD_TEST_PG_USER").unwrap_or_default();
        let folder = TempDir::new().expect("a temporary folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("its address").port();
        drop(free);
        let server = Self { programs: programs.into(), user, folder, port };
        server.own();
        let data = server.data();
        server.run(
            "initdb",
            &["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
        );
        server.up();
        server
    }

    /// The URL of its database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it.
    pub fn up(&self) {
        let options = format!(
            "-p {} -h 127.0.0.1 -k {} -c max_connections=200",
            self.port,
            self.folder.path().display()
        );
        let log = format!("{}/log", self.folder.path().display());
        self.run("pg_ctl", &["-D", &self.data(), "-w", "-t", "60", "-l", &log, "-o", &options, "start"]);
    }

    /// Stops it, as a crash would.
    pub fn crash(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-w", "-t", "60", "-m", "immediate", "stop"]);
    }

    /// Stops it in order.
    pub fn down(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-w", "-t", "60", "-m", "fast", "stop"]);
    }

    /// Copies the data of a stopped server.
    pub fn back_up(&self) {
        self.command("cp", &["-a", &self.data(), &self.copy()]);
    }

    /// Puts the copy in place of the data of a stopped server: a failover to a replica that lagged.
    pub fn roll_back(&self) {
        self.command("rm", &["-rf", &self.data()]);
        self.command("mv", &[&self.copy(), &self.data()]);
    }

    fn data(&self) -> String {
        format!("{}/data", self.folder.path().display())
    }

    fn copy(&self) -> String {
        format!("{}/copy", self.folder.path().display())
    }

    /// PostgreSQL refuses to run as root: then another user owns the folder.
    fn own(&self) {
        if !self.user.is_empty() {
            let folder = self.folder.path().display().to_string();
            let done = Command::new("chown").args([&self.user, &folder]).status().expect("chown runs");
            assert!(done.success(), "chown {} {folder}", self.user);
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.programs.join(program);
        self.command(&program.display().to_string(), arguments);
    }

    fn command(&self, program: &str, arguments: &[&str]) {
        let mut command = if self.user.is_empty() {
            Command::new(program)
        } else {
            let mut command = Command::new("runuser");
            command.args(["-u", &self.user, "--", program]);
            command
        };
        // The server inherits nothing that would keep a pipe of the test runner open.
        let output = self.folder.path().join("output");
        let file = std::fs::File::create(&output).expect("a file for the output");
        let errors = file.try_clone().expect("the same file");
        let done = command.args(arguments).current_dir(Path::new("/")).stdout(file).stderr(errors).status();
        let said = || std::fs::read_to_string(&output).unwrap_or_default();
        assert!(done.expect("the program runs").success(), "{program} {arguments:?}: {}", said());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let (data, up) = (self.data(), Path::new(&self.data()).join("postmaster.pid").exists());
        if up && !std::thread::panicking() {
            self.run("pg_ctl", &["-D", &data, "-w", "-t", "60", "-m", "immediate", "stop"]);
        } else if up {
            // Best effort: a second panic would hide the first.
            let pid = std::fs::read_to_string(Path::new(&data).join("postmaster.pid")).unwrap_or_default();
            if let Some(pid) = pid.lines().next() {
                let _ = Command::new("kill").args(["-QUIT", pid]).status();
            }
        }
    }
}
