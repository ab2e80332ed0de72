#include "core/store/write_ahead_log.h"

#include <cstdint>
#include <fstream>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/checksum.h"
#include "core/base/error.h"

namespace normd {
namespace {

// The log is a sequence of blocks of 32 KiB, the last one shorter. A block holds fragments of
// records, and no fragment crosses a block:
//   0..3  masked CRC-32C of bytes 6.., little-endian
//   4..5  length of the payload, little-endian
//   6     type: 1 a whole record, 2 the first, 3 a middle, 4 the last fragment of a record
//   7..   payload
// A rest of less than 7 bytes in a block is filled with zeros. So is what lies behind the last
// record: see ZerosAhead.
constexpr size_t kBlockBytes = 32768;
constexpr size_t kHeaderBytes = 7;
constexpr uint8_t kWholeRecord = 1;
constexpr uint8_t kFirstFragment = 2;
constexpr uint8_t kLastFragment = 4;

uint32_t Byte(absl::string_view data, size_t at) { return static_cast<uint8_t>(data[at]); }

uint32_t Load32(absl::string_view data, size_t at) {
  return Byte(data, at) | Byte(data, at + 1) << 8 | Byte(data, at + 2) << 16 |
         Byte(data, at + 3) << 24;
}

uint32_t Masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

struct Fragment {
  uint8_t type;
  size_t bytes;  // with its header
};

// The fragment that begins at `at`; nothing when there is none, or a damaged one.
std::optional<Fragment> FragmentAt(absl::string_view block, size_t at) {
  if (block.size() - at < kHeaderBytes) return std::nullopt;
  const size_t length = Byte(block, at + 4) | Byte(block, at + 5) << 8;
  const uint8_t type = static_cast<uint8_t>(block[at + 6]);
  if (type == 0 || length > block.size() - at - kHeaderBytes) return std::nullopt;
  if (Masked(ExtendCrc32c(0, block.substr(at + 6, length + 1))) != Load32(block, at))
    return std::nullopt;
  return Fragment{type, kHeaderBytes + length};
}

// Reads the blocks of a log in order.
class LogChecker {
 public:
  // Takes the next block; `last` when the file ends with it. False: no need to read on.
  bool Take(absl::string_view block, bool last);

  LogCondition condition() const {
    return !damaged_ && inside_record_ ? LogCondition::kTornTail : condition_;
  }

 private:
  void SeeDamage() {
    damaged_ = true;
    condition_ = LogCondition::kTornTail;
  }

  bool damaged_ = false;
  bool inside_record_ = false;
  bool at_zeros_ = false;  // the last record has ended, unless more than zeros follows
  LogCondition condition_ = LogCondition::kWhole;
};

bool LogChecker::Take(absl::string_view block, bool last) {
  const size_t zeros_from = block.find_last_not_of('\0') + 1;  // 0: all of the block
  if (at_zeros_ && zeros_from > 0) SeeDamage();
  size_t at = 0;
  while (at < block.size()) {
    // Less than a header is filling, unless the file ends with a header cut short.
    if (block.size() - at < kHeaderBytes) {
      if (last && block.size() < kBlockBytes && at < zeros_from) SeeDamage();
      return true;
    }
    if (at >= zeros_from) {
      at_zeros_ = true;
      return true;
    }
    const std::optional<Fragment> fragment = FragmentAt(block, at);
    if (!fragment.has_value()) {
      // The length may be what is damaged, so a fragment may begin at any byte from here on.
      SeeDamage();
      ++at;
      continue;
    }
    const bool begins = fragment->type == kWholeRecord || fragment->type == kFirstFragment;
    if (!damaged_ && begins == inside_record_) SeeDamage();
    if (damaged_ && begins) {
      condition_ = LogCondition::kRecordLost;
      return false;
    }
    inside_record_ = fragment->type != kWholeRecord && fragment->type != kLastFragment;
    at += fragment->bytes;
  }
  return true;
}

}  // namespace

absl::StatusOr<LogCondition> CheckWriteAheadLog(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return MakeError(Reason::kStoreUnavailable, absl::StrCat("cannot open '", path, "'"));
  LogChecker checker;
  std::vector<char> block(kBlockBytes);
  bool more = true;
  while (more) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    if (file.bad()) {
      return MakeError(Reason::kStoreUnavailable, absl::StrCat("cannot read '", path, "'"));
    }
    const auto size = static_cast<size_t>(file.gcount());
    const bool last = file.eof() || file.peek() == std::ifstream::traits_type::eof();
    more = checker.Take(absl::string_view(block.data(), size), last) && !last;
  }
  return checker.condition();
}

}  // namespace normd
