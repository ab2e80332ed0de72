// Kernels read values at any address: the same bits as of those that are aligned.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/kernels/backward.h"
#include "core/kernels/moments.h"
#include "core/kernels/non_finite.h"
#include "core/kernels/normalize.h"
#include "tests/core/kernels/element_type_test.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

class AnyAddressTest : public ElementTypeTest {
 protected:
  template <typename T>
  std::vector<T> Random(size_t count) {
    std::uniform_real_distribution<double> uniform(-2, 3);
    std::vector<T> values(count);
    for (T& value : values) value = FromDouble<T>(uniform(random_));
    return values;
  }

  SeededRandom random_;
};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(AnyAddressTest, kElementTypes);

// A copy of some values that begins `shift` bytes behind where they would be aligned.
template <typename T>
class Shifted {
 public:
  Shifted(const std::vector<T>& values, size_t shift)
      : bytes_(values.size() * sizeof(T) + shift), shift_(shift) {
    std::memcpy(bytes_.data() + shift, values.data(), values.size() * sizeof(T));
  }
  const T* data() const { return reinterpret_cast<const T*>(bytes_.data() + shift_); }

 private:
  std::vector<char> bytes_;
  size_t shift_;
};

// What all kernels give for x and dy.
template <typename T>
struct Results {
  std::vector<double> sums;
  std::vector<T> values;
  size_t non_finite;
};

template <typename T>
Results<T> Compute(const T* x, const T* dy, const BatchExtents& extents,
                   const std::vector<ComputeType<T>>& by) {
  const size_t channels = extents.channels;
  const size_t count = extents.samples * channels * extents.spatial;
  const size_t columns = channels * extents.spatial;
  Results<T> results = {.sums = std::vector<double>(4 * channels + 2 * extents.samples),
                        .values = std::vector<T>(4 * count),
                        .non_finite = FindNonFinite(x, count)};
  double* const mean = results.sums.data();
  double* const sum = mean + 2 * channels;
  double* const row_sum = sum + 2 * channels;
  T* const y = results.values.data();
  ComputeMoments(x, extents, mean, mean + channels);
  ComputeGradientSums(x, dy, extents, {0, channels}, mean, sum, sum + channels);
  Normalize(x, extents, by.data(), by.data(), by.data(), y);
  ComputeInputGradient<T>(x, dy, extents, {0, channels},
                          {by.data(), by.data(), by.data(), by.data()}, y + count);
  NormalizeRows<T>(x, extents.samples, columns,
                   {by.data(), by.data(), by.data(), by.data(), by.data()}, y + 2 * count);
  const std::vector<double> of_rows(extents.samples, 0.5);
  ComputeRowGradientSums(x, dy, extents.samples, columns, of_rows.data(), of_rows.data(), by.data(),
                         row_sum, row_sum + extents.samples, nullptr, nullptr);
  ComputeRowInputGradient<T>(x, dy, extents.samples, columns,
                             {by.data(), by.data(), by.data(), by.data()}, by.data(),
                             y + 3 * count);
  return results;
}

TEST_P(AnyAddressTest, GivesTheBitsOfAlignedValues) {
  WithElementType([this]<typename T>(ElementType<T>) {
    for (const BatchExtents& extents :
         {BatchExtents{1, 1, 1}, BatchExtents{5, 3, 1}, BatchExtents{37, 67, 1},
          BatchExtents{9, 5, 3}, BatchExtents{3, 4, 31}, BatchExtents{2, 3, 135}}) {
      SCOPED_TRACE(absl::StrCat(extents.samples, " x ", extents.channels, " x ", extents.spatial));
      const size_t count = extents.samples * extents.channels * extents.spatial;
      std::vector<T> x = Random<T>(count);
      const std::vector<T> dy = Random<T>(count);
      const auto by = Random<ComputeType<T>>(count);
      const Results<T> expected = Compute(x.data(), dy.data(), extents, by);
      for (size_t shift = 1; shift < 9; ++shift) {
        const Results<T> actual =
            Compute(Shifted<T>(x, shift).data(), Shifted<T>(dy, 9 - shift).data(), extents, by);
        EXPECT_EQ(actual.sums, expected.sums);
        EXPECT_EQ(actual.non_finite, count);
        EXPECT_EQ(std::memcmp(actual.values.data(), expected.values.data(),
                              expected.values.size() * sizeof(T)),
                  0);
      }
      x.back() = FromDouble<T>(std::numeric_limits<double>::infinity());
      EXPECT_EQ(FindNonFinite(Shifted<T>(x, 1).data(), count), count - 1);
    }
  });
}

}  // namespace
}  // namespace normd
