// The other ranks of a group: waiting for them, waking them, and noticing that they are gone.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "segment.h"

namespace shm {

// As messages call it.
inline std::string named(int rank) { return "rank " + std::to_string(rank); }

using Clock = std::chrono::steady_clock;
using Millis = std::chrono::milliseconds;

// Why a rank takes no more part; told to the others in its state.
enum class Fault : uint32_t { NONE = 0, LEFT = 1, LATE = 2, GONE = 3, MISMATCH = 4, ABORTED = 5, OTHER = 6 };

// What tells that a rank's process has ended.
struct Tie {
  // The socket between the two ranks: at its end when no process holds the other side.
  int socket = -1;
  // The process itself, which a child of it that holds the socket does not outlive; -1 where it can't be seen.
  int process = -1;
};

// An error that ends the group.
struct Failure : std::runtime_error {
  Failure(Fault fault, int culprit, const std::string& text)
      : std::runtime_error("shared memory: " + text), fault(fault), culprit(culprit) {}
  // What the others are told, and which rank it is about.
  Fault fault;
  int culprit;
};

class Peers {
 public:
  // Takes the ties, one a rank, this one's own among them and empty.
  Peers(Segment segment, int rank, int size, std::vector<Tie> ties);
  Peers(const Peers&) = delete;
  ~Peers();

  int rank() const { return rank_; }
  int size() const { return size_; }
  const Segment& segment() const { return segment_; }

  // Waits until something holds that these ranks bring about. It spins this long and sleeps then. Throws a Failure when
  // the deadline is past, and when one of these ranks is gone, or any has failed.
  template <typename Holds>
  void wait(Line line, std::chrono::microseconds spin, Clock::time_point deadline, const std::vector<int>& ranks,
            Holds holds) {
    if (wait_briefly(spin, holds)) return;
    sleep(line, deadline, ranks, holds);
  }

  // Whether it holds within this time, in which the core is given to others.
  template <typename Holds>
  bool wait_briefly(std::chrono::microseconds time, Holds holds) {
    if (holds()) return true;
    for (int i = 0; i < 64; ++i) {
      pause();
      if (holds()) return true;
    }
    // What this waits for may need this very core.
    for (const auto until = Clock::now() + time; Clock::now() < until;) {
      yield();
      if (holds()) return true;
    }
    return false;
  }

  // Wakes the others where they sleep, after something was written that they may wait for.
  void ring_others(Line line);
  void ring(int rank, Line line);

  // Ends the group on this rank, once: every wait here fails, and the others learn why. Gives the first reason.
  void fail(Fault fault, int culprit, const std::string& reason);
  bool failed() const { return failed_.load(std::memory_order_acquire); }
  // Throws where the group has been ended on this rank.
  void check() const;

 private:
  static void pause();
  static void yield();
  void sleep(Line line, Clock::time_point deadline, const std::vector<int>& ranks,
             const std::function<bool()>& holds);
  // Throws where any other rank has failed.
  void check_others() const;
  // Throws where one of these ranks is gone and it does not hold. `look` is for processes, too.
  void check_there(const std::vector<int>& ranks, bool look, const std::function<bool()>& holds) const;
  bool ended(int rank) const;

  const Segment segment_;
  const int rank_;
  const int size_;
  const std::vector<Tie> ties_;
  std::atomic<bool> failed_ = false;
  mutable std::mutex mutex_;
  std::string reason_;
};

} // namespace shm
