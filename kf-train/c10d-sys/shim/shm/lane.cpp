#include "lane.h"

#include <algorithm>
#include <set>

namespace shm {

namespace {

// How long a wait yields its core to others before it sleeps; about as long as a sleep and a wake take.
constexpr std::chrono::microseconds PATIENCE{20};

c10::intrusive_ptr<c10::ivalue::Future> new_future() {
  return c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()));
}

} // namespace

Work::Work(int rank, c10d::OpType type, Call call, std::vector<at::Tensor> inputs, std::vector<at::Tensor> outputs,
           Clock::time_point deadline)
    : c10d::Work(rank, type),
      call(std::move(call)),
      deadline(deadline),
      inputs_(std::move(inputs)),
      outputs_(std::move(outputs)),
      future_(new_future()) {}

void Work::end(std::exception_ptr failure) {
  inputs_.clear();
  failure ? future_->setError(failure) : future_->markCompleted(c10::IValue(outputs_));
  finish(failure);
}

Lane::~Lane() {
  if (pending_ > 0) peers_.fail(Fault::ABORTED, peers_.rank(), "the group was dropped before this was done");
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  peers_.ring(peers_.rank(), line_);
  if (thread_.joinable()) thread_.join();
}

void Lane::add(WorkPtr work) {
  ++pending_;
  bool first = false;
  {
    std::lock_guard lock(mutex_);
    if (line_ == COLLECTIVES && !busy_ && waiting_.empty()) first = busy_ = true;
  }
  const bool there = first && collectives_.begin(work->call, PATIENCE);
  if (there) run_one(work);
  {
    std::lock_guard lock(mutex_);
    if (first) busy_ = false;
    if (!there) {
      // Others may have come after it in the meantime.
      waiting_.insert(first ? waiting_.begin() : waiting_.end(), std::move(work));
      more_.store(true, std::memory_order_release);
      if (!thread_.joinable()) {
        thread_ = std::thread([this] {
          pthread_setname_np(pthread_self(), line_ == COLLECTIVES ? "kf-collectives" : "kf-messages");
          run();
        });
      }
    }
  }
  changed_.notify_all();
  // It may be asleep for what goes before.
  if (line_ == MESSAGES) peers_.ring(peers_.rank(), line_);
}

void Lane::run() {
  for (;;) {
    WorkPtr work;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return ending_ || !going_.empty() || (!busy_ && !waiting_.empty()); });
      if (ending_ && waiting_.empty() && going_.empty()) return;
      if (line_ == MESSAGES) {
        going_.insert(going_.end(), waiting_.begin(), waiting_.end());
        waiting_.clear();
        more_.store(false, std::memory_order_release);
      } else {
        work = waiting_.front();
        waiting_.pop_front();
        busy_ = true;
      }
    }
    if (!work) {
      run_messages();
      continue;
    }
    run_one(work);
    work.reset();
    std::lock_guard lock(mutex_);
    busy_ = false;
  }
}

void Lane::run_one(const WorkPtr& work) {
  try {
    collectives_.run(work->call, PATIENCE, work->deadline);
  } catch (const Failure& failure) {
    return fail(work, failure);
  } catch (const std::exception& error) {
    return fail(work, Failure(Fault::OTHER, peers_.rank(), error.what()));
  }
  end(work);
}

void Lane::run_messages() {
  // Only the first in each direction with each rank may go.
  std::vector<WorkPtr> first;
  std::vector<int> ranks;
  std::set<std::pair<Kind, int>> seen;
  for (const WorkPtr& work : going_) {
    if (!seen.emplace(work->call.kind, work->call.root).second) continue;
    first.push_back(work);
    ranks.push_back(work->call.root);
  }
  const auto soonest = *std::min_element(first.begin(), first.end(), [](const auto& a, const auto& b) { return a->deadline < b->deadline; });
  WorkPtr at = soonest;
  try {
    peers_.check();
    peers_.wait(line_, PATIENCE, soonest->deadline, ranks, [&] {
      return more_.load(std::memory_order_acquire) ||
             std::any_of(first.begin(), first.end(), [&](const auto& work) { return messages_.can(work->call); });
    });
    for (const WorkPtr& work : first) {
      at = work;
      if (!messages_.advance(work->call, work->letters)) continue;
      going_.erase(std::find(going_.begin(), going_.end(), work));
      end(work);
    }
  } catch (const Failure& failure) {
    going_.erase(std::find(going_.begin(), going_.end(), at));
    fail(at, failure);
  }
}

void Lane::end(const WorkPtr& work) {
  // Before the caller can know, who may drop the group then.
  --pending_;
  work->end(nullptr);
}

void Lane::fail(const WorkPtr& work, const Failure& failure) {
  const std::string text = failure.what();
  // Must not read as of a later call's time.
  const std::string reason = failure.fault == Fault::LATE ? "rank " + std::to_string(failure.culprit) + " was late"
                                                          : text.substr(text.find(": ") + 2);
  peers_.fail(failure.fault, failure.culprit,
              "the group was ended by an earlier failure (" + reason + "): drop it, and join another on every rank");
  --pending_;
  work->end(std::make_exception_ptr(std::runtime_error(text + ", in " + described(work->call.header()))));
}

} // namespace shm
