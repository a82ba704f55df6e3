//! Cases on a real kernel: a worker, which is another process of this program, runs those that it is
//! told over a socket. One that hangs or crashes is that case's failure, and the next has a new worker.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ipvs_netlink::fake::Release;
use libtest_mimic::Failed;
use serde::{Deserialize, Serialize};

use crate::case::{self, Case};
use crate::client::Flavour;
use crate::standstill;
use crate::subject::{Subject, soak};

/// By this word a worker knows that it is one.
const WORKER: &str = "--worker";

/// A case that takes longer hangs, however slow the machine is.
const LIMIT: Duration = Duration::from_secs(1000);

/// Which case a worker is to run.
#[derive(Serialize, Deserialize)]
struct Order {
    index: usize,
    flavour: Flavour,
    /// As it is printed.
    title: String,
}

/// What came of it: how many combinations of the matrix held, or what went wrong.
type Answer = Result<usize, String>;

/// Whether this process is a worker.
pub(crate) fn is_worker() -> bool {
    std::env::args().nth(1).is_some_and(|word| word == WORKER)
}

/// Runs what it is told until nobody tells it more.
pub(crate) fn work(cases: &[Case], release: &Release) -> anyhow::Result<()> {
    // What cases start must not read there.
    let orders = UnixStream::from(rustix::io::dup(rustix::stdio::stdin())?);
    rustix::io::fcntl_setfd(&orders, rustix::io::FdFlags::CLOEXEC)?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    let mut answers = orders.try_clone()?;
    for order in BufReader::new(orders).lines() {
        let Order { index, flavour, title } = serde_json::from_str(&order?)?;
        // The console tells what ran when a kernel panics.
        let _ = std::fs::write("/dev/kmsg", format!("<4>case {title}\n"));
        let case = *cases.get(index).context("such a case")?;
        let answer = catch_unwind(AssertUnwindSafe(|| {
            case::run(case.over(Subject::real(release.clone(), flavour)))
        }));
        let answer: Answer = match answer {
            Ok(outcome) => outcome.map_err(|error| format!("{error:?}")),
            Err(panic) => Err(words(panic.as_ref())),
        };
        writeln!(answers, "{}", serde_json::to_string(&answer)?)?;
    }
    Ok(())
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("test panicked: {}", text.unwrap_or("no text"))
}

/// The worker between two cases, and how long each case took.
pub(crate) struct Workers {
    release: Release,
    idle: Mutex<Option<Worker>>,
    times: Mutex<Vec<(Duration, String)>>,
}

impl Workers {
    pub(crate) fn new(release: Release) -> Self {
        Self { release, idle: Mutex::default(), times: Mutex::default() }
    }

    pub(crate) fn release(&self) -> &Release {
        &self.release
    }

    /// Has a worker run a case.
    pub(crate) fn run(&self, index: usize, flavour: Flavour, title: &str) -> Result<(), Failed> {
        let order = Order { index, flavour, title: title.to_owned() };
        let combinations = self.order(&order).map_err(|error| format!("{error:#}"))?;
        case::add_combinations(combinations);
        Ok(())
    }

    fn order(&self, order: &Order) -> anyhow::Result<usize> {
        // Held meanwhile, since the kernel has one table for all cases.
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut worker = idle.take().map_or_else(Worker::start, Ok)?;
        let started = Instant::now();
        let answer = worker.order(order);
        let times = self.times.lock();
        times
            .unwrap_or_else(PoisonError::into_inner)
            .push((started.elapsed(), order.title.clone()));
        // One that failed may have left who knows what behind in its process.
        let combinations = answer?.map_err(anyhow::Error::msg)?;
        *idle = Some(worker);
        Ok(combinations)
    }

    /// The cases that took longest, a line each, and all together.
    pub(crate) fn slowest(&self) -> String {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner).clone();
        times.sort_unstable_by(|one, other| other.cmp(one));
        let all: Duration = times.iter().map(|(time, _)| *time).sum();
        let mut text = format!("{:.0} s of cases, the longest:\n", all.as_secs_f64());
        for (time, title) in times.iter().take(15) {
            let name = title.split(" (").next().unwrap_or(title);
            let _ = writeln!(text, "{:8.1} s  {name}", time.as_secs_f64());
        }
        text
    }
}

/// A process that runs one case after another.
struct Worker {
    process: Child,
    answers: BufReader<UnixStream>,
}

impl Worker {
    fn start() -> anyhow::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let process = Command::new(std::env::current_exe()?)
            .arg(WORKER)
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .context("a worker could not be started")?;
        Ok(Self { process, answers: BufReader::new(ours) })
    }

    fn order(&mut self, order: &Order) -> anyhow::Result<Answer> {
        let limit = LIMIT + soak();
        self.answers.get_ref().set_read_timeout(Some(limit))?;
        writeln!(self.answers.get_ref(), "{}", serde_json::to_string(order)?)?;
        let mut answer = String::new();
        match self.answers.read_line(&mut answer) {
            Ok(1..) => Ok(serde_json::from_str(&answer)?),
            Ok(0) => bail!("the case ended its process: {}", self.process.wait()?),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!("no end within {limit:?}\n{}", standstill::described())
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        standstill::end(self.process.id());
        let _ = self.process.wait();
    }
}
