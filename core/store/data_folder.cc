#include "core/store/data_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/error.h"
#include "core/base/status_macros.h"

namespace normd {
namespace {

constexpr absl::string_view kFormatPrefix = "normd data folder, format ";
constexpr size_t kFormatBytesMax = 64;

std::string FormatText() { return absl::StrCat(kFormatPrefix, kDataFolderFormat, "\n"); }

// The status of a system call that failed with `error`; `what` says what was tried.
absl::Status SystemError(int error, absl::string_view what) {
  const std::string message = absl::StrCat(what, ": ", std::strerror(error));
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return MakeError(Reason::kStoreFull, message);
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP:
      return absl::FailedPreconditionError(message);
    default:
      return MakeError(Reason::kStoreUnavailable, message);
  }
}

absl::Status SyncFolder(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return SystemError(errno, absl::StrCat("cannot open the folder '", path, "'"));
  const bool synced = fsync(fd) == 0;
  const int error = errno;
  close(fd);
  if (!synced) return SystemError(error, absl::StrCat("cannot sync the folder '", path, "'"));
  return absl::OkStatus();
}

std::string ParentOf(absl::string_view path) {
  while (path.size() > 1 && absl::ConsumeSuffix(&path, "/")) {
  }
  const std::string parent = std::filesystem::path(std::string(path)).parent_path().string();
  return parent.empty() ? "." : parent;
}

// Makes the folder unless it is there.
absl::Status MakeFolder(const std::string& path) {
  if (path.empty()) return absl::FailedPreconditionError("the data folder has no name");
  if (mkdir(path.c_str(), 0750) == 0) return SyncFolder(ParentOf(path));
  if (errno == ENOENT) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot make the data folder '", path, "': its parent folder is not there"));
  }
  if (errno != EEXIST) {
    return SystemError(errno, absl::StrCat("cannot make the data folder '", path, "'"));
  }
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return SystemError(errno, absl::StrCat("cannot use the data folder '", path, "'"));
  }
  if (!S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the data folder '", path, "' is not a folder: a file is in the way"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FileNames(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator it(path, error);
  for (const std::filesystem::directory_iterator end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) {
    return SystemError(error.value(), absl::StrCat("cannot read the data folder '", path, "'"));
  }
  return names;
}

bool HasCurrent(const std::vector<std::string>& names) {
  return std::find(names.begin(), names.end(), "CURRENT") != names.end();
}

// A table or a log of RocksDB among `names`; empty when there is none. RocksDB makes the file
// CURRENT before any of these.
std::string TableOrLog(const std::vector<std::string>& names) {
  const auto it = std::find_if(names.begin(), names.end(), [](const std::string& name) {
    return absl::EndsWith(name, ".sst") || absl::EndsWith(name, ".log");
  });
  return it == names.end() ? "" : *it;
}

// A file in a folder that normd has not begun to use; empty when there is none. The format file is
// the first that normd makes; "lost+found" stands at the root of a file system.
std::string ForeignFile(const std::vector<std::string>& names) {
  if (std::find(names.begin(), names.end(), kFormatFileName) != names.end()) return "";
  const auto it = std::find_if(names.begin(), names.end(),
                               [](const std::string& name) { return name != "lost+found"; });
  return it == names.end() ? "" : *it;
}

// Reads the format file, or writes it in a folder that is `fresh`.
absl::Status CheckFormat(const std::string& path, int fd, bool fresh) {
  const std::string file = absl::StrCat(path, "/", kFormatFileName);
  char buffer[kFormatBytesMax];
  const ssize_t size = pread(fd, buffer, sizeof(buffer), 0);
  if (size < 0) return SystemError(errno, absl::StrCat("cannot read '", file, "'"));
  const absl::string_view found(buffer, static_cast<size_t>(size));

  const std::string text = FormatText();
  if (found == text) return absl::OkStatus();
  // A crash while a folder was made leaves the beginning of the text.
  if (fresh && absl::StartsWith(text, found)) {
    if (pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) ||
        fsync(fd) != 0) {
      return SystemError(errno, absl::StrCat("cannot write '", file, "'"));
    }
    return SyncFolder(path);
  }
  absl::string_view number = found;
  int64_t format = 0;
  if (absl::ConsumePrefix(&number, kFormatPrefix) && absl::ConsumeSuffix(&number, "\n") &&
      absl::SimpleAtoi(number, &format) && format > kDataFolderFormat) {
    return absl::FailedPreconditionError(
        absl::StrCat("the data folder '", path, "' has format ", format,
                     ", made by a newer normd; this one reads formats up to ", kDataFolderFormat));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "'", file, "' does not name a format: expected '", absl::StripSuffix(text, "\n"), "'"));
}

}  // namespace

absl::StatusOr<DataFolder> DataFolder::Open(const std::string& path) {
  NORMD_RETURN_IF_ERROR(MakeFolder(path));
  NORMD_ASSIGN_OR_RETURN(std::vector<std::string> names, FileNames(path));
  if (const std::string foreign = ForeignFile(names); !foreign.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the data folder '", path, "' holds '", foreign, "' and no file ",
                     kFormatFileName, ": it is not normd's; expected an empty folder"));
  }

  const std::string file = absl::StrCat(path, "/", kFormatFileName);
  const int fd = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  if (fd < 0) return SystemError(errno, absl::StrCat("cannot open '", file, "'"));
  absl::Cleanup close_fd = [fd] { close(fd); };
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return SystemError(errno, absl::StrCat("cannot lock '", file, "'"));
    return absl::FailedPreconditionError(
        absl::StrCat("the data folder '", path, "' is in use by another process"));
  }
  NORMD_ASSIGN_OR_RETURN(names, FileNames(path));
  NORMD_RETURN_IF_ERROR(CheckFormat(path, fd, /*fresh=*/!HasCurrent(names)));
  // Without CURRENT RocksDB would begin anew, and drop what is there.
  if (const std::string file_left = TableOrLog(names); !HasCurrent(names) && !file_left.empty()) {
    return absl::DataLossError(absl::StrCat("the data folder '", path, "' has the file '",
                                            file_left,
                                            "' but no file CURRENT: restore it from a backup"));
  }
  std::move(close_fd).Cancel();
  return DataFolder(path, fd);
}

DataFolder::DataFolder(std::string path, int lock_fd) : path_(std::move(path)), lock_fd_(lock_fd) {}

DataFolder::DataFolder(DataFolder&& other) noexcept
    : path_(std::move(other.path_)), lock_fd_(std::exchange(other.lock_fd_, -1)) {}

DataFolder::~DataFolder() {
  if (lock_fd_ >= 0) close(lock_fd_);
}

absl::Status DataFolder::CheckSpace(int64_t bytes, int64_t reserved_bytes) const {
  if (reserved_bytes == 0) return absl::OkStatus();
  struct statvfs info;
  if (fstatvfs(lock_fd_, &info) != 0) {
    return MakeError(Reason::kStoreUnavailable, absl::StrCat("cannot ask for the free space of '",
                                                             path_, "': ", std::strerror(errno)));
  }
  const auto block_bytes = static_cast<int64_t>(info.f_frsize);
  // For a process without privileges.
  const int64_t free_bytes = static_cast<int64_t>(info.f_bavail) * block_bytes;
  const int64_t reserved =
      std::min(reserved_bytes, static_cast<int64_t>(info.f_blocks) * block_bytes / 4);
  if (free_bytes - reserved >= bytes) return absl::OkStatus();
  return MakeError(
      Reason::kStoreFull,
      absl::StrCat("the disk of '", path_, "' has ", free_bytes, " bytes free; a commit of ", bytes,
                   " bytes must leave ", reserved, " of them free"));
}

absl::Status DataFolder::CommitsLost(absl::string_view why) const {
  return absl::DataLossError(absl::StrCat(
      "the data folder '", path_, "' has lost acknowledged commits: ", why,
      "; restore it from a backup, or start with --accept-data-loss to go on without them"));
}

absl::StatusOr<std::vector<std::string>> DataFolder::WriteAheadLogs() const {
  NORMD_ASSIGN_OR_RETURN(const std::vector<std::string> names, FileNames(path_));
  std::vector<std::pair<uint64_t, std::string>> logs;
  for (const std::string& name : names) {
    absl::string_view stem = name;
    uint64_t number = 0;
    if (absl::ConsumeSuffix(&stem, ".log") && absl::SimpleAtoi(stem, &number)) {
      logs.emplace_back(number, absl::StrCat(path_, "/", name));
    }
  }
  std::sort(logs.begin(), logs.end());
  std::vector<std::string> paths;
  paths.reserve(logs.size());
  for (auto& [number, log] : logs) paths.push_back(std::move(log));
  return paths;
}

}  // namespace normd
