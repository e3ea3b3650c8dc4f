// The memory that the ranks of one machine share, and where everything is in it.
//
// Nothing that is read here is trusted: places and lengths are always the reader's own, and what others write is only
// ever compared, or copied as a tensor's values.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace shm {

// A rank's blackboard is a ring of slots; a collective is a row of rounds, each of which uses one slot of every rank.
constexpr size_t SLOTS = 8;
constexpr size_t SLOT_BYTES = 256 << 10;
// From each rank to each other goes a ring of its own for messages.
constexpr size_t LETTERS = 2;
constexpr size_t LETTER_BYTES = 64 << 10;
// The call that a slot or a letter belongs to stands before its bytes; a page, so that these begin with one.
constexpr size_t HEAD_BYTES = 4096;
constexpr int MOST_RANKS = 128;
// Another layout or protocol has another number.
constexpr uint64_t VERSION = 0x6b662d73686d0001;

// What a call is; equal on all ranks, or the calls do not fit.
struct Header {
  uint32_t kind = 0;
  uint32_t type = 0;
  uint32_t op = 0;
  int32_t root = 0;
  uint64_t count = 0;
  bool operator==(const Header&) const = default;
};

// Where a thread of a rank sleeps.
struct alignas(64) Bell {
  std::atomic<uint32_t> rung;
  std::atomic<uint32_t> asleep;
};

// One for collectives, one for messages: each has a thread of its own.
enum Line : int { COLLECTIVES = 0, MESSAGES = 1 };

struct RankState {
  // How many rounds this rank has written to its slots, and how many it has read from the others'.
  alignas(64) std::atomic<uint64_t> posted;
  alignas(64) std::atomic<uint64_t> taken;
  Bell bells[2];
  // See Fault; 0 while all is well.
  alignas(64) std::atomic<uint32_t> fault;
};

struct Mail {
  alignas(64) std::atomic<uint64_t> sent;
  alignas(64) std::atomic<uint64_t> received;
};

static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<uint32_t>::is_always_lock_free);

class Segment {
 public:
  // Maps a file of this many ranks' size; throws where the file is another or may shrink.
  Segment(int file, int ranks);
  Segment(Segment&& other) noexcept : base_(std::exchange(other.base_, nullptr)), ranks_(other.ranks_) {}
  Segment& operator=(Segment&&) = delete;
  ~Segment();

  // A file that has no name and can't change its size; the caller closes it.
  static int create(int ranks);
  static size_t bytes(int ranks);

  RankState& rank(int rank) const;
  std::byte* slot(int rank, uint64_t round) const;
  Mail& mail(int from, int to) const;
  std::byte* letter(int from, int to, uint64_t number) const;

 private:
  std::byte* base_;
  int ranks_;
};

} // namespace shm
