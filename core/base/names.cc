#include "core/base/names.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/error.h"
#include "core/base/limits.h"

namespace normd {
namespace {

bool IsNameByte(char c) { return absl::ascii_isalnum(c) || c == '_' || c == '.' || c == '-'; }

absl::Status Invalid(absl::string_view what, absl::string_view name, absl::string_view problem) {
  return MakeError(Reason::kStateNameInvalid,
                   absl::StrCat(what, " '", EscapedAndCut(name), "' ", problem),
                   {{"field", what == "prefix" ? "prefix" : "name"}});
}

absl::Status CheckBytes(absl::string_view what, absl::string_view name) {
  if (name.size() > kStateNameBytesMax) {
    return Invalid(what, name,
                   absl::StrCat("is ", name.size(), " bytes long, at most ", kStateNameBytesMax,
                                " are allowed"));
  }
  for (size_t i = 0; i < name.size(); ++i) {
    if (!IsNameByte(name[i]) && name[i] != '/') {
      return Invalid(
          what, name,
          absl::StrCat("has the byte '", absl::CHexEscape(name.substr(i, 1)), "' at offset ", i,
                       ", expected segments of [A-Za-z0-9_.-] joined by '/'"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckStateName(absl::string_view name) {
  if (name.empty()) return Invalid("state name", name, "is empty, expected 1 to 255 bytes");
  if (absl::Status status = CheckBytes("state name", name); !status.ok()) return status;
  for (absl::string_view segment : absl::StrSplit(name, '/')) {
    if (segment.empty() || segment == "." || segment == "..") {
      return Invalid("state name", name,
                     absl::StrCat("has the segment '", segment,
                                  "', expected none that is empty, '.' or '..'"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStateNamePrefix(absl::string_view prefix) { return CheckBytes("prefix", prefix); }

std::string EscapedAndCut(absl::string_view given) {
  constexpr size_t kShownBytesMax = 64;
  if (given.size() <= kShownBytesMax) return absl::CHexEscape(given);
  return absl::StrCat(absl::CHexEscape(given.substr(0, kShownBytesMax)), "...");
}

}  // namespace normd
