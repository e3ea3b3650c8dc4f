#include "meet.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

namespace shm {

namespace {

using Secret = std::array<char, 32>;

struct Descriptor {
  int number = -1;
  Descriptor() = default;
  explicit Descriptor(int number) : number(number) {}
  Descriptor(Descriptor&& other) noexcept : number(std::exchange(other.number, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number, other.number);
    return *this;
  }
  ~Descriptor() {
    if (number >= 0) close(number);
  }
  int release() { return std::exchange(number, -1); }
};

// What a rank that connects says first.
struct Greeting {
  uint64_t version = VERSION;
  int32_t rank = 0;
  int32_t size = 0;
  Secret secret{};
};

// What a rank writes to the store.
struct Place {
  std::string boot, network, host;
  Secret secret{};
};

[[noreturn]] void failed(const std::string& what) { throw std::runtime_error("shared memory: " + what); }

[[noreturn]] void failed_with(const std::string& what) { failed(what + ": " + strerror(errno)); }

Place own_place() {
  Place place;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> place.boot;
  struct stat network {};
  if (stat("/proc/thread-self/ns/net", &network) == 0) {
    place.network = std::to_string(network.st_dev) + ":" + std::to_string(network.st_ino);
  }
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  place.host = host;
  std::array<unsigned char, sizeof(Secret) / 2> random{};
  if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) failed_with("no random bytes");
  for (size_t i = 0; i < random.size(); ++i) {
    place.secret[2 * i] = "0123456789abcdef"[random[i] >> 4];
    place.secret[2 * i + 1] = "0123456789abcdef"[random[i] & 15];
  }
  return place;
}

std::vector<uint8_t> packed(const Place& place) {
  std::string text = place.boot + "\n" + place.network + "\n" + place.host + "\n";
  text.append(place.secret.data(), place.secret.size());
  return {text.begin(), text.end()};
}

Place unpacked(const std::vector<uint8_t>& bytes, int rank) {
  const std::string text(bytes.begin(), bytes.end());
  std::vector<std::string> lines;
  for (size_t at = 0; at <= text.size() && lines.size() < 5;) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  if (lines.size() != 4 || lines[3].size() != sizeof(Secret)) failed(named(rank) + " has left rubbish at the store");
  Place place{lines[0], lines[1], lines[2], {}};
  memcpy(place.secret.data(), lines[3].data(), sizeof(Secret));
  return place;
}

// The same verdict on every rank: the first that is elsewhere than rank 0.
void check_places(const std::vector<Place>& places) {
  const Place& first = places.front();
  for (size_t rank = 1; rank < places.size(); ++rank) {
    const Place& other = places[rank];
    const std::string both = "rank 0 is on `" + first.host + "` and rank " + std::to_string(rank) + " on `" + other.host + "`";
    if (other.boot != first.boot) failed("the ranks have to be on one machine, and " + both + "; use Gloo");
    if (other.network != first.network) {
      failed("the ranks have to be in one network namespace, and those of rank 0 and rank " + std::to_string(rank) +
             " are two, on one machine; use Gloo, or containers that share one");
    }
  }
}

// The name of a rank's socket: in no folder, so that nothing is left behind.
std::pair<sockaddr_un, socklen_t> address_of(const Place& place) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = "kf-group-" + std::string(place.secret.data(), place.secret.size() / 2);
  memcpy(address.sun_path + 1, path.data(), path.size());
  return {address, static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + path.size())};
}

Descriptor new_socket() {
  Descriptor made(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (made.number < 0) failed_with("no socket");
  return made;
}

// With room for others than the ranks.
Descriptor listen_at(const Place& place) {
  Descriptor listener = new_socket();
  const auto [address, length] = address_of(place);
  if (bind(listener.number, reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
      listen(listener.number, 2 * MOST_RANKS) != 0) {
    failed_with("no socket to listen at");
  }
  return listener;
}

Millis until(Clock::time_point deadline) {
  return std::max(Millis(0), std::chrono::ceil<Millis>(deadline - Clock::now()));
}

// Whether there is something to read before the deadline.
bool readable(int socket, Clock::time_point deadline) {
  for (;;) {
    pollfd one{socket, POLLIN, 0};
    const auto left = std::min<Millis>(until(deadline), Millis(60000));
    const int ready = poll(&one, 1, static_cast<int>(left.count()));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) failed_with("a socket can't be waited for");
    if (Clock::now() >= deadline) return false;
  }
}

// Whether the other side is a process of the same user; its process as a descriptor, where that can be had.
bool same_user(int socket, Descriptor& process) {
  ucred them{};
  socklen_t length = sizeof(them);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &them, &length) != 0 || them.uid != geteuid()) return false;
#ifdef SYS_pidfd_open
  // None where the other is in a process namespace that is not seen from here.
  if (them.pid > 0) process = Descriptor(static_cast<int>(syscall(SYS_pidfd_open, them.pid, 0)));
#endif
  return true;
}

struct Tied {
  Descriptor socket, process;
};

Tied connect_to(int other, const Place& place, const Greeting& greeting) {
  Tied tied{new_socket(), {}};
  const auto [address, length] = address_of(place);
  if (connect(tied.socket.number, reinterpret_cast<const sockaddr*>(&address), length) != 0) {
    failed_with(named(other) + " can't be reached on this machine");
  }
  if (!same_user(tied.socket.number, tied.process)) failed(named(other) + " runs as another user");
  Greeting to = greeting;
  to.secret = place.secret;
  if (send(tied.socket.number, &to, sizeof(to), MSG_NOSIGNAL) != sizeof(to)) failed_with(named(other) + " can't be greeted");
  return tied;
}

// Waits for the ranks above this one, whoever else may come.
void accept_others(int listener, int rank, int size, const Secret& secret, Clock::time_point deadline,
                   std::vector<Tied>& ties) {
  for (int missing = size - rank - 1; missing > 0;) {
    if (!readable(listener, deadline)) {
      std::string absent;
      for (int other = rank + 1; other < size; ++other) {
        if (ties[other].socket.number < 0) absent += (absent.empty() ? "" : ", ") + named(other);
      }
      failed("timed out waiting for " + absent + " to connect");
    }
    Tied tied{Descriptor(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)), {}};
    const int socket = tied.socket.number;
    if (socket < 0 || !same_user(socket, tied.process)) continue;
    if (!readable(socket, std::min(deadline, Clock::now() + Millis(1000)))) continue;
    Greeting greeting;
    if (recv(socket, &greeting, sizeof(greeting), MSG_DONTWAIT) != sizeof(greeting)) continue;
    if (greeting.version != VERSION || greeting.size != size || greeting.secret != secret) continue;
    if (greeting.rank <= rank || greeting.rank >= size || ties[greeting.rank].socket.number >= 0) continue;
    ties[greeting.rank] = std::move(tied);
    --missing;
  }
}

void give(int socket, int file, int to) {
  uint64_t version = VERSION;
  iovec data{&version, sizeof(version)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* const head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(head), &file, sizeof(int));
  if (sendmsg(socket, &message, MSG_NOSIGNAL) < 0) failed_with(named(to) + " can't be given the memory");
}

Descriptor take(int socket, Clock::time_point deadline) {
  if (!readable(socket, deadline)) failed("timed out waiting for rank 0 to give the memory");
  uint64_t version = 0;
  iovec data{&version, sizeof(version)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  const cmsghdr* const head = got < 0 ? nullptr : CMSG_FIRSTHDR(&message);
  Descriptor file;
  if (head != nullptr && head->cmsg_type == SCM_RIGHTS && head->cmsg_len == CMSG_LEN(sizeof(int))) {
    memcpy(&file.number, CMSG_DATA(head), sizeof(int));
  }
  if (got == 0) failed("rank 0 is gone: it left while the ranks met");
  if (got != sizeof(version) || version != VERSION || file.number < 0) failed("rank 0 gives no memory, or of another version");
  return file;
}

} // namespace

std::unique_ptr<Peers> meet(c10d::Store& store, int rank, int size, Clock::time_point deadline) {
  if (size > MOST_RANKS) {
    failed("at most " + std::to_string(MOST_RANKS) + " ranks share memory, and these are " + std::to_string(size));
  }
  const Place own = own_place();
  const Descriptor listener = listen_at(own);
  const auto key = [](int of) { return "place/" + std::to_string(of); };
  store.set(key(rank), packed(own));
  std::vector<Place> places;
  for (int other = 0; other < size; ++other) {
    store.wait({key(other)}, std::max(until(deadline), Millis(1)));
    places.push_back(unpacked(store.get(key(other)), other));
  }
  check_places(places);

  std::vector<Tied> tied(size);
  Greeting greeting;
  greeting.rank = rank;
  greeting.size = size;
  for (int other = 0; other < rank; ++other) tied[other] = connect_to(other, places[other], greeting);
  accept_others(listener.number, rank, size, own.secret, deadline, tied);

  Descriptor file;
  if (rank == 0) {
    file = Descriptor(Segment::create(size));
    for (int other = 1; other < size; ++other) give(tied[other].socket.number, file.number, other);
  } else {
    file = take(tied[0].socket.number, deadline);
  }
  Segment segment(file.number, size);
  std::vector<Tie> ties;
  for (Tied& one : tied) ties.push_back({one.socket.release(), one.process.release()});
  return std::make_unique<Peers>(std::move(segment), rank, size, std::move(ties));
}

} // namespace shm
