// A backend of c10d for ranks on one machine.
#include "../kf.h"

#include "lane.h"
#include "meet.h"

namespace shm {

namespace {

[[noreturn]] void refused(const std::string& what) { throw std::invalid_argument("shared memory: " + what); }

Type type_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat: return Type::F32;
    case at::kDouble: return Type::F64;
    case at::kHalf: return Type::F16;
    case at::kBFloat16: return Type::BF16;
    case at::kByte: return Type::U8;
    case at::kChar: return Type::I8;
    case at::kShort: return Type::I16;
    case at::kInt: return Type::I32;
    case at::kLong: return Type::I64;
    case at::kBool: return Type::BOOL;
    default: refused(std::string("tensors of type ") + toString(tensor.scalar_type()) + " are not carried");
  }
}

Op op_of(const c10d::ReduceOp& op, Type type) {
  const bool floats = type == Type::F32 || type == Type::F64 || type == Type::F16 || type == Type::BF16;
  switch (static_cast<c10d::ReduceOp::RedOpType>(op)) {
    case c10d::ReduceOp::SUM: return Op::SUM;
    case c10d::ReduceOp::AVG:
      if (!floats) refused(std::string("a mean of ") + name(type) + " is not one; take the sum");
      return Op::AVG;
    case c10d::ReduceOp::PRODUCT: return Op::PRODUCT;
    case c10d::ReduceOp::MIN: return Op::MIN;
    case c10d::ReduceOp::MAX: return Op::MAX;
    default: refused("only sums, means, products, minima and maxima are reduced to");
  }
}

using Tensors = std::vector<at::Tensor>;

const at::Tensor& only(const Tensors& tensors) {
  if (tensors.size() != 1) refused("one tensor a rank is expected, and " + std::to_string(tensors.size()) + " are given");
  return tensors.front();
}

class Backend final : public c10d::Backend {
 public:
  Backend(std::unique_ptr<Peers> peers, Millis timeout)
      : c10d::Backend(peers->rank(), peers->size()),
        peers_(std::move(peers)),
        options_(c10::make_intrusive<Options>("kf-shared-memory", timeout)),
        collectives_(*peers_, COLLECTIVES),
        messages_(*peers_, MESSAGES) {}

  const std::string getBackendName() const override { return options_->backend; }
  c10::intrusive_ptr<Options> getBackendOptions() override { return options_; }
  void setTimeout(Millis timeout) override { options_->timeout = timeout; }
  void abort() override { peers_->fail(Fault::ABORTED, rank_, "the group was aborted: drop it, and join another on every rank"); }

  c10::intrusive_ptr<c10d::Work> broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override {
    Made made(c10d::OpType::BROADCAST, Kind::BROADCAST, only(tensors));
    made.call.root = root(options.rootRank);
    made.out(only(tensors));
    return add(made, options);
  }

  c10::intrusive_ptr<c10d::Work> allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) override {
    Made made(c10d::OpType::ALLREDUCE, Kind::ALL_REDUCE, only(tensors));
    made.call.op = op_of(options.reduceOp, made.call.type);
    made.out(only(tensors));
    return add(made, options);
  }

  c10::intrusive_ptr<c10d::Work> reduce(Tensors& tensors, const c10d::ReduceOptions& options) override {
    Made made(c10d::OpType::REDUCE, Kind::REDUCE, only(tensors));
    made.call.op = op_of(options.reduceOp, made.call.type);
    made.call.root = root(options.rootRank);
    made.out(only(tensors));
    return add(made, options);
  }

  c10::intrusive_ptr<c10d::Work> _allgather_base(at::Tensor& output, at::Tensor& input,
                                                 const c10d::AllgatherOptions& options) override {
    Made made(c10d::OpType::_ALLGATHER_BASE, Kind::ALL_GATHER, input);
    made.in(input);
    made.out_parts(output, size_);
    return add(made, options);
  }

  c10::intrusive_ptr<c10d::Work> allgather(std::vector<Tensors>& outputs, Tensors& inputs,
                                           const c10d::AllgatherOptions& options) override {
    Made made(c10d::OpType::ALLGATHER, Kind::ALL_GATHER, only(inputs));
    made.in(only(inputs));
    made.out_each(outputs, size_);
    return add(made, options);
  }

  c10::intrusive_ptr<c10d::Work> _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                                                      const c10d::ReduceScatterOptions& options) override {
    Made made(c10d::OpType::_REDUCE_SCATTER_BASE, Kind::REDUCE_SCATTER, output);
    made.call.op = op_of(options.reduceOp, made.call.type);
    made.in_parts(input, size_);
    made.out(output);
    return add(made, options);
  }

  c10::intrusive_ptr<c10d::Work> reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                                                const c10d::ReduceScatterOptions& options) override {
    Made made(c10d::OpType::REDUCE_SCATTER, Kind::REDUCE_SCATTER, only(outputs));
    made.call.op = op_of(options.reduceOp, made.call.type);
    made.in_each(inputs, size_);
    made.out(only(outputs));
    return add(made, options);
  }

  c10::intrusive_ptr<c10d::Work> gather(std::vector<Tensors>& outputs, Tensors& inputs,
                                        const c10d::GatherOptions& options) override {
    Made made(c10d::OpType::GATHER, Kind::GATHER, only(inputs));
    made.call.root = root(options.rootRank);
    made.in(only(inputs));
    if (rank_ == options.rootRank) made.out_each(outputs, size_);
    return add(made, options);
  }

  c10::intrusive_ptr<c10d::Work> scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                                         const c10d::ScatterOptions& options) override {
    Made made(c10d::OpType::SCATTER, Kind::SCATTER, only(outputs));
    made.call.root = root(options.rootRank);
    if (rank_ == options.rootRank) made.in_each(inputs, size_);
    made.out(only(outputs));
    return add(made, options);
  }

  c10::intrusive_ptr<c10d::Work> alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>& to,
                                               std::vector<int64_t>& from,
                                               const c10d::AllToAllOptions& options) override {
    if (!to.empty() || !from.empty()) refused("all_to_all takes parts of equal size only");
    if (input.numel() % size_ != 0) {
      refused("all_to_all of " + std::to_string(input.numel()) + " elements can't be cut for " + std::to_string(size_) +
              " ranks");
    }
    Made made(c10d::OpType::ALLTOALL_BASE, Kind::ALL_TO_ALL, input);
    made.call.count /= size_;
    made.in_parts(input, size_);
    made.out_parts(output, size_);
    return add(made, options);
  }

  c10::intrusive_ptr<c10d::Work> send(Tensors& tensors, int to, int tag) override {
    Made made(c10d::OpType::SEND, Kind::SEND, only(tensors));
    made.call.root = other(to, tag);
    made.in(only(tensors));
    return add(made, messages_, c10d::kUnsetTimeout);
  }

  c10::intrusive_ptr<c10d::Work> recv(Tensors& tensors, int from, int tag) override {
    Made made(c10d::OpType::RECV, Kind::RECV, only(tensors));
    made.call.root = other(from, tag);
    made.out(only(tensors));
    return add(made, messages_, c10d::kUnsetTimeout);
  }

  c10::intrusive_ptr<c10d::Work> barrier(const c10d::BarrierOptions& options) override {
    return add(Made(c10d::OpType::BARRIER, Kind::BARRIER), options);
  }

 private:
  // A call as it is put together from tensors, which are checked.
  struct Made {
    Made(c10d::OpType kind, Kind name) : type(kind), call{name} {}
    // Of as many elements as the tensor has.
    Made(c10d::OpType kind, Kind name, const at::Tensor& like) : Made(kind, name) {
      check(like);
      call.type = type_of(like);
      call.count = like.numel();
    }

    void check(const at::Tensor& tensor) const {
      if (!tensor.defined() || !tensor.device().is_cpu() || tensor.layout() != at::kStrided || !tensor.is_contiguous()) {
        refused(std::string(shm::name(call.kind)) + " takes tensors in the machine's memory that are dense and contiguous");
      }
    }

    std::byte* data(const at::Tensor& tensor, size_t parts) const {
      check(tensor);
      if (type_of(tensor) != call.type || static_cast<size_t>(tensor.numel()) != call.count * parts) {
        refused(std::string(shm::name(call.kind)) + " takes " + std::to_string(call.count * parts) + " × " +
                shm::name(call.type) + " here, and " + std::to_string(tensor.numel()) + " × " +
                toString(tensor.scalar_type()) + " are given");
      }
      return static_cast<std::byte*>(tensor.data_ptr());
    }

    void in(const at::Tensor& tensor) { in_parts(tensor, 1); }
    void out(const at::Tensor& tensor) { out_parts(tensor, 1); }

    void in_parts(const at::Tensor& tensor, size_t parts) {
      const std::byte* const at = data(tensor, parts);
      for (size_t part = 0; part < parts; ++part) call.inputs.push_back(at + part * call.bytes());
      inputs.push_back(tensor);
    }

    void out_parts(const at::Tensor& tensor, size_t parts) {
      std::byte* const at = data(tensor, parts);
      for (size_t part = 0; part < parts; ++part) call.outputs.push_back(at + part * call.bytes());
      outputs.push_back(tensor);
    }

    const Tensors& each(const std::vector<Tensors>& lists, int ranks) const {
      if (lists.size() != 1 || lists.front().size() != static_cast<size_t>(ranks)) {
        refused(std::string(shm::name(call.kind)) + " takes a tensor for each of " + std::to_string(ranks) + " ranks");
      }
      return lists.front();
    }

    void in_each(const std::vector<Tensors>& lists, int ranks) {
      for (const at::Tensor& tensor : each(lists, ranks)) in(tensor);
    }

    void out_each(const std::vector<Tensors>& lists, int ranks) {
      for (const at::Tensor& tensor : each(lists, ranks)) out(tensor);
    }

    c10d::OpType type;
    Call call;
    Tensors inputs, outputs;
  };

  int root(int64_t rank) const {
    if (rank < 0 || rank >= size_) refused("there is no rank " + std::to_string(rank));
    return static_cast<int>(rank);
  }

  int other(int rank, int tag) const {
    if (tag != 0) refused("messages have no tags: they arrive in the order in which they were sent");
    if (rank == rank_) refused("a rank sends no messages to itself");
    return root(rank);
  }

  template <typename Options>
  c10::intrusive_ptr<c10d::Work> add(Made made, const Options& options) {
    return add(std::move(made), collectives_, options.timeout);
  }

  c10::intrusive_ptr<c10d::Work> add(Made made, Lane& lane, Millis timeout) {
    if (timeout == c10d::kUnsetTimeout) timeout = options_->timeout;
    auto work = c10::make_intrusive<Work>(rank_, made.type, std::move(made.call), std::move(made.inputs),
                                          std::move(made.outputs), Clock::now() + timeout);
    lane.add(work);
    return work;
  }

  // In this order: the lanes use the peers while they end.
  const std::unique_ptr<Peers> peers_;
  const c10::intrusive_ptr<Options> options_;
  Lane collectives_;
  Lane messages_;
};

} // namespace

} // namespace shm

extern "C" {

int kf_group_shared_memory(const KfStore* store, int rank, int size, int64_t connect_ms, int64_t timeout_ms,
                           KfGroup** out, char** message) {
  return guarded(message, [&] {
    const auto deadline = shm::Clock::now() + Millis(connect_ms);
    auto backend = c10::make_intrusive<shm::Backend>(shm::meet(*store->store, rank, size, deadline), Millis(connect_ms));
    // All have the memory, or none has a group.
    backend->barrier({})->wait();
    backend->setTimeout(Millis(timeout_ms));
    auto group = c10::make_intrusive<c10d::ProcessGroup>(store->store, rank, size);
    group->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::CUSTOM, backend);
    group->setDefaultBackend(c10d::ProcessGroup::BackendType::CUSTOM);
    *out = new KfGroup{group, backend, nullptr, /*futures=*/true};
  });
}

} // extern "C"
