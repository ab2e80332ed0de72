#ifndef NORMD_TESTS_CORE_NORM_FAMILY_REFERENCE_H_
#define NORMD_TESTS_CORE_NORM_FAMILY_REFERENCE_H_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/norm/normalization.h"
#include "core/tensor/half.h"
#include "core/tensor/tensor_view.h"

// A plain norm of any kind in long double: for every value of a tensor it says to which set the
// value belongs and which parameter it is weighted by, and all else follows.
namespace normd {

// One kind over one shape.
struct FamilyCase {
  NormKind kind = NormKind::kBatchNorm;
  std::vector<int64_t> sizes;  // N, C, spatial axes; kLayerNorm and kRmsNorm: the tensor's axes
  Layout layout = Layout::kChannelsFirst;
  int64_t num_groups = 0;      // kGroupNorm
  size_t normalized_axes = 0;  // kLayerNorm, kRmsNorm: how many of the last axes
  DataType dtype = DataType::kFloat32;
  bool affine = true;
  double eps = 1e-5;

  bool has_rows() const { return kind == NormKind::kLayerNorm || kind == NormKind::kRmsNorm; }

  NormConfig Config() const {
    NormConfig config = DefaultConfig(kind);
    config.affine = affine;
    config.eps = eps;
    config.eps_of_dtype = false;
    config.num_groups = num_groups;
    if (has_rows()) {
      config.normalized_shape.assign(sizes.end() - static_cast<int64_t>(normalized_axes),
                                     sizes.end());
      config.num_features = 1;
      for (const int64_t size : config.normalized_shape) config.num_features *= size;
    } else {
      config.num_features = sizes[1];
    }
    return config;
  }

  // The tensor's shape.
  std::vector<int64_t> Shape() const {
    std::vector<int64_t> shape = sizes;
    if (!has_rows() && layout == Layout::kChannelsLast) {
      shape.erase(shape.begin() + 1);
      shape.push_back(sizes[1]);
    }
    return shape;
  }

  size_t NumElements() const {
    size_t elements = 1;
    for (const int64_t size : sizes) elements *= static_cast<size_t>(size);
    return elements;
  }

  std::string ToString() const {
    return absl::StrCat(NormKindName(kind), " ", ShapeToString(Shape()), " ", DataTypeName(dtype),
                        layout == Layout::kChannelsLast ? " last" : " first", " groups ",
                        num_groups, affine ? " affine" : "");
  }
};

// Where every value of a tensor belongs.
struct FamilyPlaces {
  std::vector<size_t> set;
  std::vector<size_t> parameter;
  size_t sets = 0;
};

inline FamilyPlaces PlacesOf(const FamilyCase& c) {
  FamilyPlaces places;
  const size_t elements = c.NumElements();
  const auto features = static_cast<size_t>(c.Config().num_features);
  for (size_t i = 0; i < elements; ++i) {
    if (c.has_rows()) {
      places.set.push_back(i / features);
      places.parameter.push_back(i % features);
      continue;
    }
    const size_t spatial = elements / static_cast<size_t>(c.sizes[0]) / features;
    const size_t sample = i / (features * spatial);
    const size_t in_sample = i % (features * spatial);
    const size_t channel =
        c.layout == Layout::kChannelsLast ? in_sample % features : in_sample / spatial;
    places.parameter.push_back(channel);
    switch (c.kind) {
      case NormKind::kInstanceNorm:
        places.set.push_back(sample * features + channel);
        break;
      case NormKind::kGroupNorm: {
        const auto groups = static_cast<size_t>(c.num_groups);
        places.set.push_back(sample * groups + channel / (features / groups));
        break;
      }
      default:
        places.set.push_back(channel);
    }
  }
  for (const size_t set : places.set) places.sets = std::max(places.sets, set + 1);
  return places;
}

// What the reference gives; for every value the sum of the magnitudes that are added up to it too,
// which is what rounding is relative to.
struct FamilyReference {
  std::vector<long double> mean, m2;                                        // one a set
  std::vector<long double> output, output_size;                             // one a value
  std::vector<long double> grad_input, grad_size;                           // one a value
  std::vector<long double> grad_weight, weight_size, grad_bias, bias_size;  // one a parameter
};

// Forward and backward (training mode) of `x` for the output gradient `dy`.
inline FamilyReference ReferenceOf(const FamilyCase& c, const std::vector<double>& x,
                                   const std::vector<double>& dy, const std::vector<double>& weight,
                                   const std::vector<double>& bias) {
  const FamilyPlaces places = PlacesOf(c);
  const size_t set_values = x.size() / places.sets;
  const auto count = static_cast<long double>(set_values);
  FamilyReference r;
  r.mean.resize(places.sets);
  r.m2.resize(places.sets);
  std::vector<long double> square(places.sets), sum(places.sets), dot(places.sets);
  for (size_t i = 0; i < x.size(); ++i) r.mean[places.set[i]] += x[i] / count;
  for (size_t i = 0; i < x.size(); ++i) {
    const long double d = x[i] - r.mean[places.set[i]];
    r.m2[places.set[i]] += d * d;
    square[places.set[i]] += static_cast<long double>(x[i]) * x[i] / count;
  }
  const bool is_rms = c.kind == NormKind::kRmsNorm;
  const auto center = [&](size_t i) { return is_rms ? 0.0L : r.mean[places.set[i]]; };
  const auto invstd = [&](size_t i) {
    const size_t set = places.set[i];
    return 1 / std::sqrt((is_rms ? square[set] : r.m2[set] / count) + c.eps);
  };
  // The mean is rounded in float64, which costs a small x - mean digits: few of a dtype that has
  // few.
  const auto rounded_center = [&](size_t i) {
    return std::abs(center(i)) * (c.dtype == DataType::kFloat64 ? 1 : 0x1p-29L);
  };
  const auto weight_of = [&](size_t i) -> long double {
    return weight.empty() ? 1.0 : weight[places.parameter[i]];
  };
  const auto features = static_cast<size_t>(c.Config().num_features);
  for (auto* of_parameters : {&r.grad_weight, &r.weight_size, &r.grad_bias, &r.bias_size}) {
    of_parameters->resize(features);
  }
  for (size_t i = 0; i < x.size(); ++i) {
    const long double shifted = x[i] - center(i);
    const long double product = shifted * invstd(i) * weight_of(i);
    const long double b = bias.empty() ? 0.0 : bias[places.parameter[i]];
    r.output.push_back(product + b);
    r.output_size.push_back(std::abs(product) + std::abs(b) +
                            rounded_center(i) * invstd(i) * std::abs(weight_of(i)));
    sum[places.set[i]] += weight_of(i) * dy[i];
    dot[places.set[i]] += weight_of(i) * dy[i] * shifted;
    r.grad_weight[places.parameter[i]] += dy[i] * shifted * invstd(i);
    r.weight_size[places.parameter[i]] += std::abs(dy[i] * shifted * invstd(i));
    r.grad_bias[places.parameter[i]] += dy[i];
    r.bias_size[places.parameter[i]] += std::abs(dy[i]);
  }
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t set = places.set[i];
    const long double s = invstd(i);
    const long double direct = weight_of(i) * dy[i] * s;
    const long double through_mean = is_rms ? 0 : s * sum[set] / count;
    const long double through_var = s * s * s * (x[i] - center(i)) * dot[set] / count;
    r.grad_input.push_back(direct - through_mean - through_var);
    r.grad_size.push_back(std::abs(direct) + std::abs(through_mean) + std::abs(through_var) +
                          rounded_center(i) * std::abs(s * s * s * dot[set] / count));
  }
  return r;
}

// The bytes of `values` rounded to `dtype`.
inline std::string ToBytes(DataType dtype, const std::vector<double>& values) {
  return VisitDataType(dtype, [&](auto element) {
    using T = typename decltype(element)::type;
    std::string bytes(values.size() * sizeof(T), '\0');
    for (size_t i = 0; i < values.size(); ++i) {
      T value;
      if constexpr (std::is_same_v<T, Float16>) {
        value = ToFloat16(static_cast<float>(values[i]));
      } else if constexpr (std::is_same_v<T, Bfloat16>) {
        value = ToBfloat16(static_cast<float>(values[i]));
      } else {
        value = static_cast<T>(values[i]);
      }
      std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
    }
    return bytes;
  });
}

// The values that `bytes` hold.
inline std::vector<double> FromBytes(DataType dtype, const std::string& bytes) {
  return VisitDataType(dtype, [&](auto element) {
    using T = typename decltype(element)::type;
    std::vector<double> values(bytes.size() / sizeof(T));
    for (size_t i = 0; i < values.size(); ++i) {
      T value;
      std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
      if constexpr (std::is_floating_point_v<T>) {
        values[i] = static_cast<double>(value);
      } else {
        values[i] = static_cast<double>(ToFloat(value));
      }
    }
    return values;
  });
}

}  // namespace normd

#endif  // NORMD_TESTS_CORE_NORM_FAMILY_REFERENCE_H_
