#include "segment.h"

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace shm {

namespace {

constexpr size_t SLOT_STRIDE = HEAD_BYTES + SLOT_BYTES;
constexpr size_t LETTER_STRIDE = HEAD_BYTES + LETTER_BYTES;
constexpr int SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;

constexpr size_t pages(size_t bytes) { return (bytes + 4095) / 4096 * 4096; }

size_t states_bytes(int ranks) { return pages(sizeof(RankState) * ranks); }
size_t mails_bytes(int ranks) { return pages(sizeof(Mail) * ranks * ranks); }
size_t slots_bytes(int ranks) { return SLOT_STRIDE * SLOTS * ranks; }

std::runtime_error failed(const char* what) {
  return std::runtime_error(std::string("shared memory: ") + what + ": " + strerror(errno));
}

} // namespace

size_t Segment::bytes(int ranks) {
  const size_t letters = LETTER_STRIDE * LETTERS * ranks * ranks;
  return states_bytes(ranks) + mails_bytes(ranks) + slots_bytes(ranks) + letters;
}

int Segment::create(int ranks) {
  const int file = memfd_create("kf-group", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (file < 0) throw failed("memory can't be had");
  // Pages come into being when they are first touched: most letters never are.
  if (ftruncate(file, static_cast<off_t>(bytes(ranks))) != 0 || fcntl(file, F_ADD_SEALS, SEALS) != 0) {
    const auto error = failed("memory can't be given its size");
    close(file);
    throw error;
  }
  return file;
}

Segment::Segment(int file, int ranks) : base_(nullptr), ranks_(ranks) {
  struct stat found {};
  const size_t expected = bytes(ranks);
  const int seals = fcntl(file, F_GET_SEALS);
  if (seals < 0 || (seals & SEALS) != SEALS || fstat(file, &found) != 0 ||
      static_cast<size_t>(found.st_size) != expected) {
    throw std::runtime_error("shared memory: rank 0 gives memory of " + std::to_string(found.st_size) +
                             " bytes, and sealed memory of " + std::to_string(expected) + " was expected");
  }
  void* const mapped = mmap(nullptr, expected, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) throw failed("memory can't be mapped");
  base_ = static_cast<std::byte*>(mapped);
}

Segment::~Segment() {
  if (base_ != nullptr) munmap(base_, bytes(ranks_));
}

RankState& Segment::rank(int rank) const { return reinterpret_cast<RankState*>(base_)[rank]; }

std::byte* Segment::slot(int rank, uint64_t round) const {
  return base_ + states_bytes(ranks_) + mails_bytes(ranks_) + (SLOTS * rank + round % SLOTS) * SLOT_STRIDE;
}

Mail& Segment::mail(int from, int to) const {
  return reinterpret_cast<Mail*>(base_ + states_bytes(ranks_))[ranks_ * from + to];
}

std::byte* Segment::letter(int from, int to, uint64_t number) const {
  const size_t ring = static_cast<size_t>(ranks_) * from + to;
  return base_ + states_bytes(ranks_) + mails_bytes(ranks_) + slots_bytes(ranks_) +
         (LETTERS * ring + number % LETTERS) * LETTER_STRIDE;
}

} // namespace shm
