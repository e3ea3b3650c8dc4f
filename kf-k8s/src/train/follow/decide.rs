//! What is to be done about a job, after all that is known of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kf_core::process::Exit;
use kf_train::carrier::{ErrorFile, Suspect, culprit};
use kf_train::{Failure, JobEnd, JobEvent, Program, RankEnd};
use serde_json::Value;

use super::super::kinds::State;
use super::super::names::object_name;
use super::super::refusals::Said;
use super::missing::{Missing, Pods};
use super::seen::Seen;
use super::{Carrier, Follow, Verdict, words};
use crate::facts::ContainerEnd;

/// How many of a failed rank's last lines are told.
const LAST_LINES: usize = 20;
/// How long an operator may take to see that a job's time is over before it is told again.
const WAKE_AGAIN: Duration = Duration::from_secs(5);
/// How long a pod may wait for what won't come by waiting.
const HOPELESS_AFTER: Duration = Duration::from_secs(20);

/// What is to be done.
pub(super) enum Next {
    Nothing,
    End(JobEnd),
    /// Its object is not there any more.
    Gone,
    /// Its operator does not see that its time is over.
    Wake,
    /// There are this many pods, and others are missing, of an object that was made then, in seconds since 1970.
    AskForPods {
        there: usize,
        made: i64,
    },
    /// No rank is to blame for the object's failure; the rank that was lost, where ranks may be started anew for that.
    Broken(String, Option<Box<Failure>>),
    Restart(Box<Failure>),
    Suspend(Verdict),
}

impl Follow {
    /// Decides.
    pub(super) fn next(&mut self) -> Next {
        if self.listed.is_some() || self.lists_objects {
            return Next::Nothing;
        }
        let Some(Carrier { state, verdict, due, made }) = self.object.clone() else { return Next::Nothing };
        let ended = self.seen.iter().all(|seen| seen.ended || seen.started.is_none());
        let quiet = ended && self.pods.values().all(|node| node.pod.over);
        if self.gone {
            return match (quiet, verdict) {
                (false, _) => Next::Nothing,
                (true, Some(Verdict::Canceled)) => Next::End(JobEnd::Canceled),
                (true, _) => Next::Gone,
            };
        }
        if let Some(verdict) = verdict {
            return match verdict {
                _ if !quiet => Next::Nothing,
                Verdict::Canceled => Next::End(JobEnd::Canceled),
                Verdict::Broken { reason, retryable } => Next::End(JobEnd::Broken { reason, retryable }),
                Verdict::Failed(failure) => self.failed(failure),
            };
        }
        match state {
            State::Succeeded if ended => Next::End(self.succeeded()),
            State::Failed { late, message } if quiet => {
                if let (true, Some(after)) = (late, self.job.spec.timeout) {
                    return Next::End(JobEnd::TimedOut { after });
                }
                match self.blame() {
                    Some(failure) => self.failed(Box::new(failure)),
                    None => {
                        let evicted = self
                            .pods
                            .values()
                            .find_map(|node| node.pod.evicted.as_ref().map(ToString::to_string));
                        let (most, lost) = (self.job.spec.max_restarts, self.lost(evicted.as_deref()));
                        match lost {
                            Some(lost) if self.restart < most => {
                                Next::Broken(evicted.unwrap_or(message), Some(Box::new(lost)))
                            }
                            Some(lost) => Next::Broken(
                                words::taken_away(&lost, most, evicted.is_some(), &message),
                                None,
                            ),
                            None => Next::Broken(evicted.unwrap_or(message), None),
                        }
                    }
                }
            }
            State::Succeeded | State::Failed { .. } => Next::Nothing,
            State::Suspended { field } => {
                // What still leaves would count as failed if it went on, at the training operator's.
                let gone = quiet && !self.pods.values().any(|node| node.pod.leaves);
                self.tell_suspended(field, gone);
                Next::Nothing
            }
            State::Active => {
                self.suspended = (false, false);
                let late = due.zip(self.clock).is_some_and(|(due, clock)| clock.seconds() > due);
                match late && self.woken.is_none_or(|at| at.elapsed() > WAKE_AGAIN) {
                    true => Next::Wake,
                    false => self.ask_for_pods(made).unwrap_or_else(|| self.limits()),
                }
            }
        }
    }

    /// Whether it is to be asked why pods are missing.
    fn ask_for_pods(&mut self, made: i64) -> Option<Next> {
        let (nodes, each) = (self.job.spec.nodes, self.job.spec.ranks_per_node);
        let there: BTreeSet<usize> = self.pods.values().map(|pod| pod.node).collect();
        // One that has run and is gone is no concern of this.
        let never = |ranks: &[Seen]| ranks.iter().all(|seen| seen.pod.is_none());
        let is_missing = |node: usize, ranks: &[Seen]| !there.contains(&node) && never(ranks);
        let missing = match there.len() < nodes {
            true => {
                self.seen.chunks(each).enumerate().filter(|(node, ranks)| is_missing(*node, ranks)).count()
            }
            false => 0,
        };
        if missing == 0 {
            self.missing = None;
            return None;
        }
        let now = Instant::now();
        let asks = self.missing.get_or_insert_with(|| Missing::new(now)).asks(now);
        asks.then_some(Next::AskForPods { there: nodes.saturating_sub(missing), made })
    }

    /// Tells why pods are missing, where that is another reason than before.
    pub(super) fn tell_missing(&mut self, there: usize, object: &str, said: &Said) {
        let kind = self.cluster.kind.resource().kind;
        let (wanted, namespace) = (self.job.spec.nodes, self.cluster.namespace.as_str());
        let pods = Pods { there, wanted, kind: &kind, object, namespace };
        let told = self.missing.as_mut().and_then(|missing| missing.said(Instant::now(), said, pods));
        if let Some(reason) = told {
            self.job.feed.tell(JobEvent::Waiting { reason });
        }
    }

    /// Tells that somebody has suspended the job, and again when its pods have gone.
    fn tell_suspended(&mut self, field: &str, gone: bool) {
        if self.suspended == (true, gone) {
            return;
        }
        // What its pods have waited for.
        (self.waits, self.missing) = (None, None);
        self.suspended = (true, gone);
        let kind = self.cluster.kind.resource().kind;
        let name = object_name(&self.job.name, self.restart);
        let then = if gone { "it goes on when that is false" } else { "its ranks are ended" };
        let reason = format!("it is suspended: {field} of the {kind} `{name}` is true; {then}");
        self.job.feed.tell(JobEvent::Waiting { reason });
    }

    fn failed(&self, failure: Box<Failure>) -> Next {
        match self.restart < self.job.spec.max_restarts {
            true => Next::Restart(failure),
            false => Next::End(JobEnd::Failed(failure)),
        }
    }

    fn succeeded(&mut self) -> JobEnd {
        match (&self.job.spec.program, self.result.take()) {
            (Program::Ranks { entry, .. }, None) => {
                let unread = self.seen.first().and_then(|seen| seen.unread.as_deref());
                let reason = words::no_result(entry, &self.cluster.options.image, unread);
                JobEnd::Broken { reason, retryable: false }
            }
            (_, result) => JobEnd::Succeeded { result: result.unwrap_or(Value::Null) },
        }
    }

    /// The rank that failed first.
    fn blame(&self) -> Option<Failure> {
        let message =
            |end: &ContainerEnd| end.message.as_ref().and_then(|text| ErrorFile::parse(text.as_bytes()));
        let suspects = self.seen.iter().enumerate().filter_map(|(rank, seen)| {
            let end = seen.end.as_ref().filter(|_| seen.failed())?;
            let of_another_rank = message(end).is_some_and(|file| file.of_another_rank);
            // Of a second's length, in which the others may have been asked to end.
            let at = (end.at / 1_000_000_000, matches!(end.exit, Exit::Signal(_)), seen.order);
            Some(Suspect { rank, exit: end.exit, at, of_another_rank })
        });
        let suspects: Vec<_> = suspects.collect();
        let rank = culprit(&suspects)?.rank;
        let end = self.seen.get(rank)?.end.as_ref()?;
        let limit = self.job.spec.resources.memory;
        let how = match end.out_of_memory {
            true => RankEnd::OutOfMemory { used: limit, limit },
            false => RankEnd::Exited(end.exit),
        };
        let mut failure = self.failure(rank, how);
        let unstarted = self.seen.get(rank).and_then(|seen| seen.unstarted.as_deref());
        failure.message = match unstarted {
            Some(said) => Some(words::unstarted(&self.job.spec, &self.cluster.options.image, said)),
            None => message(end).map(|file| file.message),
        };
        Some(failure)
    }

    /// The rank whose pod went first, by nobody's failure: it was deleted, or its node is gone.
    fn lost(&self, why: Option<&str>) -> Option<Failure> {
        let lost = self.seen.iter().enumerate().filter(|(_, seen)| seen.was_lost());
        let (rank, seen) = lost.min_by_key(|(_, seen)| seen.went())?;
        let mut failure = self.failure(rank, RankEnd::Exited(seen.exit()));
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        failure.message = Some(format!("its pod was taken away{why}"));
        Some(failure)
    }

    fn failure(&self, rank: usize, end: RankEnd) -> Failure {
        let mut failure = Failure::new(rank, self.job.spec.world_size(), end);
        failure.progress = self.seen.get(rank).and_then(|seen| seen.progress.clone());
        failure.last_lines = self.job.logs().get(&rank).map_or_else(Vec::new, |kept| kept.last(LAST_LINES));
        failure
    }

    /// What breaks the job's limits, or keeps it from running.
    fn limits(&mut self) -> Next {
        let now = Instant::now();
        let waiting = self.pods.values().filter_map(|node| Some((&node.pod.name, node.pod.waits.clone()?)));
        let first = waiting.min_by_key(|(_, wait)| !wait.hopeless);
        let waits = first.map(|(pod, wait)| words::waits(pod, wait));
        match (waits, &mut self.waits) {
            (Some(wait), Some((since, told))) if wait.hopeless == told.hopeless => {
                if wait.hopeless && now - *since > HOPELESS_AFTER {
                    return Next::Suspend(Verdict::Broken { reason: wait.reason, retryable: false });
                }
            }
            (Some(wait), told) => {
                self.job.feed.tell(JobEvent::Waiting { reason: wait.reason.clone() });
                *told = Some((now, wait));
            }
            (None, told) => *told = None,
        }
        let spec = &self.job.spec;
        // A pod goes on until all its containers have ended. What it printed is a part of the failure.
        if spec.ranks_per_node > 1
            && let Some(failure) = self.blame()
        {
            let is_heard = self.seen.get(failure.rank).is_none_or(|seen| seen.is_heard(now));
            return match is_heard {
                true => Next::Suspend(Verdict::Failed(Box::new(failure))),
                false => Next::Nothing,
            };
        }
        for (rank, seen) in self.seen.iter().enumerate().filter(|(_, seen)| !seen.ended) {
            let (Some(started), Some(heard), None) = (seen.started, seen.heard, &seen.end) else { continue };
            if !seen.begun && now - started > spec.start_timeout {
                let end = RankEnd::NotStarted(spec.start_timeout.as_secs_f64());
                let mut failure = self.failure(rank, end);
                failure.message = seen.unread.as_deref().map(words::unheard);
                return Next::Suspend(Verdict::Failed(Box::new(failure)));
            }
            if let Some(limit) = spec.progress_timeout.filter(|limit| seen.begun && now - heard > *limit) {
                let end = RankEnd::Hung(limit.as_secs_f64());
                return Next::Suspend(Verdict::Failed(Box::new(self.failure(rank, end))));
            }
        }
        Next::Nothing
    }
}
