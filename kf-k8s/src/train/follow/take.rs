//! What is told of a job's pods, objects and logs is taken up.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kf_core::CancellationToken;
use kf_train::carrier::Note;
use kf_train::{JobEvent, Program};
use kube::api::DynamicObject;
use kube::runtime::watcher::Event;

use super::super::cluster::verdict_of;
use super::super::kinds::State;
use super::super::names::restart_of;
use super::super::node::{NodeFacts, node_facts};
use super::seen::Seen;
use super::{Carrier, Follow};
use crate::log::{Followed, Read};

impl Follow {
    /// Takes up what is told of pods.
    pub(super) fn pod(&mut self, event: Event<Pod>) {
        let (kind, ranks) = (self.cluster.kind, self.job.spec.ranks_per_node);
        let fact = |pod: &Pod| node_facts(pod, kind, ranks);
        match event {
            Event::Apply(pod) | Event::InitApply(pod) => {
                let Some(pod) = fact(&pod).filter(|pod| pod.restart == self.restart) else { return };
                self.take(&pod);
                self.listed.as_mut().unwrap_or(&mut self.pods).insert(pod.pod.name.clone(), pod);
            }
            Event::Delete(pod) => {
                let Some(pod) = fact(&pod) else { return };
                if pod.restart == self.restart {
                    self.take(&pod);
                }
                self.pods.remove(&pod.pod.name);
            }
            // What is not listed anew is gone.
            Event::Init => self.listed = Some(BTreeMap::new()),
            Event::InitDone => {
                if let Some(listed) = self.listed.take() {
                    self.pods = listed;
                }
            }
        }
    }

    fn take(&mut self, pod: &NodeFacts) {
        let first = pod.node * self.job.spec.ranks_per_node;
        for (local_rank, fact) in pod.pod.containers.iter().enumerate() {
            let rank = first + local_rank;
            if (fact.started || fact.end.is_some()) && !self.is_in(rank, &pod.pod.uid) {
                continue;
            }
            let Some(seen) = self.seen.get_mut(rank) else { continue };
            if fact.started && seen.started.is_none() {
                let now = Instant::now();
                (seen.started, seen.heard) = (Some(now), Some(now));
                seen.begun = matches!(self.job.spec.program, Program::Command { .. });
                self.job.feed.tell(JobEvent::RankStarted { rank, pid: None });
                self.turns += 1;
                seen.turn = self.turns;
                let followed = Followed {
                    pods: self.cluster.pods(),
                    pod: pod.pod.name.clone(),
                    uid: pod.pod.uid.clone(),
                    container: self.cluster.kind.container(local_rank),
                    turn: seen.turn,
                    rank,
                    told: self.tell.clone(),
                    over: CancellationToken::new(),
                };
                self.logs.spawn(followed.read());
            }
            if seen.left.is_none() && pod.pod.leaves {
                seen.left = Some(self.left);
                self.left += 1;
            }
            if seen.end.is_none() && fact.end.is_some() {
                seen.end.clone_from(&fact.end);
                seen.over = Some(Instant::now());
                seen.unstarted = pod.unstarted.get(local_rank).cloned().flatten();
                (seen.order, seen.asked) = (self.ends, pod.pod.leaves);
                self.ends += 1;
            }
        }
    }

    /// Whether what a pod tells of a rank is to be taken up. A rank whose pod has gone without its failure is then in another
    /// one, where that has come: the job was suspended, and goes on.
    fn is_in(&mut self, rank: usize, pod: &str) -> bool {
        let Some(seen) = self.seen.get_mut(rank).filter(|_| !self.before.contains(pod)) else { return false };
        match &seen.pod {
            None => seen.pod = Some(pod.to_owned()),
            Some(there) if there == pod => {}
            Some(_) if seen.failed() => return false,
            Some(there) => {
                self.before.insert(there.clone());
                if seen.started.is_some() && !seen.ended {
                    self.job.feed.tell(JobEvent::RankEnded { rank, exit: seen.exit() });
                }
                *seen = Seen { pod: Some(pod.to_owned()), ..Seen::default() };
                self.job.logs().remove(&rank);
                if rank == 0 {
                    self.result = None;
                }
            }
        }
        true
    }

    /// Takes up what is told of the job's objects.
    pub(super) fn object(&mut self, event: Event<DynamicObject>) {
        let of = |object: &DynamicObject| restart_of(&object.metadata);
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                if of(&object) != Some(self.restart) {
                    return;
                }
                let verdict = verdict_of(&object);
                self.gone = object.metadata.deletion_timestamp.is_some();
                self.there = true;
                let kind = self.cluster.kind;
                self.object = Some(Carrier {
                    state: kind.state(&object),
                    verdict,
                    due: kind.due(&object),
                    made: object.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
                });
            }
            Event::Delete(object) => self.gone |= of(&object) == Some(self.restart),
            Event::Init => (self.lists_objects, self.there) = (true, false),
            Event::InitDone => {
                self.lists_objects = false;
                if !self.there {
                    self.gone = true;
                    self.object.get_or_insert(Carrier {
                        state: State::Active,
                        verdict: None,
                        due: None,
                        made: 0,
                    });
                }
            }
        }
    }

    /// Takes up a line of a log.
    pub(super) fn read(&mut self, read: Read) {
        let Read { turn, rank, line, unread } = read;
        let Some(seen) = self.seen.get_mut(rank).filter(|seen| seen.turn == turn) else { return };
        // What is read again is read.
        if unread.is_some() || line.is_some() {
            seen.unread = unread;
        }
        let Some(line) = line else {
            seen.read = true;
            return;
        };
        match Note::parse(line.as_bytes()) {
            Some(Note::Started) => {
                seen.begun = true;
                seen.heard = Some(Instant::now());
            }
            Some(Note::Progress(progress)) => {
                seen.heard = Some(Instant::now());
                seen.progress = Some(progress.clone());
                self.job.feed.tell(JobEvent::Progress { rank, progress });
            }
            Some(Note::Result(result)) => {
                if rank == 0 {
                    self.result = Some(result);
                }
            }
            _ => {
                self.job.logs().entry(rank).or_default().add(&line);
                self.job.feed.tell(JobEvent::Line { rank, line, stderr: false });
            }
        }
    }

    /// Tells the ends of ranks of which everything was read.
    pub(super) fn tell_ranks(&mut self) {
        if self.listed.is_some() {
            return;
        }
        let alive = |rank: usize| {
            let node = rank / self.job.spec.ranks_per_node;
            self.pods.values().any(|pod| pod.node == node)
        };
        let ended: Vec<_> = (0..self.seen.len())
            .filter(|&rank| {
                let seen = &self.seen[rank];
                seen.started.is_some() && seen.read && !seen.ended && (seen.end.is_some() || !alive(rank))
            })
            .collect();
        for rank in ended {
            let seen = &mut self.seen[rank];
            seen.ended = true;
            self.job.feed.tell(JobEvent::RankEnded { rank, exit: seen.exit() });
        }
    }
}
