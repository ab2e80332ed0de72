#ifndef NORMD_TESTS_CORE_NORM_BATCH_NORM_REFERENCE_H_
#define NORMD_TESTS_CORE_NORM_BATCH_NORM_REFERENCE_H_

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/norm/normalization.h"
#include "core/tensor/tensor_view.h"

// A plain batch norm in long double, two passes, and batches to feed it and normd with.
namespace normd {

inline absl::string_view AsBytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

// A float32 tensor of any rank with its channel axis where `layout` says.
struct TestBatch {
  std::vector<int64_t> shape;
  Layout layout = Layout::kChannelsFirst;
  std::vector<float> values;

  int64_t samples() const { return shape[0]; }
  int64_t channels() const { return layout == Layout::kChannelsLast ? shape.back() : shape[1]; }
  int64_t spatial() const {
    const int64_t rows = samples() * channels();
    return rows == 0 ? 0 : static_cast<int64_t>(values.size()) / rows;
  }
  int64_t count() const { return samples() * spatial(); }

  // Where the value of sample n and channel c at place s (row-major over the other axes) stands.
  size_t Index(int64_t n, int64_t c, int64_t s) const {
    return layout == Layout::kChannelsLast ? (n * spatial() + s) * channels() + c
                                           : (n * channels() + c) * spatial() + s;
  }

  absl::StatusOr<TensorView> View() const {
    return TensorView::Create(DataType::kFloat32, layout, shape, AsBytes(values));
  }
};

// A batch of `sizes` (N, C, then the spatial axes) in `layout`, filled by `next`.
template <class Next>
TestBatch MakeBatch(const std::vector<int64_t>& sizes, Layout layout, Next next) {
  TestBatch batch = {.shape = sizes, .layout = layout, .values = {}};
  if (layout == Layout::kChannelsLast) {
    batch.shape.erase(batch.shape.begin() + 1);
    batch.shape.push_back(sizes[1]);
  }
  size_t elements = 1;
  for (const int64_t size : sizes) elements *= static_cast<size_t>(size);
  batch.values.resize(elements);
  for (float& x : batch.values) x = next();
  return batch;
}

struct ReferenceMoments {
  std::vector<long double> mean;
  std::vector<long double> m2;
};

inline ReferenceMoments ReferenceOf(const TestBatch& batch) {
  ReferenceMoments reference;
  for (int64_t c = 0; c < batch.channels(); ++c) {
    long double sum = 0;
    for (int64_t n = 0; n < batch.samples(); ++n) {
      for (int64_t s = 0; s < batch.spatial(); ++s) sum += batch.values[batch.Index(n, c, s)];
    }
    const long double mean = sum / static_cast<long double>(batch.count());
    long double m2 = 0;
    for (int64_t n = 0; n < batch.samples(); ++n) {
      for (int64_t s = 0; s < batch.spatial(); ++s) {
        const long double d = batch.values[batch.Index(n, c, s)] - mean;
        m2 += d * d;
      }
    }
    reference.mean.push_back(mean);
    reference.m2.push_back(m2);
  }
  return reference;
}

// (x - mean) / sqrt(var + eps) * weight + bias of every value, and how far float32 may be from it:
// rounding x - mean, the scale, the product and the sum costs at most half a unit in the last place
// each, that is 2^-22 of what is added up.
struct ReferenceOutput {
  std::vector<long double> values;
  std::vector<long double> tolerance;
};

template <class Mean, class Var>
ReferenceOutput ReferenceNormalize(const TestBatch& batch, const Mean& mean, const Var& var,
                                   double eps, absl::Span<const float> weight,
                                   absl::Span<const float> bias) {
  const long double error = std::ldexp(1.0L, -22);
  ReferenceOutput output;
  output.values.resize(batch.values.size());
  output.tolerance.resize(batch.values.size());
  for (int64_t c = 0; c < batch.channels(); ++c) {
    const long double w = weight.empty() ? 1 : weight[c];
    const long double b = bias.empty() ? 0 : bias[c];
    const long double scale = w / std::sqrt(static_cast<long double>(var[c]) + eps);
    for (int64_t n = 0; n < batch.samples(); ++n) {
      for (int64_t s = 0; s < batch.spatial(); ++s) {
        const size_t i = batch.Index(n, c, s);
        const long double product = (batch.values[i] - static_cast<long double>(mean[c])) * scale;
        output.values[i] = product + b;
        output.tolerance[i] = error * (std::abs(product) + std::abs(b)) + 1e-12L;
      }
    }
  }
  return output;
}

// normd's own batch norm over float32, in the words of these tests, on the caller's thread.
inline absl::StatusOr<Moments> ComputeBatchMoments(const Batch& batch, NonFinitePolicy non_finite) {
  return ComputeBatchMoments(batch, non_finite, ParallelRunner::Inline());
}

struct NormalizeBy {
  absl::Span<const double> mean;
  absl::Span<const double> var;
  double eps = 0;
  absl::Span<const float> weight;
  absl::Span<const float> bias;
};

inline void NormalizeBatch(const Batch& batch, const NormalizeBy& by, absl::Span<float> output) {
  const std::vector<double> weight(by.weight.begin(), by.weight.end());
  const std::vector<double> bias(by.bias.begin(), by.bias.end());
  NormalizeByRunning(batch, {.mean = by.mean, .var = by.var},
                     {.eps = by.eps, .eps_of_dtype = false, .weight = weight, .bias = bias},
                     reinterpret_cast<char*>(output.data()), ParallelRunner::Inline());
}

inline void NormalizeBatchByItself(const Batch& batch, const Moments& moments, double eps,
                                   absl::Span<const float> weight, absl::Span<const float> bias,
                                   absl::Span<float> output) {
  const std::vector<double> weights(weight.begin(), weight.end());
  const std::vector<double> biases(bias.begin(), bias.end());
  NormalizeByItself(batch, moments,
                    {.eps = eps, .eps_of_dtype = false, .weight = weights, .bias = biases},
                    reinterpret_cast<char*>(output.data()), ParallelRunner::Inline());
}

}  // namespace normd

#endif  // NORMD_TESTS_CORE_NORM_BATCH_NORM_REFERENCE_H_
