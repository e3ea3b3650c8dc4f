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

int kf_group_broadcast(const KfGroup* group, at::Tensor* tensor, int root, char** message) {
  return timed(group, message, [&] {
    std::vector<at::Tensor> tensors{tensor->detach()};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    group->backend->broadcast(tensors, options)->wait();
  });
}

int kf_group_all_reduce(const KfGroup* group, at::Tensor* tensor, int op, char** message) {
  return timed(group, message, [&] {
    std::vector<at::Tensor> tensors{tensor->detach()};
    c10d::AllreduceOptions options;
    options.reduceOp = reduction(op);
    group->backend->allreduce(tensors, options)->wait();
  });
}

int kf_group_reduce(const KfGroup* group, at::Tensor* tensor, int root, int op, char** message) {
  return timed(group, message, [&] {
    std::vector<at::Tensor> tensors{tensor->detach()};
    c10d::ReduceOptions options;
    options.rootRank = root;
    options.reduceOp = reduction(op);
    group->backend->reduce(tensors, options)->wait();
  });
}

int kf_group_all_gather(const KfGroup* group, at::Tensor* output, at::Tensor* input, char** message) {
  return timed(group, message, [&] {
    at::Tensor to = output->detach(), from = input->detach();
    group->backend->_allgather_base(to, from, c10d::AllgatherOptions())->wait();
  });
}

int kf_group_reduce_scatter(const KfGroup* group, at::Tensor* output, at::Tensor* input, int op, char** message) {
  return timed(group, message, [&] {
    at::Tensor to = output->detach(), from = input->detach();
    c10d::ReduceScatterOptions options;
    options.reduceOp = reduction(op);
    group->backend->_reduce_scatter_base(to, from, options)->wait();
  });
}

int kf_group_gather(const KfGroup* group, at::Tensor* output, at::Tensor* input, int root, char** message) {
  return timed(group, message, [&] {
    auto to = parts(output);
    std::vector<at::Tensor> from{input->detach()};
    c10d::GatherOptions options;
    options.rootRank = root;
    group->backend->gather(to, from, options)->wait();
  });
}

int kf_group_scatter(const KfGroup* group, at::Tensor* output, at::Tensor* input, int root, char** message) {
  return timed(group, message, [&] {
    std::vector<at::Tensor> to{output->detach()};
    auto from = parts(input);
    c10d::ScatterOptions options;
    options.rootRank = root;
    group->backend->scatter(to, from, options)->wait();
  });
}

int kf_group_all_to_all(const KfGroup* group, at::Tensor* output, at::Tensor* input, char** message) {
  return timed(group, message, [&] {
    at::Tensor to = output->detach(), from = input->detach();
    std::vector<int64_t> equal;
    group->backend->alltoall_base(to, from, equal, equal, c10d::AllToAllOptions())->wait();
  });
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

int kf_group_barrier(const KfGroup* group, char** message) {
  return timed(group, message, [&] {
    c10d::BarrierOptions options;
    options.device = group->backend->getBoundDeviceId();
    group->backend->barrier(options)->wait();
  });
}

} // extern "C"
