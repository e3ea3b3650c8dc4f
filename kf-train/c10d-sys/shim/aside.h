// What goes on beside the calls, on threads of its own.
#pragma once

#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include "kf.h"

struct Asides {
  std::mutex mutex;
  std::condition_variable changed;
  int count = 0;
};

inline Asides& asides() {
  // Never freed: threads may outlast it.
  static Asides* const all = new Asides;
  // How long the end of the process waits for them: its libraries are taken down after that.
  static const struct AtExit {
    ~AtExit() {
      std::unique_lock lock(all->mutex);
      all->changed.wait_for(lock, Millis(5000), [] { return all->count == 0; });
    }
  } at_exit;
  return *all;
}

// Does on a thread of its own what may never be done, and waits a while: whether it is done. It holds what it needs.
inline bool aside(Millis time, std::function<void()> body) {
  auto promise = std::make_shared<std::promise<void>>();
  auto done = promise->get_future();
  Asides& all = asides();
  {
    std::lock_guard lock(all.mutex);
    ++all.count;
  }
  std::thread([body = std::move(body), promise, &all]() mutable {
    std::exception_ptr failure;
    try { body(); } catch (...) { failure = std::current_exception(); }
    body = nullptr;
    failure ? promise->set_exception(failure) : promise->set_value();
    std::lock_guard lock(all.mutex);
    --all.count;
    all.changed.notify_all();
  }).detach();
  if (done.wait_for(time) != std::future_status::ready) return false;
  done.get();
  return true;
}
