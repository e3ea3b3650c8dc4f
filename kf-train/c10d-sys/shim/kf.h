// c10d of libtorch behind a C interface: what its parts share. No C++ exception crosses it: every call returns a code
// and, where it is not OK, a message that the caller frees with kf_message_free.
#pragma once

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/core/ivalue.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

enum Code : int { OK = 0, FAILED = 1, TIMED_OUT = 2 };

using Millis = std::chrono::milliseconds;

inline int fail(const std::string& text, char** message) {
  *message = strdup(text.c_str());
  const char* const marks[] = {"imed out", "imeout"};
  for (const char* mark : marks) {
    if (text.find(mark) != std::string::npos) return TIMED_OUT;
  }
  return FAILED;
}

template <typename Body>
int guarded(char** message, Body body) {
  try {
    body();
    return OK;
  } catch (const c10::Error& error) {
    return fail(error.what_without_backtrace(), message);
  } catch (const std::exception& error) {
    return fail(error.what(), message);
  } catch (...) {
    return fail("an exception of unknown kind", message);
  }
}

// What keeps a call into a group from lasting longer than the group's time, where the backend itself does not.
struct Watch {
  virtual ~Watch() = default;
  // From here on the time runs; past it the communication is ended, and what waits for it fails.
  virtual void begin() = 0;
  // Waits for what the device still has to do; throws where that fails.
  virtual void settle() = 0;
  // The time runs no longer; throws where it has run out. A group that has failed is not ended in order later.
  virtual void end(bool failed) = 0;
};

struct KfStore {
  c10::intrusive_ptr<c10d::Store> store;
};

struct Slot;

struct KfGroup {
  c10::intrusive_ptr<c10d::ProcessGroup> group;
  c10::intrusive_ptr<c10d::Backend> backend;
  // None for Gloo, which keeps time itself. It ends before the backend does.
  std::shared_ptr<Watch> watch;
  // Whether the backend's works tell by a future that they are done. Where not, each call waits for its work.
  bool futures = false;
  // Of a group that can be replaced.
  std::shared_ptr<Slot> slot{};
};

// A collective under way. The backend holds the tensors until it is done with them.
struct KfWork {
  c10::intrusive_ptr<c10::ivalue::Future> future;
  // A last step on the side of the one who waits; may be empty.
  std::function<void()> last;
};

// What has begun ends here, with a last step that may fail, too.
template <typename Body>
void finish(Watch& watch, Body body) {
  try {
    body();
  } catch (...) {
    // Time that ran out is the better reason.
    watch.end(true);
    throw;
  }
  watch.end(false);
}

// A call into a group, in the group's time.
template <typename Body>
int timed(const KfGroup* group, char** message, Body body) {
  Watch* const watch = group->watch.get();
  if (watch == nullptr) return guarded(message, body);
  return guarded(message, [&] {
    watch->begin();
    finish(*watch, body);
  });
}
