#include "core/store/record_value.h"

#include "absl/strings/str_cat.h"
#include "core/base/error.h"

namespace normd {
namespace {

constexpr size_t kRevisionBytes = 8;

}  // namespace

std::string RevisionBytes(int64_t revision) {
  std::string bytes;
  for (size_t i = 0; i < kRevisionBytes; ++i) {
    bytes.push_back(static_cast<char>(static_cast<uint64_t>(revision) >> (8 * i) & 0xff));
  }
  return bytes;
}

int64_t RevisionOf(absl::string_view value) {
  if (value.size() < kRevisionBytes) return 0;
  uint64_t revision = 0;
  for (size_t i = 0; i < kRevisionBytes; ++i) {
    revision |= static_cast<uint64_t>(static_cast<uint8_t>(value[i])) << (8 * i);
  }
  return static_cast<int64_t>(revision) < 1 ? 0 : static_cast<int64_t>(revision);
}

absl::string_view DataOf(absl::string_view value) { return value.substr(kRevisionBytes); }

absl::Status ValueDamaged(absl::string_view name, absl::string_view why) {
  return MakeError(Reason::kRecordDamaged,
                   absl::StrCat("the stored record of '", name, "' is damaged: ", why),
                   {{"name", name}});
}

absl::Status NoRevision(absl::string_view name, absl::string_view value) {
  return ValueDamaged(name, absl::StrCat("no revision in ", value.size(), " bytes"));
}

std::string EndOfPrefix(absl::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && end.back() == '\xff') end.pop_back();
  if (!end.empty()) end.back() = static_cast<char>(static_cast<uint8_t>(end.back()) + 1);
  return end;
}

}  // namespace normd
