#ifndef NORMD_TESTS_CORE_KERNELS_GUARDED_ARRAY_H_
#define NORMD_TESTS_CORE_KERNELS_GUARDED_ARRAY_H_

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace normd {

// An array that ends where unreadable memory begins, so that the first access past its end crashes
// the test. It is therefore aligned to its element and, for most sizes, to no more. Canary bytes
// stand before it.
template <class T>
class GuardedArray {
 public:
  explicit GuardedArray(size_t size) : size_(size) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t usable = (size * sizeof(T) + kCanaryBytes + page - 1) / page * page;
    mapped_bytes_ = usable + page;
    void* memory =
        mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    memory_ = static_cast<unsigned char*>(memory);
    if (mprotect(memory_ + usable, page, PROT_NONE) != 0) std::abort();
    data_ = reinterpret_cast<T*>(memory_ + usable - size * sizeof(T));
    std::memset(canary(), kCanary, kCanaryBytes);
  }

  explicit GuardedArray(const std::vector<T>& values) : GuardedArray(values.size()) {
    std::copy(values.begin(), values.end(), data_);
  }

  ~GuardedArray() { munmap(memory_, mapped_bytes_); }

  GuardedArray(const GuardedArray&) = delete;
  GuardedArray& operator=(const GuardedArray&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }

  // Whether nothing was written before the array.
  bool CanaryIntact() const {
    return std::all_of(canary(), canary() + kCanaryBytes,
                       [](unsigned char byte) { return byte == kCanary; });
  }

 private:
  static constexpr unsigned char kCanary = 0xA5;
  static constexpr size_t kCanaryBytes = 256;

  unsigned char* canary() const { return reinterpret_cast<unsigned char*>(data_) - kCanaryBytes; }

  size_t size_;
  size_t mapped_bytes_;
  unsigned char* memory_;
  T* data_;
};

}  // namespace normd

#endif  // NORMD_TESTS_CORE_KERNELS_GUARDED_ARRAY_H_
