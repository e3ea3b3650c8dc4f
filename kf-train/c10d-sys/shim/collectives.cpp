// The collectives, for every backend alike. Gradients are left out of them.
#include "kf.h"

namespace {

c10d::ReduceOp reduction(int op) { return static_cast<c10d::ReduceOp::RedOpType>(op); }

// The parts of the first dimension, as views; none of a tensor that is not there.
std::vector<std::vector<at::Tensor>> parts(at::Tensor* whole) {
  if (whole == nullptr) return {};
  return {whole->detach().unbind(0)};
}

// Gloo keeps the time of a message only where it is told.
Millis timeout_of(const KfGroup* group) { return group->backend->getBackendOptions()->timeout; }

// Where operations work on copies, their values come back in the wait.
KfWork* under_way(const KfGroup* group, const c10::intrusive_ptr<c10d::Work>& work) {
  if (!group->slot) return new KfWork{work->getFuture(), nullptr};
  return new KfWork{work->getFuture(), [work] { work->wait(); }};
}

// Begins a collective; without a work where it is done already.
template <typename Issue>
int begun(const KfGroup* group, KfWork** work, char** message, Issue issue) {
  if (!group->futures) return timed(group, message, [&] { issue()->wait(); });
  return guarded(message, [&] { *work = under_way(group, issue()); });
}

// Whom to tell of a work's end; freed where that never comes, too.
struct Listener {
  void (*wake)(void*);
  void (*drop)(void*);
  void* context;
  ~Listener() { drop(context); }
};

} // namespace

extern "C" {

// Between these two, calls that use the group in their own ways, such as autograd's, are kept to the group's time.
int kf_group_begin(const KfGroup* group, char** message) {
  return guarded(message, [&] {
    if (group->watch) group->watch->begin();
  });
}

int kf_group_end(const KfGroup* group, int failed, char** message) {
  return guarded(message, [&] {
    if (!group->watch) return;
    Watch& watch = *group->watch;
    if (failed != 0) watch.end(true);
    else finish(watch, [&] { watch.settle(); });
  });
}

int kf_group_broadcast(const KfGroup* group, at::Tensor* tensor, int root, KfWork** work, char** message) {
  return begun(group, work, message, [&] {
    std::vector<at::Tensor> tensors{tensor->detach()};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    return group->backend->broadcast(tensors, options);
  });
}

int kf_group_all_reduce(const KfGroup* group, at::Tensor* tensor, int op, KfWork** work, char** message) {
  return begun(group, work, message, [&] {
    std::vector<at::Tensor> tensors{tensor->detach()};
    c10d::AllreduceOptions options;
    options.reduceOp = reduction(op);
    return group->backend->allreduce(tensors, options);
  });
}

int kf_group_reduce(const KfGroup* group, at::Tensor* tensor, int root, int op, KfWork** work, char** message) {
  return begun(group, work, message, [&] {
    std::vector<at::Tensor> tensors{tensor->detach()};
    c10d::ReduceOptions options;
    options.rootRank = root;
    options.reduceOp = reduction(op);
    return group->backend->reduce(tensors, options);
  });
}

int kf_group_all_gather(const KfGroup* group, at::Tensor* output, at::Tensor* input, KfWork** work, char** message) {
  return begun(group, work, message, [&] {
    at::Tensor to = output->detach(), from = input->detach();
    return group->backend->_allgather_base(to, from, c10d::AllgatherOptions());
  });
}

int kf_group_reduce_scatter(const KfGroup* group, at::Tensor* output, at::Tensor* input, int op, KfWork** work,
                            char** message) {
  if (group->backend->getBackendName() != "gloo") {
    return begun(group, work, message, [&] {
      at::Tensor to = output->detach(), from = input->detach();
      c10d::ReduceScatterOptions options;
      options.reduceOp = reduction(op);
      return group->backend->_reduce_scatter_base(to, from, options);
    });
  }
  // Gloo does the same, but takes this rank's part in a wait, of which no future tells.
  return guarded(message, [&] {
    std::vector<at::Tensor> whole{input->detach().clone()};
    c10d::AllreduceOptions options;
    options.reduceOp = reduction(op);
    KfWork* const all = under_way(group, group->backend->allreduce(whole, options));
    auto part = whole[0].chunk(group->backend->getSize())[group->backend->getRank()];
    all->last = [back = std::move(all->last), to = output->detach(), part] {
      if (back) back();
      to.copy_(part);
    };
    *work = all;
  });
}

int kf_group_gather(const KfGroup* group, at::Tensor* output, at::Tensor* input, int root, KfWork** work,
                    char** message) {
  return begun(group, work, message, [&] {
    auto to = parts(output);
    std::vector<at::Tensor> from{input->detach()};
    c10d::GatherOptions options;
    options.rootRank = root;
    return group->backend->gather(to, from, options);
  });
}

int kf_group_scatter(const KfGroup* group, at::Tensor* output, at::Tensor* input, int root, KfWork** work,
                    char** message) {
  return begun(group, work, message, [&] {
    std::vector<at::Tensor> to{output->detach()};
    auto from = parts(input);
    c10d::ScatterOptions options;
    options.rootRank = root;
    return group->backend->scatter(to, from, options);
  });
}

int kf_group_all_to_all(const KfGroup* group, at::Tensor* output, at::Tensor* input, KfWork** work, char** message) {
  return begun(group, work, message, [&] {
    at::Tensor to = output->detach(), from = input->detach();
    std::vector<int64_t> equal;
    return group->backend->alltoall_base(to, from, equal, equal, c10d::AllToAllOptions());
  });
}

// The group as it is now, for another thread that carries messages.
int kf_group_messenger(const KfGroup* group, KfGroup** out, char** message) {
  return guarded(message, [&] { *out = new KfGroup{group->group, group->backend, group->watch, group->futures}; });
}

void kf_messenger_free(KfGroup* messenger) {
  char* message = nullptr;
  guarded(&message, [&] { delete messenger; });
  free(message);
}

int kf_group_send(const KfGroup* group, at::Tensor* tensor, int to, char** message) {
  return timed(group, message, [&] {
    std::vector<at::Tensor> tensors{tensor->detach()};
    group->backend->send(tensors, to, /*tag=*/0)->wait(timeout_of(group));
  });
}

int kf_group_recv(const KfGroup* group, at::Tensor* tensor, int from, char** message) {
  return timed(group, message, [&] {
    std::vector<at::Tensor> tensors{tensor->detach()};
    group->backend->recv(tensors, from, /*tag=*/0)->wait(timeout_of(group));
  });
}

void kf_work_free(KfWork* work) {
  char* message = nullptr;
  guarded(&message, [&] { delete work; });
  free(message);
}

int kf_work_done(const KfWork* work) { return work->future->completed() ? 1 : 0; }

int kf_work_wait(KfWork* work, char** message) {
  return guarded(message, [&] {
    work->future->waitAndThrow();
    if (auto last = std::exchange(work->last, nullptr)) last();
  });
}

// Calls `wake` once, from whichever thread ends the work, and `drop` once, in any case.
int kf_work_then(const KfWork* work, void (*wake)(void*), void (*drop)(void*), void* context, char** message) {
  return guarded(message, [&] {
    std::shared_ptr<Listener> listener(new Listener{wake, drop, context});
    work->future->addCallback([listener](c10::ivalue::Future&) { listener->wake(listener->context); });
  });
}

int kf_group_barrier(const KfGroup* group, KfWork** work, char** message) {
  return begun(group, work, message, [&] {
    c10d::BarrierOptions options;
    options.device = group->backend->getBoundDeviceId();
    return group->backend->barrier(options);
  });
}

} // extern "C"
