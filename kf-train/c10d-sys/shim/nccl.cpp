// Groups over NCCL.
//
// Every call waits for the GPU, so that its failure is an error of that call. c10d's own watchdog, which ends the
// process where a collective fails, gets nothing to watch: a Watch keeps the time, and ends the communication alone.
#define USE_C10D_NCCL

#include <condition_variable>
#include <future>
#include <mutex>
#include <optional>
#include <thread>

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/cuda/CUDAFunctions.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "kf.h"

namespace {

using Clock = std::chrono::steady_clock;

// How much later than the wait for the GPU, which keeps the same time, a call is ended that never came to that wait.
constexpr Millis GRACE{500};
constexpr Millis POLL{1};

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
};

class NcclWatch final : public Watch {
 public:
  NcclWatch(c10::intrusive_ptr<Nccl> group, at::Device device, Millis timeout)
      : group_(std::move(group)), device_(device), timeout_(timeout), thread_([this] { run(); }) {}

  ~NcclWatch() override {
    try {
      // Ranks that are well end in order; for the others there is nothing left to wait for.
      if (failed_ || ended_) {
        group_->abort();
      } else {
        begin();
        group_->shutdown();
      }
    } catch (...) {
      // The peers may be gone.
    }
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      deadline_.reset();
    }
    changed_.notify_all();
    thread_.join();
  }

  void begin() override {
    {
      std::lock_guard lock(mutex_);
      deadline_ = Clock::now() + timeout_ + GRACE;
    }
    changed_.notify_all();
  }

  void settle() override {
    c10::impl::VirtualGuardImpl devices(device_.type());
    c10::Event done(device_.type());
    done.record(devices.getStream(device_));
    const auto began = Clock::now();
    while (!done.query()) {
      {
        std::lock_guard lock(mutex_);
        if (ended_) return;
      }
      if (auto failure = group_->failure(device_)) {
        group_->abort();
        std::rethrow_exception(failure);
      }
      // Most waits are short.
      if (Clock::now() - began < POLL) std::this_thread::yield();
      else std::this_thread::sleep_for(POLL / 10.0);
    }
    if (auto failure = group_->failure(device_)) std::rethrow_exception(failure);
  }

  void end(bool failed) override {
    std::lock_guard lock(mutex_);
    deadline_.reset();
    failed_ = failed_ || failed || ended_;
    if (!ended_) return;
    throw std::runtime_error("timed out after " + std::to_string(timeout_.count()) +
                             " ms, and NCCL's communication was ended");
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      if (!deadline_) {
        changed_.wait(lock);
      } else if (Clock::now() < *deadline_) {
        changed_.wait_until(lock, Clock::time_point(*deadline_));
      } else {
        deadline_.reset();
        ended_ = true;
        lock.unlock();
        try {
          group_->abort();
        } catch (...) {
          // It was ended before.
        }
        lock.lock();
      }
    }
  }

  const c10::intrusive_ptr<Nccl> group_;
  const at::Device device_;
  const Millis timeout_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Clock::time_point> deadline_;
  bool failed_ = false;
  bool ended_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

// Connects to all other ranks. NCCL has no end to this wait: when time is up it goes on, aside, and holds the group.
void connect(const c10::intrusive_ptr<Nccl>& group, at::Device device, Millis timeout) {
  auto promise = std::make_shared<std::promise<void>>();
  auto connected = promise->get_future();
  std::thread([group, device, promise] {
    try {
      group->eagerConnectSingleDevice(device);
      promise->set_value();
    } catch (...) {
      promise->set_exception(std::current_exception());
    }
  }).detach();
  if (connected.wait_for(timeout) != std::future_status::ready) {
    throw std::runtime_error("timed out after " + std::to_string(timeout.count()) +
                             " ms: a rank that was at the store did not connect to the others");
  }
  connected.get();
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
    auto backend = c10::make_intrusive<Nccl>(store->store, rank, size, options);
    backend->setBoundDeviceId(device);
    try {
      connect(backend, device, Millis(connect_ms));
    } catch (...) {
      // Not a word about a group that was not ended: it never was one.
      try { backend->abort(); } catch (...) {}
      throw;
    }
    auto watch = std::make_unique<NcclWatch>(backend, device, Millis(timeout_ms));
    auto group = c10::make_intrusive<c10d::ProcessGroup>(store->store, rank, size);
    group->setBackend(c10::DeviceType::CUDA, c10d::ProcessGroup::BackendType::NCCL, backend);
    group->setDefaultBackend(c10d::ProcessGroup::BackendType::NCCL);
    *out = new KfGroup{group, backend, std::move(watch)};
  });
}

} // extern "C"
