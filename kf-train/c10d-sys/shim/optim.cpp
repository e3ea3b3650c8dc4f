// What training needs of libtorch and tch does not reach: fused optimizer steps, gradients forgotten or unscaled, autocast.
#include <ATen/Functions.h>
#include <ATen/autocast_mode.h>

#include "kf.h"

namespace {

using Tensors = std::vector<at::Tensor>;
using Pointers = at::Tensor* const*;

Tensors list(Pointers tensors, size_t count) {
  Tensors all;
  for (size_t i = 0; tensors != nullptr && i < count; ++i) all.push_back(*tensors[i]);
  return all;
}

// The kernels read and write plain memory, and take it that all tensors of a parameter are alike.
void check_alike(const Tensors& parameters, const Tensors& others, const char* what) {
  if (others.empty()) return;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto &parameter = parameters[i], &other = others[i];
    if (parameter.is_contiguous() && other.is_contiguous() && other.sizes() == parameter.sizes() &&
        other.scalar_type() == parameter.scalar_type() && other.device() == parameter.device()) {
      continue;
    }
    throw std::runtime_error(std::string(what) + " " + std::to_string(i) +
                             " is not contiguous, or not of its parameter's shape, type and device");
  }
}

// The gradients as the kernels take them.
Tensors gradients_of(Pointers gradients, const Tensors& parameters) {
  Tensors all = list(gradients, parameters.size());
  for (auto& gradient : all) gradient = gradient.contiguous();
  check_alike(parameters, all, "gradient");
  return all;
}

} // namespace

extern "C" {

// The moments are of as many steps as the counts say, the one to make among them; largest may be null.
int kf_adam_step(Pointers parameters, Pointers gradients, Pointers first, Pointers second, Pointers largest,
                 const int64_t* steps, size_t count, double lr, double beta1, double beta2, double decay, double eps,
                 int decoupled, char** message) {
  return guarded(message, [&] {
    at::NoGradGuard no_grad;
    Tensors own = list(parameters, count);
    Tensors slopes = gradients_of(gradients, own);
    Tensors means = list(first, count), squares = list(second, count), maxima = list(largest, count);
    check_alike(own, means, "first moment");
    check_alike(own, squares, "second moment");
    check_alike(own, maxima, "largest second moment");
    Tensors counts;
    for (size_t i = 0; i < count; ++i) {
      if (i > 0 && steps[i] == steps[i - 1]) counts.push_back(counts.back());
      else counts.push_back(at::full({}, static_cast<double>(steps[i]), own[i].options().dtype(at::kFloat)));
    }
    const bool amsgrad = !maxima.empty();
    if (decoupled != 0) {
      at::_fused_adamw_(own, slopes, means, squares, maxima, counts, lr, beta1, beta2, decay, eps, amsgrad, false);
    } else {
      at::_fused_adam_(own, slopes, means, squares, maxima, counts, lr, beta1, beta2, decay, eps, amsgrad, false);
    }
  });
}

// Buffers are null without momentum, and of the first step overwritten.
int kf_sgd_step(Pointers parameters, Pointers gradients, Pointers buffers, size_t count, double lr, double momentum,
                double dampening, double decay, int nesterov, int first, char** message) {
  return guarded(message, [&] {
    at::NoGradGuard no_grad;
    Tensors own = list(parameters, count);
    Tensors slopes = gradients_of(gradients, own);
    Tensors velocities = list(buffers, count);
    check_alike(own, velocities, "momentum buffer");
    at::_fused_sgd_(own, slopes, velocities, decay, momentum, lr, dampening, nesterov != 0, /*maximize=*/false,
                    first != 0);
  });
}

int kf_gradients_forget(Pointers parameters, size_t count, char** message) {
  return guarded(message, [&] {
    for (size_t i = 0; i < count; ++i) {
      if (parameters[i]->defined() && parameters[i]->grad().defined()) parameters[i]->mutable_grad().reset();
    }
  });
}

// Divides the gradients by the scale, and tells whether all are finite.
int kf_unscale(Pointers gradients, size_t count, double scale, int* finite, char** message) {
  return guarded(message, [&] {
    at::NoGradGuard no_grad;
    *finite = 1;
    Tensors all = list(gradients, count);
    if (all.empty()) return;
    const auto options = all[0].options().dtype(at::kFloat);
    at::Tensor found = at::zeros({1}, options);
    at::_amp_foreach_non_finite_check_and_unscale_(all, found, at::full({1}, 1.0 / scale, options));
    *finite = found.item<float>() == 0.0f ? 1 : 0;
  });
}

// Begins mixed precision on this thread, and tells how it was; kf_autocast_end sets that again.
int kf_autocast_begin(int cuda, int kind, int* enabled_before, int* kind_before, char** message) {
  return guarded(message, [&] {
    const auto device = cuda != 0 ? at::kCUDA : at::kCPU;
    *enabled_before = at::autocast::is_autocast_enabled(device) ? 1 : 0;
    *kind_before = static_cast<int>(at::autocast::get_autocast_dtype(device));
    // What is converted already may be of another type.
    if (*enabled_before != 0 && *kind_before != kind) at::autocast::clear_cache();
    at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(kind));
    at::autocast::set_autocast_enabled(device, true);
    at::autocast::increment_nesting();
  });
}

int kf_autocast_end(int cuda, int enabled_before, int kind_before, char** message) {
  return guarded(message, [&] {
    const auto device = cuda != 0 ? at::kCUDA : at::kCPU;
    const bool other_kind = static_cast<int>(at::autocast::get_autocast_dtype(device)) != kind_before;
    if (at::autocast::decrement_nesting() == 0 || other_kind) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device, enabled_before != 0);
    at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(kind_before));
  });
}

} // extern "C"
