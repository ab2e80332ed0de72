#include "server/buffer_pool.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "core/base/limits.h"

namespace normd {
namespace {

TEST(BufferPoolTest, GivesAlignedMemoryOfAnySize) {
  const auto pool = BufferPool::Create(kMiB);
  for (const size_t size : {0U, 1U, 1023U, 1024U, 1025U, 1280U, 1281U, 65535U, 65537U, 3000000U}) {
    const Buffer buffer = pool->Take(size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0U) << size;
    std::memset(buffer.data(), 0xab, size);
  }
}

TEST(BufferPoolTest, GivesMemoryAgain) {
  const auto pool = BufferPool::Create(kMiB);
  const char* first = pool->Take(5000).data();
  Buffer again = pool->Take(5001);
  EXPECT_EQ(again.data(), first);
  // Not while it is used.
  EXPECT_NE(pool->Take(5000).data(), first);
}

TEST(BufferPoolTest, KeepsNoMoreThanItMay) {
  const auto pool = BufferPool::Create(100 * kKiB);
  std::vector<const char*> addresses;
  {
    std::vector<Buffer> buffers;
    for (int i = 0; i < 4; ++i) {
      buffers.push_back(pool->Take(40 * kKiB));
      addresses.push_back(buffers.back().data());
    }
    const char* const data = buffers[0].data();
    const Buffer moved = std::move(buffers[0]);
    EXPECT_EQ(moved.data(), data);
    EXPECT_EQ(buffers[0].data(), nullptr);
  }
  EXPECT_EQ(pool->idle_bytes(), 2 * 40 * kKiB);
}

TEST(BufferPoolTest, ASliceGivesItsMemoryBackThoughThePoolIsLetGo) {
  auto pool = BufferPool::Create(kMiB);
  const std::weak_ptr<BufferPool> alive = pool;
  Buffer buffer = pool->Take(100);
  std::memcpy(buffer.data(), "0123456789", 10);
  grpc::Slice slice = std::move(buffer).ToSlice(2, 3);
  EXPECT_EQ(buffer.data(), nullptr);
  EXPECT_EQ(pool->idle_bytes(), 0);
  pool.reset();
  EXPECT_FALSE(alive.expired());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(slice.begin()), slice.size()), "234");
  slice = grpc::Slice();
  EXPECT_TRUE(alive.expired());
}

}  // namespace
}  // namespace normd
