#include "client/cpp/batch.h"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/tensor/half.h"

namespace normd::client {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors go to the wire as they lie");

template <typename T>
absl::string_view BytesOf(absl::Span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

template <typename T>
absl::Span<const T> ElementsOf(absl::string_view bytes) {
  return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
}

double ToDouble(double value) { return value; }
double ToDouble(float value) { return value; }
double ToDouble(Float16 value) { return ToFloat(value); }
double ToDouble(Bfloat16 value) { return ToFloat(value); }

template <typename T>
std::vector<double> ElementsToDoubles(absl::string_view bytes) {
  std::vector<double> values;
  values.reserve(bytes.size() / sizeof(T));
  for (const T element : ElementsOf<T>(bytes)) values.push_back(ToDouble(element));
  return values;
}

// Rounded to odd: what was lost stands in the last bit, so that rounding the result once more, to
// 16 bits, gives what rounding `value` at once would give (Boldo, Melquiond: Emulation of FMA and
// correctly rounded sums, 2008).
float RoundToOdd(double value) {
  const float nearest = static_cast<float>(value);
  if (std::isnan(value) || static_cast<double>(nearest) == value) return nearest;
  const bool away = std::abs(static_cast<double>(nearest)) > std::abs(value);
  const float toward_zero = away ? std::nextafter(nearest, 0.0F) : nearest;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(toward_zero) | 1U);
}

template <typename T>
T FromDouble(double value);
template <>
double FromDouble(double value) {
  return value;
}
template <>
float FromDouble(double value) {
  return static_cast<float>(value);
}
template <>
Float16 FromDouble(double value) {
  return ToFloat16(RoundToOdd(value));
}
template <>
Bfloat16 FromDouble(double value) {
  return ToBfloat16(RoundToOdd(value));
}

template <typename T>
absl::StatusOr<std::string> DoublesToElements(absl::Span<const double> values, DataType dtype) {
  std::string bytes(values.size() * sizeof(T), '\0');
  for (size_t i = 0; i < values.size(); ++i) {
    const T element = FromDouble<T>(values[i]);
    if (std::isinf(ToDouble(element)) && !std::isinf(values[i])) {
      return absl::InvalidArgumentError(absl::StrCat("the value ", values[i], " does not fit in ",
                                                     DataTypeName(dtype), " (element ", i, ")"));
    }
    std::memcpy(bytes.data() + i * sizeof(T), &element, sizeof(T));
  }
  return bytes;
}

absl::StatusOr<std::string> DoublesToBytes(absl::Span<const double> values, DataType dtype) {
  switch (dtype) {
    case DataType::kFloat64:
      return DoublesToElements<double>(values, dtype);
    case DataType::kFloat16:
      return DoublesToElements<Float16>(values, dtype);
    case DataType::kBfloat16:
      return DoublesToElements<Bfloat16>(values, dtype);
    case DataType::kFloat32:
      break;
  }
  return DoublesToElements<float>(values, dtype);
}

}  // namespace

int64_t ElementBytes(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat64:
      return 8;
    case DataType::kFloat16:
    case DataType::kBfloat16:
      return 2;
    case DataType::kFloat32:
      break;
  }
  return 4;
}

absl::string_view DataTypeName(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat64:
      return "float64";
    case DataType::kFloat16:
      return "float16";
    case DataType::kBfloat16:
      return "bfloat16";
    case DataType::kFloat32:
      break;
  }
  return "float32";
}

Batch Batch::Borrow(std::vector<int64_t> shape, absl::Span<const float> values, Layout layout) {
  return Borrow(std::move(shape), DataType::kFloat32, BytesOf(values), layout);
}

Batch Batch::Borrow(std::vector<int64_t> shape, absl::Span<const double> values, Layout layout) {
  return Borrow(std::move(shape), DataType::kFloat64, BytesOf(values), layout);
}

Batch Batch::Borrow(std::vector<int64_t> shape, DataType dtype, absl::string_view bytes,
                    Layout layout) {
  Batch batch(std::move(shape), dtype, layout);
  batch.bytes_ = bytes;
  return batch;
}

Batch Batch::Own(std::vector<int64_t> shape, std::vector<float> values, Layout layout) {
  Batch batch(std::move(shape), DataType::kFloat32, layout);
  auto owner = std::make_shared<const std::vector<float>>(std::move(values));
  batch.bytes_ = BytesOf(absl::MakeConstSpan(*owner));
  batch.owner_ = std::move(owner);
  return batch;
}

Batch Batch::OwnDoubles(std::vector<int64_t> shape, std::vector<double> values, Layout layout) {
  Batch batch(std::move(shape), DataType::kFloat64, layout);
  auto owner = std::make_shared<const std::vector<double>>(std::move(values));
  batch.bytes_ = BytesOf(absl::MakeConstSpan(*owner));
  batch.owner_ = std::move(owner);
  return batch;
}

Batch Batch::Own(std::vector<int64_t> shape, DataType dtype, std::string bytes, Layout layout) {
  Batch batch(std::move(shape), dtype, layout);
  auto owner = std::make_shared<const std::string>(std::move(bytes));
  batch.bytes_ = *owner;
  batch.owner_ = std::move(owner);
  return batch;
}

absl::Span<const float> Batch::values() const { return ElementsOf<float>(bytes_); }
absl::Span<const double> Batch::doubles() const { return ElementsOf<double>(bytes_); }

std::vector<double> ToDoubles(const Batch& batch) {
  switch (batch.dtype()) {
    case DataType::kFloat64:
      return ElementsToDoubles<double>(batch.bytes());
    case DataType::kFloat16:
      return ElementsToDoubles<Float16>(batch.bytes());
    case DataType::kBfloat16:
      return ElementsToDoubles<Bfloat16>(batch.bytes());
    case DataType::kFloat32:
      break;
  }
  return ElementsToDoubles<float>(batch.bytes());
}

absl::StatusOr<Batch> Convert(const Batch& batch, DataType dtype) {
  if (dtype == batch.dtype()) return batch;
  absl::StatusOr<std::string> bytes = DoublesToBytes(ToDoubles(batch), dtype);
  if (!bytes.ok()) return bytes.status();
  return Batch::Own({batch.shape().begin(), batch.shape().end()}, dtype, *std::move(bytes),
                    batch.layout());
}

}  // namespace normd::client
