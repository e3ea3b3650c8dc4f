// Groups that can be given up at any moment, and replaced by others under a reducer that lives on.
//
// Gloo can't end an operation: its threads may write into the tensors that they were given until the time is over. So
// every operation here works on copies, whose values come back only where it succeeded, and nobody waits for an
// operation of a group that has failed. What is left of that group goes down on a thread of its own.
#define USE_C10D_GLOO

#include <condition_variable>
#include <list>
#include <optional>

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "aside.h"
#include "kf.h"
#include "slot.h"

namespace {

using Tensors = std::vector<at::Tensor>;
using Future = c10::intrusive_ptr<c10::ivalue::Future>;

std::string text_of(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "an exception of unknown kind";
  }
}

// Lets the peers see at once that this rank is leaving.
struct Gloo : c10d::ProcessGroupGloo {
  static void close(ProcessGroupGloo& gloo) {
    for (const auto& context : gloo.*(&Gloo::contexts_)) context->closeConnections();
  }
};

// A call as its caller waits for it: over when the operation is, or the group has failed.
class Call final : public c10d::Work {
 public:
  // Where it is lenient, a failure leaves the caller its own values and no error.
  Call(Tensors originals, Tensors copies, bool lenient)
      : originals_(std::move(originals)), copies_(std::move(copies)), lenient_(lenient),
        future_(c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()))) {}

  void succeed() {
    if (!settled_.exchange(true)) {
      succeeded_ = true;
      future_->markCompleted(c10::IValue(copies_));
    }
  }

  void fail(const std::string& reason) {
    if (settled_.exchange(true)) return;
    if (lenient_) future_->markCompleted(c10::IValue(originals_));
    else future_->setError(std::make_exception_ptr(std::runtime_error(reason)));
  }

  bool isCompleted() override { return future_->completed(); }
  bool isSuccess() const override { return future_->completed() && !future_->hasError(); }
  Future getFuture() override { return future_; }
  Tensors result() override { return originals_; }

  bool wait(Millis) override {
    future_->waitAndThrow();
    if (succeeded_ && !taken_.exchange(true)) {
      at::NoGradGuard no_grad;
      for (size_t i = 0; i < originals_.size(); ++i) originals_[i].copy_(copies_[i]);
    }
    return true;
  }

 private:
  const Tensors originals_, copies_;
  const bool lenient_;
  const Future future_;
  std::atomic<bool> settled_{false}, succeeded_{false}, taken_{false};
};

using CallPtr = c10::intrusive_ptr<Call>;
using WorkPtr = c10::intrusive_ptr<c10d::Work>;
using BackendPtr = c10::intrusive_ptr<c10d::Backend>;

} // namespace

// One group's time, from when it was connected until it fails.
struct Life : std::enable_shared_from_this<Life> {
  explicit Life(BackendPtr inner) : inner_(std::move(inner)) {}

  std::optional<std::string> failure() {
    std::lock_guard lock(mutex_);
    return failure_;
  }

  // The first failure is the one that counts.
  void fail(const std::string& reason) {
    std::list<std::pair<CallPtr, WorkPtr>> open;
    BackendPtr ended;
    {
      std::lock_guard lock(mutex_);
      if (failure_) return;
      failure_ = reason;
      open.swap(open_);
      ended.swap(inner_);
    }
    for (const auto& [call, work] : open) call->fail(reason);
    aside(Millis(0), [ended = std::move(ended), open = std::move(open)]() mutable {
      if (auto* gloo = dynamic_cast<c10d::ProcessGroupGloo*>(ended.get())) Gloo::close(*gloo);
      else ended->abort();
      for (const auto& [call, work] : open) {
        // Most kinds can't, and end by themselves.
        try { work->abort(); } catch (...) {}
      }
      open.clear();
      // Whoever drops it last waits for its threads.
      while (ended.use_count() > 1) std::this_thread::sleep_for(Millis(1));
    });
  }

  // The end of a group that is no longer needed: waits for what is under way. Gloo's own threads, which may be the last to
  // know of this, could not.
  void leave() {
    BackendPtr ended;
    {
      std::lock_guard lock(mutex_);
      if (!failure_) failure_ = "the group was dropped";
      ended.swap(inner_);
    }
  }

  // Begins an operation, and ends the call with it. A failure to begin is the caller's, and leaves the group as it is.
  template <typename Begin>
  WorkPtr carry(CallPtr call, Millis timeout, Begin begin) {
    BackendPtr inner;
    {
      std::lock_guard lock(mutex_);
      if (failure_) {
        call->fail(*failure_);
        return call;
      }
      inner = inner_;
    }
    WorkPtr work = begin(*inner);
    inner.reset();
    {
      std::lock_guard lock(mutex_);
      if (failure_) {
        call->fail(*failure_);
        return call;
      }
      open_.emplace_back(call, work);
    }
    watch(call, work, timeout);
    return call;
  }

 private:
  void watch(const CallPtr& call, const WorkPtr& work, Millis timeout) {
    auto over = [life = shared_from_this(), call](const std::exception_ptr& failure) {
      if (failure) {
        life->fail(text_of(failure));
        // One of a group that was dropped.
        call->fail(text_of(failure));
        return;
      }
      life->close(call);
      call->succeed();
    };
    Future future;
    try { future = work->getFuture(); } catch (...) {}
    if (future) {
      future->addCallback([over](c10::ivalue::Future& done) { over(done.exception_ptr()); });
      return;
    }
    // Such as of a message between two ranks.
    aside(Millis(0), [work, timeout, over] {
      try {
        if (!work->wait(timeout)) throw std::runtime_error("it was ended");
      } catch (...) {
        return over(std::current_exception());
      }
      over(nullptr);
    });
  }

  void close(const CallPtr& call) {
    std::lock_guard lock(mutex_);
    open_.remove_if([&](const auto& each) { return each.first == call; });
  }

  std::mutex mutex_;
  std::optional<std::string> failure_;
  std::list<std::pair<CallPtr, WorkPtr>> open_;
  BackendPtr inner_;
};

c10::intrusive_ptr<c10d::ProcessGroup> Slot::ready() {
  std::lock_guard lock(mutex);
  if (const auto failure = life->failure()) throw std::runtime_error(*failure);
  return group;
}

namespace {

// Two of these front each group: one for calls, which fail, and one for the reducer, whose all-reduces never do.
class Front final : public c10d::Backend {
 public:
  Front(std::shared_ptr<Life> life, c10d::Backend& inner, bool lenient)
      : Backend(inner.getRank(), inner.getSize()), life_(std::move(life)), options_(inner.getBackendOptions()),
        name_(inner.getBackendName()), lenient_(lenient) {}

  const std::string getBackendName() const override { return name_; }
  c10::intrusive_ptr<Options> getBackendOptions() override { return options_; }

  WorkPtr allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) override {
    Tensors copies = copied(tensors);
    auto call = c10::make_intrusive<Call>(tensors, copies, lenient_);
    try {
      return carry(call, [&](c10d::Backend& inner) { return inner.allreduce(copies, options); });
    } catch (...) {
      if (!lenient_) throw;
      life_->fail(text_of(std::current_exception()));
      call->fail("");
      return call;
    }
  }

  WorkPtr broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override {
    Tensors copies = copied(tensors);
    return strict(tensors, copies, [&](c10d::Backend& inner) { return inner.broadcast(copies, options); });
  }

  WorkPtr reduce(Tensors& tensors, const c10d::ReduceOptions& options) override {
    Tensors copies = copied(tensors);
    return strict(tensors, copies, [&](c10d::Backend& inner) { return inner.reduce(copies, options); });
  }

  WorkPtr _allgather_base(at::Tensor& output, at::Tensor& input, const c10d::AllgatherOptions& options) override {
    at::Tensor copy = at::empty_like(output);
    return strict({output}, {copy}, [&](c10d::Backend& inner) { return inner._allgather_base(copy, input, options); });
  }

  WorkPtr allgather(std::vector<Tensors>& outputs, Tensors& inputs, const c10d::AllgatherOptions& options) override {
    auto copies = blank(outputs);
    return strict(flat(outputs), flat(copies),
                  [&](c10d::Backend& inner) { return inner.allgather(copies, inputs, options); });
  }

  WorkPtr _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                               const c10d::ReduceScatterOptions& options) override {
    at::Tensor copy = at::empty_like(output), from = input.clone();
    return strict({output}, {copy},
                  [&](c10d::Backend& inner) { return inner._reduce_scatter_base(copy, from, options); });
  }

  WorkPtr reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                         const c10d::ReduceScatterOptions& options) override {
    Tensors copies = blank(outputs);
    return strict(outputs, copies, [&](c10d::Backend& inner) { return inner.reduce_scatter(copies, inputs, options); });
  }

  WorkPtr gather(std::vector<Tensors>& outputs, Tensors& inputs, const c10d::GatherOptions& options) override {
    auto copies = blank(outputs);
    return strict(flat(outputs), flat(copies),
                  [&](c10d::Backend& inner) { return inner.gather(copies, inputs, options); });
  }

  WorkPtr scatter(Tensors& outputs, std::vector<Tensors>& inputs, const c10d::ScatterOptions& options) override {
    Tensors copies = blank(outputs);
    return strict(outputs, copies, [&](c10d::Backend& inner) { return inner.scatter(copies, inputs, options); });
  }

  WorkPtr alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>& output_parts,
                        std::vector<int64_t>& input_parts, const c10d::AllToAllOptions& options) override {
    at::Tensor copy = at::empty_like(output);
    return strict({output}, {copy}, [&](c10d::Backend& inner) {
      return inner.alltoall_base(copy, input, output_parts, input_parts, options);
    });
  }

  WorkPtr alltoall(Tensors& outputs, Tensors& inputs, const c10d::AllToAllOptions& options) override {
    Tensors copies = blank(outputs);
    return strict(outputs, copies, [&](c10d::Backend& inner) { return inner.alltoall(copies, inputs, options); });
  }

  WorkPtr send(Tensors& tensors, int to, int tag) override {
    Tensors copies = copied(tensors);
    return strict({}, {}, [&](c10d::Backend& inner) { return inner.send(copies, to, tag); });
  }

  WorkPtr recv(Tensors& tensors, int from, int tag) override {
    Tensors copies = blank(tensors);
    return strict(tensors, copies, [&](c10d::Backend& inner) { return inner.recv(copies, from, tag); });
  }

  WorkPtr barrier(const c10d::BarrierOptions& options) override {
    return strict({}, {}, [&](c10d::Backend& inner) { return inner.barrier(options); });
  }

 private:
  static Tensors copied(const Tensors& tensors) {
    Tensors copies;
    for (const auto& tensor : tensors) copies.push_back(tensor.detach().clone());
    return copies;
  }

  static Tensors blank(const Tensors& tensors) {
    Tensors copies;
    for (const auto& tensor : tensors) copies.push_back(at::empty_like(tensor, tensor.options().requires_grad(false)));
    return copies;
  }

  static std::vector<Tensors> blank(const std::vector<Tensors>& lists) {
    std::vector<Tensors> copies;
    for (const auto& list : lists) copies.push_back(blank(list));
    return copies;
  }

  static Tensors flat(const std::vector<Tensors>& lists) {
    Tensors all;
    for (const auto& list : lists) all.insert(all.end(), list.begin(), list.end());
    return all;
  }

  template <typename Begin>
  WorkPtr carry(CallPtr call, Begin begin) {
    return life_->carry(std::move(call), options_->timeout, begin);
  }

  template <typename Begin>
  WorkPtr strict(Tensors originals, Tensors copies, Begin begin) {
    return carry(c10::make_intrusive<Call>(std::move(originals), std::move(copies), false), begin);
  }

  const std::shared_ptr<Life> life_;
  const c10::intrusive_ptr<Options> options_;
  const std::string name_;
  const bool lenient_;
};

void make_replaceable(KfGroup& group) {
  if (group.slot) return;
  if (group.watch) throw std::runtime_error("groups over NCCL can't be replaced yet: drop the group and join another");
  auto life = std::make_shared<Life>(group.backend);
  const auto inner = std::move(group.backend);
  group.backend = c10::make_intrusive<Front>(life, *inner, false);
  auto all = c10::make_intrusive<c10d::ProcessGroup>(group.group->getStore(), inner->getRank(), inner->getSize());
  const auto kind = c10d::ProcessGroup::BackendType::CUSTOM;
  all->setBackend(c10::DeviceType::CPU, kind, c10::make_intrusive<Front>(life, *inner, true));
  all->setDefaultBackend(kind);
  group.group = all;
  group.slot = std::make_shared<Slot>();
  group.slot->group = all;
  group.slot->life = life;
}

std::shared_ptr<Life> life_of(const KfGroup& group) {
  if (!group.slot) return nullptr;
  std::lock_guard lock(group.slot->mutex);
  return group.slot->life;
}

} // namespace

struct KfAborter {
  std::shared_ptr<Life> life;
};

void leave(const KfGroup& group) {
  if (const auto life = life_of(group)) life->leave();
}

extern "C" {

int kf_group_make_replaceable(KfGroup* group, char** message) {
  return guarded(message, [&] { make_replaceable(*group); });
}

// Puts the other in this one's place, and leaves the other this one's remains.
int kf_group_replace(KfGroup* group, KfGroup* other, char** message) {
  return guarded(message, [&] {
    if (!group->slot) throw std::runtime_error("the group was not made replaceable");
    make_replaceable(*other);
    life_of(*group)->fail("the group was replaced by another");
    std::scoped_lock lock(group->slot->mutex, other->slot->mutex);
    std::swap(group->group, other->group);
    std::swap(group->backend, other->backend);
    // The slot stays where it is known.
    std::swap(group->slot->group, other->slot->group);
    std::swap(group->slot->life, other->slot->life);
  });
}

// Null where it has not failed.
int kf_group_failure(const KfGroup* group, char** failure, char** message) {
  return guarded(message, [&] {
    const auto life = life_of(*group);
    const auto reason = life ? life->failure() : std::nullopt;
    *failure = reason ? strdup(reason->c_str()) : nullptr;
  });
}

int kf_aborter_new(const KfGroup* group, KfAborter** out, char** message) {
  return guarded(message, [&] {
    auto life = life_of(*group);
    if (!life) throw std::runtime_error("the group was not made replaceable");
    *out = new KfAborter{life};
  });
}

int kf_aborter_abort(const KfAborter* aborter, const char* reason, char** message) {
  return guarded(message, [&] { aborter->life->fail(reason); });
}

void kf_aborter_free(KfAborter* aborter) { delete aborter; }

} // extern "C"
