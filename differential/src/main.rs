//! Holds the fake kernel against the real one: the same random requests for both, the same answers
//! from both, byte for byte. Needs a kernel whose IPVS nobody else uses: see `cargo xtask vm
//! differential`.

mod files;
mod generate;
mod random;
mod request;
mod scenario;
mod side;
mod surroundings;
mod tally;
mod traffic;

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Host, Kernel, Release};
use ipvs_netlink::transport::NetlinkSocket;
use ipvs_netlink::{Service, Timeouts};

use crate::random::Random;
use crate::request::{Step, ranges};
use crate::side::{Answer, Side};
use crate::surroundings::{Guest, Surroundings, make_interfaces};
use crate::tally::Tally;
use crate::traffic::Network;

/// How long to look for smaller sequences that differ.
const SHRINKING: Duration = Duration::from_secs(40);

/// A sync daemon's thread needs a while before it can be stopped.
const DAEMON_START: Duration = Duration::from_millis(20);

/// Each run has a port of its own among these. By the time that a port comes again, the kernel has
/// forgotten its destinations.
const FIRST_FRESH_PORT: u16 = 10_000;
const FRESH_PORTS: u16 = 50_000;

/// How many of a step's differing answers are shown: the later ones mostly follow from the first.
const SHOWN: usize = 2;

/// Hold the fake kernel against this one, with random requests
#[derive(Parser)]
struct Arguments {
    /// How many sequences of requests to try
    #[arg(long, default_value_t = 1000)]
    sequences: u64,
    /// Where to begin; each sequence has the seed after the one before it [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// How many rounds of connections to run through the schedulers
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    /// How many differing sequences to show before giving up
    #[arg(long, default_value_t = 1)]
    failures: u64,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let from_clock = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(1, |since| since.as_secs() ^ u64::from(since.subsec_nanos()))
    };
    let seed = arguments.seed.unwrap_or_else(from_clock);
    let mut bench = Bench::new()?;
    println!("kernel {}, seeds from {seed}", bench.release);
    let started = Instant::now();
    let mut said = started;
    let mut requests = 0;
    let mut failures = 0;
    for number in 0..arguments.sequences {
        let seed = seed.wrapping_add(number);
        let steps = generate::sequence(&mut Random::new(seed));
        requests += steps.iter().map(count).sum::<usize>();
        if bench.differs(&steps)? {
            failures += 1;
            println!("seed {seed} differs; making it smaller");
            let smallest = bench.shrink(steps)?;
            bench.show(&smallest)?;
            if failures >= arguments.failures {
                println!("stopped after {} sequences, {requests} requests", number + 1);
                return Ok(ExitCode::FAILURE);
            }
        }
        if said.elapsed() > Duration::from_secs(20) {
            said = Instant::now();
            println!("{} sequences after {:?}", number + 1, started.elapsed());
        }
    }
    println!(
        "{} sequences, {requests} requests in {:?}: {failures} differ",
        arguments.sequences,
        started.elapsed()
    );
    if bench.host.privileged {
        if let Some(story) = files::sysctls(&Kernel::on(bench.host.clone()))? {
            println!("the sysctls differ: {story}");
            return Ok(ExitCode::FAILURE);
        }
        println!("the sysctls are the same, and take the same");
    }
    let rounds = if bench.host.privileged { arguments.rounds } else { 0 };
    for number in 0..rounds {
        let seed = seed.wrapping_add(number);
        if let Some(story) = bench.traffic(seed)? {
            failures += 1;
            println!("seed {seed} differs in its connections:\n{story}");
            if failures >= arguments.failures {
                return Ok(ExitCode::FAILURE);
            }
        }
        if said.elapsed() > Duration::from_secs(20) {
            said = Instant::now();
            println!("{} rounds of connections", number + 1);
        }
    }
    println!("{rounds} rounds of connections: {failures} differences in all");
    print!("requests to the real kernel, with its answers:\n{}", bench.tally);
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn count(step: &Step) -> usize {
    match step {
        Step::Send { requests, times, .. } => requests.len() * times,
        Step::Other(requests) => requests.len(),
        Step::Receive { .. } | Step::Privileged(_) | Step::Broadcast(_) => 0,
    }
}

/// A kernel may have no table of connections before its first service.
fn have_had_a_service(client: &mut Client) -> Result<()> {
    client.add_service(&Service::tcp(Ipv4Addr::LOCALHOST, 1))?;
    client.flush()?;
    Ok(())
}

/// The real kernel, and the host that the fake kernel gets.
struct Bench {
    release: Release,
    host: Host,
    family: u16,
    cleaner: Client,
    network: Network,
    /// The real kernel's first timeouts; `None` without permission to ask for them.
    timeouts: Option<Timeouts>,
    tally: Tally,
    /// How many sequences were run, shrunk ones included.
    runs: u16,
}

impl Bench {
    fn new() -> Result<Self> {
        let release: Release = rustix::system::uname().release().to_string_lossy().parse()?;
        // All modules are loaded already, and the kernel would take long to look for others.
        let _ = std::fs::write("/proc/sys/kernel/modprobe", "\n");
        // A flush waits for all readers of the table; expedited grace periods make that wait short.
        let _ = std::fs::write("/sys/kernel/rcu_expedited", "1");
        let family = side::family(&mut NetlinkSocket::open()?)?;
        let mut cleaner = Client::connect()?;
        let mut host = Host::of_release(&release);
        host.family = Some(family);
        match cleaner.info() {
            // Where the kernel resizes the table of connections, it has its smallest size while it
            // is empty.
            Ok(_) if host.resizes_connection_table => {}
            Ok(info) => host.connection_table_size = info.connection_table_size,
            Err(error) if error.is_permission_denied() => host.privileged = false,
            Err(error) => return Err(error.into()),
        }
        let timeouts = if host.privileged { Some(cleaner.timeouts()?) } else { None };
        if host.privileged {
            have_had_a_service(&mut cleaner)?;
            host.interfaces.extend(make_interfaces()?);
        }
        Ok(Self {
            release,
            host,
            family,
            cleaner,
            timeouts,
            tally: Tally::default(),
            runs: 0,
            network: Network::new()?,
        })
    }

    fn clean(&mut self) -> Result<()> {
        let Some(timeouts) = self.timeouts else { return Ok(()) };
        self.cleaner.flush()?;
        for daemon in self.cleaner.daemons()? {
            std::thread::sleep(DAEMON_START);
            match self.cleaner.stop_daemon(daemon.role) {
                Err(error) if !error.is_timed_out() => return Err(error.into()),
                _ => {}
            }
        }
        self.cleaner.set_timeouts(timeouts)?;
        Ok(())
    }

    /// The answers of both kernels to each step, and at last the texts of their files.
    fn answers(&mut self, steps: &[Step]) -> Result<Vec<[Vec<Answer>; 2]>> {
        self.clean()?;
        self.runs = self.runs.wrapping_add(1);
        let port = FIRST_FRESH_PORT + self.runs % FRESH_PORTS;
        let sockets = [NetlinkSocket::open()?, NetlinkSocket::open()?];
        let mut real = Side::new(sockets, self.family, port, Guest);
        let kernel = Kernel::on(self.host.clone());
        if self.host.privileged {
            have_had_a_service(&mut kernel.connect()?)?;
        }
        let links = [kernel.link(), kernel.link()];
        let mut fake = Side::new(links, self.family, port, kernel.clone());
        let mut answers = Vec::new();
        let mut is_broadcast = false;
        for step in steps {
            let has_effect = match step {
                // A process without the privilege cannot give it up.
                Step::Privileged(_) => self.host.privileged,
                Step::Broadcast(broadcast) => {
                    let changes = self.host.privileged && *broadcast != is_broadcast;
                    is_broadcast ^= changes;
                    changes
                }
                _ => true,
            };
            if step.stops_daemons() {
                std::thread::sleep(DAEMON_START);
            }
            let both =
                if has_effect { [real.run(step)?, fake.run(step)?] } else { Default::default() };
            answers.push(both);
        }
        if self.host.privileged {
            Guest.set_privileged(true)?;
        }
        if is_broadcast {
            Guest.set_broadcast(false)?;
        }
        // The files can be read without the privilege, too.
        answers.push(files::texts(&kernel));
        self.tally.count(&real.asked, answers.iter().flat_map(|[real, _]| real));
        Ok(answers)
    }

    fn differs(&mut self, steps: &[Step]) -> Result<bool> {
        // The real kernel does not answer a request to stop a sync daemon whose thread has not run
        // yet.
        let tries = if steps.iter().any(Step::stops_daemons) { 5 } else { 1 };
        for _ in 0..tries {
            if self.answers(steps)?.iter().all(|[real, fake]| real == fake) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How the kernels' schedulers differ, if they do.
    fn traffic(&mut self, seed: u64) -> Result<Option<String>> {
        let mut differs = None;
        // A difference between the schedulers shows each time. One that earlier packets have caused
        // does not.
        for _ in 0..3 {
            self.clean()?;
            let mut random = Random::new(seed);
            differs = self.network.round(&mut random, &mut self.cleaner, &self.host)?;
            if differs.is_none() {
                break;
            }
        }
        Ok(differs)
    }

    /// The smallest sequence found whose answers still differ.
    fn shrink(&mut self, mut steps: Vec<Step>) -> Result<Vec<Step>> {
        let started = Instant::now();
        loop {
            let mut candidates = Vec::new();
            for range in ranges(steps.len()) {
                let mut without = steps.clone();
                without.drain(range);
                candidates.push(without);
            }
            for (index, step) in steps.iter().enumerate() {
                for smaller in step.smaller() {
                    let mut with = steps.clone();
                    with[index] = smaller;
                    candidates.push(with);
                }
            }
            let mut found = None;
            for candidate in candidates {
                if started.elapsed() > SHRINKING {
                    break;
                }
                if self.differs(&candidate)? {
                    found = Some(candidate);
                    break;
                }
            }
            match found {
                Some(smaller) => steps = smaller,
                None => return Ok(steps),
            }
        }
    }

    fn show(&mut self, steps: &[Step]) -> Result<()> {
        let answers = self.answers(steps)?;
        let steps = steps.iter().map(ToString::to_string).chain(["files".to_owned()]);
        for (step, [real, fake]) in steps.zip(answers) {
            println!("  {step}");
            if real == fake {
                continue;
            }
            let mut shown = 0;
            for index in 0..real.len().max(fake.len()) {
                let (real, fake) = (real.get(index), fake.get(index));
                if real != fake && shown < SHOWN {
                    shown += 1;
                    let text = |answer: Option<&Answer>| {
                        answer.map_or_else(|| "nothing".to_owned(), ToString::to_string)
                    };
                    println!("    real: {}\n    fake: {}", text(real), text(fake));
                }
            }
        }
        Ok(())
    }
}
