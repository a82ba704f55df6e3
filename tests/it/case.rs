//! A case: one text of what must hold, run against every kernel there is.

use std::pin::Pin;

use libtest_mimic::Trial;

use crate::client::Flavour;
use crate::subject::{RealKernel, Subject};

/// What a case is: a function of a subject whose table is empty.
pub(crate) type Run = for<'a> fn(&'a mut Subject) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// What comes of a case.
pub(crate) type Outcome = anyhow::Result<()>;

/// A case with its name.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
}

/// Makes cases of asynchronous functions, named after them and their module.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn cases() -> Vec<crate::case::Case> {
            vec![$(crate::case::Case {
                name: concat!(module_path!(), "::", stringify!($name)),
                run: |subject| Box::pin($name(subject)),
            }),*]
        }
    };
}
pub(crate) use cases;

impl Case {
    /// The trials of this case on the real kernel; without one it is listed as ignored.
    pub(crate) fn trials(self, index: usize, kernel: Option<RealKernel>) -> Vec<Trial> {
        let name = self.name.trim_start_matches("it::");
        let Some(kernel) = kernel else {
            return vec![Trial::test(format!("{name} (real)"), || Ok(())).with_ignored_flag(true)];
        };
        let mut flavours = vec![Flavour::Blocking, Flavour::Tokio];
        // What differs for smol is the socket alone: a tenth of the cases shows that it works.
        if index.is_multiple_of(10) {
            flavours.push(Flavour::Smol);
        }
        let trial = |flavour| {
            Trial::test(format!("{name} (Linux {kernel}, {flavour})"), move || {
                let outcome = run(async {
                    let mut subject = Subject::real(kernel, flavour).await?;
                    subject.reset().await?;
                    (self.run)(&mut subject).await
                });
                outcome.map_err(|error| format!("{error:?}").into())
            })
        };
        flavours.into_iter().map(trial).collect()
    }
}

/// Runs a case to its end.
fn run(case: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(case)
}
