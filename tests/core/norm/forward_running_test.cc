// Eval mode of a batch whose bytes lie in pieces: the same bits as of one in a single run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/norm/normalization.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

class ForwardRunningTest : public testing::Test {
 protected:
  size_t Below(size_t limit) {
    return std::uniform_int_distribution<size_t>(0, limit - 1)(random_);
  }

  // Bytes that are finite values of `dtype`, most of them of ordinary size.
  std::string Values(DataType dtype, size_t count) {
    std::string bytes(count * static_cast<size_t>(ElementBytes(dtype)), '\0');
    std::normal_distribution<double> normal(3.0, 2.0);
    VisitDataType(dtype, [&](auto element) {
      using T = typename decltype(element)::type;
      T* const values = reinterpret_cast<T*>(bytes.data());
      for (size_t i = 0; i < count; ++i) {
        const double value = normal(random_);
        if constexpr (sizeof(T) >= 4) {
          values[i] = static_cast<T>(value);
        } else {
          values[i] = T{static_cast<uint16_t>(0x3c00 + Below(0x400))};
        }
      }
    });
    return bytes;
  }

  SeededRandom random_;
};

// The pieces of `bytes`, each in memory of its own that begins at any address.
struct Scattered {
  std::vector<std::string> memory;
  std::vector<absl::string_view> pieces;
};

Scattered Scatter(absl::string_view bytes, size_t piece_max, SeededRandom& random) {
  Scattered scattered;
  std::vector<size_t> shifts;
  while (!bytes.empty()) {
    const size_t size = std::min<size_t>(bytes.size(), random() % (piece_max + 1));
    shifts.push_back(random() % 9);
    scattered.memory.push_back(std::string(shifts.back(), '\0') +
                               std::string(bytes.substr(0, size)));
    bytes.remove_prefix(size);
  }
  for (size_t i = 0; i < shifts.size(); ++i) {
    scattered.pieces.push_back(absl::string_view(scattered.memory[i]).substr(shifts[i]));
  }
  return scattered;
}

TEST_F(ForwardRunningTest, PiecesGiveTheBitsOfOneRun) {
  const std::vector<std::vector<int64_t>> shapes = {
      {1, 1},      {7, 5},       {300, 64},     {3, 9000},      {1, 40000},      {2, 3, 7},
      {3, 5, 999}, {2, 2, 9000}, {1, 1, 50000}, {4, 6, 31, 33}, {70, 3, 2, 1, 5}};
  const auto threads = MakeParallelRunner(3);
  for (const std::vector<int64_t>& sizes : shapes) {
    for (const Layout layout : {Layout::kChannelsFirst, Layout::kChannelsLast}) {
      for (const DataType dtype :
           {DataType::kFloat32, DataType::kFloat64, DataType::kFloat16, DataType::kBfloat16}) {
        SCOPED_TRACE(absl::StrCat(ShapeToString(sizes), " ", DataTypeName(dtype)));
        int64_t count = 1;
        for (const int64_t size : sizes) count *= size;
        const int64_t channels = layout == Layout::kChannelsFirst ? sizes[1] : sizes.back();
        NormConfig config;
        config.num_features = channels;
        std::vector<double> mean(static_cast<size_t>(channels));
        std::vector<double> var(mean.size());
        for (size_t c = 0; c < mean.size(); ++c) {
          mean[c] = static_cast<double>(Below(100)) / 50;
          var[c] = static_cast<double>(1 + Below(100)) / 50;
        }
        const std::string bytes = Values(dtype, static_cast<size_t>(count));
        const auto whole = TensorView::Create(dtype, layout, sizes, bytes);
        ASSERT_TRUE(whole.ok());
        const auto batch = Batch::Create(*whole, config);
        ASSERT_TRUE(batch.ok()) << batch.status();
        std::string expected(bytes.size(), '\0');
        NormalizeByRunning(*batch, {mean, var}, {.eps = 1e-5}, expected.data(),
                           ParallelRunner::Inline());
        ASSERT_NE(expected, bytes);

        const auto elsewhere =
            TensorView::Create(dtype, layout, sizes, absl::string_view(nullptr, bytes.size()));
        ASSERT_TRUE(elsewhere.ok());
        const auto in_pieces = Batch::Create(*elsewhere, config);
        ASSERT_TRUE(in_pieces.ok());
        for (const size_t piece_max : {size_t{11}, size_t{5000}, size_t{100000}}) {
          const Scattered scattered = Scatter(bytes, piece_max, random_);
          for (ParallelRunner* runner : {ParallelRunner::Inline(), threads.get()}) {
            std::string actual(bytes.size(), '\0');
            NormalizeByRunning(*in_pieces, scattered.pieces, {mean, var}, {.eps = 1e-5},
                               actual.data(), runner);
            ASSERT_TRUE(actual == expected) << "pieces of up to " << piece_max;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace normd
