//! Rule sync on real kernels: large tables, the real `ipvsadm` as a witness and as a rival, and
//! draining.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ipvs_netlink::{
    Destination, DestinationKey, Draining, Incomplete, Plan, Policy, Ruleset, Scheduler, Service,
    ServiceKey, Syncer,
};
use ipvs_netlink::{Progress, Stage, SyncEvent};

use crate::case::{Outcome, cases};
use crate::oracle::restore;
use crate::random::{Speaker, pairs, rulesets, rulesets_of, samples};
use crate::rival::Rival;
use crate::subject::{Subject, program, soak};
use crate::writes::writes;

cases![
    what_was_applied_is_read_back,
    what_another_program_wrote_is_put_back_as_it_was,
    the_commands_of_a_plan_do_what_applying_it_does,
    what_ipvsadm_changes_meanwhile_is_mended,
    a_drained_destination_keeps_its_connection_to_the_end,
];

async fn what_was_applied_is_read_back(subject: &mut Subject) -> Outcome {
    let policy = Policy::new();
    for (most, count) in [(8, 8), (150, 3)] {
        // The second ruleset has more services, since it has the common ones as well.
        let rulesets = rulesets_of(0..most + 1, Speaker::Crate, subject.schedulers());
        for (actual, wanted) in samples(pairs(rulesets), count) {
            subject.client.flush().await?;
            for wanted in [actual, wanted] {
                let plan = subject.client.plan(&wanted, &policy).await?;
                let writes = writes(&plan);
                let report = subject.client.apply(plan).await?;
                ensure!(report.is_success() && report.rounds == 0, "{report}");
                assert_eq!(report.changed, writes);
                assert_eq!(subject.client.ruleset().await?, wanted);
                let plan = subject.client.plan(&wanted, &policy).await?;
                ensure!(plan.is_empty(), "applied, and there is more:\n{plan}");
            }
        }
    }
    Ok(())
}

/// Once: a service that another program had written, and that the crate refuses, was printed, but
/// could be neither parsed nor written again. The old table could not be restored.
async fn what_another_program_wrote_is_put_back_as_it_was(subject: &mut Subject) -> Outcome {
    let before: Ruleset = "-A -t 10.0.0.1:0 -s wlc --as-is\n\
        -A -t 10.0.0.1:80 -s rr -o --as-is\n\
        -a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 1\n\
        -A -u 10.0.0.1:53 -s rr -p 0 --as-is\n"
        .parse()?;
    let report = subject.client.sync(&before, &Policy::new()).await?;
    ensure!(report.changed == 4, "{report}");
    let read = subject.client.ruleset().await?;
    assert_eq!(read, before);
    assert_eq!(read.to_string().parse::<Ruleset>()?, read);
    assert_eq!(serde_json::from_str::<Ruleset>(&serde_json::to_string(&read)?)?, read);
    subject.client.flush().await?;
    let report = subject.client.sync(&read, &Policy::new()).await?;
    ensure!(report.changed == 4, "{report}");
    assert_eq!(subject.client.ruleset().await?, read);

    for service in before.services().map(|rules| *rules.service()) {
        let error = subject.client.update_service(&service).await.unwrap_err();
        assert!(error.is_not_sent(), "{error}");
        assert!(Ruleset::new().insert_service(service).is_err());
    }
    Ok(())
}

async fn the_commands_of_a_plan_do_what_applying_it_does(subject: &mut Subject) -> Outcome {
    let draining = Policy::new().draining(Draining::within(Duration::from_secs(1)));
    let rulesets = rulesets(Speaker::Ipvsadm, subject.schedulers());
    for (actual, wanted) in samples(pairs(rulesets), 8) {
        for policy in [&Policy::new(), &draining] {
            subject.client.flush().await?;
            restore(&actual.to_string())?;
            let plan = subject.client.plan(&wanted, policy).await?;
            restore(&plan.commands().to_string())?;
            assert_eq!(subject.client.ruleset().await?, wanted);
        }
    }
    Ok(())
}

/// How long the real `ipvsadm` changes the table beside us: longer in a soak.
fn rivalry() -> Duration {
    soak().max(Duration::from_secs(3))
}

async fn what_ipvsadm_changes_meanwhile_is_mended(subject: &mut Subject) -> Outcome {
    let policy = Policy::new();
    let rulesets = || rulesets_of(1..40, Speaker::Ipvsadm, subject.schedulers());
    let (one, other) = samples(pairs(rulesets()), 1).next().context("a pair")?;
    let mut lines = vec!["-C".to_owned()];
    for theirs in samples(rulesets(), 3).chain([one.clone(), other.clone(), Ruleset::new()]) {
        for ours in [&one, &other] {
            for plan in [Plan::new(ours, &theirs, &policy), Plan::new(&theirs, ours, &policy)] {
                lines.extend(plan.commands().to_string().lines().map(str::to_owned));
            }
        }
    }
    let rival = Rival::start(lines, || Ok(()));
    let end = Instant::now() + rivalry();
    let mut syncer = Syncer::new(policy.clone());
    let mut mended = 0;
    for wanted in [&one, &other].into_iter().cycle() {
        let report =
            subject.client.sync(wanted, &policy).await.unwrap_or_else(Incomplete::into_report);
        ensure!(report.error.is_none(), "{report}");
        mended += report.rounds;
        syncer.want(wanted.clone());
        syncer.resync();
        let report = subject.client.pass(&mut syncer).await;
        ensure!(report.error.is_none(), "{report}");
        mended += report.rounds;
        // Both must have met, however slow the machine is.
        let now = Instant::now();
        if now >= end && mended > 0 || now >= end + Duration::from_secs(60) {
            break;
        }
    }
    let runs = rival.stop()?;
    ensure!(runs > 0 && mended > 0, "{runs} runs of ipvsadm, {mended} rounds: nobody met");

    for wanted in [&one, &other] {
        let report = subject.client.sync(wanted, &policy).await?;
        ensure!(report.is_success() && report.rounds == 0, "{report}");
        assert_eq!(&subject.client.ruleset().await?, wanted);
    }
    // The syncer's knowledge is old. Services whose changes fail for that are read again.
    syncer.want(one.clone());
    syncer.resync();
    let report = subject.client.pass(&mut syncer).await;
    ensure!(report.is_success() && report.draining == 0, "{report}");
    assert_eq!(subject.client.ruleset().await?, one);
    Ok(())
}

/// How far destinations have drained.
fn drain_progress(event: SyncEvent<'_>) -> Option<Progress> {
    match event {
        SyncEvent::Progress(progress) => (progress.stage == Stage::Draining).then_some(progress),
        _ => None,
    }
}

/// A server on an address of its own, which answers every byte with its number.
fn serve(last: u8) -> anyhow::Result<SocketAddr> {
    program("ip", &["address", "replace", &format!("10.9.9.{last}/32"), "dev", "lo"])?;
    let listener = TcpListener::bind((Ipv4Addr::new(10, 9, 9, last), 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream?;
            std::thread::spawn(move || {
                while let Ok(1) = stream.read(&mut [0]) {
                    stream.write_all(&[last])?;
                }
                std::io::Result::Ok(())
            });
        }
        std::io::Result::Ok(())
    });
    Ok(address)
}

/// Asks the server for its number.
fn ask(stream: &mut TcpStream) -> std::io::Result<u8> {
    stream.write_all(b"?")?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    Ok(answer[0])
}

fn connect() -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::new(10, 9, 9, 9), 2000))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

/// A service with two servers in the kernel, and a connection to each.
pub(crate) struct Served {
    pub(crate) wanted: Ruleset,
    pub(crate) service: ServiceKey,
    /// The server of the first connection.
    pub(crate) leaving: DestinationKey,
    pub(crate) streams: [TcpStream; 2],
}

/// Starts the servers 11 and 12, and connects to both, first to 11.
pub(crate) async fn served(subject: &mut Subject) -> anyhow::Result<Served> {
    program("ip", &["address", "replace", "10.9.9.9/32", "dev", "lo"])?;
    let service = Service::tcp(Ipv4Addr::new(10, 9, 9, 9), 2000).scheduler(Scheduler::RoundRobin);
    let mut wanted = Ruleset::new();
    wanted.insert_service(service)?;
    let [leaving, staying] = [serve(11)?, serve(12)?];
    for server in [leaving, staying] {
        wanted
            .insert_destination(service.key, Destination::masquerade(server.ip(), server.port()))?;
    }
    let _ = subject.client.sync(&wanted, &Policy::new()).await?;
    let mut streams = [connect()?, connect()?];
    let [one, other] = &mut streams;
    match [ask(one)?, ask(other)?] {
        [11, 12] => {}
        [12, 11] => streams.reverse(),
        answers => anyhow::bail!("not in turn: {answers:?}"),
    }
    let leaving = (leaving.ip(), leaving.port()).into();
    Ok(Served { wanted, service: service.key, leaving, streams })
}

async fn a_drained_destination_keeps_its_connection_to_the_end(subject: &mut Subject) -> Outcome {
    let Served { mut wanted, service, leaving, streams: [leaves, _stays] } =
        served(subject).await?;
    let mut held = Some(leaves);
    wanted.remove_destination(service, leaving);
    let draining = Draining::within(Duration::from_secs(60)).interval(Duration::from_millis(20));
    let plan = subject.client.plan(&wanted, &Policy::new().draining(draining)).await?;
    let (mut counted, mut after) = (0, 0);
    let progress = subject.client.apply_with(plan, |event| {
        let Some(progress) = drain_progress(event) else { return ControlFlow::Continue(()) };
        counted += 1;
        if let Some(stream) = &mut held {
            assert_eq!(progress.done, 0, "it goes before its connection has ended");
            assert_eq!(ask(stream).unwrap(), 11);
            assert_eq!(ask(&mut connect().unwrap()).unwrap(), 12, "new ones go elsewhere");
        } else {
            after += 1;
        }
        if counted == 10 {
            held = None;
        }
        ControlFlow::Continue(())
    });
    let report = progress.await?;
    ensure!(report.is_success(), "{report}");
    assert_eq!((report.drained, report.cut_off), (1, 0), "{report}");
    assert!(counted > 10 && after > 0);
    assert_eq!(subject.client.ruleset().await?, wanted);
    Ok(())
}
