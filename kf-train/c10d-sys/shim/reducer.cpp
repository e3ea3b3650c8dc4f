// The reducer, its compression of what ranks exchange, and what a rank without batches does meanwhile.
#include <unordered_map>
#include <unordered_set>

#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <torch/headeronly/version.h>

#include "kf.h"
#include "slot.h"

namespace {

// What the reducer and its hook know of the present pass.
struct Pass {
  c10::intrusive_ptr<c10d::ProcessGroup> group;
  double divisor = 1;
};

// Averages buckets in a type of half the size. Divides before it converts: the sum stays as small as the mean.
class Compress final : public c10d::CppCommHookInterface<std::shared_ptr<Pass>> {
 public:
  Compress(std::shared_ptr<Pass> pass, at::ScalarType kind) : CppCommHookInterface(std::move(pass)), kind_(kind) {}

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    at::Tensor whole = bucket.getBufferRef();
    whole.div_(state_->divisor);
    std::vector<at::Tensor> small{whole.to(kind_)};
    auto exchanged = state_->group->allreduce(small)->getFuture();
    return exchanged->then(
        [whole](c10::ivalue::Future& exchanged) {
          whole.copy_(c10d::detail::parseCppCommHookResult(exchanged.value()));
          return c10::IValue(std::vector<at::Tensor>{whole});
        },
        exchanged->elementType());
  }

 private:
  const at::ScalarType kind_;
};

// A work that is done, and whose result is the number that gradients are divided by.
c10::intrusive_ptr<c10d::Work> divisor_work(int64_t divisor) {
  auto future = c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()));
  future->markCompleted(c10::IValue(std::vector<at::Tensor>{at::scalar_tensor(divisor, at::kLong)}));
  return c10d::Work::create_from_future(future);
}

} // namespace

struct KfReducer {
  std::unique_ptr<c10d::Reducer> reducer;
  std::shared_ptr<Pass> pass;
  // How buckets are before the first pass, on every rank alike.
  std::vector<std::vector<size_t>> buckets;
  std::vector<at::Tensor> parameters;
  bool find_unused;
  // None for a group that is never replaced.
  std::shared_ptr<Slot> slot;
};

namespace {

// Readies the buckets, as all ranks do before each pass. Gradients are divided by the divisor, or by the number of ranks
// where that is 0.
void prepare(KfReducer& reducer, int64_t divisor) {
  Pass& pass = *reducer.pass;
  if (reducer.slot) {
    auto group = reducer.slot->ready();
    if (group != pass.group) {
      // Ranks may have parted in the middle of a pass, and new ones have seen none.
      reducer.reducer->reset_state();
      reducer.reducer->initialize_buckets(reducer.buckets);
      reducer.reducer->update_process_group(group);
      pass.group = group;
    }
  }
  pass.divisor = divisor > 0 ? divisor : pass.group->getSize();
  reducer.reducer->rebuild_buckets();
}

} // namespace

extern "C" {

int kf_reducer_new(const KfGroup* group, at::Tensor* const* parameters, const char* const* names, size_t count,
                   int64_t first_bucket_bytes, int64_t bucket_bytes, int find_unused, int gradient_views,
                   int compression, KfReducer** out, char** message) {
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
    auto pass = std::make_shared<Pass>(Pass{group->group, 1});
    auto reducer = std::make_unique<c10d::Reducer>(
        tensors, reversed, group->group, sparse, bucket_bytes, find_unused != 0, gradient_views != 0, name_of,
        first_bucket_bytes, /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
        std::vector<int64_t>{}
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 13
        , false
#endif
    );
    if (compression != 0) {
      const auto kind = compression == 1 ? at::kHalf : at::kBFloat16;
      reducer->register_comm_hook(std::make_unique<Compress>(pass, kind));
    }
    *out = new KfReducer{std::move(reducer), pass, reversed, tensors, find_unused != 0, group->slot};
  });
}

void kf_reducer_free(KfReducer* reducer) {
  char* message = nullptr;
  guarded(&message, [&] { delete reducer; });
  free(message);
}

int kf_reducer_prepare(KfReducer* reducer, at::Tensor* loss, int64_t divisor, char** message) {
  return guarded(message, [&] {
    prepare(*reducer, divisor);
    reducer->reducer->set_forward_pass_work_handle(divisor > 0 ? divisor_work(divisor) : nullptr, divisor <= 0);
    reducer->reducer->prepare_for_forward();
    std::vector<at::Tensor> outputs;
    if (loss != nullptr) outputs.push_back(*loss);
    reducer->reducer->prepare_for_backward(outputs);
  });
}

// Takes part in the pass of the others with gradients of zero, and leaves the same gradients as theirs.
int kf_reducer_shadow(KfReducer* reducer, int64_t divisor, char** message) {
  return guarded(message, [&] {
    at::NoGradGuard no_grad;
    prepare(*reducer, divisor);
    c10d::Reducer& all = *reducer->reducer;
    std::vector<c10d::GradBucket> buckets = all.get_grad_buckets(/*return_zero_tensors=*/true);
    std::vector<c10::intrusive_ptr<c10::ivalue::Future>> futures;
    for (auto& bucket : buckets) futures.push_back(all.run_comm_hook(bucket));
    std::unordered_set<const c10::TensorImpl*> unused;
    if (reducer->find_unused) {
      at::Tensor used = all.get_local_used_map_on_device().zero_();
      std::vector<at::Tensor> used_anywhere{used};
      reducer->pass->group->allreduce(used_anywhere)->wait();
      used = used.cpu();
      for (size_t i = 0; i < reducer->parameters.size(); ++i) {
        if (used[i].item<int>() == 0) unused.insert(reducer->parameters[i].unsafeGetTensorImpl());
      }
    }
    for (const auto& future : futures) future->waitAndThrow();
    // Where the group has failed, nothing came.
    if (reducer->slot) reducer->slot->ready();
    for (size_t i = 0; i < buckets.size(); ++i) {
      at::Tensor whole = c10d::detail::parseCppCommHookResult(futures[i]->value());
      buckets[i].setBuffer(whole);
      const auto parameters = buckets[i].getParameters();
      const auto gradients = buckets[i].getGradients();
      for (size_t j = 0; j < parameters.size(); ++j) {
        if (unused.count(parameters[j].unsafeGetTensorImpl()) > 0) continue;
        at::Tensor& gradient = parameters[j].mutable_grad();
        if (gradient.defined()) gradient.copy_(gradients[j]);
        else gradient = gradients[j].clone();
      }
    }
    all.push_rebuilt_params_for_all_indices();
  });
}

} // extern "C"
