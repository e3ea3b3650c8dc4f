//! Cancelling a run: the first time everything but exit handlers, the second time these too.

use super::frame::Node;
use super::leaf::Stage;
use super::{Command, End, FrameId, LeafId, Record, Scheduler, TaskState};

impl Scheduler {
    pub(super) fn cancel(&mut self, reason: String) {
        if self.finished || self.canceled >= 2 {
            return;
        }
        self.record(Record::CancelAsked { reason: reason.clone() });
        self.cancel_reason.get_or_insert(reason);
        self.canceled += 1;
        let hit = self.leaves.iter().filter(|(_, leaf)| self.is_canceled(leaf.exempt));
        let mut leaves: Vec<(LeafId, Stage)> = hit.map(|(id, leaf)| (*id, leaf.stage)).collect();
        leaves.sort_unstable_by_key(|(id, _)| *id);
        for (id, stage) in leaves {
            match stage {
                // The answer of a look-up finds the run cancelled.
                Stage::Running | Stage::Lookup => self.commands.push(Command::Cancel(id)),
                Stage::Ready | Stage::Waiting | Stage::Asked => self.leaf_canceled(id),
            }
        }
        for (frame, task) in self.loops_under_way() {
            self.stop_loop(frame, task);
        }
    }

    /// Whether what is exempt from the first cancellation, or what is not, is cancelled.
    pub(super) fn is_canceled(&self, exempt: bool) -> bool {
        self.canceled > u32::from(exempt)
    }

    /// Ends a leaf that is not under way.
    pub(super) fn leaf_canceled(&mut self, id: LeafId) {
        if let Some(leaf) = self.leaves.remove(&id) {
            self.asked.remove(&leaf.path);
            self.end_unrun(leaf.place, End::without_outputs(TaskState::Canceled, None));
        }
    }

    fn loops_under_way(&self) -> Vec<(FrameId, usize)> {
        let mut loops = Vec::new();
        for (id, frame) in &self.frames {
            let found = frame.nodes.iter().enumerate().filter(|(_, node)| matches!(node, Node::Loop(_)));
            loops.extend(found.map(|(task, _)| (*id, task)));
        }
        loops.sort_unstable();
        loops
    }

    /// Lets a cancelled loop begin no further iteration.
    fn stop_loop(&mut self, frame_id: FrameId, task: usize) {
        let canceled = self.canceled;
        let Some(Node::Loop(state)) = self.frames.get_mut(&frame_id).map(|frame| &mut frame.nodes[task])
        else {
            return;
        };
        // One that had begun them all ends by itself.
        if canceled > u32::from(state.exempt) && state.stop_at(0) && state.is_done() {
            self.close_loop(frame_id, task);
        }
    }
}
