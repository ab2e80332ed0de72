#include "client/cli/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace normd::cli {

absl::StatusOr<std::unique_ptr<ByteSource>> ByteSource::Open(const std::string& path) {
  const bool standard_input = path == "-";
  std::string name = standard_input ? "standard input" : absl::StrCat("'", path, "'");
  const int descriptor = standard_input ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    return absl::NotFoundError(absl::StrCat(name, ": cannot open: ", std::strerror(errno)));
  }
  struct stat info;
  if (fstat(descriptor, &info) != 0) {
    const int error = errno;
    if (!standard_input) close(descriptor);
    return absl::UnavailableError(absl::StrCat(name, ": ", std::strerror(error)));
  }
  if (S_ISDIR(info.st_mode)) {
    if (!standard_input) close(descriptor);
    return absl::InvalidArgumentError(absl::StrCat(name, " is a directory, expected a file"));
  }
  std::optional<int64_t> bytes_total;
  if (S_ISREG(info.st_mode)) {
    // Standard input may have been read in part by another program.
    const off_t position = lseek(descriptor, 0, SEEK_CUR);
    bytes_total = info.st_size - (position > 0 ? position : 0);
  }
  return std::unique_ptr<ByteSource>(new ByteSource(descriptor, std::move(name), bytes_total));
}

ByteSource::ByteSource(int descriptor, std::string name, std::optional<int64_t> bytes_total)
    : descriptor_(descriptor), name_(std::move(name)), bytes_total_(bytes_total) {}

ByteSource::~ByteSource() {
  if (descriptor_ != STDIN_FILENO) close(descriptor_);
}

absl::StatusOr<size_t> ByteSource::Read(void* destination, size_t size) {
  char* const bytes = static_cast<char*>(destination);
  size_t done = 0;
  while (done < size) {
    const ssize_t count = read(descriptor_, bytes + done, size - done);
    if (count == 0) break;
    if (count < 0) {
      if (errno == EINTR) continue;
      return absl::UnavailableError(absl::StrCat(name_, ": cannot read: ", std::strerror(errno)));
    }
    done += static_cast<size_t>(count);
  }
  bytes_read_ += static_cast<int64_t>(done);
  return done;
}

absl::Status ByteSource::Skip(int64_t size) {
  if (!bytes_total_.has_value() || lseek(descriptor_, size, SEEK_CUR) < 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(name_, " cannot be read in parts: it is not a regular file"));
  }
  bytes_read_ += size;
  return absl::OkStatus();
}

absl::Status ByteSource::Rewind() {
  if (!bytes_total_.has_value() || lseek(descriptor_, -bytes_read_, SEEK_CUR) < 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(name_, " cannot be read twice: it is not a regular file"));
  }
  bytes_read_ = 0;
  return absl::OkStatus();
}

}  // namespace normd::cli
