//! Ranks that go on together when some of them are lost, and take up those that come.

mod plans;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tch::{Kind, Tensor, no_grad};
use tracing::info;

use self::plans::Plans;
use crate::elastic::messages::RankPlan;
use crate::{Backend, Error, GroupOptions, ProcessGroup, Rank, ReduceOp, Result, RoundPlace};

/// The ranks of a job that keep their state while others come and go.
///
/// Under an [`Agent`](crate::elastic::Agent) that [heals](crate::elastic::AgentOptions::heal), a lost rank costs the others
/// the step that it was lost in, and no more: they go on, and the one that takes its place gets the state from them.
/// Under any other launcher the team is the job's process group, and an error is one.
///
/// Every step begins with [`begin`](Self::begin) and ends with [`commit`](Self::commit), and counts only where all ranks
/// of the round have done it:
///
/// ```no_run
/// # use kf_train::{Backend, DdpOptions, DistributedDataParallel, GroupOptions, Rank, Team};
/// # use tch::{Tensor, nn::{Optimizer, VarStore}};
/// # fn doc(rank: &Rank, vs: &VarStore, optimizer: &mut Optimizer, loss_of: fn(u64, usize, usize) -> Tensor)
/// # -> kf_train::Result<()> {
/// let team = Team::join(rank, Backend::Gloo, GroupOptions::default())?;
/// let ddp = DistributedDataParallel::in_team(vs, &team, DdpOptions::default())?;
/// let mut state: Vec<(String, Tensor)> = vs.variables().into_iter().collect();
/// state.sort_by(|a, b| a.0.cmp(&b.0));
/// let state: Vec<Tensor> = state.into_iter().map(|(_, tensor)| tensor).collect();
/// let mut step = 0;                        // or what a checkpoint says
/// while step < 1000 {
///     team.begin(&mut step, &state)?;      // all ranks now have the same step and state
///     let loss = loss_of(step, team.rank(), team.world_size());
///     ddp.zero_grad();
///     let done = ddp.backward(&loss);
///     if team.commit(done)? {
///         optimizer.step();
///         step += 1;
///     }
/// }
/// # Ok(()) }
/// ```
///
/// The state is everything that a step changes and the next one needs: parameters, buffers, an optimizer's moments, how
/// many samples were used. What an optimizer of [`optim`](crate::optim) knows besides its moments, its counts of steps and
/// its learning rate, goes by its state, too:
///
/// ```no_run
/// # use kf_train::{Team, optim::Optimizer};
/// # use tch::Tensor;
/// # fn doc(team: &Team, optimizer: &mut Optimizer, mut state: Vec<Tensor>, mut step: u64) -> kf_train::Result<()> {
/// let known = optimizer.state();
/// state.extend(known.iter().map(|(_, tensor)| tensor.shallow_clone()));
/// team.begin(&mut step, &state)?;
/// optimizer.load_state(&known)?;           // nothing is copied where nothing came
/// # Ok(()) }
/// ```
pub struct Team<'r> {
    rank: &'r Rank,
    plans: Option<Plans>,
    plan: RefCell<Option<(u64, RankPlan)>>,
    group: ProcessGroup,
    backend: Backend,
    options: GroupOptions,
    /// Whether the next step is another round's.
    moves: Cell<bool>,
    /// Whether the ranks of the present round have not compared their states yet.
    fresh: Cell<bool>,
    /// Whether this rank has never had a state in common with others.
    new: Cell<bool>,
    /// The round in which its last step was committed; 0 for none.
    last: Cell<u64>,
}

impl<'r> Team<'r> {
    /// Waits for the first round with this rank, and connects its ranks.
    ///
    /// # Errors
    /// [`Error::NoPlan`] where no round came within the options' join timeout; those of
    /// [`ProcessGroup::join`](ProcessGroup::join).
    pub fn join(rank: &'r Rank, backend: Backend, options: GroupOptions) -> Result<Self> {
        let options = options.bounded();
        let plans = Plans::follow(rank)?;
        let (plan, group) = match &plans {
            None => (None, ProcessGroup::join_with(rank, backend, options)?),
            Some(plans) => {
                let (number, plan, group) = enter(rank, plans, 0, backend, options)?;
                let group = group.replaceable()?;
                plans.present(number, &plan, group.aborter()?);
                (Some((number, plan)), group)
            }
        };
        Ok(Self {
            rank,
            plans,
            plan: RefCell::new(plan),
            group,
            backend,
            options,
            moves: Cell::new(false),
            fresh: Cell::new(true),
            new: Cell::new(true),
            last: Cell::new(0),
        })
    }

    /// The group of the present round, for what trains over it. It stays valid over all rounds.
    pub fn group(&self) -> &ProcessGroup {
        &self.group
    }

    /// This process's rank in the present round.
    pub fn rank(&self) -> usize {
        self.group.rank()
    }

    /// How many ranks the present round has.
    pub fn world_size(&self) -> usize {
        self.group.world_size()
    }

    /// The present round's number; 0 under a launcher that knows no rounds.
    pub fn round(&self) -> u64 {
        self.plan.borrow().as_ref().map_or(0, |(_, plan)| plan.round)
    }

    /// Begins a step: enters the next round, where there is one, and makes step and state those of the rank that is farthest.
    ///
    /// # Errors
    /// [`Error::NoPlan`] where a round is over, and none came within the options' join timeout. Under a launcher that knows
    /// no rounds, those of [`ProcessGroup::broadcast`].
    pub fn begin(&self, step: &mut u64, state: &[Tensor]) -> Result<()> {
        loop {
            if let Some(plans) = &self.plans
                && (self.moves.get() || self.group.failure().is_some())
            {
                self.move_on(plans)?;
            }
            if !self.fresh.get() {
                return Ok(());
            }
            match self.share(step, state) {
                Ok(()) => {
                    self.fresh.set(false);
                    self.new.set(false);
                    return Ok(());
                }
                Err(error) => self.failed(error)?,
            }
        }
    }

    /// Ends a step: whether all ranks of the round have done it. If so, take its result over, and else let it go and begin
    /// again.
    ///
    /// # Errors
    /// The step's own error, where it is not one of ranks that are lost; under a launcher that knows no rounds, any.
    pub fn commit(&self, done: Result<()>) -> Result<bool> {
        if let Err(error) = done {
            self.failed(error)?;
            return Ok(false);
        }
        let newer = match (&self.plans, &*self.plan.borrow()) {
            (Some(plans), Some((number, _))) => plans.last() > *number,
            _ => false,
        };
        let mut stays = Tensor::from_slice(&[i64::from(!newer)]).to_device(self.group.device());
        if let Err(error) = self.group.all_reduce(&mut stays, ReduceOp::Min) {
            self.failed(error)?;
            return Ok(false);
        }
        self.last.set(self.round());
        // All leave the round after the same step.
        self.moves.set(stays.int64_value(&[0]) == 0);
        Ok(true)
    }

    /// What a failure comes to: nothing, where ranks are lost and others may go on.
    fn failed(&self, error: Error) -> Result<()> {
        let (Some(plans), Some((_, plan))) = (&self.plans, &*self.plan.borrow()) else { return Err(error) };
        let Some(missing) = error.missing_ranks() else { return Err(error) };
        info!(round = plan.round, %error, "a step is let go");
        self.moves.set(true);
        // Whether the agents see the same or not, they are to make another round.
        plans.stuck(plan.round, missing.to_vec());
        Ok(())
    }

    /// Enters the next round.
    fn move_on(&self, plans: &Plans) -> Result<()> {
        let present = self.plan.borrow().as_ref().map_or(0, |(number, _)| *number);
        let (number, plan, group) = enter(self.rank, plans, present, self.backend, self.options)?;
        self.group.replace(group)?;
        plans.present(number, &plan, self.group.aborter()?);
        info!(round = plan.round, rank = plan.rank, world_size = plan.world_size, "this rank goes on");
        *self.plan.borrow_mut() = Some((number, plan));
        self.moves.set(false);
        self.fresh.set(true);
        Ok(())
    }

    /// Gives all ranks the step and the state of the first of those that are farthest.
    fn share(&self, step: &mut u64, state: &[Tensor]) -> Result<()> {
        let shapes = shapes(state);
        let own = [
            i64::try_from(*step).unwrap_or(i64::MAX),
            i64::try_from(self.last.get()).unwrap_or(i64::MAX),
            i64::from(self.new.get()),
            shapes,
        ];
        let own = Tensor::from_slice(&own);
        let all = self.group.all_gather(&own.to_device(self.group.device()))?.to_kind(Kind::Int64);
        let ranks = 0..self.world_size() as i64;
        if let Some(rank) = ranks.clone().find(|rank| all.int64_value(&[*rank, 3]) != shapes) {
            return Err(Error::Mismatch {
                rank: rank.unsigned_abs() as usize,
                difference: format!(
                    "its state has other tensors, shapes or types than that of rank {}",
                    self.rank()
                ),
            });
        }
        let any_new = ranks.clone().any(|rank| all.int64_value(&[rank, 2]) != 0);
        let reached: Vec<_> =
            ranks.map(|rank| (all.int64_value(&[rank, 0]), all.int64_value(&[rank, 1]))).collect();
        let (root, differ) = farthest(&reached);
        if any_new || differ {
            let is_root = self.rank() == root;
            let mut given = Vec::with_capacity(state.len());
            for tensor in state {
                let own = tensor.detach();
                let mut values = if is_root { own.contiguous() } else { own.copy() };
                self.group.broadcast(&mut values, root)?;
                given.push(values);
            }
            // All at once: where the root is lost on the way, the own state is whole.
            if !is_root {
                no_grad(|| {
                    state.iter().zip(&given).for_each(|(tensor, values)| tensor.detach().copy_(values))
                });
            }
        }
        let (farthest, last) = reached.get(root).copied().unwrap_or_default();
        *step = farthest.unsigned_abs();
        self.last.set(last.unsigned_abs());
        Ok(())
    }
}

/// The first of the ranks that are farthest, by their steps and the rounds of their last ones, and whether any is
/// elsewhere. Who was cut off after a step that the others then made again has come as far as they, with another state.
fn farthest(reached: &[(i64, i64)]) -> (usize, bool) {
    let farthest = reached.iter().max().copied().unwrap_or_default();
    let root = reached.iter().position(|each| *each == farthest).unwrap_or_default();
    (root, reached.iter().any(|each| *each != farthest))
}

/// A number that differs where tensors do in number, shape or type.
fn shapes(state: &[Tensor]) -> i64 {
    let told: Vec<_> = state.iter().map(|tensor| (format!("{:?}", tensor.kind()), tensor.size())).collect();
    let digest = Sha256::digest(format!("{told:?}"));
    i64::from_le_bytes(std::array::from_fn(|i| digest.get(i).copied().unwrap_or_default()))
}

/// Connects the ranks of the next round after the plan of this number that can be connected.
fn enter(
    rank: &Rank,
    plans: &Plans,
    mut present: u64,
    backend: Backend,
    options: GroupOptions,
) -> Result<(u64, RankPlan, ProcessGroup)> {
    loop {
        let (number, plan) = plans.after(present, options.join_timeout)?;
        let (place, store) = place(&plan)?;
        if is_over(store) {
            present = number;
            continue;
        }
        let joined = match join(rank, &place, backend, options, || plans.leaves_behind(number, &plan)) {
            Some(joined) => joined,
            None => {
                info!(round = plan.round, "a round that others have left");
                present = number;
                continue;
            }
        };
        match joined {
            Ok(group) => return Ok((number, plan, group)),
            Err(error) if error.missing_ranks().is_some() => {
                info!(round = plan.round, %error, "a round that came to nothing");
                plans.stuck(plan.round, error.missing_ranks().unwrap_or_default().to_vec());
                present = number;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Joins a round; none where it is over before, as `over` tells. What was begun of it then goes down aside.
fn join(
    rank: &Rank,
    place: &RoundPlace,
    backend: Backend,
    options: GroupOptions,
    over: impl Fn() -> bool,
) -> Option<Result<ProcessGroup>> {
    const LOOK_EVERY: Duration = Duration::from_millis(10);
    let (tell, told) = mpsc::channel();
    let (local_rank, place) = (rank.local_rank(), place.clone());
    let join = move || drop(tell.send(ProcessGroup::join_place(local_rank, &place, backend, options)));
    if let Err(error) = thread::Builder::new().name("kf-join".into()).spawn(join) {
        return Some(Err(Error::io("can't start a thread to join", "a round")(error)));
    }
    loop {
        match told.recv_timeout(LOOK_EVERY) {
            Ok(joined) => return Some(joined),
            Err(RecvTimeoutError::Timeout) if over() => return None,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let message = "joining a round has panicked".into();
                return Some(Err(Error::Torch { what: "join".into(), message }));
            }
        }
    }
}
/// How long a round's store may take to answer.
const REACH: Duration = Duration::from_secs(1);

/// Whether the store of a round is served no more, so that there is another round, or will be.
fn is_over(store: SocketAddr) -> bool {
    let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    TcpStream::connect_timeout(&store, REACH).is_err_and(refused)
}

/// A rank's place in a round, and where the round's store is.
fn place(plan: &RankPlan) -> Result<(RoundPlace, SocketAddr)> {
    let wrong = || Error::NoPlan { reason: format!("its agent says that the store is at `{}`", plan.store) };
    let store: SocketAddr = plan.store.parse().map_err(|_| wrong())?;
    let place = RoundPlace {
        number: plan.round,
        rank: plan.rank,
        world_size: plan.world_size,
        store_host: store.ip().to_string(),
        store_port: store.port(),
        host: plan.host.clone(),
    };
    Ok((place, store))
}

impl fmt::Debug for Team<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Team")
            .field("group", &self.group)
            .field("round", &self.round())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::farthest;

    #[test]
    fn of_equal_steps_the_one_of_the_later_round_counts() {
        assert_eq!(farthest(&[(7, 2), (7, 2)]), (0, false));
        assert_eq!(farthest(&[(0, 0), (7, 2), (8, 2), (8, 2)]), (2, true));
        // Rank 0 had made step 6 in round 2, alone; the others made it again.
        assert_eq!(farthest(&[(7, 2), (7, 3), (7, 3)]), (1, true));
        // It is ahead of them.
        assert_eq!(farthest(&[(7, 2), (6, 2), (6, 2)]), (0, true));
        // One that begins from a checkpoint has nothing over those that went on.
        assert_eq!(farthest(&[(7, 0), (7, 2)]), (1, true));
    }
}
