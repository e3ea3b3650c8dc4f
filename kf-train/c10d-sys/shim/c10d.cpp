// Stores, groups over Gloo, the reducer.
#define USE_C10D_GLOO

#include <algorithm>
#include <sstream>
#include <unordered_map>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <torch/headeronly/version.h>

#include "kf.h"

struct KfReducer {
  std::unique_ptr<c10d::Reducer> reducer;
};

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

int kf_store_clone(const KfStore* store, KfStore** out, char** message) {
  return guarded(message, [&] { *out = new KfStore{store->store->clone()}; });
}

// One message for all keys, which must be there. The values follow one another; `lengths` has room for theirs.
int kf_store_get_all(const KfStore* store, const char* const* keys, size_t count, uint8_t** bytes, size_t* lengths,
                     char** message) {
  return guarded(message, [&] {
    const auto values = store->store->multiGet(std::vector<std::string>(keys, keys + count));
    size_t total = 0;
    for (size_t i = 0; i < count; ++i) total += lengths[i] = values.at(i).size();
    *bytes = static_cast<uint8_t*>(malloc(total + 1));
    if (*bytes == nullptr) throw std::bad_alloc();
    uint8_t* to = *bytes;
    for (const auto& value : values) to = std::copy(value.begin(), value.end(), to);
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
  guarded(&message, [&] { delete group; });
  free(message);
}

int kf_reducer_new(const KfGroup* group, at::Tensor* const* parameters, const char* const* names, size_t count,
                   int64_t first_bucket_bytes, int64_t bucket_bytes, int find_unused, int gradient_views,
                   KfReducer** out, char** message) {
  return guarded(message, [&] {
    std::vector<at::Tensor> tensors;
    std::unordered_map<size_t, std::string> name_of;
    for (size_t i = 0; i < count; ++i) {
      tensors.push_back(*parameters[i]);
      name_of.emplace(i, names[i]);
    }
    const std::vector<bool> sparse(count, false);
    auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(
        tensors, {static_cast<size_t>(first_bucket_bytes), static_cast<size_t>(bucket_bytes)}, sparse);
    // Gradients come in about the reverse order of definition.
    std::vector<std::vector<size_t>> reversed(buckets.rbegin(), buckets.rend());
    *out = new KfReducer{std::make_unique<c10d::Reducer>(
        tensors, reversed, group->group, sparse, bucket_bytes, find_unused != 0, gradient_views != 0, name_of,
        first_bucket_bytes, /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
        std::vector<int64_t>{}
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 13
        , false
#endif
        )};
  });
}

void kf_reducer_free(KfReducer* reducer) {
  char* message = nullptr;
  guarded(&message, [&] { delete reducer; });
  free(message);
}

int kf_reducer_prepare(const KfReducer* reducer, at::Tensor* loss, char** message) {
  return guarded(message, [&] {
    reducer->reducer->rebuild_buckets();
    reducer->reducer->prepare_for_forward();
    std::vector<at::Tensor> outputs;
    if (loss != nullptr) outputs.push_back(*loss);
    reducer->reducer->prepare_for_backward(outputs);
  });
}

} // extern "C"
