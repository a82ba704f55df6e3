//! A case: one text of what must hold, run against every kernel there is.

use std::pin::Pin;

use libtest_mimic::Trial;

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
    /// The trial of this case on the real kernel; without one it is listed as ignored.
    pub(crate) fn on(self, kernel: Option<RealKernel>) -> Trial {
        let name = self.name.trim_start_matches("it::");
        let Some(kernel) = kernel else {
            return Trial::test(format!("{name} (real)"), || Ok(())).with_ignored_flag(true);
        };
        Trial::test(format!("{name} (Linux {kernel}, blocking)"), move || {
            let mut subject = Subject::real(kernel)?;
            futures(async {
                subject.reset().await?;
                (self.run)(&mut subject).await
            })
            .map_err(|error| format!("{error:?}").into())
        })
    }
}

/// Runs a case to its end.
fn futures<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}
