#include "messages.h"

#include <algorithm>
#include <cstring>

namespace shm {

namespace {

// What is empty takes a letter, too.
size_t letters(const Call& call) { return std::max<size_t>((call.bytes() + LETTER_BYTES - 1) / LETTER_BYTES, 1); }

// The bytes of one letter.
size_t length(const Call& call, size_t letter) {
  return std::min(LETTER_BYTES, call.bytes() - std::min(call.bytes(), letter * LETTER_BYTES));
}

// As both sides see it.
Header header(const Call& call) { return {0, static_cast<uint32_t>(call.type), 0, 0, call.count}; }

} // namespace

Messages::Messages(Peers& peers) : peers_(peers), sent_(peers.size()), received_(peers.size()) {}

bool Messages::can(const Call& call) const {
  const int other = call.root;
  if (call.kind == Kind::SEND) {
    const Mail& mail = peers_.segment().mail(peers_.rank(), other);
    return sent_[other] - mail.received.load(std::memory_order_acquire) < LETTERS;
  }
  return peers_.segment().mail(other, peers_.rank()).sent.load(std::memory_order_acquire) > received_[other];
}

bool Messages::advance(const Call& call, size_t& done) {
  while (done < letters(call)) {
    if (!can(call)) return false;
    call.kind == Kind::SEND ? send(call, done) : receive(call, done);
    ++done;
    peers_.ring(call.root, MESSAGES);
  }
  return true;
}

void Messages::send(const Call& call, size_t letter) {
  const int to = call.root;
  std::byte* const at = peers_.segment().letter(peers_.rank(), to, sent_[to]);
  const Header head = header(call);
  memcpy(at, &head, sizeof(Header));
  if (const size_t n = length(call, letter)) memcpy(at + HEAD_BYTES, call.inputs.front() + letter * LETTER_BYTES, n);
  peers_.segment().mail(peers_.rank(), to).sent.store(++sent_[to], std::memory_order_release);
}

void Messages::receive(const Call& call, size_t letter) {
  const int from = call.root;
  const std::byte* const at = peers_.segment().letter(from, peers_.rank(), received_[from]);
  Header theirs;
  memcpy(&theirs, at, sizeof(Header));
  const Header own = header(call);
  if (theirs != own) {
    const auto told = [](const Header& of) {
      return std::to_string(of.count) + " × " + name(static_cast<Type>(of.type));
    };
    throw Failure(Fault::MISMATCH, from, "rank " + std::to_string(from) + " sends " + told(theirs) + ", and " + told(own) +
                                             " is to be received");
  }
  if (const size_t n = length(call, letter)) memcpy(call.outputs.front() + letter * LETTER_BYTES, at + HEAD_BYTES, n);
  peers_.segment().mail(from, peers_.rank()).received.store(++received_[from], std::memory_order_release);
}

} // namespace shm
