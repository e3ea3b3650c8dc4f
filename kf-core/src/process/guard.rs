//! The process that outlives this one for a moment, and ends what this one has started.
//!
//! A parent-death signal reaches the program that was started, and not what that has started itself. So a copy of this
//! program hears of every process group that begins and ends; when the pipe closes over which it hears, this process
//! has ended in whatever way, and what is left of its groups is killed.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal};

use super::copy::this_program;
use crate::mutex::locked;
use crate::worker::{ENTRY, GUARD_ENTRY, PARENT, REQUEST};

/// The guard of a [`Spawner`](super::Spawner).
#[derive(Clone, Debug)]
pub(super) struct Guard(Arc<Mutex<Told>>);

#[derive(Debug)]
struct Told {
    pipe: PipeWriter,
    /// The groups under guard.
    groups: HashSet<u32>,
}

/// Has process groups ended that children of a [`Spawner`](super::Spawner) make, after a SIGKILL of this process.
#[derive(Clone, Debug)]
pub struct Guards(pub(super) Option<Guard>);

impl Guards {
    /// Has this group ended, as long as the result is kept. The group is the process id of its leader, which must not have
    /// been reaped.
    pub fn guard(&self, group: u32) -> Guarded {
        Guarded::new(self.0.clone(), group)
    }
}

/// A process group under guard, until this is dropped.
#[derive(Debug)]
pub struct Guarded {
    guard: Option<Guard>,
    group: u32,
}

impl Guard {
    /// Starts it; the second is to be waited for when the guard was dropped.
    pub(super) fn start() -> std::io::Result<(Self, std::process::Child)> {
        let (pipe, child) = Self::start_process()?;
        Ok((Self(Arc::new(Mutex::new(Told { pipe, groups: HashSet::new() }))), child))
    }

    /// Starts it again where its process has ended.
    pub(super) fn renew(&self) -> std::io::Result<std::process::Child> {
        let (mut pipe, child) = Self::start_process()?;
        let mut told = locked(&self.0);
        for group in &told.groups {
            say(&mut pipe, '+', *group);
        }
        told.pipe = pipe;
        Ok(child)
    }

    fn start_process() -> std::io::Result<(PipeWriter, std::process::Child)> {
        let (read, write) = std::io::pipe()?;
        // Where the guard does not read, nobody is to wait for it.
        rustix::io::ioctl_fionbio(&write, true)?;
        let (program, name) = this_program()?;
        let child = std::process::Command::new(program)
            .arg0(name)
            .arg(GUARD_ENTRY)
            .env(ENTRY, GUARD_ENTRY)
            .env_remove(PARENT)
            .env_remove(REQUEST)
            .current_dir("/")
            .stdin(read)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok((write, child))
    }

    fn tell(&self, sign: char, group: u32) {
        let mut told = locked(&self.0);
        match sign {
            '+' => told.groups.insert(group),
            _ => told.groups.remove(&group),
        };
        say(&mut told.pipe, sign, group);
    }
}

fn say(pipe: &mut PipeWriter, sign: char, group: u32) {
    // Short enough to go whole or not at all. A guard that is gone leaves things as they would be without one.
    let _ = pipe.write_all(format!("{sign}{group}\n").as_bytes());
}

impl Guarded {
    pub(super) fn new(guard: Option<Guard>, group: u32) -> Self {
        if let Some(guard) = &guard {
            guard.tell('+', group);
        }
        Self { guard, group }
    }
}

impl Guarded {
    /// Kills what is in the group, where its leader has ended with what made it.
    pub fn kill(&self) {
        if let Some(group) = i32::try_from(self.group).ok().and_then(Pid::from_raw) {
            // Fails where all of it has ended.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(guard) = &self.guard {
            guard.tell('-', self.group);
        }
    }
}

/// What the guard does: listens until the pipe closes, then kills what is left.
pub(crate) fn run() {
    let mut groups = HashSet::new();
    for line in BufReader::new(std::io::stdin()).lines() {
        let Ok(line) = line else { break };
        let group = |rest: &str| rest.parse().ok().and_then(Pid::from_raw);
        match (line.strip_prefix('+').and_then(group), line.strip_prefix('-').and_then(group)) {
            (Some(begun), _) => drop(groups.insert(begun)),
            (_, Some(ended)) => drop(groups.remove(&ended)),
            _ => {}
        }
    }
    for group in groups {
        // Fails where it has ended by itself.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}
