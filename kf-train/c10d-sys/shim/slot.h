// A group that can be replaced by another, as those see it who use it for long.
#pragma once

#include <mutex>

#include "kf.h"

struct Life;

struct Slot {
  std::mutex mutex;
  c10::intrusive_ptr<c10d::ProcessGroup> group;
  std::shared_ptr<Life> life;

  // The present group; throws where it has failed.
  c10::intrusive_ptr<c10d::ProcessGroup> ready();
};

// What goes before the end of a group; waits for what is under way.
void leave(const KfGroup& group);
