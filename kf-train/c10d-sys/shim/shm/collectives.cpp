#include "collectives.h"

#include <algorithm>
#include <cstring>

namespace shm {

namespace {

// A call is cut into about this many pieces, of which some are written while others are read, and none is larger than a
// slot or so small that the waiting for it takes longer.
constexpr size_t PIECES = 4;
constexpr size_t SMALLEST = 32 << 10;
// What two ranks reduce whole on both sides, up to this size: a wait less, and more to read.
constexpr size_t WHOLE = 64 << 10;

constexpr size_t up(size_t value, size_t step) { return (value + step - 1) / step * step; }

// The bytes of a piece, of at most this many.
size_t piece(size_t bytes, size_t most) { return std::min(std::max(up(bytes / PIECES, 4096), SMALLEST), most); }

size_t pieces(size_t bytes, size_t piece) { return (bytes + piece - 1) / piece; }

} // namespace

const char* name(Kind kind) {
  constexpr const char* names[] = {"broadcast", "all_reduce", "reduce",     "all_gather", "reduce_scatter", "gather",
                                   "scatter",   "all_to_all", "barrier",    "send",       "recv"};
  const auto at = static_cast<size_t>(kind);
  return at < std::size(names) ? names[at] : "an unknown call";
}

std::string described(const Header& header) {
  const auto kind = static_cast<Kind>(header.kind);
  std::string text = name(kind);
  if (kind == Kind::BARRIER) return text;
  if (kind == Kind::ALL_REDUCE || kind == Kind::REDUCE || kind == Kind::REDUCE_SCATTER) {
    text += std::string(" by ") + name(static_cast<Op>(header.op));
  }
  if (kind == Kind::BROADCAST || kind == Kind::SCATTER || kind == Kind::RECV) text += " from rank " + std::to_string(header.root);
  if (kind == Kind::REDUCE || kind == Kind::GATHER || kind == Kind::SEND) text += " to rank " + std::to_string(header.root);
  return text + " of " + std::to_string(header.count) + " × " + name(static_cast<Type>(header.type));
}

// One call under way. In each round a rank writes to its slot, tells so, and reads what it needs of the others' slots.
// A slot is written anew when all have read it, and some rounds are written before the first of them is read.
struct Collectives::Run {
  Peers& peers;
  const Call& call;
  const std::chrono::microseconds spin;
  const Clock::time_point deadline;
  const uint64_t base;
  // The rounds that this rank has written.
  uint64_t& posted;
  const bool only_begin = false;
  const int rank = peers.rank();
  const int size = peers.size();

  // The bytes of a rank's slot in a round of this call, when they are there.
  const std::byte* of(int other, size_t round) {
    const auto& posted = peers.segment().rank(other).posted;
    if (other != rank) {
      peers.wait(COLLECTIVES, spin, deadline, {other},
                 [&] { return posted.load(std::memory_order_acquire) > base + round; });
    }
    return peers.segment().slot(other, base + round) + HEAD_BYTES;
  }

  void compare() {
    Header first, theirs;
    for (int other = 0; other < size; ++other) {
      // Read once: it may change.
      memcpy(&theirs, of(other, 0) - HEAD_BYTES, sizeof(Header));
      if (other == 0) first = theirs;
      if (theirs == first) continue;
      throw Failure(Fault::MISMATCH, other, "the calls do not fit: rank 0 is at " + described(first) + ", and rank " +
                                                std::to_string(other) + " at " + described(theirs));
    }
  }

  // Whether this rank's slot of a round may be written, as far as another goes.
  bool is_free(int other, uint64_t round) const {
    return other == rank || peers.segment().rank(other).taken.load(std::memory_order_acquire) + SLOTS > round;
  }

  bool are_there() const {
    for (int other = 0; other < size; ++other) {
      if (peers.segment().rank(other).posted.load(std::memory_order_acquire) <= base) return false;
    }
    return true;
  }

  template <typename Fill, typename Take>
  uint64_t rounds(size_t number, size_t ahead, Fill fill, Take take) {
    auto& own = peers.segment().rank(rank);
    for (size_t i = 0; i < number + ahead; ++i) {
      if (i < number) {
        const uint64_t round = base + i;
        for (int other = 0; other < size; ++other) {
          peers.wait(COLLECTIVES, spin, deadline, {other}, [&] { return is_free(other, round); });
        }
        // What was begun is written already.
        if (round >= posted) {
          std::byte* const slot = peers.segment().slot(rank, round);
          const Header header = i == 0 ? call.header() : Header{};
          memcpy(slot, &header, sizeof(Header));
          fill(i, slot + HEAD_BYTES);
          posted = round + 1;
          own.posted.store(posted, std::memory_order_release);
          peers.ring_others(COLLECTIVES);
        }
        if (only_begin) return base;
      }
      if (i < ahead) continue;
      const size_t round = i - ahead;
      if (round == 0) compare();
      take(round);
      own.taken.store(base + round + 1, std::memory_order_release);
      peers.ring_others(COLLECTIVES);
    }
    return base + number;
  }

  // Every piece in one round: `give` writes what this rank has of it, `take` reads. A piece holds one part for each of
  // `parts` ranks.
  template <typename Give, typename Take>
  uint64_t in_pieces(size_t parts, Give give, Take take) {
    const size_t bytes = call.bytes();
    const size_t most = SLOT_BYTES / parts / 64 * 64;
    const size_t piece = shm::piece(bytes, most);
    const auto of_piece = [&](size_t i) { return std::min(piece, bytes - i * piece); };
    return rounds(std::max<size_t>(pieces(bytes, piece), 1), 1,
                  [&](size_t i, std::byte* slot) { if (bytes > 0) give(i * piece, of_piece(i), slot); },
                  [&](size_t i) { if (bytes > 0) take(i, i * piece, of_piece(i)); });
  }

  void reduce_into(std::byte* out, const std::byte* own, const std::vector<const std::byte*>& others, size_t bytes) {
    std::vector<const void*> sources(others.begin(), others.end());
    sources[rank] = own;
    shm::reduce(call.type, call.op, out, sources.data(), size, bytes / width(call.type));
  }

  std::vector<const std::byte*> all_of(size_t round, size_t offset = 0) {
    std::vector<const std::byte*> slots;
    for (int other = 0; other < size; ++other) slots.push_back(of(other, round) + offset);
    return slots;
  }

  bool is_root() const { return rank == call.root; }

  uint64_t broadcast() {
    std::byte* const data = call.outputs.front();
    return in_pieces(
        1, [&](size_t at, size_t n, std::byte* slot) { if (is_root()) memcpy(slot, data + at, n); },
        [&](size_t i, size_t at, size_t n) { if (!is_root()) memcpy(data + at, of(call.root, i), n); });
  }

  // Every rank reduces everything where `all`, and the root alone where not.
  uint64_t reduce_whole(bool all) {
    std::byte* const data = call.outputs.front();
    return in_pieces(
        1, [&](size_t at, size_t n, std::byte* slot) { if (all || !is_root()) memcpy(slot, data + at, n); },
        [&](size_t i, size_t at, size_t n) {
          if (all || is_root()) reduce_into(data + at, data + at, all_of(i), n);
        });
  }

  // Every rank reduces a part of each block and hands the result on: block k's parts are given in round 2k, and its
  // results in round 2k + 3, when the next block's parts have been given.
  uint64_t reduce_in_parts() {
    std::byte* const data = call.outputs.front();
    const size_t bytes = call.bytes();
    const size_t part = piece(bytes, SLOT_BYTES) / size / 64 * 64;
    const size_t blocks = pieces(bytes, part * size);
    const size_t lag = blocks > 1 ? 1 : 0;
    // Where a rank's part of a block begins and how long it is; the last block's may be cut or empty.
    const auto begin = [&](size_t block, int of) { return std::min((block * size + of) * part, bytes); };
    const auto length = [&](size_t block, int of) { return begin(block, of + 1) - begin(block, of); };
    return rounds(
        2 * (blocks + lag), lag,
        [&](size_t i, std::byte* slot) {
          const size_t block = i / 2 - (i % 2 ? lag : 0);
          if (block >= blocks) return;
          if (i % 2) {
            memcpy(slot, data + begin(block, rank), length(block, rank));
            return;
          }
          for (int other = 0; other < size; ++other) {
            if (other != rank) memcpy(slot + other * part, data + begin(block, other), length(block, other));
          }
        },
        [&](size_t i) {
          const size_t block = i / 2 - (i % 2 ? lag : 0);
          if (block >= blocks) return;
          if (i % 2 == 0) {
            std::byte* const own = data + begin(block, rank);
            reduce_into(own, own, all_of(i, rank * part), length(block, rank));
            return;
          }
          for (int other = 0; other < size; ++other) {
            if (other != rank) memcpy(data + begin(block, other), of(other, i), length(block, other));
          }
        });
  }

  uint64_t gather(bool all) {
    const std::byte* const input = call.inputs.front();
    return in_pieces(
        1, [&](size_t at, size_t n, std::byte* slot) { if (all || !is_root()) memcpy(slot, input + at, n); },
        [&](size_t i, size_t at, size_t n) {
          if (!all && !is_root()) return;
          for (int other = 0; other < size; ++other) {
            memmove(call.outputs[other] + at, other == rank ? input + at : of(other, i), n);
          }
        });
  }

  // Parts for all other ranks go to the slot, side by side.
  void give_parts(size_t at, size_t n, std::byte* slot) {
    for (int other = 0; other < size; ++other) {
      if (other != rank) memcpy(slot + other * n, call.inputs[other] + at, n);
    }
  }

  uint64_t reduce_scatter() {
    return in_pieces(
        size, [&](size_t at, size_t n, std::byte* slot) { give_parts(at, n, slot); },
        [&](size_t i, size_t at, size_t n) {
          reduce_into(call.outputs.front() + at, call.inputs[rank] + at, all_of(i, rank * n), n);
        });
  }

  uint64_t scatter() {
    std::byte* const output = call.outputs.front();
    return in_pieces(
        size, [&](size_t at, size_t n, std::byte* slot) { if (is_root()) give_parts(at, n, slot); },
        [&](size_t i, size_t at, size_t n) {
          memmove(output + at, is_root() ? call.inputs[rank] + at : of(call.root, i) + rank * n, n);
        });
  }

  uint64_t all_to_all() {
    return in_pieces(
        size, [&](size_t at, size_t n, std::byte* slot) { give_parts(at, n, slot); },
        [&](size_t i, size_t at, size_t n) {
          for (int other = 0; other < size; ++other) {
            memmove(call.outputs[other] + at, other == rank ? call.inputs[rank] + at : of(other, i) + rank * n, n);
          }
        });
  }

  uint64_t run() {
    switch (call.kind) {
      case Kind::BROADCAST: return broadcast();
      case Kind::ALL_REDUCE: return call.bytes() <= WHOLE ? reduce_whole(true) : reduce_in_parts();
      case Kind::REDUCE: return reduce_whole(false);
      case Kind::ALL_GATHER: return gather(true);
      case Kind::REDUCE_SCATTER: return reduce_scatter();
      case Kind::GATHER: return gather(false);
      case Kind::SCATTER: return scatter();
      case Kind::ALL_TO_ALL: return all_to_all();
      default: return rounds(1, 0, [](size_t, std::byte*) {}, [](size_t) {});
    }
  }
};

void Collectives::run(const Call& call, std::chrono::microseconds spin, Clock::time_point deadline) {
  peers_.check();
  rounds_ = Run{peers_, call, spin, deadline, rounds_, posted_}.run();
}

bool Collectives::begin(const Call& call, std::chrono::microseconds patience) {
  if (call.bytes() * peers_.size() > SMALLEST || peers_.failed()) return false;
  Run run{peers_, call, patience, {}, rounds_, posted_, true};
  for (int other = 0; other < peers_.size(); ++other) {
    if (!run.is_free(other, rounds_)) return false;
  }
  run.run();
  return peers_.wait_briefly(patience, [&] { return run.are_there(); });
}

} // namespace shm
