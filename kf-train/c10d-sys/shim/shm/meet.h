// How the ranks of a group come to share memory.
#pragma once

#include <memory>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "peers.h"

namespace shm {

// Waits for all ranks at the store, ties this one to each, and maps the memory that rank 0 makes. Throws where the
// ranks are not on one machine, and where one does not come until the deadline.
std::unique_ptr<Peers> meet(c10d::Store& store, int rank, int size, Clock::time_point deadline);

} // namespace shm
