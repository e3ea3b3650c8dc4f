// The collectives over the ranks' blackboards.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"
#include "peers.h"

namespace shm {

enum class Kind : uint32_t {
  BROADCAST, ALL_REDUCE, REDUCE, ALL_GATHER, REDUCE_SCATTER, GATHER, SCATTER, ALL_TO_ALL, BARRIER, SEND, RECV
};

const char* name(Kind kind);

// One call, as this rank makes it.
struct Call {
  Kind kind;
  Type type = Type::U8;
  Op op = Op::SUM;
  // The root; of a message, the other rank.
  int root = 0;
  // Elements of each of the tensors below.
  size_t count = 0;
  // One tensor, or one for each rank, or none where this rank gives or takes none. What is reduced over all ranks or
  // broadcast is among the outputs alone.
  std::vector<const std::byte*> inputs;
  std::vector<std::byte*> outputs;

  size_t bytes() const { return count * width(type); }
  Header header() const {
    return {static_cast<uint32_t>(kind), static_cast<uint32_t>(type), static_cast<uint32_t>(op), root, count};
  }
};

// `all_reduce by sum of 4 × Float`.
std::string described(const Header& header);

class Collectives {
 public:
  explicit Collectives(Peers& peers) : peers_(peers) {}

  // Writes what this rank gives to a call of one round, without waiting for room, and gives whether the others have done
  // so within this time. It is then to be run, in any case, before another.
  bool begin(const Call& call, std::chrono::microseconds patience);

  // Makes the calls of this rank, one after another; not at once from several threads. Throws a Failure, after which no
  // more can be made.
  void run(const Call& call, std::chrono::microseconds spin, Clock::time_point deadline);

 private:
  struct Run;

  Peers& peers_;
  // The rounds that were made, and those that this rank has written.
  uint64_t rounds_ = 0, posted_ = 0;
};

} // namespace shm
