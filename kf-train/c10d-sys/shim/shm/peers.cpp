#include "peers.h"

#include <cerrno>
#include <climits>

#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace shm {

namespace {

// How long a sleep lasts at most, before the others' processes are looked at.
constexpr std::chrono::milliseconds SLICE{10};

// Until it is woken, or the value is another; false where the time was over.
bool futex_wait(std::atomic<uint32_t>& word, uint32_t value, std::chrono::nanoseconds time) {
  timespec limit{};
  limit.tv_sec = static_cast<time_t>(time.count() / 1000000000);
  limit.tv_nsec = static_cast<long>(time.count() % 1000000000);
  const long done = syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT, value, &limit, nullptr, 0);
  return done == 0 || errno != ETIMEDOUT;
}

void futex_wake(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

} // namespace

Peers::Peers(Segment segment, int rank, int size, std::vector<Tie> ties)
    : segment_(std::move(segment)), rank_(rank), size_(size), ties_(std::move(ties)) {}

Peers::~Peers() {
  uint32_t well = 0;
  segment_.rank(rank_).fault.compare_exchange_strong(well, static_cast<uint32_t>(Fault::LEFT));
  for (const Tie& tie : ties_) {
    if (tie.socket >= 0) close(tie.socket);
    if (tie.process >= 0) close(tie.process);
  }
  for (int line : {COLLECTIVES, MESSAGES}) ring_others(static_cast<Line>(line));
}

void Peers::pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void Peers::yield() { sched_yield(); }

void Peers::ring(int rank, Line line) {
  Bell& bell = segment_.rank(rank).bells[line];
  // Against the fence of a thread that is about to sleep: one of the two sees what the other has written.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (bell.asleep.load(std::memory_order_relaxed) == 0) return;
  bell.rung.fetch_add(1, std::memory_order_seq_cst);
  futex_wake(bell.rung);
}

void Peers::ring_others(Line line) {
  for (int other = 0; other < size_; ++other) {
    if (other != rank_) ring(other, line);
  }
}

void Peers::sleep(Line line, Clock::time_point deadline, const std::vector<int>& ranks,
                  const std::function<bool()>& holds) {
  Bell& bell = segment_.rank(rank_).bells[line];
  struct Awake {
    Bell& bell;
    ~Awake() { bell.asleep.store(0, std::memory_order_relaxed); }
  } awake{bell};
  bool look = false;
  for (;;) {
    bell.asleep.store(1, std::memory_order_seq_cst);
    const uint32_t rung = bell.rung.load(std::memory_order_seq_cst);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (holds()) return;
    check();
    check_others();
    check_there(ranks, look, holds);
    const auto now = Clock::now();
    if (now >= deadline) {
      if (holds()) return;
      throw Failure(Fault::LATE, ranks.front(), "timed out waiting for " + named(ranks.front()));
    }
    look = !futex_wait(bell.rung, rung, std::min<std::chrono::nanoseconds>(deadline - now, SLICE));
  }
}

void Peers::check() const {
  if (!failed()) return;
  std::lock_guard lock(mutex_);
  throw Failure(Fault::OTHER, rank_, reason_);
}

void Peers::check_others() const {
  for (int other = 0; other < size_; ++other) {
    if (other == rank_) continue;
    const uint32_t word = segment_.rank(other).fault.load(std::memory_order_acquire);
    const auto fault = static_cast<Fault>(word & 0xff);
    if (fault == Fault::NONE || fault == Fault::LEFT) continue;
    const int culprit = static_cast<int>(word >> 8);
    switch (fault) {
      case Fault::LATE: throw Failure(fault, culprit, named(other) + " timed out waiting for " + named(culprit));
      case Fault::GONE: throw Failure(fault, culprit, named(other) + " found that " + named(culprit) + " is gone");
      case Fault::ABORTED: throw Failure(fault, other, named(other) + " has aborted its group");
      case Fault::MISMATCH: throw Failure(fault, culprit, named(other) + " found that the ranks' calls do not fit");
      default: throw Failure(Fault::OTHER, other, named(other) + " has failed");
    }
  }
}

void Peers::check_there(const std::vector<int>& ranks, bool look, const std::function<bool()>& holds) const {
  for (int other : ranks) {
    const bool left = segment_.rank(other).fault.load(std::memory_order_acquire) != 0;
    if (!left && !(look && ended(other))) continue;
    // It may have done its part before.
    if (holds()) return;
    throw Failure(Fault::GONE, other, named(other) + (left ? " has dropped its group" : " is gone: its process has ended"));
  }
}

bool Peers::ended(int rank) const {
  const Tie& tie = ties_[rank];
  pollfd of[] = {{tie.socket, POLLRDHUP, 0}, {tie.process, POLLIN, 0}};
  return poll(of, 2, 0) > 0;
}

void Peers::fail(Fault fault, int culprit, const std::string& reason) {
  {
    std::lock_guard lock(mutex_);
    if (failed_.load(std::memory_order_relaxed)) return;
    reason_ = reason;
    failed_.store(true, std::memory_order_release);
  }
  const uint32_t word = static_cast<uint32_t>(fault) | static_cast<uint32_t>(culprit) << 8;
  segment_.rank(rank_).fault.store(word, std::memory_order_seq_cst);
  for (int rank = 0; rank < size_; ++rank) {
    for (int line : {COLLECTIVES, MESSAGES}) ring(rank, static_cast<Line>(line));
  }
}

} // namespace shm
