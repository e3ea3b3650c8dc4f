// Stores, and groups over Gloo.
#define USE_C10D_GLOO

#include <sstream>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "kf.h"
#include "slot.h"

extern "C" {

void kf_message_free(char* message) { free(message); }
void kf_bytes_free(uint8_t* bytes) { free(bytes); }

int kf_store_tcp(const char* host, uint16_t port, int is_server, int listen_fd, int64_t timeout_ms, KfStore** out,
                 char** message) {
  return guarded(message, [&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = is_server != 0;
    // Who has joined is counted by the caller, who can then name the ones that have not.
    options.waitWorkers = false;
    options.timeout = Millis(timeout_ms);
    if (listen_fd >= 0) options.masterListenFd = listen_fd;
    *out = new KfStore{c10::make_intrusive<c10d::TCPStore>(host, options)};
  });
}

int kf_store_prefixed(const KfStore* store, const char* prefix, KfStore** out, char** message) {
  return guarded(message, [&] { *out = new KfStore{c10::make_intrusive<c10d::PrefixStore>(prefix, store->store)}; });
}

void kf_store_free(KfStore* store) {
  char* message = nullptr;
  guarded(&message, [&] { delete store; });
  free(message);
}

int kf_store_set(const KfStore* store, const char* key, const uint8_t* bytes, size_t length, char** message) {
  return guarded(message, [&] { store->store->set(key, std::vector<uint8_t>(bytes, bytes + length)); });
}

int kf_store_get(const KfStore* store, const char* key, int64_t timeout_ms, uint8_t** bytes, size_t* length,
                 char** message) {
  return guarded(message, [&] {
    store->store->wait({key}, Millis(timeout_ms));
    const std::vector<uint8_t> value = store->store->get(key);
    *bytes = static_cast<uint8_t*>(malloc(value.size() + 1));
    if (*bytes == nullptr) throw std::bad_alloc();
    memcpy(*bytes, value.data(), value.size());
    *length = value.size();
  });
}

int kf_store_check(const KfStore* store, const char* key, int* exists, char** message) {
  return guarded(message, [&] { *exists = store->store->check({key}) ? 1 : 0; });
}

int kf_store_add(const KfStore* store, const char* key, int64_t amount, int64_t* sum, char** message) {
  return guarded(message, [&] { *sum = store->store->add(key, amount); });
}

int kf_group_gloo(const KfStore* store, int rank, int size, const char* address, int is_interface,
                  int64_t connect_ms, int64_t timeout_ms, KfGroup** out, char** message) {
  return guarded(message, [&] {
    auto options = c10d::ProcessGroupGloo::Options::create(Millis(connect_ms));
    if (is_interface != 0) {
      std::istringstream names(address);
      for (std::string name; std::getline(names, name, ',');) {
        options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForInterface(name, false));
      }
    } else {
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address, false));
    }
    auto backend = c10::make_intrusive<c10d::ProcessGroupGloo>(store->store, rank, size, options);
    backend->setTimeout(Millis(timeout_ms));
    auto group = c10::make_intrusive<c10d::ProcessGroup>(store->store, rank, size);
    group->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::GLOO, backend);
    group->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
    *out = new KfGroup{group, backend, nullptr, /*futures=*/true};
  });
}

void kf_group_free(KfGroup* group) {
  char* message = nullptr;
  guarded(&message, [&] {
    leave(*group);
    delete group;
  });
  free(message);
}

} // extern "C"
