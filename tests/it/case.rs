//! A case: one function that must hold, run against every kernel.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ipvs_netlink::fake::Series;
use libtest_mimic::Trial;

use crate::client::Flavour;
use crate::subject::{Subject, soak};
use crate::worker::Workers;

/// How many combinations of the matrix all cases have gone through.
static COMBINATIONS: AtomicUsize = AtomicUsize::new(0);

/// How many combinations of the matrix held in this run.
pub(crate) fn combinations() -> usize {
    COMBINATIONS.load(Ordering::Relaxed)
}

/// Counts combinations that held in another process.
pub(crate) fn add_combinations(more: usize) {
    COMBINATIONS.fetch_add(more, Ordering::Relaxed);
}

/// The function of a case, which gets a subject whose table is empty.
pub(crate) type Run = for<'a> fn(&'a mut Subject) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// The outcome of a case.
pub(crate) type Outcome = anyhow::Result<()>;

/// A case with its name.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
    /// Whether one client is enough, since the case tries the kernel and the messages, not the
    /// client.
    pub(crate) is_long: bool,
}

/// Makes cases of asynchronous functions, named after them and their module.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn cases() -> Vec<crate::case::Case> {
            vec![$(crate::case::Case {
                name: concat!(module_path!(), "::", stringify!($name)),
                run: |subject| Box::pin($name(subject)),
                is_long: false,
            }),*]
        }
    };
}
pub(crate) use cases;

/// Makes trials of functions that need no kernel, named after them and their module.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$({
                let name = concat!(module_path!(), "::", stringify!($name));
                libtest_mimic::Trial::test(name.trim_start_matches("it::"), || {
                    $name();
                    Ok(())
                })
            }),*]
        }
    };
}
pub(crate) use trials;

impl Case {
    /// The same case for one client only.
    pub(crate) fn long(self) -> Self {
        Self { is_long: true, ..self }
    }

    /// The trials of this case on a real kernel, by a worker.
    pub(crate) fn real_trials(self, index: usize, workers: &Arc<Workers>) -> Vec<Trial> {
        let release = workers.release().to_string();
        let elsewhere = ON_ONE_SERIES.iter().find(|(prefix, series, _)| {
            self.name().starts_with(prefix) && !release.starts_with(series) && soak().is_zero()
        });
        if let Some((_, series, why)) = elsewhere {
            let name = format!("{} (Linux {series} alone: {why})", self.name());
            return vec![Trial::test(name, || Ok(())).with_ignored_flag(true)];
        }
        let mut flavours = self.flavours();
        // With smol only the socket differs: a tenth of the cases shows that it works.
        if index.is_multiple_of(10) && !self.is_long {
            flavours.push(Flavour::Smol);
        }
        let trial = |flavour| {
            let name = format!("{} (Linux {}, {flavour})", self.name(), workers.release());
            let (workers, title) = (workers.clone(), name.clone());
            Trial::test(name, move || workers.run(index, flavour, &title))
        };
        flavours.into_iter().map(trial).collect()
    }

    /// The trials of this case on the fake kernel, which tell where it cannot carry it.
    pub(crate) fn fake_trials(self) -> Vec<Trial> {
        let name = self.name();
        let alone = ON_REAL_KERNELS_ALONE.iter().find(|(prefix, _)| name.starts_with(prefix));
        if let Some((_, why)) = alone {
            let name = format!("{name} (real kernels alone: {why})");
            return vec![Trial::test(name, || Ok(())).with_ignored_flag(true)];
        }
        let flavours = self.flavours();
        let each = |version| flavours.iter().map(move |flavour| (version, *flavour));
        let trial = |(version, flavour)| {
            let name = format!("{name} (fake {version:?}, {flavour})");
            Trial::test(name, move || {
                let outcome = run(self.over(Subject::fake(version, flavour)));
                outcome.map(add_combinations).map_err(|error| format!("{error:?}").into())
            })
        };
        Series::ALL.iter().copied().flat_map(each).map(trial).collect()
    }

    fn flavours(self) -> Vec<Flavour> {
        let flavours = [Flavour::Blocking, Flavour::Tokio];
        flavours[..if self.is_long { 1 } else { 2 }].to_vec()
    }

    fn name(&self) -> &'static str {
        self.name.trim_start_matches("it::")
    }

    /// Runs it against a subject; gives how many combinations of the matrix held.
    pub(crate) async fn over(
        self,
        subject: impl Future<Output = anyhow::Result<Subject>>,
    ) -> anyhow::Result<usize> {
        let mut subject = subject.await?;
        subject.reset().await?;
        (self.run)(&mut subject).await?;
        Ok(subject.combinations)
    }
}

/// The cases that run on kernels of one series, by the beginnings of their names, and why. A soak runs
/// them on all kernels.
const ON_ONE_SERIES: &[(&str, &str, &str)] = &[
    ("proxy::watched::", "6.12.", "takes a minute, and shows the program more than the kernel"),
    (
        "replacement::generated::",
        "6.12.",
        "takes minutes, and shows the programs more than the kernel",
    ),
];

/// The cases that the fake kernel cannot run, by the beginnings of their names, and why.
const ON_REAL_KERNELS_ALONE: &[(&str, &str)] = &[
    ("oracle::", "ipvsadm"),
    ("listing::an_empty_table", "ipvsadm"),
    ("listing::the_table", "ipvsadm"),
    ("recovery::", "modules, socket buffers"),
    ("namespaces::", "network namespaces"),
    ("asynchronous::", "sockets on a reactor"),
    ("family::", "another crate's sockets"),
    ("system::zeroes_counters", "traffic"),
    ("errors::privileges::", "users and namespaces"),
    ("nft::", "nft"),
    ("guide::", "ip, nft, ipvsadm, traffic"),
    ("proxy::", "namespaces, traffic"),
    ("replacement::", "ipvsadm"),
    ("traffic::", "traffic"),
    ("diagnose::a_module_of_a", "modules"),
    ("proc::what_forwarding_sets_along", "interfaces"),
    ("proc::interfaces_", "interfaces"),
    ("diagnose::the_module", "modules"),
    ("diagnose::tables_that", "routes"),
    ("diagnose::an_interface_that", "interfaces"),
    ("diagnose::without_the_capability", "users and namespaces"),
    ("diagnose::a_user_namespace", "users and namespaces"),
    ("sync::", "ipvsadm, traffic"),
    ("faults::reading::numbers_are_those_that_procfs_shows", "procfs"),
    ("faults::reading::the_kernels_own_flag_is_no_difference", "ipvsadm"),
    ("faults::writing::", "ipvsadm"),
];

/// An exception without a case is an error: the case was renamed, and runs on the fake kernel.
pub(crate) fn each_exception_has_a_case(cases: &[Case]) -> Trial {
    let has_case = |prefix| cases.iter().any(|case| case.name().starts_with(prefix));
    let prefixes = ON_REAL_KERNELS_ALONE.iter().map(|(prefix, _)| *prefix);
    let unused: Vec<_> = prefixes.filter(|prefix| !has_case(*prefix)).collect();
    Trial::test("case::each_exception_has_a_case", move || {
        if unused.is_empty() { Ok(()) } else { Err(format!("no case is of {unused:?}").into()) }
    })
}

/// Runs a case to its end.
pub(crate) fn run<T>(case: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(case)
}
