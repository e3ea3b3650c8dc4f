// A group's calls in the order in which they are made, on a thread of their own.
#pragma once

#include <condition_variable>
#include <deque>
#include <thread>

#include <torch/csrc/distributed/c10d/Work.hpp>

#include "collectives.h"
#include "messages.h"

namespace shm {

// A call that has been made. Its future is complete when the outputs are.
class Work final : public c10d::Work {
 public:
  // The tensors are kept until it is done; the outputs are its result.
  Work(int rank, c10d::OpType type, Call call, std::vector<at::Tensor> inputs, std::vector<at::Tensor> outputs,
       Clock::time_point deadline);

  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override { return future_; }
  std::vector<at::Tensor> result() override { return outputs_; }
  // It has a time of its own, after which it ends.
  bool wait(Millis) override {
    future_->waitAndThrow();
    return true;
  }

  // Ends it, well or with this error.
  void end(std::exception_ptr failure);

  const Call call;
  const Clock::time_point deadline;
  // Of a message: the letters that went.
  size_t letters = 0;

 private:
  std::vector<at::Tensor> inputs_;
  const std::vector<at::Tensor> outputs_;
  const c10::intrusive_ptr<c10::ivalue::Future> future_;
};

using WorkPtr = c10::intrusive_ptr<Work>;

// Collectives, or messages. Its thread starts with the first call that needs it.
class Lane {
 public:
  Lane(Peers& peers, Line line) : peers_(peers), line_(line), collectives_(peers), messages_(peers) {}
  // Ends what is still to be done by failing the group.
  ~Lane();

  // Makes a call after those before it: on the caller's thread where it is small, nothing goes before it, and the others
  // are there; on the lane's own where not.
  void add(WorkPtr work);

 private:
  void run();
  void run_one(const WorkPtr& work);
  // Makes what can be made of the messages, or waits until something can.
  void run_messages();
  void end(const WorkPtr& work);
  void fail(const WorkPtr& work, const Failure& failure);

  Peers& peers_;
  const Line line_;
  Collectives collectives_;
  Messages messages_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<WorkPtr> waiting_;
  // Messages under way; of the thread alone.
  std::deque<WorkPtr> going_;
  std::atomic<bool> more_ = false;
  // Calls that have not ended.
  std::atomic<int> pending_ = 0;
  // Whether a collective is being made, or its first part was.
  bool busy_ = false;
  bool ending_ = false;
  std::thread thread_;
};

} // namespace shm
