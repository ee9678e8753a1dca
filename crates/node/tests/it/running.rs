//! The program as a running node, and its own commands as clients of it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A node made by `init` and started by `run`, on ports of its own. It ends with this value.
pub struct RunningNode {
    process: Child,
    /// Where clients connect.
    pub public: String,
    /// Where operators connect.
    pub admin: String,
    /// Where metrics are.
    pub operations: String,
    /// The first admin key and its secret.
    key: String,
    secret: String,
    folder: TempDir,
}

pub fn meridian(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    for variable in ["URL", "ADMIN_URL", "KEY", "SECRET", "CLUSTER"] {
        command.env_remove(format!("MERIDIAN_{variable}"));
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

impl RunningNode {
    /// Starts one that nobody has to wait for.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// One with more settings of its section `gateway`.
    pub fn start_with(gateway: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let init = ["init", "--cluster-id", "test-1", "--data", data.to_str().unwrap()];
        let made = String::from_utf8(meridian(&init).output().unwrap().stdout).unwrap();
        let word_after = |name: &str| {
            let line = made.lines().find_map(|line| line.trim().strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {made}")).trim().to_owned()
        };
        let limits = "burst = 1000000\n";
        let config = format!(
            "[node]\ndata = {data:?}\n\
             [listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\noperations = \"127.0.0.1:0\"\n\
             [gateway]\nrequests_per_key_{limits}requests_per_address_{limits}\
             requests_per_key_per_second = 1000000\nrequests_per_address_per_second = 1000000\n{gateway}\n"
        );
        let path = folder.path().join("meridian.toml");
        std::fs::write(&path, config).unwrap();
        let mut process = meridian(&["run", "--config", path.to_str().unwrap()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let serving = lines.by_ref().map(Result::unwrap).find(|line| line.contains("serving"));
        let serving = serving.expect("the node says that it serves");
        // Logs must be read on, or the node would find its standard error closed.
        std::thread::spawn(move || lines.for_each(drop));
        let address = |name: &str| {
            let field = serving.split_whitespace().find_map(|word| word.strip_prefix(name));
            format!("http://{}", field.unwrap_or_else(|| panic!("no {name} in {serving}")))
        };
        Self {
            public: address("public="),
            admin: address("admin="),
            operations: address("operations="),
            key: word_after("key "),
            secret: word_after("secret "),
            process,
            folder,
        }
    }

    /// The node's metrics.
    pub fn metrics(&self) -> String {
        let address = self.operations.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// One of the program's commands, as the operator.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        self.ask_as(&self.key, &self.secret, arguments)
    }

    /// One of the program's commands, as the holder of a key.
    pub fn ask_as(&self, key: &str, secret: &str, arguments: &[&str]) -> Output {
        let mut command = meridian(arguments);
        command.args(["--url", &self.public, "--admin-url", &self.admin]);
        command.args(["--key", key, "--secret", secret]);
        command.current_dir(self.folder.path()).output().unwrap()
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
