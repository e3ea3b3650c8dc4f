// A store that this side of the interface holds only the handle of: every call goes to the functions it was made with.
#include "kf.h"

struct KfBytes {
  const uint8_t* at;
  size_t length;
};

struct KfRequest {
  int kind;
  const KfBytes* keys;
  size_t keys_count;
  const KfBytes* values;
  size_t values_count;
  int64_t amount;
  int64_t timeout_ms;
};

// Takes a value, or the message of a call that failed.
using KfGive = void (*)(void* sink, const uint8_t* bytes, size_t length);

struct KfKeyValue {
  int (*call)(void* context, const KfRequest* request, int64_t* number, void* sink, KfGive give);
  // Another connection to the same; null, with a message, where there is none.
  void* (*again)(void* context, void* sink, KfGive give);
  void (*drop)(void* context);
};

namespace {

using Bytes = std::vector<uint8_t>;

enum Kind : int { SET, GET, WAIT, CHECK, ADD, COMPARE_SET, APPEND, REMOVE, COUNT };

// Called from across the interface, which no exception crosses.
void take(void* sink, const uint8_t* bytes, size_t length) noexcept {
  static_cast<std::vector<Bytes>*>(sink)->emplace_back(bytes, bytes + length);
}

// A panic or what else may leave nothing behind.
[[noreturn]] void refused(const std::vector<Bytes>& said) {
  const Bytes none;
  const Bytes& last = said.empty() ? none : said.back();
  C10_THROW_ERROR(DistStoreError, std::string(last.begin(), last.end()));
}

KfBytes bytes_of(const std::string& text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }
KfBytes bytes_of(const Bytes& bytes) { return {bytes.data(), bytes.size()}; }

template <typename Parts>
std::vector<KfBytes> all(const Parts& parts) {
  std::vector<KfBytes> bytes;
  for (const auto& part : parts) bytes.push_back(bytes_of(part));
  return bytes;
}

class KeyValue final : public c10d::Store {
 public:
  KeyValue(const KfKeyValue& calls, void* context, Millis timeout) : Store(timeout), calls_(calls), context_(context) {}
  KeyValue(const KeyValue&) = delete;
  KeyValue& operator=(const KeyValue&) = delete;
  ~KeyValue() override { calls_.drop(context_); }

  c10::intrusive_ptr<Store> clone() override {
    std::vector<Bytes> said;
    void* const context = calls_.again(context_, &said, take);
    if (context == nullptr) refused(said);
    return c10::make_intrusive<KeyValue>(calls_, context, timeout_);
  }

  void set(const std::string& key, const Bytes& value) override { ask(SET, {bytes_of(key)}, {bytes_of(value)}); }

  Bytes compareSet(const std::string& key, const Bytes& expected, const Bytes& desired) override {
    return only(ask(COMPARE_SET, {bytes_of(key)}, {bytes_of(expected), bytes_of(desired)}));
  }

  Bytes get(const std::string& key) override { return only(ask(GET, {bytes_of(key)}, {})); }

  int64_t add(const std::string& key, int64_t value) override {
    int64_t sum = 0;
    ask(ADD, {bytes_of(key)}, {}, timeout_, value, &sum);
    return sum;
  }

  bool deleteKey(const std::string& key) override {
    int64_t was_there = 0;
    ask(REMOVE, {bytes_of(key)}, {}, timeout_, 0, &was_there);
    return was_there != 0;
  }

  bool check(const std::vector<std::string>& keys) override {
    int64_t there = 0;
    ask(CHECK, all(keys), {}, timeout_, 0, &there);
    return there != 0;
  }

  int64_t getNumKeys() override {
    int64_t count = 0;
    ask(COUNT, {}, {}, timeout_, 0, &count);
    return count;
  }

  void wait(const std::vector<std::string>& keys) override { wait(keys, timeout_); }
  void wait(const std::vector<std::string>& keys, const Millis& timeout) override { ask(WAIT, all(keys), {}, timeout); }

  void append(const std::string& key, const Bytes& value) override {
    ask(APPEND, {bytes_of(key)}, {bytes_of(value)});
  }

  std::vector<Bytes> multiGet(const std::vector<std::string>& keys) override { return ask(GET, all(keys), {}); }

  void multiSet(const std::vector<std::string>& keys, const std::vector<Bytes>& values) override {
    if (keys.size() != values.size()) C10_THROW_ERROR(DistStoreError, "as many values as keys are to be set");
    ask(SET, all(keys), all(values));
  }

  bool hasExtendedApi() const override { return true; }

 private:
  std::vector<Bytes> ask(Kind kind, const std::vector<KfBytes>& keys, const std::vector<KfBytes>& values) {
    return ask(kind, keys, values, timeout_);
  }

  std::vector<Bytes> ask(Kind kind, const std::vector<KfBytes>& keys, const std::vector<KfBytes>& values, Millis timeout,
                         int64_t amount = 0, int64_t* number = nullptr) {
    int64_t unread = 0;
    const KfRequest request{
        kind, keys.data(), keys.size(), values.data(), values.size(), amount, static_cast<int64_t>(timeout.count())};
    std::vector<Bytes> given;
    if (calls_.call(context_, &request, number == nullptr ? &unread : number, &given, take) != OK) refused(given);
    return given;
  }

  static Bytes only(std::vector<Bytes> given) {
    if (given.size() != 1) C10_THROW_ERROR(DistStoreError, "the store gave no value");
    return std::move(given.front());
  }

  const KfKeyValue calls_;
  void* const context_;
};

} // namespace

extern "C" {

// Takes the context over, in any case.
int kf_store_of(const KfKeyValue* calls, void* context, int64_t timeout_ms, KfStore** out, char** message) {
  return guarded(message,
                 [&] { *out = new KfStore{c10::make_intrusive<KeyValue>(*calls, context, Millis(timeout_ms))}; });
}

} // extern "C"
