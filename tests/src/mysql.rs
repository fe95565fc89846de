//! MariaDB and MySQL servers of a suite's own, to hurt.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

/// A server that has not begun to listen by then will not.
const START: Duration = Duration::from_secs(60);

/// A server with its data in a temporary folder. Dropped, it is killed.
#[derive(Debug)]
pub struct Server {
    /// What starts it, without what differs from server to server.
    command: Vec<String>,
    tls: bool,
    folder: TempDir,
    port: u16,
    process: Mutex<Option<Child>>,
}

#[allow(clippy::expect_used, reason = "a harness")]
impl Server {
    /// A new MariaDB server, running.
    ///
    /// # Panics
    /// When the program that `LEASEHOLD_TEST_MARIADB_BIN` names does not start.
    pub fn mariadb() -> Self {
        let program = program("LEASEHOLD_TEST_MARIADB_BIN");
        let server =
            Self::new(vec![program.clone(), "--no-defaults".into(), "--skip-name-resolve".into()], true);
        let mut install = Command::new(PathBuf::from(program).with_file_name("mariadb-install-db"));
        if !std::path::Path::new(install.get_program()).exists() {
            install = Command::new("mariadb-install-db");
        }
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        server.install(install);
        server
    }

    /// A new MySQL server, running.
    ///
    /// # Panics
    /// When the program that `LEASEHOLD_TEST_MYSQL_BIN` names does not start.
    pub fn mysql() -> Self {
        let program = program("LEASEHOLD_TEST_MYSQL_BIN");
        let home = PathBuf::from(&program).parent().and_then(|bin| bin.parent()).expect("a home").to_owned();
        let base = format!("--basedir={}", home.display());
        let server = Self::new(
            vec![program.clone(), "--no-defaults".into(), base.clone(), "--mysqlx=OFF".into()],
            false,
        );
        let mut install = Command::new(&program);
        install.args(["--no-defaults", "--initialize-insecure", &base]);
        server.install(install);
        server
    }

    fn new(mut command: Vec<String>, tls: bool) -> Self {
        let user = std::env::var("LEASEHOLD_TEST_MY_USER").unwrap_or_default();
        let folder = TempDir::new().expect("a temporary folder");
        if !user.is_empty() {
            command.push(format!("--user={user}"));
            run(Command::new("chown").arg(&user).arg(folder.path()));
        }
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("its address").port();
        Self { command, tls, folder, port, process: Mutex::new(None) }
    }

    fn install(&self, mut command: Command) {
        command.args([format!("--datadir={}", self.path("data")), self.tmpdir()]);
        command.args(self.command.iter().filter(|argument| argument.starts_with("--user=")));
        run(&mut command);
        // Executed before anybody can connect; a server that was copied has it already.
        let init = "create database if not exists leasehold;\n";
        std::fs::write(self.folder.path().join("init.sql"), init).expect("a file");
        self.up();
    }

    /// The URL of its database.
    pub fn url(&self) -> String {
        // The TLS of the MySQL that the script fetches is older than what leasehold speaks.
        let tls = if self.tls { "" } else { "?ssl-mode=DISABLED" };
        format!("mysql://root@127.0.0.1:{}/leasehold{tls}", self.port)
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it does not listen in time.
    pub fn up(&self) {
        let log = self.path("log");
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).stdout(Stdio::null()).stderr(Stdio::null()).args([
            format!("--datadir={}", self.path("data")),
            self.tmpdir(),
            format!("--socket={}", self.path("socket")),
            format!("--pid-file={}", self.path("pid")),
            format!("--port={}", self.port),
            format!("--init-file={}", self.path("init.sql")),
            format!("--log-error={log}"),
            "--bind-address=127.0.0.1".into(),
            "--max-connections=200".into(),
        ]);
        let mut process = command.spawn().expect("the program of LEASEHOLD_TEST_…_BIN starts");
        let began = tokio::time::Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = process.try_wait().expect("the state of a child");
            assert!(
                ended.is_none() && began.elapsed() < START,
                "{command:?} does not listen: {ended:?}, {}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        *self.lock() = Some(process);
    }

    /// Stops it, as a crash would.
    pub fn crash(&self) {
        self.stop(Signal::KILL);
    }

    /// Stops it in order.
    pub fn down(&self) {
        self.stop(Signal::TERM);
    }

    fn stop(&self, signal: Signal) {
        let mut process = self.lock().take().expect("it is up");
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&process), signal);
        process.wait().expect("its end");
    }

    /// Copies the data of a stopped server.
    pub fn back_up(&self) {
        run(Command::new("cp").args(["-a", &self.path("data"), &self.path("copy")]));
    }

    /// Puts the copy in place of the data of a stopped server: a failover to a replica that lagged.
    pub fn roll_back(&self) {
        run(Command::new("rm").args(["-rf", &self.path("data")]));
        run(Command::new("mv").args([&self.path("copy"), &self.path("data")]));
    }

    /// A server of its own folder: MariaDB deletes the temporary tables that it finds when it starts, whosever they are.
    fn tmpdir(&self) -> String {
        format!("--tmpdir={}", self.folder.path().display())
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.lock().take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[allow(clippy::panic, reason = "a harness")]
fn program(variable: &str) -> String {
    let named = std::env::var(variable).ok().filter(|program| !program.is_empty());
    named.unwrap_or_else(|| {
        panic!("{variable} is not set: this suite starts servers of its own; run it with `scripts/test`")
    })
}

/// What it says goes to a file: a server must not keep a pipe of the test runner open.
#[allow(clippy::expect_used, reason = "a harness")]
fn run(command: &mut Command) {
    let said = tempfile::NamedTempFile::new().expect("a file for the output");
    let file = || said.as_file().try_clone().expect("the same file");
    let done = command.stdin(Stdio::null()).stdout(file()).stderr(file()).status().expect("the program runs");
    let text = std::fs::read_to_string(said.path()).unwrap_or_default();
    assert!(done.success(), "{command:?}: {text}");
}
