#include "core/store/zeros_ahead.h"

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace normd {
namespace {

constexpr std::array<char, 64 << 10> kZeros = {};

}  // namespace

ZerosAhead::ZerosAhead(const std::string& path) : fd_(open(path.c_str(), O_WRONLY | O_CLOEXEC)) {}

ZerosAhead::~ZerosAhead() {
  if (fd_ >= 0) close(fd_);
}

void ZerosAhead::BeforeAppend(uint64_t end, uint64_t bytes) {
  if (fd_ < 0 || bytes > kShortBytes || end + bytes <= zeros_end_) return;
  // What the append will take is left to it.
  zeros_end_ = end + bytes;
  const uint64_t zeros_end = zeros_end_ + kZeroBytes;
  while (zeros_end_ < zeros_end) {
    const size_t count = std::min<uint64_t>(kZeros.size(), zeros_end - zeros_end_);
    const ssize_t written = pwrite(fd_, kZeros.data(), count, static_cast<off_t>(zeros_end_));
    if (written <= 0) return;
    zeros_end_ += static_cast<uint64_t>(written);
  }
}

}  // namespace normd
