//! A change on trial by `sync --confirm`, over the connection that the change cuts.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

use anyhow::{Context as _, ensure};
use ipvs_netlink::{Destination, Policy, Ruleset, Scheduler, Service};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::network::{CLIENT, DIRECTOR, REAL, Site};
use super::stream::Connection;
use super::{Lane, Method, Network, PATIENCE};
use crate::case::{Outcome, cases};
use crate::client::Client;
use crate::program::{ended, example, folder, run};
use crate::subject::Subject;
use crate::terminal::Terminal;

cases![
    a_change_that_cuts_the_operators_connection_is_taken_back,
    a_change_that_is_confirmed_stays,
    a_change_whose_guard_is_killed_is_taken_back_by_hand,
    weights_that_a_change_keeps_are_kept_by_the_way_back,
];

/// The port of the operator's remote shell.
const SHELL: u16 = 23;

/// Root's default folder for the old rules.
const STATE: &str = "/run/ipvs-sync";

/// The old rules: in each masqueraded lane, a web site and the operator's way in.
fn before() -> anyhow::Result<Ruleset> {
    let mut rules = Ruleset::new();
    for lane in lanes() {
        let web = lane.service(Scheduler::RoundRobin);
        rules.insert_service(web)?;
        rules.insert_destination(web.key, lane.destination(1).weight(7))?;
        let shell = Service::tcp(lane.virtual_address(), SHELL);
        rules.insert_service(shell)?;
        let server = Network::SERVERS.host(lane.family, 1);
        rules.insert_destination(shell.key, Destination::masquerade(server, SHELL))?;
    }
    Ok(rules)
}

/// The operator's mistake: rules without the way in, and with other servers for the site.
fn mistake() -> anyhow::Result<Ruleset> {
    let mut rules = Ruleset::new();
    for lane in lanes() {
        let web = lane.service(Scheduler::WeightedRoundRobin);
        rules.insert_service(web)?;
        rules.insert_destination(web.key, lane.destination(2))?;
    }
    Ok(rules)
}

fn lanes() -> impl Iterator<Item = Lane> {
    Lane::ALL.into_iter().filter(|lane| lane.method == Method::Masquerade)
}

/// The site with the old rules, and the file with the mistake.
struct Stage {
    _site: Site,
    director: Client,
    before: Ruleset,
    mistake: Ruleset,
    folder: TempDir,
}

impl Stage {
    async fn set(subject: &Subject) -> anyhow::Result<Self> {
        let site = Site::build()?;
        let mut director = site.director(subject.flavour).await?;
        let (before, mistake) = (before()?, mistake()?);
        let report = director.sync(&before, &Policy::new()).await?;
        ensure!(report.is_success(), "{report}");
        assert_eq!(director.ruleset().await?, before);
        let folder = folder();
        fs::write(folder.path().join("rules"), mistake.to_string())?;
        Ok(Self { _site: site, director, before, mistake, folder })
    }

    fn confirm(&self, time: &str) -> Command {
        let mut sync = example("sync");
        sync.args(["--confirm", time]).arg(self.folder.path().join("rules"));
        sync
    }

    async fn wait_for(&mut self, what: &str, rules: &Ruleset) -> Outcome {
        let begin = std::time::Instant::now();
        loop {
            let actual = self.director.ruleset().await?;
            if actual == *rules {
                return Ok(());
            }
            ensure!(begin.elapsed() < PATIENCE, "waited in vain until {what}; there is\n{actual}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

/// Runs a program in the director's namespace to its end.
fn run_there(command: &mut Command) -> anyhow::Result<(Option<i32>, Vec<String>)> {
    DIRECTOR.run(|| Ok(run(command)))
}

/// A file of this kind beside the old rules, if there is one.
fn state(extension: &str) -> anyhow::Result<Option<PathBuf>> {
    let namespace = fs::metadata(DIRECTOR.path())?.ino();
    let file = Path::new(STATE).join(format!("net-{namespace}.{extension}"));
    Ok(file.exists().then_some(file))
}

/// Waits until the log has this text.
fn wait_until_noted(what: &str) -> Outcome {
    super::wait_until(what, || {
        let log = state("log")?.map(fs::read_to_string).transpose()?;
        Ok(log.is_some_and(|log| log.contains(what)))
    })
}

fn wait_until_over() -> Outcome {
    super::wait_until("nothing waits to be confirmed", || Ok(state("ipvs")?.is_none()))
}

/// The operator's remote shell: a connection through the service to a server, which has a terminal
/// of the director.
struct RemoteShell {
    terminal: Terminal,
    server: TcpStream,
    operator: JoinHandle<std::io::Result<String>>,
}

impl RemoteShell {
    fn open(address: IpAddr, command: &Command) -> anyhow::Result<Self> {
        let listener = REAL[0].run(|| Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, SHELL))?))?;
        let mut client = CLIENT.run(|| Ok(TcpStream::connect((address, SHELL))?))?;
        client.set_read_timeout(Some(PATIENCE))?;
        let operator = std::thread::spawn(move || {
            let mut screen = String::new();
            client.read_to_string(&mut screen)?;
            Ok(screen)
        });
        let (server, _) = listener.accept()?;
        let mut output = server.try_clone()?;
        let terminal = DIRECTOR
            .run(|| Ok(Terminal::start(command, move |bytes| drop(output.write_all(bytes)))?))?;
        Ok(Self { terminal, server, operator })
    }

    /// Has the server end the session, as it does once the connection is dead. Its last words reach
    /// the operator when the way in is back.
    fn hang_up(mut self) -> anyhow::Result<JoinHandle<std::io::Result<String>>> {
        self.terminal.hang_up();
        let status = ended(&mut self.terminal.program);
        ensure!(status.code().is_none(), "the hung up program ended with {status}");
        self.server.write_all(b"the session has ended")?;
        Ok(self.operator)
    }
}

async fn a_change_that_cuts_the_operators_connection_is_taken_back(
    subject: &mut Subject,
) -> Outcome {
    for lane in lanes() {
        let mut stage = Stage::set(subject).await?;
        let mut visitor = CLIENT.run(|| Connection::open(lane, 1))?;
        let (before, mistake) = (stage.before.clone(), stage.mistake.clone());

        let shell = RemoteShell::open(lane.virtual_address(), &stage.confirm("20s"))?;
        wait_until_noted("goes back 20s after the first write")?;
        stage.wait_for("the change is made", &mistake).await?;
        let saved = fs::read_to_string(state("ipvs")?.context("no file of old rules")?)?;
        assert_eq!(saved.parse::<Ruleset>()?, before);
        let operator = shell.hang_up()?;

        stage.wait_for("the table is what it was", &before).await?;
        wait_until_over()?;
        wait_until_noted("nobody confirmed within 20s")?;
        wait_until_noted("went back")?;
        // Both the visitor and the operator are still connected.
        visitor.ask()?;
        let screen = operator.join().expect("it does not panic")?;
        let way_in = SocketAddr::from((lane.virtual_address(), SHELL));
        assert!(screen.contains(&format!("- tcp {way_in}")), "{screen}");
        assert!(screen.ends_with("the session has ended"), "{screen}");
    }
    Ok(())
}

async fn a_change_that_is_confirmed_stays(subject: &mut Subject) -> Outcome {
    let mut stage = Stage::set(subject).await?;
    let (status, said) = run_there(&mut stage.confirm("1h"))?;
    assert_eq!(status, Some(0), "{said:#?}");
    // Another namespace has a table of its own, in which no change is on trial.
    let (status, said) = run(example("sync").arg("--confirm-now"));
    assert_eq!(status, Some(2), "{said:#?}");
    let (status, said) = run_there(example("sync").arg("--confirm-now"))?;
    assert_eq!(status, Some(0), "{said:#?}");
    wait_until_over()?;
    assert_eq!(stage.director.ruleset().await?, stage.mistake);
    Ok(())
}

/// The process that goes back, as the output names it.
fn guard(said: &[String]) -> anyhow::Result<Pid> {
    let guard = said.iter().find_map(|line| line.strip_prefix("process ")?.split(' ').next());
    guard.and_then(|number| Pid::from_raw(number.parse().ok()?)).context("a number")
}

/// Once: going back overwrote the weights that a health checker had set meanwhile.
async fn weights_that_a_change_keeps_are_kept_by_the_way_back(subject: &mut Subject) -> Outcome {
    let mut stage = Stage::set(subject).await?;
    let (mut changed, mut back) = (stage.mistake.clone(), stage.before.clone());
    for lane in lanes() {
        let (web, server) = (lane.service(Scheduler::RoundRobin).key, lane.destination(1));
        changed.insert_destination(web, server)?;
        back.insert_destination(web, server.weight(3))?;
    }
    fs::write(stage.folder.path().join("rules"), changed.to_string())?;
    let (status, said) = run_there(stage.confirm("1h").arg("--keep-weights"))?;
    assert_eq!(status, Some(0), "{said:#?}");
    for lane in lanes() {
        let (web, server) = (lane.service(Scheduler::RoundRobin).key, lane.destination(1));
        stage.director.update_destination(web, &server.weight(3)).await?;
    }
    kill_process(guard(&said)?, Signal::TERM)?;
    wait_until_over()?;
    assert_eq!(stage.director.ruleset().await?, back);
    Ok(())
}

async fn a_change_whose_guard_is_killed_is_taken_back_by_hand(subject: &mut Subject) -> Outcome {
    let mut stage = Stage::set(subject).await?;
    let lane = lanes().next().context("a lane")?;
    let mut visitor = CLIENT.run(|| Connection::open(lane, 1))?;
    let (_, said) = run_there(&mut stage.confirm("1h"))?;
    kill_process(guard(&said)?, Signal::KILL)?;
    let file = state("ipvs")?.context("no file of old rules")?;
    let text = fs::read_to_string(&file)?;
    let by_hand = format!("# To go back by hand: sync {}\n", file.display());
    assert!(text.contains(&by_hand), "{text}");
    assert_eq!(stage.director.ruleset().await?, stage.mistake);

    let (status, said) = run_there(example("sync").arg(&file))?;
    assert_eq!(status, Some(0), "{said:#?}");
    assert_eq!(stage.director.ruleset().await?, stage.before);
    visitor.ask()?;
    fs::remove_file(file)?;
    Ok(())
}
