//! The suite for launchers, over the one there is; and that the suite finds what is wrong with others.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use kf_train::testing::{self, Setup, launcher_conformance};
use kf_train::{Job, JobEnd, JobEvent, JobHandle, JobSpec, JobStatus, Launcher, LocalLauncher, Result};
use libtest_mimic::Trial;

use super::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let finds = |name: &str, fault| {
        Trial::test(format!("conformance::{name}"), move || {
            super::with_launcher(async |launcher| finds(launcher, fault).await)
        })
    };
    vec![
        trial("conformance::local_launcher", local_launcher),
        finds("an_end_that_is_not_told", Fault::NoEnd),
        finds("an_end_that_is_told_twice", Fault::TwoEnds),
        finds("restarts_that_are_miscounted", Fault::OneRestartMore),
        finds("twins", Fault::Twins),
        finds("ranks_that_outlive_their_job", Fault::CancelsLate),
        finds("a_log_of_another_rank", Fault::LogOfRank0),
        finds("progress_that_is_lost", Fault::NoProgress),
        finds("a_status_that_stands_still", Fault::FirstStatus),
        finds("limits_that_are_lost", Fault::NoLimits),
        finds("an_environment_that_is_lost", Fault::NoFramework),
        finds("a_late_reader_who_waits", Fault::SilentAfterEnd),
    ]
}

async fn local_launcher(launcher: LocalLauncher) {
    let setup = Setup::new(Arc::new(launcher)).entry(Job::ranks("report", 2), 7);
    launcher_conformance(&setup).await;
}

/// What is wrong with a launcher.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    NoEnd,
    TwoEnds,
    OneRestartMore,
    Twins,
    CancelsLate,
    LogOfRank0,
    NoProgress,
    FirstStatus,
    NoLimits,
    NoFramework,
    SilentAfterEnd,
}

/// The suite fails, at what the fault concerns.
async fn finds(launcher: LocalLauncher, fault: Fault) {
    let local = tokio::task::LocalSet::new();
    let found = local.run_until(async move {
        let faulty = Arc::new(Faulty { inner: Arc::new(launcher), fault });
        let setup = Setup::new(faulty).patience(Duration::from_secs(10));
        let behaviour = async move {
            match fault {
                Fault::NoEnd | Fault::TwoEnds => testing::events_tell_the_whole_job(&setup).await,
                Fault::OneRestartMore => testing::restarts_are_counted(&setup).await,
                Fault::Twins => testing::submitting_again_is_the_same_job(&setup).await,
                Fault::CancelsLate => testing::cancelling_leaves_nothing_running(&setup).await,
                Fault::LogOfRank0 => testing::logs_are_each_ranks_own(&setup).await,
                Fault::NoProgress => testing::progress_and_metrics_are_told(&setup).await,
                Fault::FirstStatus => testing::the_status_follows_the_job(&setup).await,
                Fault::NoLimits => testing::silence_ends_a_rank(&setup).await,
                Fault::NoFramework => testing::the_environment_is_the_frameworks(&setup).await,
                Fault::SilentAfterEnd => testing::a_late_reader_gets_the_end(&setup).await,
            }
        };
        tokio::task::spawn_local(behaviour).await
    });
    let panic = found.await.expect_err("the suite finds nothing wrong").into_panic();
    let told = panic.downcast_ref::<String>().map_or("no text", String::as_str);
    let expected = match fault {
        Fault::NoEnd => "`Ended` must be told once, and last; it was told 0 times",
        Fault::TwoEnds => "`Ended` must be told once, and last; it was told 2 times",
        Fault::OneRestartMore => "(2, 1, Exited(Code(5))), (3, 1, Exited(Code(5)))",
        Fault::Twins => "left: JobHandle",
        Fault::CancelsLate => "of an ended job runs",
        Fault::LogOfRank0 => "a rank's log: not within 10s",
        Fault::NoProgress => "of rank 0",
        Fault::FirstStatus => "the job runs: not within 10s",
        Fault::NoLimits => "the job's end: not within 10s",
        Fault::NoFramework => "right: ([\"0/2\"], [\"1/2\"])",
        Fault::SilentAfterEnd => "the end of an ended job: not within 10s",
    };
    assert!(told.contains(expected), "{told}");
}

/// A launcher with something wrong.
struct Faulty {
    inner: Arc<LocalLauncher>,
    fault: Fault,
}

impl Faulty {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }
}

#[async_trait]
impl Launcher for Faulty {
    fn jobs_outlive_caller(&self) -> bool {
        self.inner.jobs_outlive_caller()
    }

    async fn submit(&self, mut spec: JobSpec, attempt_id: &str) -> Result<JobHandle> {
        if self.has(Fault::NoLimits) {
            spec.progress_timeout = None;
        }
        if self.has(Fault::NoFramework) {
            spec.framework = kf_train::contract::Framework::Torchrun;
        }
        let known = self.inner.attach(&JobHandle::new("local", attempt_id)).await.is_ok();
        if self.has(Fault::Twins) && known {
            return self.inner.submit(spec, &format!("{attempt_id}-twin")).await;
        }
        self.inner.submit(spec, attempt_id).await
    }

    async fn attach(&self, handle: &JobHandle) -> Result<()> {
        self.inner.attach(handle).await
    }

    async fn events(&self, handle: &JobHandle) -> Result<BoxStream<'static, JobEvent>> {
        let over = self.inner.status(handle).await?.is_over();
        let events = self.inner.events(handle).await?;
        let fault = self.fault;
        let changed = events.flat_map(move |event| {
            let events = match (fault, event) {
                (Fault::NoEnd, JobEvent::Ended(_)) | (Fault::NoProgress, JobEvent::Progress { .. }) => vec![],
                (Fault::TwoEnds, event @ JobEvent::Ended(_)) => vec![event.clone(), event],
                (Fault::OneRestartMore, JobEvent::Restarting { restarts, failure }) => {
                    vec![JobEvent::Restarting { restarts: restarts + 1, failure }]
                }
                (_, event) => vec![event],
            };
            futures::stream::iter(events)
        });
        Ok(match fault {
            Fault::SilentAfterEnd if over => futures::stream::pending().boxed(),
            Fault::CancelsLate => {
                let end = futures::stream::iter([JobEvent::Ended(JobEnd::Canceled)]);
                // As if it had ended with its first lines.
                changed
                    .take(4)
                    .filter(|event| futures::future::ready(!matches!(event, JobEvent::Ended(_))))
                    .chain(end)
                    .boxed()
            }
            _ => changed.boxed(),
        })
    }

    async fn status(&self, handle: &JobHandle) -> Result<JobStatus> {
        let mut status = self.inner.status(handle).await?;
        if self.has(Fault::FirstStatus) {
            return Ok(JobStatus::new(kf_core::Timestamp::now(), status.ranks.len()));
        }
        if self.has(Fault::CancelsLate) {
            status.apply(kf_core::Timestamp::now(), &JobEvent::Ended(JobEnd::Canceled));
        }
        Ok(status)
    }

    async fn logs(&self, handle: &JobHandle, rank: usize) -> Result<String> {
        let rank = if self.has(Fault::LogOfRank0) && rank == 1 { 0 } else { rank };
        self.inner.logs(handle, rank).await
    }

    async fn cancel(&self, handle: &JobHandle) -> Result<()> {
        match self.fault {
            Fault::CancelsLate => Ok(()),
            _ => self.inner.cancel(handle).await,
        }
    }
}
