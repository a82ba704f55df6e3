//! A case: one function that must hold, run against every kernel.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use ipvs_netlink::fake::{Release, Series};
use libtest_mimic::Trial;

use crate::client::Flavour;
use crate::subject::Subject;

/// How many combinations of the matrix all cases have gone through.
static COMBINATIONS: AtomicUsize = AtomicUsize::new(0);

/// How many combinations of the matrix held in this run.
pub(crate) fn combinations() -> usize {
    COMBINATIONS.load(Ordering::Relaxed)
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

    /// The trials of this case: on the real kernel, or else on the fake one.
    pub(crate) fn trials(self, index: usize, kernel: Option<&Release>) -> Vec<Trial> {
        let mut flavours = vec![Flavour::Blocking, Flavour::Tokio];
        if self.is_long {
            flavours.truncate(1);
        }
        // With smol only the socket differs: a tenth of the cases shows that it works.
        if kernel.is_some() && index.is_multiple_of(10) && !self.is_long {
            flavours.push(Flavour::Smol);
        }
        let name = self.name();
        let alone = ON_REAL_KERNELS_ALONE.iter().find(|(prefix, _)| name.starts_with(prefix));
        match (kernel, alone) {
            (Some(kernel), _) => flavours
                .into_iter()
                .map(|flavour| {
                    let name = format!("{name} (Linux {kernel}, {flavour})");
                    let release = kernel.clone();
                    self.trial(name, move || Subject::real(release, flavour))
                })
                .collect(),
            (None, Some((_, why))) => {
                let name = format!("{name} (real kernels alone: {why})");
                vec![Trial::test(name, || Ok(())).with_ignored_flag(true)]
            }
            (None, None) => Series::ALL
                .iter()
                .flat_map(|version| flavours.iter().map(move |flavour| (*version, *flavour)))
                .map(|(version, flavour)| {
                    let subject = move || Subject::fake(version, flavour);
                    self.trial(format!("{name} (fake {version:?}, {flavour})"), subject)
                })
                .collect(),
        }
    }

    fn name(&self) -> &'static str {
        self.name.trim_start_matches("it::")
    }

    fn trial<F: Future<Output = anyhow::Result<Subject>>>(
        self,
        name: String,
        subject: impl FnOnce() -> F + Send + 'static,
    ) -> Trial {
        Trial::test(name, move || {
            let outcome = run(async {
                let mut subject = subject().await?;
                subject.reset().await?;
                (self.run)(&mut subject).await?;
                COMBINATIONS.fetch_add(subject.combinations, Ordering::Relaxed);
                Ok(())
            });
            outcome.map_err(|error| format!("{error:?}").into())
        })
    }
}

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
    ("replacement::", "ipvsadm"),
    ("traffic::", "traffic"),
    ("diagnose::a_module_of_a", "modules"),
    ("proc::what_forwarding_sets_along", "interfaces"),
    ("proc::interfaces_", "interfaces"),
    ("diagnose::the_module", "modules"),
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
pub(crate) fn run(case: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(case)
}
