//! `flotilla dev`: the servers that it has started it stops again, whoever names them, and no others.

use std::path::PathBuf;
use std::process::{Command, Output};

use flotilla_tests::binary::{flotilla, root};
use flotilla_tests::servers::Servers;
use flotilla_tests::service::Service;
use uuid::Uuid;

/// A folder with private servers of its own, which go away with it.
struct Home {
    folder: PathBuf,
}

impl Home {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("flotilla-dev-{}", Uuid::now_v7()));
        std::fs::create_dir(&folder).expect("the name is new");
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(".flotilla")
    }

    fn servers(&self, command: &str) -> Output {
        Command::new(root().join("deploy/servers.sh"))
            .arg(command)
            .env("FLOTILLA_HOME", self.path())
            .env_remove("DATABASE_URL")
            .env_remove("AMQP_URL")
            .output()
            .expect("the script can be run")
    }

    fn servers_run(&self) -> bool {
        self.servers("status").status.success()
    }

    /// Runs `dev` with the URLs of the servers in the environment, as a shell that has read the file has
    /// them, until it is ready, and lets it stop.
    async fn dev(&self) {
        let env = std::fs::read_to_string(self.path().join("env")).expect("`up` has written it");
        let urls = env.lines().filter_map(|line| line.split_once('='));
        let urls = urls.map(|(name, url)| (name, url.trim_matches('\'')));
        let mut command = Command::new(flotilla());
        command.arg("dev").env("FLOTILLA_HOME", self.path());
        let command = command.envs(urls);
        let dev = Service::spawn("dev", &self.folder, command).ready().await;
        assert!(self.servers_run());
        dev.stop().await;
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.servers("clean");
        // A folder for such files does no harm.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn what_dev_has_started_it_stops_again_and_nothing_else() {
    if !Servers::from_environment().may_be_stopped("dev") {
        return;
    }
    let home = Home::new();
    let up = home.servers("up");
    assert!(
        up.status.success(),
        "{}",
        String::from_utf8_lossy(&up.stderr)
    );
    home.dev().await;
    assert!(home.servers_run(), "they ran before");
    assert!(home.servers("down").status.success());
    home.dev().await;
    assert!(!home.servers_run(), "they were started by `dev`");
}
