// Messages from one rank to another.
#pragma once

#include "collectives.h"

namespace shm {

class Messages {
 public:
  explicit Messages(Peers& peers);

  // Sends or receives more of a call's tensor, as far as that goes without waiting; gives whether it is done. `done`
  // counts the letters. Calls between the same ranks and in the same direction must be made one after another. Throws
  // a Failure where what comes is not what is expected.
  bool advance(const Call& call, size_t& done);
  // Whether a further letter can go now.
  bool can(const Call& call) const;

 private:
  void send(const Call& call, size_t letter);
  void receive(const Call& call, size_t letter);

  Peers& peers_;
  // Letters to and from each rank, as this one counts them.
  std::vector<uint64_t> sent_, received_;
};

} // namespace shm
