// Groups over NCCL.
//
// Every call waits for the GPU here, so that its failure is an error of that call, and within the group's time. c10d's
// own watchdog, which ends the process where a collective fails, gets nothing to watch, and c10d's own wait, which
// blocks without end where it gives up, is never called.
#define USE_C10D_NCCL

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/cuda/CUDAFunctions.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "aside.h"
#include "kf.h"

namespace {

using Clock = std::chrono::steady_clock;

// How much later than the wait for the GPU, which keeps the same time, a call is ended that never came to that wait.
constexpr Millis GRACE{500};
// How long a wait only spins, and how long it then sleeps at a time.
constexpr std::chrono::microseconds SPIN{1000}, NAP{50};
// How long the end of a communication is waited for; NCCL waits for what the GPU still has to do before it.
constexpr Millis ENDING{1000};
// How long a rank that leaves waits for the others to leave.
constexpr Millis LEAVING{3000};

class NcclWatch;

// A call's work, which its group's watch waits for.
class Work final : public c10d::ProcessGroupNCCL::WorkNCCL {
 public:
  Work(const WorkNCCL& base, NcclWatch* watch) : WorkNCCL(base), watch_(watch) {}
  bool wait(Millis) override;

 private:
  NcclWatch* const watch_;
};

class Nccl final : public c10d::ProcessGroupNCCL {
 public:
  Nccl(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, c10::intrusive_ptr<Options> options)
      : ProcessGroupNCCL(store, rank, size, std::move(options)) {
    blockingWait_ = true;
    asyncErrorHandling_ = c10d::NoHandling;
    heartbeatMonitor_->stop();
  }

  // What the communication failed of, its end by abort() among it; null where it did not.
  std::exception_ptr failure(at::Device device) {
    auto communicator = getNCCLComm(std::to_string(device.index()));
    return communicator ? checkForNCCLErrors(communicator) : nullptr;
  }

  // None before the ranks are connected, and after the group has been dropped.
  NcclWatch* watch = nullptr;

 protected:
  c10::intrusive_ptr<WorkNCCL> initWork(at::Device& device, int rank, c10d::OpType type, bool is_p2p,
                                        const char* title, const std::vector<at::Tensor>& inputs,
                                        const std::vector<at::Tensor>& outputs, bool record) override;
};

class NcclWatch final : public Watch {
 public:
  NcclWatch(c10::intrusive_ptr<Nccl> group, c10::intrusive_ptr<c10d::Store> store, at::Device device, Millis timeout)
      : group_(std::move(group)), store_(std::move(store)), device_(device), timeout_(timeout) {
    group_->watch = this;
    thread_ = std::thread([this] { run(); });
  }

  ~NcclWatch() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      deadline_.reset();
    }
    changed_.notify_all();
    thread_.join();
    // To end in order takes all ranks. Where some are about something else, or gone, the communication is ended.
    if (!ended_ && all_leave()) {
      try {
        // One that does not come to its end is left to itself: it holds what abort() needs.
        aside(ENDING + LEAVING, [group = group_] { group->shutdown(); });
        ended_ = true;
      } catch (...) {
        // The peers may be gone.
      }
    }
    abort("the group was dropped");
    group_->watch = nullptr;
  }

  void begin() override {
    {
      std::lock_guard lock(mutex_);
      if (ended_) {
        throw std::runtime_error("the group was ended by an earlier failure (" + reason_ +
                                 "): drop it, and join another on every rank");
      }
      began_ = Clock::now();
      deadline_ = began_ + timeout_ + GRACE;
    }
    changed_.notify_all();
  }

  // A work that has begun is kept until its call is over: the GPU may be at its tensors.
  void add(c10::intrusive_ptr<Work> work) {
    std::lock_guard lock(mutex_);
    works_.push_back(std::move(work));
  }

  void settle() override {
    c10::impl::VirtualGuardImpl devices(device_.type());
    c10::Event done(device_.type());
    done.record(devices.getStream(device_));
    const auto began = Clock::now();
    for (auto now = began; !done.query(); now = Clock::now()) {
      if (auto failure = ended() ? nullptr : group_->failure(device_)) std::rethrow_exception(failure);
      // Outside of a call, as where the reducer is made ready, the time is that of this wait.
      if (ended() || now - within().value_or(began) > timeout_) throw std::runtime_error(late());
      // Most waits are short.
      if (now - began < SPIN) std::this_thread::yield();
      else std::this_thread::sleep_for(NAP);
    }
    if (ended()) throw std::runtime_error(late());
    if (auto failure = group_->failure(device_)) std::rethrow_exception(failure);
  }

  void end(bool failed) override {
    bool late_already = false;
    std::vector<c10::intrusive_ptr<Work>> works;
    {
      std::lock_guard lock(mutex_);
      deadline_.reset();
      late_already = ended_;
      works.swap(works_);
    }
    // A call that failed before it began anything leaves the group as it was.
    if (!late_already && (!failed || works.empty())) return;
    // What is freed after this is used again only when the GPU is done with it.
    for (const auto& work : works) {
      try { work->synchronize(); } catch (...) {}
    }
    abort("a call failed");
    if (late_already) throw std::runtime_error(late());
  }

 private:
  bool ended() {
    std::lock_guard lock(mutex_);
    return ended_;
  }

  // When the present call began; none outside of calls.
  std::optional<Clock::time_point> within() {
    std::lock_guard lock(mutex_);
    return deadline_ ? std::optional(began_) : std::nullopt;
  }

  std::string late() const {
    return "timed out after " + std::to_string(timeout_.count()) + " ms, and NCCL's communication was ended";
  }

  // Ends the communication, once, and waits a while for that. The reason must not read as of a later call's time.
  void abort(const std::string& reason) {
    {
      std::lock_guard lock(mutex_);
      if (std::exchange(ended_, true)) return;
      reason_ = reason;
    }
    try {
      aside(ENDING, [group = group_] { group->abort(); });
    } catch (...) {
      // Why the call failed says more.
    }
  }

  // Whether all ranks are leaving; waits a while for them.
  bool all_leave() {
    try {
      std::vector<std::string> keys;
      for (int rank = 0; rank < group_->getSize(); ++rank) keys.push_back("leaving/" + std::to_string(rank));
      store_->set(keys.at(group_->getRank()), std::vector<uint8_t>{1});
      store_->wait(keys, std::min(timeout_, LEAVING));
      return true;
    } catch (...) {
      return false;
    }
  }

  // Ends calls that never come to their wait, such as one that NCCL holds while it connects two ranks.
  void run() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      if (!deadline_) {
        changed_.wait(lock);
      } else if (Clock::now() < *deadline_) {
        changed_.wait_until(lock, Clock::time_point(*deadline_));
      } else {
        deadline_.reset();
        lock.unlock();
        abort("a call took too long");
        lock.lock();
      }
    }
  }

  const c10::intrusive_ptr<Nccl> group_;
  const c10::intrusive_ptr<c10d::Store> store_;
  const at::Device device_;
  const Millis timeout_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Clock::time_point began_;
  std::optional<Clock::time_point> deadline_;
  std::vector<c10::intrusive_ptr<Work>> works_;
  std::string reason_;
  bool ended_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

bool Work::wait(Millis) {
  synchronize();
  if (watch_ != nullptr) watch_->settle();
  return true;
}

c10::intrusive_ptr<c10d::ProcessGroupNCCL::WorkNCCL> Nccl::initWork(
    at::Device& device, int rank, c10d::OpType type, bool is_p2p, const char* title,
    const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& outputs, bool record) {
  const auto base = ProcessGroupNCCL::initWork(device, rank, type, is_p2p, title, inputs, outputs, record);
  auto work = c10::make_intrusive<Work>(*base, watch);
  if (watch != nullptr) watch->add(work);
  return work;
}

// Connects to all other ranks. NCCL has no end to this wait: when time is up it goes on, aside, and holds the group.
void connect(const c10::intrusive_ptr<Nccl>& group, at::Device device, Millis timeout) {
  if (aside(timeout, [group, device] { group->eagerConnectSingleDevice(device); })) return;
  throw std::runtime_error("timed out after " + std::to_string(timeout.count()) +
                           " ms: a rank that was at the store did not connect to the others");
}

} // namespace

extern "C" {

int kf_gpus(size_t* count, char** message) {
  return guarded(message, [&] { *count = static_cast<size_t>(c10::cuda::device_count_ensure_non_zero()); });
}

int kf_group_nccl(const KfStore* store, int rank, int size, int gpu, int64_t connect_ms, int64_t timeout_ms,
                  KfGroup** out, char** message) {
  return guarded(message, [&] {
    const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(gpu));
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = Millis(timeout_ms);
    options->config.blocking = 1;
    // A connection of its own: where the group is never let go of, rank 0's server must not stay with it.
    const auto own = store->store->clone();
    auto backend = c10::make_intrusive<Nccl>(own, rank, size, options);
    backend->setBoundDeviceId(device);
    try {
      connect(backend, device, Millis(connect_ms));
    } catch (...) {
      // Not a word about a group that was not ended: it never was one.
      try { aside(ENDING, [backend] { backend->abort(); }); } catch (...) {}
      throw;
    }
    auto watch = std::make_shared<NcclWatch>(backend, own, device, Millis(timeout_ms));
    auto group = c10::make_intrusive<c10d::ProcessGroup>(own, rank, size);
    group->setBackend(c10::DeviceType::CUDA, c10d::ProcessGroup::BackendType::NCCL, backend);
    group->setDefaultBackend(c10d::ProcessGroup::BackendType::NCCL);
    *out = new KfGroup{group, backend, std::move(watch)};
  });
}

} // extern "C"
